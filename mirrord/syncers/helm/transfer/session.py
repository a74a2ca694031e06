"""One run over charts: each archive fetched and checked once, put to every target, the indexes last."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from mirrord.blobs.pool import SpoolPool
from mirrord.blobs.source import BlobSource
from mirrord.blobs.store import LocalFile
from mirrord.errors import ContentError, MirrordError
from mirrord.model.digest import Digest
from mirrord.model.plan import Action, Step
from mirrord.model.run import Outcome, Receipt
from mirrord.syncer.port import Tell
from mirrord.syncer.values import Services
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.plan.choice import VersionChoice
from mirrord.syncers.helm.plan.listing import listing
from mirrord.syncers.helm.plan.steps import INDEX_ITEM
from mirrord.syncers.helm.plan.survey import HelmSurvey
from mirrord.syncers.helm.plan.trouble import again, provenance_of, told, wrong_upstream
from mirrord.syncers.helm.transfer.emit import emit_json, emit_yaml
from mirrord.syncers.helm.transfer.target import ChartTarget, IndexFile
from mirrord.syncers.helm.transfer.tickets import Ticket
from mirrord.transfer.execute import failed
from mirrord.transfer.fanout import Delivery, deliberate, fan_out, together
from mirrord.transfer.feed import feed


class ChartArchive(Protocol):
    """An archive that is here and checked."""

    @property
    def source(self) -> BlobSource:
        """Return from where a pool has it."""
        ...

    @property
    def digest(self) -> Digest:
        """Return its digest."""
        ...

    @property
    def size(self) -> int:
        """Return its size."""
        ...

    @property
    def odd(self) -> Sequence[str]:
        """Return what is odd about it, and no reason to refuse it."""
        ...

    async def provenance(self) -> bytes | None:
        """Return its `.prov`, checked, or None.

        Raises:
            MirrordError: there may be one, and it cannot be had, or is not of this archive.
        """
        ...


class ChartArchives(Protocol):
    """Where archives come from; `upstream.fetch` has the implementation."""

    def archive(
        self,
        chart: ChartVersion,
        spools: SpoolPool,
        group: str,
        also: frozenset[Digest],
        here: Path | None,
        *,
        signed: bool,
    ) -> AbstractAsyncContextManager[ChartArchive]:
        """Get one."""
        ...


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What a session is about.

    Attributes:
        mirror: the mirror's name.
        json: whether indexes are written as JSON.
        survey: what was found.
        choices: what is wanted, by item.
        targets: by name.
        at: when it began.
    """

    mirror: str
    json: bool
    survey: HelmSurvey
    choices: Mapping[str, VersionChoice]
    targets: Mapping[str, ChartTarget]
    at: datetime


