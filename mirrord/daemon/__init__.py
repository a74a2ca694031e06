"""Composition root: the one place that knows all rooms, builds everything, and hears signals."""
