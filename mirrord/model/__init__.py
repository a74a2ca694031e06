"""The values on the belt: what the rooms hand to one another. All frozen, none does I/O."""
