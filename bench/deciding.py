"""How long deciding keeps the event loop from everything else: one run over many items and three targets, by kind.

Nothing is asked over the network: the surveys are made here, the record is real, and the steps end at once. The
longest stretch that the loop worked without a pause is printed, with what it did.

    python -m bench.deciding [--items N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mirrord import garbage
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.model.plan import Item, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.pipeline import run_mirror
from mirrord.plan.offer import Offer
from mirrord.record.store import open_store
from mirrord.report.logs import line
from mirrord.report.metrics import Metrics
from mirrord.syncer.port import OnReceipt, Syncer
from mirrord.syncer.values import Mirror, Services, Target
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.plan.choice import choose
from mirrord.syncers.helm.plan.survey import HelmSurvey, TargetContent
from mirrord.syncers.helm.syncer import SYNCER as HELM
from mirrord.syncers.image.plan.steps import ImageSurvey, SourceListing
from mirrord.syncers.image.syncer import SYNCER as IMAGE

AT = "2024-01-01T00:00:00Z"
NOW = datetime(2024, 5, 17, 12, tzinfo=UTC)
TARGETS = ("one", "two", "three")
TICK = 0.002  # seconds between two looks of the probe


class Probe:
    """Says what kept the event loop longest without a pause, in CPU seconds of its thread, and where it was then.

    CPU seconds, since on a busy machine every thread is late.
    """

    def __init__(self) -> None:
        """Begin to watch the loop of this thread."""
        self.longest, self.during = 0.0, ""
        self._thread, self._began, self._running = threading.get_ident(), 0.0, False
        self._seen = ""
        self._run = asyncio.Handle._run  # noqa: SLF001 - the one place through which all goes
        asyncio.Handle._run = self._watched()  # type: ignore[method-assign, assignment]  # noqa: SLF001 - it is put back
        threading.Thread(target=self._watch, daemon=True).start()

    def _watched(self) -> Callable[[asyncio.Handle], None]:
        def run(handle: asyncio.Handle) -> None:
            began = time.thread_time()
            self._began, self._running, self._seen = time.monotonic(), True, ""
            self._run(handle)
            self._running = False
            if (took := time.thread_time() - began) > self.longest:
                self.longest, self.during = took, self._seen

        return run

    def _watch(self) -> None:
        while self._run is not None:
            time.sleep(TICK)
            if self._running and time.monotonic() - self._began > 10 * TICK:
                stack = traceback.extract_stack(sys._current_frames()[self._thread])[-4:]  # noqa: SLF001 - the only way
                self._seen = " < ".join(f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in reversed(stack))

    def end(self) -> None:
        """Watch no longer."""
        asyncio.Handle._run = self._run  # type: ignore[method-assign]  # noqa: SLF001 - as it was


class Session:
    """Ends each step at once."""

    read = 0

    async def execute(self, batch: Sequence[Step], on_receipt: OnReceipt) -> None:
        """Tell that all is done."""
        for step in batch:
            on_receipt(Receipt(step, Outcome.DONE))


def digest_of(number: int) -> Digest:
    """Return a digest that is as good as any other."""
    return Digest(f"sha256:{number:064x}")


def images(items: int) -> Any:
    """Return what a registry with so many tags offers."""
    offers = tuple(Offer(Item(f"v{one}", digest_of(one)), (f"v{one}",)) for one in range(items))
    held = {(target, offer.item.name): None for target in TARGETS for offer in offers}
    return lambda memory: ImageSurvey(SourceListing(offers, {}), {} if memory else held, memory=memory)


def charts(items: int) -> Any:
    """Return what an index with so many versions lists."""
    entries = tuple(
        ChartVersion(
            f"chart{one % 200}", f"1.{one // 200}.0", digest_of(one), ("x.tgz",), AT, deprecated=False, entry={}
        )
        for one in range(items)
    )

    def survey(memory: Any) -> HelmSurvey:
        held = {entry.item: entry.digest for entry in entries} if memory else {}
        content = TargetContent(cast("Any", held), {entry.item: entry for entry in entries} if memory else {})
        facts = {"at": NOW.isoformat()}
        return HelmSurvey(
            entries, choose(entries, cast("Any", SPECS["helm"]), NOW), dict.fromkeys(TARGETS, content), facts=facts
        )

    return survey


SPECS = {
    "image": IMAGE.spec.model_validate({"from": {"repository": "example.test/app"}}),
    "helm": HELM.spec.model_validate({"from": "https://example.test/charts"}),
}


def doubled(syncer: Syncer, found: Callable[[Any], Any], times: dict[str, float]) -> Syncer:
    """Return a syncer that surveys and executes nothing."""

    async def survey(_mirror: Mirror, _services: Services, memory: Any, _now: datetime) -> Any:
        return await asyncio.to_thread(found, memory)

    def plan(mirror: Mirror, survey: Any, now: datetime) -> Plan:
        began = time.thread_time()
        made = syncer.plan(mirror, survey, now)
        times["plan"] = time.thread_time() - began
        return made

    @contextlib.asynccontextmanager
    async def begin(*_: Any) -> AsyncIterator[Session]:
        yield Session()

    def places(mirror: Mirror) -> Any:
        return "here", {target.name: target.to for target in mirror.targets}

    return replace(syncer, survey=survey, plan=plan, open=begin, places=places)


async def runs(kind: str, syncer: Syncer, found: Callable[[Any], Any], folder: Path) -> dict[str, Any]:
    """Run twice: all is to be done, then nothing is."""
    told = Events()
    told.listen(Metrics("test"))
    told.listen(lambda event: [line(event)].clear())
    store = await open_store(folder / f"{kind}.db", NOW)
    services = Services(cast("Any", SimpleNamespace()), cast("Any", SimpleNamespace()), told, folder)
    targets = tuple(Target(name, kind, f"https://{name}.test", syncer.target_spec()) for name in TARGETS)
    mirror = Mirror("m", kind, SPECS[kind], targets)
    result: dict[str, Any] = {}
    for what, at in (("all to do", NOW), ("nothing to do", NOW + timedelta(minutes=1))):
        times: dict[str, float] = {}
        probe = Probe()
        run: Run = await run_mirror(
            mirror,
            doubled(syncer, found, times),
            services,
            store,
            "command",
            clock=partial(datetime.fromisoformat, at.isoformat()),
            parallel=4,
        )
        probe.end()
        assert run.plan is not None, run.error
        result[what] = {"steps": len(run.plan.steps), "receipts": len(run.receipts), "late": round(probe.longest * 1e3)}
        result[what] |= {"plan": round(times["plan"] * 1e3), "during": probe.during}
    await store.close()
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    garbage.look_briefly()  # as the service does
    garbage.keep()
    with tempfile.TemporaryDirectory() as folder:
        work = {"image": (IMAGE, images(given.items)), "helm": (HELM, charts(given.items))}
        found = {kind: asyncio.run(runs(kind, *one, Path(folder))) for kind, one in work.items()}
    if given.json:
        print(json.dumps(found))
        return
    for kind, passes in found.items():
        for what, one in passes.items():
            print(
                f"{kind}, {what}: {one['steps']} steps, plan {one['plan']} ms; loop busy for {one['late']} ms at once"
            )
            print(f"    {one['during']}")


if __name__ == "__main__":
    main()
