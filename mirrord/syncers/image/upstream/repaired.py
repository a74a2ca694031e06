"""Repairs what a verification found: runs send what is missing or damaged, from the source or from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol

from mirrord.model.memory import Memory
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.verification import VerifyFinding
from mirrord.syncer.port import Syncer
from mirrord.syncer.restoring import RestoreWish
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.image.upstream.restored import survey_wish
from mirrord.syncers.image.upstream.whereabouts import SOURCE, Doubts

_BY_NAME: Final = "missing", "moved"  # codes of findings that say nothing about content


class OpensDoubting(Protocol):
    """Begins to execute a plan, as `Syncer.open`, but does not believe that targets have what is `doubted`."""

    def __call__(
        self, mirror: Mirror, plan: Plan, services: Services, doubted: Mapping[str, frozenset[str]]
    ) -> AbstractAsyncContextManager[Any]:
        """Return the context of a run."""


def repairing(syncer: Syncer, findings: Sequence[VerifyFinding], opens: OpensDoubting) -> Syncer:
    """Return the syncer for a run that repairs; see `Verifies.repairing`."""
    wrong = {(one.target, one.item) for one in findings}

    async def survey_again(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> Any:
        known = {key: seen for key, seen in memory.items() if key not in wrong}
        return await syncer.survey(mirror, services, Memory(known, memory.names), now)

    return _sending(replace(syncer, survey=survey_again), findings, opens)


def elsewhere(
    syncer: Syncer, findings: Sequence[VerifyFinding], digests: Mapping[tuple[str, str], str], opens: OpensDoubting
) -> Syncer:
    """Return the syncer for a run that repairs without the source; see `Verifies.elsewhere`.

    What is called by its digest alone is left as it is.
    """
    wanted = {key: digest for key, digest in digests.items() if key[1] != digest and "@" not in key[1]}
    never = {digest: {SOURCE} for digest in wanted.values()}
    late: dict[str, set[str]] = {}
    for one in findings:
        if digest := wanted.get((one.target, one.item)):
            places = late if one.code in _BY_NAME else never
            places.setdefault(digest, set()).add(one.target)

    async def survey(mirror: Mirror, services: Services, _: Memory, now: datetime) -> Any:
        return await survey_wish(mirror, services, now, RestoreWish(wanted), Doubts(never, late))

    return _sending(replace(syncer, survey=survey), findings, opens)


def _sending(syncer: Syncer, findings: Sequence[VerifyFinding], opens: OpensDoubting) -> Syncer:
    """Return a syncer that sends what was found wrong although the name is right."""
    wrong = {(one.target, one.item): one.code for one in findings}
    doubted: dict[str, frozenset[str]] = {}
    for one in findings:
        content = {one.digest} if one.digest and one.code not in _BY_NAME else set[str]()
        doubted[one.target] = doubted.get(one.target, frozenset()) | content

    def plan_again(mirror: Mirror, found: Any, now: datetime) -> Plan:
        made = syncer.plan(mirror, found, now)
        return replace(made, steps=tuple(map(_again, made.steps)))

    def _again(step: Step) -> Step:
        code = wrong.get((step.target, step.item))
        if code is None or step.action is not Action.KEEP:
            return step
        return replace(step, action=Action.COPY, reason=f"verified: {code}", confirmed=False)

    return replace(syncer, plan=plan_again, open=partial(opens, doubted=doubted))
