"""Decides about images, of one repository and of many. Pure."""
