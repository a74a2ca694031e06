"""Surveys sources and targets, reading as little as possible."""
