"""Hosts of Git repositories: what each of them calls a page and a raw file, and what its API can do for a mirror."""
