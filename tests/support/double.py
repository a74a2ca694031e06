"""A double of a syncer, whose functions share what the test looks at."""

from __future__ import annotations

from dataclasses import fields

from mirrord.syncer.port import Syncer


def syncer_of(double: object) -> Syncer:
    """Make a syncer of an object that has the functions of one, and keeps what they share."""
    return Syncer(**{one.name: getattr(double, one.name) for one in fields(Syncer) if hasattr(double, one.name)})
