"""Asking for images that no mirror copies yet: by API, by issue."""
