"""Guards: tell an accident at a source from a day's work, and stop what would do harm until somebody looked. Pure.

Each kind says itself what it lost; how much may be lost, and how a person goes on all the same, is the same for all.
"""

from __future__ import annotations

from collections.abc import Collection


def too_much(lost: int, total: int, max_loss: float, *, spared: int = 1) -> str:
    """Say that more was lost than `max_loss` allows, or "".

    Args:
        lost: how many are gone.
        total: how many there were.
        max_loss: the share that may be lost.
        spared: so many may be lost of few, too: of two, one is half. With a `max_loss` of 0 none may.
    """
    most = max(spared, max_loss * total) if max_loss else 0
    return f"more than max_loss of {max_loss:.0%} allows" if lost > most else ""


def unless_meant(mirror: str, why: str) -> str:
    """Add to a refusal how the operator goes on when the loss is meant."""
    return f"{why}; when that is meant, run `mirrord sync {mirror} --allow`"


def some(names: Collection[str], shown: int = 5) -> str:
    """Name the first few of many, in order."""
    return ", ".join(sorted(names)[:shown]) + (" …" if len(names) > shown else "")
