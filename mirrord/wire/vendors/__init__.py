"""Registries' own APIs, where the distribution-spec has nothing: lists of repositories, and dates of tags."""
