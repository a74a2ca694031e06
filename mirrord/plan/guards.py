"""Guards: detect accidents at a source, and stop harmful runs until the operator allows them. Pure.

Each kind counts its own losses; the limit and the way to override it are the same for all.
"""

from __future__ import annotations

from collections.abc import Collection


def too_much(lost: int, total: int, max_loss: float, *, spared: int = 1) -> str:
    """Return a reason if more was lost than `max_loss` allows, else "".

    Args:
        lost: how many are gone.
        total: how many there were.
        max_loss: the share that may be lost.
        spared: this many may always be lost (one of two would be half), except with a `max_loss` of 0.
    """
    most = max(spared, max_loss * total) if max_loss else 0
    return f"more than max_loss of {max_loss:.0%} allows" if lost > most else ""


def unless_meant(mirror: str, why: str) -> str:
    """Add to a refusal how the operator overrides it."""
    return f"{why}; if this is intended, run `mirrord sync {mirror} --allow`"


def some(names: Collection[str], shown: int = 5) -> str:
    """List the first few of many, in order."""
    return ", ".join(sorted(names)[:shown]) + (" …" if len(names) > shown else "")
