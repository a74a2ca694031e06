"""Copies images: content by digest to every target, then the names."""
