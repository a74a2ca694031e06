"""Bringing refs to the targets."""
