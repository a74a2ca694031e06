"""What a Git mirror found, and what it decides from that. Pure."""
