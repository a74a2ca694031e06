"""What a chart mirror found, and what it decides from that. Pure."""
