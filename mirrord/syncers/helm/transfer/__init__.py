"""Carries charts: archives first, then the index that names them."""
