"""The bare repository in which a mirror of Git is kept: changed by one process, read by any, mended after a crash."""
