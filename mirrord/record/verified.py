"""How the last verification of each target is kept: as facts of the mirror. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from mirrord.model.verification import Level, TargetVerification, Verification, VerifyFinding

VERIFIED: Final = "verified"
"""Name of the facts: by target, what the last verification found."""
_KEPT: Final = 20  # findings
_LONGEST: Final = 600


def facts_after(before: Mapping[str, str], found: Verification) -> Mapping[str, str]:
    """Return the facts after a verification.

    One of names that found everything equal leaves what a deeper one found, and how far that went; but it was the last.
    One that could not tell leaves what a deeper one found to differ.
    """
    facts = {target.target: before.get(target.target, "") for target in found.targets}
    for target in found.targets:
        known = read(facts[target.target])
        shallow = target.level is Level.NAMES and known is not None and known.level is not Level.NAMES
        levels = {**(known.levels if known else {}), **target.levels}
        if known and shallow and target.equal:
            facts[target.target] = _written(replace(known, at=target.at, levels=levels))
        elif known and shallow and known.drift and not target.drift:
            facts[target.target] = _written(replace(known, levels=levels))
        else:
            facts[target.target] = _written(replace(target, levels=levels))
    return facts


def read(text: str) -> TargetVerification | None:
    """Read what was written of a target; None for nothing, and for what is damaged."""
    try:
        found = json.loads(text)
        findings = tuple(VerifyFinding(**one) for one in found.pop("findings"))
        at, level = datetime.fromisoformat(found.pop("at")), Level(found.pop("level"))
        times = found.pop("levels", dict.fromkeys(level.included, at.isoformat()))
        levels = {Level(name): datetime.fromisoformat(text) for name, text in times.items()}
        return TargetVerification(**found, at=at, level=level, findings=findings, levels=levels)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _written(target: TargetVerification) -> str:
    findings = [
        {
            "target": one.target,
            "item": one.item,
            "code": one.code,
            "text": one.text[:_LONGEST],
            "digest": one.digest,
            "unknown": one.unknown,
        }
        for one in target.findings[:_KEPT]
    ]
    counts: dict[str, Any] = {
        name: getattr(target, name) for name in ("target", "checked", "drift", "unknown", "refused", "read", "size")
    }
    levels = {level.value: at.isoformat() for level, at in target.levels.items()}
    times = {"at": target.at.isoformat(), "level": target.level.value, "levels": levels}
    return json.dumps({**counts, **times, "findings": findings})


def verified_of(facts: Mapping[str, str]) -> Mapping[str, TargetVerification]:
    """Return by target what the last verification found, and under "" the sum."""
    found = {name: one for name, text in facts.items() if (one := read(text))}
    if found:
        every = tuple(found.values())
        found[""] = Verification("", "", min(every, key=lambda one: list(Level).index(one.level)).level, every).whole
    return found
