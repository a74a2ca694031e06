"""The status of all mirrors: their health, their addresses, and what is built anew when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from mirrord.model.history import LastRun, Standing
from mirrord.model.run import Result
from mirrord.report.board import Board
from mirrord.report.status import MirrorStatus, Running, status_document
from mirrord.syncer.values import Addresses, Mirror, Target

T0 = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)


class Anything(BaseModel):
    pass


def mirror(name: str = "m", *targets: str) -> Mirror:
    return Mirror(name, "image", Anything(), tuple(Target(t, "image", t, Anything()) for t in targets or ("a",)))


def test_health() -> None:
    """Each mirror and target has one word, the worst that applies; totals count mirrors by it, and those that run."""
    last, long_ago = T0 - timedelta(minutes=59), T0 - timedelta(hours=1)
    standing = [
        Standing("failing", "", long_ago, T0, 1, Result.PARTIAL, "denied", "no"),
        Standing("failing", "a", long_ago, T0, 1, Result.FAILED, "denied", "no"),
        Standing("failing", "b", T0, T0, 0, Result.SUCCESS),
        Standing("then-limited", "", last, T0, 2, Result.DEFERRED, "limited", "later"),
        Standing("stale", "", long_ago, T0, 0, Result.DEFERRED),
        Standing("limited", "", last, T0, 0, Result.DEFERRED, "limited", "later"),
        Standing("stopped", "", None, T0, 0, Result.INTERRUPTED, "stopped", "stopped", first_attempt=last),
        Standing("always-limited", "", None, T0, 0, Result.DEFERRED, "limited", "later", first_attempt=long_ago),
        Standing("once-good", "", last, T0, 0, Result.SUCCESS, first_attempt=long_ago),
        Standing("old", "", T0 - timedelta(days=900), T0 - timedelta(days=900), 0, Result.SUCCESS),
        Standing("ok", "", last, last, 0, Result.NOOP),
    ]
    names = (
        "failing",
        "then-limited",
        "stale",
        "limited",
        "stopped",
        "always-limited",
        "once-good",
        "new",
        "old",
        "ok",
    )
    mirrors = [replace(mirror(name, "a", "b"), stale=None if name == "old" else 3600.0) for name in names]
    board = Board(standing)
    status = board.status("1", T0, mirrors, running={"ok": Running("command", T0)}, started=T0)
    assert {one.name: one.health for one in status.mirrors} == {
        "failing": "failing",
        "then-limited": "failing",
        "stale": "stale",
        "limited": "deferred",
        "stopped": "new",
        "always-limited": "stale",
        "once-good": "ok",
        "new": "new",
        "old": "ok",
        "ok": "ok",
    }
    assert [target.health for target in status.mirrors[0].targets] == ["failing", "ok"]
    assert status.totals == {"failing": 2, "stale": 2, "new": 2, "deferred": 1, "ok": 3, "denied": 0, "running": 1}
    document = status_document(status)
    assert (document["totals"], document["mirrors"][-1]["stale_at"]) == (status.totals, "2026-11-21T01:03:03Z")
    assert document["mirrors"][-2]["stale_at"] is None


def test_what_was_taken_down_is_calm() -> None:
    """A mirror that was taken down says so and why; whatever it was before, nothing of it is failing, late or due."""
    long_ago = T0 - timedelta(days=9)
    standing = [
        Standing("m", at, long_ago, long_ago, 3, Result.FAILED, "unreachable", "no", behind=2, behind_since=long_ago)
        for at in ("", "a")
    ]
    board, only = Board(standing), replace(mirror(), stale=3600.0)

    def stands(denied: Mapping[str, str]) -> MirrorStatus:
        due = {"m": T0 + timedelta(hours=1)}
        status = board.status("1", T0, [only], started=T0, next_runs=due, denied=denied)
        assert status.totals["denied"] == len(denied)
        return status.mirrors[0]

    assert (stands({}).health, stands({}).denied) == ("failing", "")
    found = stands({"m": "ticket 4711"})
    assert (found.health, found.denied, found.next_run, found.stale_at) == ("denied", "ticket 4711", None, None)
    for one in (found, *found.targets):
        assert (one.health, one.consecutive_failures, one.last_error, one.behind) == ("denied", 0, None, 0)
    assert stands({}).health == "failing"


def test_time_alone_makes_a_mirror_stale() -> None:
    """A status that nothing else changes is the same value until its time, and is built anew then, also backwards."""
    board = Board([Standing("m", "", T0, T0, 0, Result.SUCCESS), Standing("m", "a", T0, T0, 0, Result.SUCCESS)])
    only = replace(mirror(), stale=3600.0)

    def at(seconds: float) -> MirrorStatus:
        return board.status("1", T0 + timedelta(seconds=seconds), [only], started=T0).mirrors[0]

    fresh = at(1)
    assert at(3599.9) is fresh
    stale = at(3600)
    assert (fresh.health, stale.health, stale.targets[0].health) == ("ok", "stale", "stale")
    assert at(9999) is stale
    assert at(0).health == "ok"  # the clock of the machine went back


def test_the_regular_run_comes_first() -> None:
    """A deferred mirror whose schedule is earlier than its registry waits for that run alone."""
    until = T0 + timedelta(hours=2)
    board = Board([Standing("m", "", T0, T0, 0, Result.DEFERRED, "throttled", "later", until=until)])
    times = {hours: T0 + timedelta(hours=hours) for hours in (1, 2, 3)}
    found = {
        hours: board.status("1", T0, [mirror()], next_runs={"m": at}).mirrors[0].deferred_until
        for hours, at in times.items()
    }
    assert found == {1: None, 2: until, 3: until}


def test_what_a_target_lacks() -> None:
    """A target says what it lacks and since when; its lag grows by the minute, and is 0 when it lacks nothing."""
    since, last = T0 - timedelta(seconds=150), LastRun(done=2, sent=3_000_000, seconds=1.5)
    found = {"a": Standing("m", "a", T0, T0, size=10, behind=2, behind_since=since, last=last)}
    found |= {
        "b": Standing("m", "b", T0, T0, size=12),
        "": Standing("m", "", T0, T0, size=12, behind=2, behind_since=since),
    }
    board = Board(found.values())

    def at(seconds: float) -> MirrorStatus:
        return board.status("1", T0 + timedelta(seconds=seconds), [mirror("m", "a", "b", "new")]).mirrors[0]

    first = at(0)
    a, b, new = first.targets
    assert (first.behind, first.behind_since, first.lag, first.size, first.rate) == (2, since, 120, 12, None)
    assert (a.behind, a.behind_since, a.lag, a.size, a.rate) == (2, since, 120, 10, 2_000_000)
    assert (b.behind, b.behind_since, b.lag, b.size, b.rate) == (0, None, 0, 12, None)
    assert (new.behind, new.lag, new.size) == (0, None, 0)
    assert at(29.9) is first
    assert (at(30).lag, at(30).targets[0].lag, at(89).lag, at(90).lag) == (180, 180, 180, 240)
    assert at(-1000).lag == 0  # the clock of the machine went back


def test_addresses_are_shown() -> None:
    """A mirror says where it reads, each target where it is; `local` says where clients get what it has."""
    addresses = {"m": Addresses("ghcr.io/a/b", {"a": "quay.io/a/b", "local": "local/m"}, "mirror.example/m")}
    there = Board().status("1", T0, [mirror("m", "a", "local")], addresses=addresses).mirrors[0]
    assert (there.source, there.address) == ("ghcr.io/a/b", "mirror.example/m")
    assert [target.place for target in there.targets] == ["quay.io/a/b", "mirror.example/m"]
