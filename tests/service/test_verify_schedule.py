"""Verifications by schedule: spread, one at a time, after a deferred run; and what they found is recorded and shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mirrord.commands import GetStatus
from mirrord.daemon.scheduled import SPREAD, ScheduledVerifier, due
from mirrord.daemon.verifier import Verifier
from mirrord.errors import MirrordError, StorageError
from mirrord.model.history import Standing
from mirrord.model.verification import Level, TargetVerification, Verification, Verifying
from mirrord.record.verified import VERIFIED, facts_after, verified_of
from mirrord.schedule import Clock
from mirrord.testing import Registry, build_image, push
from tests.support.verifying import Verified, opened

NOW = datetime(2026, 5, 17, tzinfo=UTC)
WEEK = 7 * 86400.0
IMAGE = build_image(layer_size=1000, layers=1)
CONFIGURATION = """\
settings: {{verify: {{every: 7d}}}}
targets: {{there: {{kind: image, to: "{there}/mirror"}}}}
mirrors:
  - {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: [main]}}, to: there}}
  - {{name: other, kind: image, from: {{repository: "{source}/team/app", tags: [main]}}, to: local, verify: {{}}}}
"""


class Times(Clock):
    """A clock that keeps what it should call, and never does."""

    def __init__(self) -> None:
        self.due: dict[str, datetime] = {}
        self.call: Callable[[str], Awaitable[None]] | None = None

    def verify(
        self, call: Callable[[str], Awaitable[None]], due: Mapping[str, datetime], *, only: str | None = None
    ) -> None:
        """Keep it."""
        self.call, self.due = call, {**(self.due if only else {}), **due}

    async def fire(self, name: str) -> None:
        """Let it be time for a mirror."""
        assert self.call
        self.due.pop(name, None)
        await self.call(name)


def scheduled(one: Verified) -> tuple[ScheduledVerifier, Times]:
    clock = Times()
    return ScheduledVerifier(one.dispatcher.runtime, Verifier(one.dispatcher.runtime), clock), clock


def test_verifications_are_spread_and_regular() -> None:
    """First ones are spread over an hour by name; then a mirror is due so long after its last one, across restarts."""
    rules = Verifying(WEEK)
    first = {due(f"m{number}", rules, None, NOW) for number in range(100)}
    assert len(first) == 100
    assert all(NOW <= at <= NOW + timedelta(seconds=SPREAD) for at in first)
    assert max(first) - min(first) > timedelta(seconds=SPREAD / 2)
    seen = Standing("m", verified=_verified("", NOW - timedelta(days=2), Level.DEEP))
    assert due("m", rules, seen, NOW) == NOW + timedelta(days=5)
    late = replace(seen, verified=_verified("", NOW - timedelta(days=30), Level.DEEP))
    assert NOW <= due("m", rules, late, NOW) <= NOW + timedelta(seconds=SPREAD)
    assert due("m", rules, late, NOW) == due("m", rules, None, NOW)
    assert due("m", replace(rules, level=Level.BYTES), seen, NOW) == due("m", rules, None, NOW)


def _verified(target: str, at: datetime, level: Level, drift: int = 0) -> TargetVerification:
    return TargetVerification(target, at, level, 3, drift, levels=dict.fromkeys(level.included, at))


async def test_what_was_found_is_in_the_record_and_the_status(tmp_path: Path) -> None:
    """A mirror that is due is verified as far as configured, and again a week later; `verify: {}` is on command."""
    async with Registry() as source, Registry() as there:
        await push(IMAGE, source, "team/app", ["main"])
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            await one.sync()
            work, clock = scheduled(one)
            found: list[Verification | MirrordError] = []

            async def after(name: str, result: Verification | MirrordError) -> None:
                found.append(result)

            work.after = after
            await work.follow()
            assert list(clock.due) == ["app"]
            there.tags["mirror/app"].clear()
            await clock.fire("app")
            assert isinstance(found[0], Verification)
            assert (found[0].level, found[0].drift) == (Level.DEEP, 1)
            status = (await one.dispatcher.carry_out(GetStatus())).mirrors[0]
            assert status.verified
            assert (status.verified.level, status.verified.drift, status.targets[0].verified) == (
                Level.DEEP,
                1,
                replace(status.verified, findings=(f"missing: {there.host}/mirror/app:main is not there",)),
            )
            again = clock.due["app"] - status.verified.at
            assert timedelta(days=7) <= again < timedelta(days=7, hours=1)
            planned = clock.due["app"]
            await work.follow()
            assert clock.due["app"] == planned


async def test_a_reload_changes_no_time(tmp_path: Path) -> None:
    """Neither of one that waits for its first, nor after a look at names that leaves a deeper one in the record."""
    text = CONFIGURATION.replace("every: 7d", "every: 7d, level: names")
    async with Registry() as source, Registry() as there:
        await push(IMAGE, source, "team/app", ["main"])
        async with opened(tmp_path, text.format(source=source.host, there=there.host)) as one:
            await one.sync()
            work, clock = scheduled(one)
            await work.follow()
            first = clock.due["app"]
            await work.follow()
            assert clock.due["app"] == first
            deep = _verified("there", NOW, Level.DEEP)
            facts = facts_after({}, Verification("app", "image", Level.DEEP, (deep,)))
            await one.dispatcher.runtime.store.note("app", VERIFIED, facts)
            await clock.fire("app")
            planned = clock.due["app"]
            assert planned > datetime.now(UTC) + timedelta(days=6)
            await work.follow()
            assert clock.due["app"] == planned


@pytest.mark.parametrize("method", ["standing", "memory"])
@pytest.mark.parametrize("error", [StorageError("the disk is full"), ZeroDivisionError("a bug")])
async def test_one_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    """Whatever stops a verification, of the record or of ours, the mirror is verified again soon, and that is said."""

    async def fail(*_: object) -> None:
        raise error

    async with opened(tmp_path, CONFIGURATION.format(source="127.0.0.1:1", there="127.0.0.1:2")) as one:
        work, clock = scheduled(one)
        found: list[Verification | MirrordError] = []

        async def after(name: str, result: Verification | MirrordError) -> None:
            found.append(result)

        work.after = after
        await work.follow()
        with monkeypatch.context() as broken:
            broken.setattr(one.dispatcher.runtime.store, method, fail)
            await clock.fire("app")
        assert isinstance(found[0], MirrordError)
        assert clock.due["app"] < datetime.now(UTC) + timedelta(hours=1)


async def test_a_deferred_mirror_waits(tmp_path: Path) -> None:
    """While a host wants runs of a mirror to wait, it is not verified either, and asked for nothing."""
    async with Registry() as source, Registry() as there:
        await push(IMAGE, source, "team/app", ["main"])
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            await one.sync()
            source.faults.on("*", "", times=None).status(429, headers={"Retry-After": "7200"})
            run = await one.sync()
            work, clock = scheduled(one)
            await work.follow()
            asked = len(there.log)
            await clock.fire("app")
            assert run.until
            assert len(there.log) == asked
            assert clock.due["app"] > run.until


def test_a_look_at_names_leaves_what_a_deeper_one_found() -> None:
    """Unless it found something itself: then that is what is known now. It is the last look at names in either case."""
    deep = _verified("there", NOW, Level.DEEP, drift=1)
    facts = facts_after({}, Verification("m", "image", Level.DEEP, (deep,)))
    equal = _verified("there", NOW + timedelta(hours=1), Level.NAMES)
    facts = facts_after(facts, Verification("m", "image", Level.NAMES, (equal,)))
    times = {Level.NAMES: equal.at, Level.DEEP: NOW}
    assert verified_of(facts)["there"] == replace(deep, at=equal.at, levels=times)
    unknown = replace(equal, unknown=1)
    facts = facts_after(facts, Verification("m", "image", Level.NAMES, (unknown,)))
    assert verified_of(facts)["there"] == replace(deep, at=equal.at, levels=times)  # it could not tell
    drift = replace(equal, drift=1)
    facts = facts_after(facts, Verification("m", "image", Level.NAMES, (drift,)))
    drift = replace(drift, levels=times)
    assert verified_of(facts) == {"there": drift, "": replace(drift, target="")}
    assert verified_of({"there": "no document"}) == {}
