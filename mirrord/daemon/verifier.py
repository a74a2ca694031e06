"""Verifies mirrors: compares their targets with the record, and repairs what differs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from mirrord import failpoints, pipeline
from mirrord.daemon.meaning import taken_down
from mirrord.daemon.runtime import Runtime, Snapshot, now
from mirrord.errors import (
    DeadlineError,
    GuardError,
    MirrordError,
    SignatureError,
    TakenDownError,
    UnsupportedError,
    kind_of,
)
from mirrord.model.history import Behind, LastRun
from mirrord.model.memory import LastSeen, Memory
from mirrord.model.plan import Action
from mirrord.model.request import ASKED
from mirrord.model.run import RECOVERY, Outcome, Result, Run
from mirrord.model.verification import Level, Verification, VerifyFinding, Verifying
from mirrord.record.ledger import RunLedger
from mirrord.record.store import PAGE
from mirrord.record.verified import VERIFIED, facts_after
from mirrord.syncer.inspection import Inspection
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror
from mirrord.wire.http.asker import Asker, asking
from mirrord.wire.secret import bug

_FORBIDDEN: Final = SignatureError, TakenDownError, GuardError  # by a rule of ours: no drift
_ROUNDS: Final = 3  # looks at what runs changed meanwhile
_FACTS: Final = "verify"  # the facts: by target, the digest up to which content was read


class Verifier:
    """Verifies mirrors over what is open in this process."""

    def __init__(self, runtime: Runtime) -> None:
        """Use what is open."""
        self._runtime = runtime

    async def verify(self, name: str, level: Level, *, repair: bool = False) -> Verification:
        """Compare the targets of a mirror with the record; with `repair` send what is missing, and look again.

        Runs of the mirror may go on meanwhile: what they change is looked at again. Its requests let those of people
        go first.

        Raises:
            UsageError: there is no such mirror.
            StorageError: the record cannot be read or written.
        """
        store, current = self._runtime.store, self._runtime.snapshot
        mirror = current.mirror(name)
        expected = await self._expected(current, mirror)
        budget = (mirror.verifying or Verifying()).budget
        inspection = Inspection(level, expected, budget, await store.recall(name, _FACTS), now())
        async with current.lease():
            await self._look(current, mirror, inspection, expected)
        repaired, error = None, ""
        if repair and (drifted := inspection.drifted()):
            error = await self._repair(current, mirror, inspection)
            await self._add_behind(mirror, inspection, await self._taken_down(current, mirror))
            repaired = sum(inspection.settled(target, items) for target, items in drifted.items())
        targets = tuple(inspection.result(target.name, now()) for target in mirror.targets)
        found = Verification(name, mirror.kind, level, targets, repaired or (0 if repair else None), error)
        await store.note(name, VERIFIED, facts_after(await store.recall(name, VERIFIED), found))
        failpoints.hit("verify.found")
        await store.note(name, _FACTS, inspection.read_up_to)  # the last: what was found of that is not lost by a crash
        return found

    async def _expected(self, current: Snapshot, mirror: Mirror) -> Memory:
        """Return what the targets should have; what builds are called there is part of it."""
        memory, syncer = await self._runtime.store.memory(mirror.name), current.syncer(mirror)

        def wanted() -> Memory:
            known = _recorded(current, mirror, memory)  # also of what is denied: the takedown may have left that
            gone = taken_down(current, mirror.name, known, {}) if current.services.denied else {}
            return Memory({key: one for key, one in known.items() if key not in gone})

        known = await asyncio.to_thread(wanted)
        if syncer.verifies and syncer.verifies.expected:
            return await syncer.verifies.expected(mirror, current.services, known)
        return known

    async def _look(self, current: Snapshot, mirror: Mirror, inspection: Inspection, expected: Memory) -> None:
        """Look at everything, then again at what differs and was changed by a run meanwhile."""
        if reason := current.denying(mirror.name):
            for target in mirror.targets:
                inspection.refused(target.name, "", f"taken down, so nothing of it is looked at: {reason}")
            return
        gone = await self._taken_down(current, mirror)
        unasked = current.configuration.asking and mirror.name == ASKED  # perhaps nobody ever asked for anything
        bare = {target.name for target in mirror.targets if not unasked and not inspection.items(target.name)}
        for name in sorted(bare.difference(await self._emptied(current, mirror, gone) if bare else ())):
            nothing = f"nothing is recorded of what it has; `mirrord sync {mirror.name}` records it"
            inspection.untold(name, "", nothing)
        await self._by_kind(current, mirror, inspection)
        for _ in range(_ROUNDS):
            fresh = await self._expected(current, mirror)
            changed = {
                target: [one for one in items if fresh.get((target, one)) != expected.get((target, one))]
                for target, items in inspection.drifted().items()
            }
            if not any(changed.values()):
                break
            await self._look_again(current, mirror, inspection, changed)
            expected = fresh
        await self._add_behind(mirror, inspection, gone)

    async def _taken_down(self, current: Snapshot, mirror: Mirror) -> Mapping[tuple[str, str], str]:
        """Return by target and item what is not expected although it was mirrored: why it was taken down."""
        if not current.services.denied:
            return {}
        ledger = RunLedger(self._runtime.store, mirror.name, now(), current.syncer(mirror).places(mirror)[1], now)
        memory, moves = await self._runtime.store.memory(mirror.name), await ledger.newest()
        return await asyncio.to_thread(
            lambda: taken_down(current, mirror.name, _recorded(current, mirror, memory), moves)
        )

    async def _emptied(self, current: Snapshot, mirror: Mirror, gone: Mapping[tuple[str, str], str]) -> Collection[str]:
        """Return the targets that should have nothing, since all of it was taken down: the ledger or a run says so."""
        if not current.services.denied:
            return ()
        known = await self._runtime.store.memory(mirror.name)
        runs = () if known else await self._runtime.store.standing(mirror.name)
        idle = {one.target for one in runs if one.result is Result.NOOP and one.last == LastRun()}
        return idle | {target for target, _ in gone}

    async def _look_again(
        self, current: Snapshot, mirror: Mirror, inspection: Inspection, items: Mapping[str, Collection[str]]
    ) -> None:
        """Look again at items, by the record of now."""
        fresh = await self._expected(current, mirror)
        keys = {(target, item) for target, some in items.items() for item in some}
        inspection.again(keys, Memory({key: fresh[key] for key in keys if key in fresh}))
        await self._by_kind(current, mirror, inspection)

    async def _by_kind(self, current: Snapshot, mirror: Mirror, inspection: Inspection) -> None:
        verifies, error = current.syncer(mirror).verifies, MirrordError("")
        try:
            if verifies is None:
                raise UnsupportedError(f"mirrors of kind {mirror.kind} cannot be verified")  # noqa: TRY301 - as its errors
            with asking(Asker(scheduled=True)):
                async with asyncio.timeout(mirror.deadline):
                    await verifies.look(mirror, current.services, inspection)
        except MirrordError as failure:
            error = failure
        except TimeoutError:
            error = DeadlineError(f"not everything could be looked at within the deadline of {mirror.deadline:.0f} s")
        except Exception as failure:  # noqa: BLE001 - a bug in one kind must not end the verification of others
            error = MirrordError(bug(failure))
        if str(error):
            for target in mirror.targets:
                inspection.untold(target.name, "", error)

    async def _add_behind(self, mirror: Mirror, inspection: Inspection, gone: Mapping[tuple[str, str], str]) -> None:
        """Add what a run could not bring to a target, and what it may not; `gone` is what was taken down."""
        drifted, targets = inspection.drifted(), {target.name for target in mirror.targets}
        for (target, item), reason in sorted(gone.items()):
            if target in targets and item not in inspection.items(target):
                inspection.refused(target, item, f"{item}: taken down, so it is not looked for: {reason}")
        async for one in self._behind(mirror):
            known = (one.target, one.item) in gone or one.item in drifted.get(one.target, ())
            if one.target not in targets or known:
                continue
            text = f"{one.item} is not there as the source has it: {one.reason}"
            if issubclass(kind_of(one.code), _FORBIDDEN):
                inspection.refused(one.target, one.item, text)
            else:
                inspection.differs(one.target, one.item, "behind", text)

    async def _behind(self, mirror: Mirror) -> AsyncIterator[Behind]:
        """Yield what runs could not bring."""
        after = ("", "")
        while some := await self._runtime.store.behind(mirror.name, PAGE, after):
            after = some[-1].target, some[-1].item
            for one in some:
                yield one

    async def _repair(self, current: Snapshot, mirror: Mirror, inspection: Inspection) -> str:
        """Send what differs, from the source, then what still differs from elsewhere; return why that failed, or ""."""
        verifies, findings, drifted = current.syncer(mirror).verifies, inspection.drift(), inspection.drifted()
        if verifies is None:
            return ""
        repairing, elsewhere = verifies.repairing, verifies.elsewhere
        run = await self._run(mirror, "repair", lambda syncer: repairing(syncer, findings))
        async with current.lease():
            await self._look_again(current, mirror, inspection, drifted)
        sent = {(one.step.target, one.step.item) for one in run.receipts if one.outcome is Outcome.DONE}
        left = await self._left(mirror, [one for one in inspection.drift() if (one.target, one.item) not in sent])
        recorded = {target.name: inspection.items(target.name) for target in mirror.targets}
        keys = {(one.target, one.item) for one in left if one.item in recorded[one.target]}
        if elsewhere is None or not keys:
            return run.error
        digests = {(target, item): recorded[target][item].digest for target, item in keys}
        other = await self._run(mirror, RECOVERY, lambda syncer: elsewhere(syncer, left, digests))
        async with current.lease():
            await self._look_again(current, mirror, inspection, inspection.drifted())
        return "; ".join(filter(None, (run.error, _why(other)))) if inspection.drifted() else ""

    async def _left(self, mirror: Mirror, findings: Sequence[VerifyFinding]) -> Sequence[VerifyFinding]:
        """Return findings without those of items that must not be there, whoever has them."""
        forbidden = {
            (one.target, one.item) async for one in self._behind(mirror) if issubclass(kind_of(one.code), _FORBIDDEN)
        }
        return [one for one in findings if one.code != "behind" and (one.target, one.item) not in forbidden]

    async def _run(self, mirror: Mirror, trigger: str, variant: Callable[[Syncer], Syncer]) -> Run:
        """Run the mirror; no record is trusted."""

        def change(mirror: Mirror, syncer: Syncer) -> tuple[Mirror, Syncer]:
            return replace(mirror, trust=0.0), variant(syncer)

        return await self._runtime.runner.sync(mirror.name, trigger, change=change)


def _recorded(current: Snapshot, mirror: Mirror, memory: Memory) -> Mapping[tuple[str, str], LastSeen]:
    """Return what runs recorded of the targets as they are configured now; what builds are called is part of it."""
    known = pipeline.believable(memory, pipeline.places(mirror, current.syncer(mirror)))
    return {**{key: LastSeen(one.digest, one.at, one.place) for key, one in known.names.items()}, **known}


def _why(run: Run) -> str:
    """Return the first reason why a run did not bring everything, or ""."""
    refused = (step.reason for step in (run.plan.steps if run.plan else ()) if step.action is Action.REFUSE)
    failed = (one.detail for one in run.receipts if one.bad)
    return run.error or next(chain(refused, failed), "")
