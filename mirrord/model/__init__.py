"""The values that the stages pass to each other. All frozen, none does I/O."""