class HelmSession:
    """Fulfils `mirrord.syncer.port.Session`."""

    def __init__(self, errand: SessionContext, archives: ChartArchives, services: Services) -> None:
        """Carry what `errand` says."""
        self._errand = errand
        self._archives = archives
        self._services = services
        self._read = 0
        self._put = defaultdict[str, dict[str, Digest]](dict)
        self._moving = 0
        self._still = asyncio.Event()
        self._still.set()
        self._lines: dict[str, Ticket] = {}
        self._left: set[str] = set()
        self.finished: set[str] = set()
        self.troubles = dict(errand.survey.troubles)
        self.whole = True

    @property
    def read(self) -> int:
        """Bytes of archives that were fetched so far."""
        return self._read

    def count(self, count: int) -> None:
        """Hear of bytes that came."""
        self._read += count

    async def execute(self, batch: Sequence[Step], tell: Tell) -> None:
        """Carry some chart versions to their targets at once, or publish all indexes once nothing moves any more."""

        def told(receipt: Receipt) -> None:
            self.whole &= receipt.good or receipt.step.item in self._left
            tell(receipt)

        if batch[0].group == INDEX_ITEM:
            await self._still.wait()
            await asyncio.gather(*(self._finish(steps, told) for steps in _by(batch, "target").values()))
            return
        with self._busy():
            items = [(steps, {step.target: self._turn(step.target) for step in steps}) for steps in _by(batch).values()]
            await together(*(self._attend(steps, turns, told) for steps, turns in items))

    async def _attend(self, steps: Sequence[Step], turns: Mapping[str, Ticket], tell: Tell) -> None:
        """Carry one version; when it cannot be had, that is a receipt for each of its targets."""
        left = list(steps)

        def told(receipt: Receipt) -> None:
            left.remove(receipt.step)
            tell(receipt)

        try:
            await self._carry(steps, turns, told)
        except Exception as error:  # noqa: BLE001 - a bug that one archive brings out is that archive's failure
            ended = self._unhad(steps[0].item, deliberate(error))
            for step in tuple(left):
                told(ended(step))
        finally:
            for turn in turns.values():
                turn.leave()

    def _unhad(self, item: str, error: MirrordError) -> Callable[[Step], Receipt]:
        """Return what becomes of the steps of a version that cannot be had; what is wrong upstream is remembered."""
        if not wrong_upstream(error):
            return lambda step: failed(step, error)
        choice = self._errand.choices[item]
        self._left.add(item)
        trouble = again(self.troubles.get(item), choice, error, told(choice, error), self._errand.at)
        self.troubles[item] = trouble
        if trouble.open:
            return lambda step: Receipt(step, Outcome.REFUSED, trouble.said, error.code)
        return lambda step: Receipt(step, Outcome.LEFT_OUT, trouble.said, error.code, problem=trouble.said)

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._moving += 1
        self._still.clear()
        try:
            yield
        finally:
            self._moving -= 1
            if not self._moving:
                self._still.set()

    def _turn(self, target: str) -> Ticket:
        """Get in line at a target that must see the oldest first."""
        if not self._errand.targets[target].oldest_first:
            return Ticket(None)
        turn = self._lines[target] = Ticket(self._lines.get(target))
        return turn

    async def _carry(self, batch: Sequence[Step], turns: Mapping[str, Ticket], tell: Tell) -> None:
        item = batch[0].item
        choice = self._errand.choices[item]
        also = frozenset(one.digest for one in choice.rivals if one.digest)
        here = await self._here(choice)
        keeps = any(self._errand.targets[step.target].provenance for step in batch)
        spools, group = self._services.spools, f"{self._errand.mirror}/"
        async with self._archives.archive(choice.chart, spools, group, also, here, signed=keeps) as archive:
            self.troubles.pop(item, None)
            prov, problem = await self._beside(choice, archive) if keeps else (None, "")
            chart = choice.entry(archive.digest)
            remark = f"{item}: {'; '.join(archive.odd)}" if archive.odd else ""

            async def deliver(delivery: Delivery) -> Receipt:
                step = delivery.step
                turn = turns[step.target]
                target = self._errand.targets[step.target]
                beside = prov if target.provenance else None
                replaces = item in self._errand.survey.shelves[step.target].held
                put = partial(target.put, chart, prov=beside, replace=replaces)
                await turn.come()
                try:
                    await feed(spools, archive.source, f"{group}{step.target}", group, put)
                finally:
                    turn.leave()
                self._put[step.target][item] = archive.digest
                detail = f"{chart.file}: {archive.size} bytes{', signed' if beside is not None else ''}"
                lacks = problem if target.provenance else ""
                return Receipt(step, Outcome.DONE, detail, sent=archive.size, problem=lacks, remark=remark)

            await fan_out(batch, deliver, 0.0, tell)

    async def _beside(self, choice: VersionChoice, archive: ChartArchive) -> tuple[bytes | None, str]:
        """Return an archive's provenance, and what is wrong with it, which is remembered.

        It is no reason to fail: helm asks for one only to verify (helm/helm#32571).
        """
        item = choice.chart.item
        key = provenance_of(item)
        try:
            prov = await archive.provenance()
        except MirrordError as error:
            said = f"{item}: published without provenance: {error}"
            if any(shelf.own is not None for shelf in self._errand.survey.shelves.values()):
                self.troubles[key] = again(self.troubles.get(key), choice, error, said, self._errand.at)
            return None, said
        self.troubles.pop(key, None)
        return prov, ""

    async def _here(self, choice: VersionChoice) -> Path | None:
        """Return the archive when our own store has it: some other target, or mirror, brought it."""
        digest, store = choice.chart.digest, self._services.blobs
        held = (shelf.held.get(choice.chart.item) for shelf in self._errand.survey.shelves.values())
        stored = await store.find(digest) if digest and store and digest in held else None
        return stored.path if isinstance(stored, LocalFile) else None

    async def _finish(self, steps: Sequence[Step], tell: Tell) -> None:
        """Publish the index of one target; what is to be deleted there is listed no more."""
        name = steps[0].target
        try:
            index = await self._publish(name, steps)
        except Exception as error:  # noqa: BLE001 - a bug that one target brings out is that target's failure
            for step in steps:
                tell(failed(step, deliberate(error)))
            return
        for step in steps:
            listed = f"index lists {len(index.charts)} versions"
            gone = f"{step.item} is listed no more"
            tell(Receipt(step, Outcome.DONE, gone if step.action is Action.DELETE else listed))

    async def _publish(self, name: str, steps: Sequence[Step]) -> IndexFile:
        if name in self._errand.survey.unasked:
            raise self._errand.survey.unasked[name]
        index = await asyncio.to_thread(self._index, name, steps)
        if self._left and not index.charts:
            raise ContentError(f"not one of {len(self._errand.choices)} wanted versions can be had")
        await self._errand.targets[name].finish(index)
        self.finished.add(name)
        return index

    def _index(self, name: str, steps: Sequence[Step]) -> IndexFile:
        survey = self._errand.survey
        shelf = survey.shelves[name]
        deleted = {step.item for step in steps if step.action is Action.DELETE}
        charts = listing(shelf, self._errand.choices, self._put[name], deleted)
        if shelf.own is None:
            return IndexFile(b"", charts)
        emit = emit_json if self._errand.json else emit_yaml
        data = emit(charts, public_keys=survey.public_keys, annotations=survey.annotations)
        return IndexFile(data, charts, survey.extras, frozenset(shelf.own))


def _by(batch: Sequence[Step], key: str = "item") -> Mapping[str, list[Step]]:
    found = defaultdict[str, list[Step]](list)
    for step in batch:
        found[getattr(step, key)].append(step)
    return found
