"""Replicas in the metrics and in the log: what each says of all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isnan
from typing import Any

from mirrord.cli.overview import overview
from mirrord.cli.screen import Screen
from mirrord.daemon.seen_fleet import SETTLES, SeenFleet
from mirrord.model.remote import LeaseLost, LeaseTakenOver
from mirrord.model.replica import Replica, WaitingRuns
from mirrord.report.board import Board
from mirrord.report.metrics import Metrics
from mirrord.report.replicas import OLD, ReplicaStatus
from mirrord.report.status import Running
from tests.support.shownmirrors import mirror

T0 = datetime(2026, 11, 28, 12, tzinfo=UTC)
A = Replica("a", "1", "1.0", T0, T0, alive=True, running={}, leads=True, configuration="aaa")
B = Replica("b", "2", "1.0", T0, T0, alive=True, running={"m": {"trigger": "schedule", "started": T0.isoformat()}})
DEAD = replace(B, replica="c", seen=T0 - timedelta(hours=2), alive=False, configuration="old")


def series(metrics: Metrics, word: str) -> dict[str, float]:
    lines = [line for line in metrics.text({}).decode().splitlines() if line.startswith("mirrord_") and word in line]
    return {line.rpartition(" ")[0].removeprefix("mirrord_"): float(line.rpartition(" ")[2]) for line in lines}


def fleet_of(*replicas: Replica, waiting: WaitingRuns = WaitingRuns()) -> SeenFleet:  # noqa: B008 - it is frozen
    made = SeenFleet("a", lambda *_, **__: None)
    made.follow(replicas, waiting, T0)
    return made


def test_series_of_replicas() -> None:
    """Who is up, when it was seen, who leads and how much each runs; those that are gone leave no series."""
    metrics, waiting = Metrics("1"), WaitingRuns(3, T0 - timedelta(minutes=5))
    metrics.fleet.stand(fleet_of(A, B, DEAD).replicas, waiting, T0, T0)
    assert series(metrics, 'replica="') == {
        **{f'replica_up{{replica="{name}"}}': up for name, up in (("a", 1), ("b", 1), ("c", 0))},
        **{f'replica_leading{{replica="{name}"}}': leads for name, leads in (("a", 1), ("b", 0), ("c", 0))},
        **{f'replica_runs{{replica="{name}"}}': runs for name, runs in (("a", 0), ("b", 1), ("c", 0))},
        **{f'replica_last_seen_timestamp_seconds{{replica="{name}"}}': T0.timestamp() for name in "ab"},
        'replica_last_seen_timestamp_seconds{replica="c"}': T0.timestamp() - 7200,
    }
    assert series(metrics, "mirrord_queue") == {"queue_waiting_runs": 3, "queue_oldest_seconds": 300}
    metrics.fleet.stand(fleet_of(A).replicas, WaitingRuns(), T0, T0)
    assert len(series(metrics, 'replica="')) == 4
    assert series(metrics, "mirrord_queue") == {"queue_waiting_runs": 0, "queue_oldest_seconds": 0}
    for event in (LeaseLost("m"), LeaseTakenOver("m"), LeaseTakenOver("n")):
        metrics(event)
    assert series(metrics, "mirrord_leases") == {"leases_lost_total": 1, "leases_taken_over_total": 2}


def test_what_others_run() -> None:
    """The runs of living replicas are shown with their names; those of this one, and of dead ones, are not."""
    assert fleet_of(replace(B, replica="a"), DEAD).elsewhere() == {}
    assert fleet_of(A, B).elsewhere() == {"m": Running("schedule", T0, replica="b")}


def test_a_replica_of_another_version() -> None:
    """What one says in a way that is not understood is not shown; what others say is, and who is there."""
    other = replace(B, replica="c", running={"n": {"trigger": "schedule", "began": "today"}})
    fleet = fleet_of(A, other, B)
    assert fleet.elsewhere().keys() == {"m"}
    assert [one.name for one in fleet.replicas] == ["a", "c", "b"]


def test_configurations_that_differ_are_logged_once() -> None:
    """Not while they are changed one after another, and not of dead replicas; again when they agreed meanwhile."""
    lines, now = list[str](), 0.0

    def write(level: str, name: str, **fields: Any) -> None:
        assert (level, name) == ("warning", "daemon.notice")
        lines.append(fields["message"])

    fleet = SeenFleet("a", write, lambda: now)
    same, other = replace(B, configuration="aaa"), replace(B, configuration="bbb")
    for passed, seen, count in (
        (0, other, 0),
        (SETTLES - 1, other, 0),
        (1, other, 1),
        (SETTLES, other, 1),
        (1, same, 1),
        (1, other, 1),
        (SETTLES, other, 2),
    ):
        now += passed
        fleet.follow([A, seen, DEAD], WaitingRuns(), T0)
        assert len(lines) == count
    assert lines[0] == ("replicas have different configurations (aaa: a; bbb: b); give all the same one, and reload")


def test_on_the_command_line() -> None:
    """A line for each replica, who is dead in plain words, and where a mirror runs; nothing for one alone."""
    status = Board().status("1.0", T0, [mirror("m")], running={"m": Running("schedule", T0, 5, 2, replica="b")})
    replicas: tuple[ReplicaStatus, ...] = fleet_of(A, replace(B, configuration="bbb"), DEAD).replicas
    shown = list(overview(replace(status, replicas=replicas, replica="a", waiting=1), Screen()))
    assert shown[2:7] == [
        "replica a: leads, mirrord 1.0, last sign of life just now, configuration aaa, runs nothing",
        "replica b: mirrord 1.0, last sign of life just now, configuration bbb, runs m",
        "replica c is dead: last sign of life 2 hours ago; others take over what it ran",
        "replicas have different configurations: give all the same one, and reload",
        "1 run is due and waits for a replica",
    ]
    assert "running at b, 2 of 5 done" in "\n".join(shown)
    assert not [line for line in overview(status, Screen()) if "replica" in line]


def test_an_old_look() -> None:
    """A replica that does not reach the record says as of when it knows the others, and no series says they are up."""
    looked, now = T0, T0 + timedelta(seconds=OLD + 1)
    status = Board().status("1.0", now, [mirror("m")], running={"m": Running("schedule", T0, 5, 2, replica="b")})
    status = replace(status, replicas=fleet_of(A, B).replicas, replica="a", replicas_at=looked)
    said = (
        "the record was last reached 31 seconds ago: what is said here of other replicas and their runs is as of then"
    )
    assert said in list(overview(status, Screen()))
    assert said not in list(overview(replace(status, replicas_at=now), Screen()))
    metrics, waiting = Metrics("1"), WaitingRuns(3, T0)
    metrics.fleet.stand(status.replicas, waiting, T0, looked)
    assert series(metrics, "replica_up") == {'replica_up{replica="a"}': 1, 'replica_up{replica="b"}': 1}
    metrics.fleet.stand(status.replicas, waiting, now, looked)
    assert not series(metrics, "replica_up")
    assert not series(metrics, "replica_leading")
    assert all(isnan(value) for value in series(metrics, "mirrord_queue").values())


def test_no_daemon_here_and_replicas_elsewhere() -> None:
    """Where no daemon holds the directory but replicas live, nobody is told that mirrors run by hand alone."""
    status = replace(Board().status("1.0", T0, [mirror("m")]), replicas=fleet_of(B).replicas, replicas_at=T0)
    assert status.state == "offline"
    assert list(overview(status, Screen()))[1:3] == [
        "no daemon is running with this state directory; living replicas run the mirrors",
        "replica b: mirrord 1.0, last sign of life just now, runs m",
    ]
    dead = replace(status, replicas=fleet_of(DEAD).replicas)
    assert list(overview(dead, Screen()))[1].startswith("no daemon is running: mirrors run by `mirrord sync` alone")
