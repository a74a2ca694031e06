"""A double of a syncer, whose functions share what the test looks at."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mirrord.syncer.port import Syncer


def syncer_of(double: Any) -> Syncer:
    """Make a syncer of an object that has the functions of one and its two models, and keeps what they share."""
    offered = {one.name: getattr(double, one.name) for one in fields(Syncer) if hasattr(double, one.name)}
    return Syncer(**offered, models=lambda: (double.spec, double.target_spec))
