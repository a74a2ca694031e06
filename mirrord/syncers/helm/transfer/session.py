"""One run over charts: each archive fetched and checked once, put to every target, the indexes last."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from operator import attrgetter

from mirrord.errors import ContentError, MirrordError, TakenDownError, kind_of
from mirrord.files import LocalFile
from mirrord.model.digest import Digest
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.port import OnReceipt
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.helm.names import ChartVersion, spec_of
from mirrord.syncers.helm.plan.choice import VersionChoice
from mirrord.syncers.helm.plan.steps import INDEX_ITEM
from mirrord.syncers.helm.plan.survey import ChartArchive, HelmDecisions, listing
from mirrord.syncers.helm.plan.trouble import again, provenance_of, sentence, wrong_upstream
from mirrord.syncers.helm.transfer.emit import emit_json, emit_yaml
from mirrord.syncers.helm.transfer.removing import remove_versions
from mirrord.syncers.helm.transfer.target import ChartTarget, IndexFile
from mirrord.transfer.execute import failed, tell
from mirrord.transfer.fanout import Delivery, deliberate, fan_out, together
from mirrord.transfer.feed import feed


class Ticket:
    """One place in a line. It comes when everybody before has left, also those who left early."""

    def __init__(self, before: Ticket | None) -> None:
        """Stand behind `before`; None is the front, and also where there is no line at all."""
        self._before = before.left if before else None
        # done when this one, and everybody before, has left
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def come(self) -> None:
        """Wait until it is our turn."""
        if self._before:
            await asyncio.wait([self._before])

    def leave(self) -> None:
        """Let the next one come, once those before us have left; again does nothing."""
        if self._before is None or self._before.done():
            self._pass()
        else:
            self._before.add_done_callback(lambda _: self._pass())

    def _pass(self) -> None:
        if not self.left.done():
            self.left.set_result(None)


class HelmSession:
    """Fulfils `mirrord.syncer.port.Session`."""

    def __init__(
        self,
        mirror: Mirror,
        plan: Plan,
        targets: Mapping[str, ChartTarget],
        archive: Callable[..., AbstractAsyncContextManager[ChartArchive]],
        services: Services,
    ) -> None:
        """Carry out `plan`; `archive` gets the archive of a `VersionChoice`, else as `ChartSource.archive` does."""
        self._mirror, self._targets, self._archive, self._services = mirror, targets, archive, services
        self._decisions: HelmDecisions = plan.decisions
        self._survey, self._at = self._decisions.survey, plan.at
        self._put = defaultdict[str, dict[str, ChartVersion]](dict)
        self._moving = 0
        self._still = asyncio.Event()
        self._still.set()
        self._lines: dict[str, Ticket] = {}
        self._left: set[str] = set()
        self._refused: dict[str, MirrordError] = {}  # by target, why it did not take the last one that it did not take
        self.read = 0  # bytes of archives that were fetched so far
        self.finished: dict[str, IndexFile] = {}  # by target, the index that was written
        self.troubles = dict(self._survey.troubles)  # what could not be had, now or at earlier looks
        self.whole = True  # everything was done that can be done before something changes

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Carry some chart versions to their targets at once, or publish all indexes once nothing moves any more."""

        def counted(receipt: Receipt) -> None:
            self.whole &= receipt.good or receipt.step.item in self._left
            on_receipt(receipt)

        if batch[0].group == INDEX_ITEM:
            await self._still.wait()
            await asyncio.gather(*(self._finish(steps, counted) for steps in _by(batch, "target").values()))
            return
        if batch[0].action is Action.DELETE:
            place, removing = self._targets[batch[0].target], self._decisions.removing
            await remove_versions(place, batch, removing, self._services.ledger, counted)
            return
        self._moving += 1
        self._still.clear()
        try:
            alike = _by(batch, "item", "digest").values()  # what is restored may differ by target
            items = [(steps, {step.target: self._turn(step.target) for step in steps}) for steps in alike]
            await together(*(self._version(steps, turns, counted) for steps, turns in items))
        finally:
            self._moving -= 1
            if not self._moving:
                self._still.set()

    async def _version(self, steps: Sequence[Step], turns: Mapping[str, Ticket], on_receipt: OnReceipt) -> None:
        """Carry one version; when it cannot be had, that is a receipt for each of its targets."""
        left = list(steps)

        def answered(receipt: Receipt) -> None:
            left.remove(receipt.step)
            on_receipt(receipt)

        try:
            await self._carry(steps, turns, answered)
        except Exception as error:  # noqa: BLE001 - a bug that one archive brings out is that archive's failure
            end_of = self._ended(steps[0], deliberate(error))
            for step in tuple(left):
                answered(end_of(step))
        finally:
            for turn in turns.values():
                turn.leave()

    def _ended(self, step: Step, error: MirrordError) -> Callable[[Step], Receipt]:
        """Return what becomes of the steps of a version that cannot be had; what is wrong upstream is remembered."""
        item, choice = step.item, self._survey.choice(step)
        if choice.restored or not wrong_upstream(error):
            return lambda step: failed(step, error)
        self._left.add(item)
        trouble = again(self.troubles.get(item), choice, error, sentence(choice, error), self._at)
        self.troubles[item] = trouble
        if trouble.open:
            return lambda step: Receipt(step, Outcome.REFUSED, trouble.said, error.code)
        return lambda step: Receipt(step, Outcome.LEFT_OUT, trouble.said, error.code, problem=trouble.said)

    def _turn(self, target: str) -> Ticket:
        """Get in line at a target that must see the oldest first."""
        if not self._targets[target].oldest_first:
            return Ticket(None)
        turn = self._lines[target] = Ticket(self._lines.get(target))
        return turn

    async def _carry(self, batch: Sequence[Step], turns: Mapping[str, Ticket], on_receipt: OnReceipt) -> None:
        item = batch[0].item
        choice = self._survey.choice(batch[0])
        digest, store = choice.chart.digest, self._services.blobs
        held = (found.held.get(item) for found in self._survey.targets.values())
        stored = await store.find(digest) if digest and store and digest in held else None
        here = stored.path if isinstance(stored, LocalFile) else None  # some other target, or mirror, brought it
        keeps = any(self._targets[step.target].provenance for step in batch)
        spools, group = self._services.spools, f"{self._mirror.name}/"
        async with self._archive(choice, spools, group, here, signed=keeps) as archive:
            if not choice.restored:
                self.troubles.pop(item, None)
            if (known := self._services.denied) and (entry := known.item(self._mirror.name, item, archive.digest)):
                raise TakenDownError(f"{item}: taken down, so not mirrored: {entry.reason}")
            prov, problem = await self._provenance(choice, archive) if keeps else (None, "")
            chart = archive.chart if choice.restored else choice.entry(archive.digest)
            remark = f"{item}: {'; '.join(archive.odd)}" if archive.odd else ""

            async def deliver(delivery: Delivery) -> Receipt:
                step = delivery.step
                turn = turns[step.target]
                target = self._targets[step.target]
                beside = prov if target.provenance else None
                found = self._survey.targets[step.target]
                replaces = item in found.held
                moves = {chart.reference: (found.held.get(item), archive.digest)} if found.own is None else {}
                put = partial(target.put, chart, prov=beside, replace=replaces)
                await turn.come()
                try:
                    async with self._services.ledger.moving(step.target, moves):
                        await feed(spools, archive.source, f"{group}{step.target}", group, put)
                except MirrordError as error:
                    self._refused[step.target] = error
                    raise
                finally:
                    turn.leave()
                self._put[step.target][item] = chart
                signed = beside is not None and target.provenance  # as the server has shown meanwhile
                detail = f"{chart.file}: {archive.size} bytes{', signed' if signed else ''}"
                lacks = problem if target.provenance else ""
                return Receipt(
                    step,
                    Outcome.DONE,
                    detail,
                    sent=archive.size,
                    problem=lacks,
                    remark=remark,
                    size=archive.size,
                    referrers=1 if signed else None,
                )

            await fan_out(batch, deliver, 0.0, on_receipt)

    async def _provenance(self, choice: VersionChoice, archive: ChartArchive) -> tuple[bytes | None, str]:
        """Return an archive's provenance, and what is wrong with it, which is remembered.

        It is no reason to fail: helm asks for one only to verify (helm/helm#32571).
        """
        item = choice.chart.item
        key = provenance_of(item)
        try:
            prov = await archive.provenance()
        except MirrordError as error:
            said = f"{item}: published without provenance: {error}"
            if any(found.own is not None for found in self._survey.targets.values()):
                self.troubles[key] = again(self.troubles.get(key), choice, error, said, self._at)
            return None, said
        self.troubles.pop(key, None)
        return prov, ""

    async def _finish(self, steps: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Publish the index of one target; what is to be deleted there is listed no more."""
        name = steps[0].target
        if not self._publishes(name, steps):
            await tell((Receipt(step, Outcome.DONE, "not there any more") for step in steps), on_receipt)
            return
        try:
            index = await self._publish(name, steps)
        except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
            wrong = deliberate(error)
            await tell((failed(step, wrong) for step in steps), on_receipt)
            return
        listed = f"index lists {len(index.charts)} versions"
        said = (f"{step.item} is listed no more" if step.action is Action.DELETE else listed for step in steps)
        await tell((Receipt(step, Outcome.DONE, text) for step, text in zip(steps, said, strict=True)), on_receipt)

    def _publishes(self, name: str, steps: Sequence[Step]) -> bool:
        """Whether there is an index to publish: none is made only to delete; one that stays removes what is left."""
        found = self._survey.targets.get(name)
        return found is None or bool(found.own) or any(step.action is not Action.DELETE for step in steps)

    async def _publish(self, name: str, steps: Sequence[Step]) -> IndexFile:
        if name in self._survey.unasked:
            raise self._survey.unasked[name]
        index = await asyncio.to_thread(self._index, name, steps)
        none = f"none of the wanted versions ({len(self._survey.choices)}) could be"
        if (refused := self._refused.get(name)) and not index.charts:
            raise kind_of(refused.code)(f"{none} stored there; no index is written")
        if self._left and not index.charts:
            raise ContentError(f"{none} fetched; no index is written")
        own = self._survey.targets[name].own
        moves = {} if own is None else await asyncio.to_thread(_moves, own.values(), index.charts)
        async with self._services.ledger.moving(name, moves):
            await self._targets[name].finish(index)
        self.finished[name] = index
        return index

    def _index(self, name: str, steps: Sequence[Step]) -> IndexFile:
        survey, found = self._survey, self._survey.targets[name]
        deleted = {step.item for step in steps if step.action is Action.DELETE}
        charts = self._decisions.listed.get(name) or listing(found, survey.choices_at(name), self._put[name], deleted)
        if found.own is None:
            return IndexFile(b"", charts)
        emit = emit_json if spec_of(self._mirror).index == "json" else emit_yaml
        keys, annotations = found.shown if survey.alone else (survey.public_keys, survey.annotations)
        data = emit(charts, public_keys=keys, annotations=annotations)
        knew = {item: chart.digest for item, chart in found.own.items()}
        return IndexFile(data, charts, None if survey.alone else survey.extras, knew)


def _moves(
    own: Iterable[ChartVersion], listed: Iterable[ChartVersion]
) -> Mapping[str, tuple[Digest | None, Digest | None]]:
    """Return what an index of ours lists otherwise than the one before it."""
    before, after = ({chart.reference: chart.digest for chart in charts} for charts in (own, listed))
    moves = {one: (before.get(one), after.get(one)) for one in before | after}
    return {one: move for one, move in moves.items() if move[0] != move[1]}


def _by(batch: Sequence[Step], *keys: str) -> Mapping[object, list[Step]]:
    key = attrgetter(*keys)  # no call of ours for each of many steps: this runs in one turn of the event loop
    found = defaultdict[object, list[Step]](list)
    for step in batch:
        found[key(step)].append(step)
    return found
