"""How the last verification of each target is kept: as facts of the mirror. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from mirrord.model.verification import Level, TargetVerification, Verification, VerifyFinding

VERIFIED: Final = "verified"
"""Name of the facts: by target, what the last verification found."""
_KEPT: Final = 20  # findings
_LONGEST: Final = 600


def facts_after(before: Mapping[str, str], found: Verification) -> Mapping[str, str]:
    """Return the facts after a verification; one of names that found everything equal leaves a deeper one."""
    facts = {target.target: before.get(target.target, "") for target in found.targets}
    for target in found.targets:
        known = read(facts[target.target])
        shallow = target.level is Level.NAMES and known is not None and known.level is not Level.NAMES
        if not (shallow and target.equal):
            facts[target.target] = _written(target)
    return facts


def read(text: str) -> TargetVerification | None:
    """Read what was written of a target; None for nothing, and for what is damaged."""
    try:
        found = json.loads(text)
        findings = tuple(VerifyFinding(**one) for one in found.pop("findings"))
        at, level = datetime.fromisoformat(found.pop("at")), Level(found.pop("level"))
        return TargetVerification(**found, at=at, level=level, findings=findings)
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
        name: getattr(target, name) for name in ("target", "checked", "drift", "unknown", "read", "size")
    }
    return json.dumps({**counts, "at": target.at.isoformat(), "level": target.level.value, "findings": findings})


def verified_of(facts: Mapping[str, str]) -> Mapping[str, TargetVerification]:
    """Return by target what the last verification found, and under "" the sum."""
    found = {name: one for name, text in facts.items() if (one := read(text))}
    if found:
        every = tuple(found.values())
        found[""] = Verification("", "", min(every, key=lambda one: list(Level).index(one.level)).level, every).whole
    return found
