"""Services that people are notified by: one file each."""
