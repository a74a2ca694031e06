"""What images are called: at their source, at a target, and in list files. Pure."""
