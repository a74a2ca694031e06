"""Derives from a run what is at its targets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from mirrord.model.memory import LastSeen, NamedBuild
from mirrord.model.plan import Action
from mirrord.model.run import RECOVERY, Outcome, Receipt, Run

_OF_CONTENT: Final = ("size", "platforms", "signer", "origin")
"""What is true of some content at every target and under every name."""
_UNKNOWN: Final = (None, (), "")


def learned(run: Run) -> tuple[Mapping[tuple[str, str], LastSeen | None], Mapping[tuple[str, str], NamedBuild]]:
    """Return what a run proves: content at a target, or (None) its absence, and the builds of names.

    Good receipts prove it, and so do kept steps that the target itself has just confirmed. A step that was kept because
    of the record proves nothing: it must not refresh the record. Nor does a name that was left alone at execution.
    The moving name of a build is known beside the build: clients ask for either. What a recovery sends stays
    recorded as it was: the place that it came from may have fewer signatures.
    """
    known: dict[tuple[str, str], LastSeen | None] = {}
    names: dict[tuple[str, str], NamedBuild] = {}
    steps = run.plan.steps if run.plan and run.trigger != RECOVERY else ()
    kept = [step for step in steps if step.action is Action.KEEP and step.confirmed]
    looked = run.plan.at if run.plan else run.started
    seen = [(Receipt(step, Outcome.KEPT), looked) for step in kept]
    brought = [one for one in run.receipts if run.trigger != RECOVERY or one.step.action is Action.DELETE]
    seen += [(receipt, run.finished) for receipt in brought if receipt.good]
    measured = _measured(run)
    for receipt, at in seen:
        step, place = receipt.step, run.places.get(receipt.step.target, "")
        own = completed(_seen(receipt, at, place), measured)
        if step.action is Action.KEEP or not step.passing:
            known[step.target, step.item] = None if step.action is Action.DELETE else own
        for named in step.named:
            if named.name in receipt.left:
                continue
            names[step.target, named.name] = replace(named, at=at, place=place)
            if not named.stays and named.name != step.item:
                same = named.digest == step.digest
                beside = own if same else completed(LastSeen(named.digest, at, place), measured)
                known[step.target, named.name] = beside
    return known, names


def completed(seen: LastSeen, known: Mapping[str, LastSeen]) -> LastSeen:
    """Return a state with what is known of the same content elsewhere, by digest, where it says nothing itself."""
    other = known.get(seen.digest)
    if other is None:
        return seen
    return replace(seen, **{name: getattr(other, name) for name in _OF_CONTENT if getattr(seen, name) in _UNKNOWN})


def unmeasured(run: Run) -> bool:
    """Return whether content was written or found whose size and platforms the run did not learn."""
    measured = _measured(run)
    return any(one.good and one.step.digest and one.step.digest not in measured for one in run.receipts)


def _measured(run: Run) -> Mapping[str, LastSeen]:
    """Return what the receipts say by digest: what was measured on the way to one target holds at all of them."""
    found: dict[str, LastSeen] = {}
    for one in run.receipts:
        if one.good and one.step.digest and (one.size is not None or one.platforms):
            found[one.step.digest] = completed(_seen(one, run.finished), found)
    return found


def _seen(receipt: Receipt, at: datetime, place: str = "") -> LastSeen:
    step = receipt.step
    of_content = receipt.size, receipt.platforms, receipt.referrers, step.signer, step.origin
    return LastSeen(step.digest, at, place, *of_content)
