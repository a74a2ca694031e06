"""Looks at sources and targets, reading as little as possible."""
