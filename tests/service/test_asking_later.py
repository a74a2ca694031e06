"""Images that wait: for a host that sends them away, for room in the queue, for a record that can be written."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from mirrord.asking.asked import AskedImage, AskState
from mirrord.daemon import ask_runs
from mirrord.model.ledger import Settled
from mirrord.model.request import ASKED, AskRecord
from mirrord.record.database import UnwritableError
from mirrord.record.requests import note_asked
from mirrord.report.metrics import Metrics
from mirrord.testing import Registry, push
from tests.support.asking import asking, configured, rules, small

BUSY = {"Retry-After": "7200"}
HOURS = timedelta(hours=2)


def at(image: str, platforms: tuple[str, ...] = (), ago: timedelta = timedelta()) -> AskRecord:
    return AskRecord("n1", image, platforms, "", "queued", "", "", copied=False, asked=datetime.now(UTC) - ago)


async def test_an_image_waits_for_its_host_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until when is told, the host is asked for nothing meanwhile, and another image of the run is not held up."""
    passed = [0.0]  # seconds
    monkeypatch.setattr("mirrord.wire.http.quotas.monotonic", lambda: time.monotonic() + passed[0] + 1)
    monkeypatch.setattr(ask_runs, "now", lambda: datetime.now(UTC) + timedelta(seconds=passed[0]))
    async with Registry() as source, Registry() as other, Registry() as target:
        section, more = rules(source, target)
        section = section.replace("/team/**'", f"/team/**', '{other.host}/team/**'")
        await push(small("a"), source, "team/a", ["v1"])
        await push(small("b"), other, "team/b", ["v1"])
        async with asking(tmp_path, section, more) as counter:
            source.faults.on("*", "", times=None).status(429, headers=BUSY)
            asked, unhindered = await asyncio.gather(
                *(counter.desk.ask(name, [], ()) for name in (f"{source.host}/team/a:v1", f"{other.host}/team/b:v1"))
            )
            ended = await counter.desk.wait(unhindered.id)
            assert ended
            assert (ended.state, ended.until) == (AskState.DONE, None)
            seen: list[AskedImage] = []
            async for state in counter.desk.follow(asked.id):
                seen.append(state)
                if state.until and not passed[0]:
                    refused, waiting = source.count("*"), state
                    assert (
                        HOURS - timedelta(minutes=5) < state.until - datetime.now(UTC) <= HOURS + timedelta(seconds=2)
                    )
                    source.faults.clear()
                    passed[0] = (state.until - datetime.now(UTC)).total_seconds() - 0.05
                    counter.desk._runs.work()  # looks at the clock, as after each run, and goes on when it is time
            assert (waiting.state, waiting.reason) == (AskState.QUEUED, "throttled")
            assert source.host in waiting.text
            assert (seen[-1].state, seen[-1].reason, seen[-1].until) == (AskState.DONE, "", None)
            assert refused == 1, "the look is refused, and the run asks no more"


async def test_nobody_waits_for_a_host_for_ever(tmp_path: Path) -> None:
    """An image that has waited for a day fails with what the host says; a restart does not begin anew."""
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        source.faults.on("*", "", times=None).status(429, headers=BUSY)
        await counter.runtime.store.note_asked(at(f"{source.host}/team/a:v1", ago=timedelta(hours=23)))
        await counter.desk.resume()
        ended = await counter.desk.wait("n1")
        assert ended
        assert (ended.state, ended.reason, ended.until) == (AskState.FAILED, "throttled", None)


@pytest.mark.parametrize("change", ["off", "not_allowed", "taken_down"])
async def test_an_image_is_judged_again_when_its_turn_comes(tmp_path: Path, change: str) -> None:
    """What a reload or a takedown forbids meanwhile is not copied, what it allows is; who waits hears why."""
    async with Registry() as source, Registry() as target:
        section, more = rules(source, target)
        for name in ("a", "b"):
            await push(small(name), source, f"team/{name}", ["v1"])
        async with asking(tmp_path, section, more) as counter:
            runs = counter.desk._runs
            runs._places = 0
            one, other = [await counter.desk.ask(f"{source.host}/team/{name}:v1", [], ()) for name in ("a", "b")]
            (tmp_path / "denied.yaml").write_text(f"- {{image: '{source.host}/team/a', reason: malware}}\n")
            fresh = {
                "off": ("", more),
                "not_allowed": (section.replace("/team/**", "/team/b"), more),
                "taken_down": (section, f"{more}\nsettings: {{denied: {tmp_path}/denied.yaml}}"),
            }
            await counter.runtime.adopt(await configured(tmp_path, *fresh[change]))
            source.forget()
            runs._places = 1
            runs.work()
            ended, allowed = [await counter.desk.wait(asked.id) for asked in (one, other)]
            assert ended
            assert allowed
            assert (ended.state, ended.reason) == (AskState.FAILED, change)
            assert ended.text
            assert source.count("*", "team/a") == 0
            assert (allowed.state is AskState.DONE) is (change != "off")


async def test_an_end_that_cannot_be_recorded_is_recorded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits hears it at once; the record knows it as soon as its disk works, and nothing is copied again."""
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        await push(small("a"), source, "team/a", ["v1"])
        full, store = [True], counter.runtime.store

        def write(link: Connection, request: AskRecord) -> None:
            if request.ended and full[0]:
                raise UnwritableError("disk is full")
            note_asked(link, request)

        monkeypatch.setattr("mirrord.record.rows.note_asked", write)
        ended = await counter.copied(f"{source.host}/team/a:v1")
        await counter.settled()
        assert ended.state is AskState.DONE
        assert [one.id for one in await store.open_requests()] == [ended.id]
        full[0] = False
        await store.check()
        assert await store.open_requests() == []
        assert await counter.desk.find(ended.id) == replace(ended, sent=0, total=0)


async def test_a_bug_before_a_run_leaves_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits hears of it; the next image is copied."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        await push(small("a"), source, "team/a", ["v1"])
        with monkeypatch.context() as patch:
            patch.setattr(ask_runs, "widen", broken)
            assert (await counter.copied(f"{source.host}/team/a:v1")).state is AskState.FAILED
        assert (await counter.copied(f"{source.host}/team/a:v1")).state is AskState.DONE


async def test_the_operator_asks_for_more_than_may_wait(tmp_path: Path) -> None:
    """They are fed into the queue as it empties; where all that is there waits for a host, the rest is refused."""
    async with (
        Registry() as source,
        Registry() as target,
        asking(tmp_path, *rules(source, target, "limits: {waiting: 2}")) as counter,
    ):
        tags = [f"v{number}" for number in range(5)]
        await push(small("a"), source, "team/a", tags)
        names = [f"{source.host}/team/a:{tag}" for tag in tags]
        ended = await counter.desk.ask_all(names, ())
        assert [(one.image, one.state) for one in ended] == [(name, AskState.DONE) for name in names]
        source.faults.on("*", "", times=None).status(429, headers=BUSY)
        ended = await counter.desk.ask_all([f"{source.host}/team/{name}:v1" for name in "bcde"], ())
        assert sorted(one.reason for one in ended) == ["full", "full", "throttled", "throttled"]
        assert all(one.until for one in ended if one.reason == "throttled")


async def test_a_large_image_holds_nobody_up(tmp_path: Path) -> None:
    """Others are copied beside it, but not of its repository; who asks for it gets that one; its moves stay its own."""
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        await push(small("a"), source, "team/a", ["v1", "v2"])
        await push(small("b"), source, "team/b", ["v1"])
        held = target.faults.on("PUT", "team/a/manifests/v1").hold()
        large = await counter.desk.ask(f"{source.host}/team/a:v1", [], ())
        await held.reached.wait()
        assert (await counter.copied(f"{source.host}/team/b:v1")).state is AskState.DONE
        same, sibling = [await counter.desk.ask(f"{source.host}/team/a:{tag}", [], ()) for tag in ("v1", "v2")]
        assert (same.id, same.state, sibling.state) == (large.id, AskState.RUNNING, AskState.QUEUED)
        assert ASKED in counter.runtime.runner.running()
        assert [one.name for one in await counter.runtime.store.moves(ASKED, unsettled=True)] == [large.image]
        held.release()
        for one in (large, sibling):
            ended = await counter.desk.wait(one.id)
            assert ended
            assert (ended.state, ended.copied) == (AskState.DONE, True)
        await counter.settled()
        assert {one.outcome for one in await counter.runtime.store.moves(ASKED)} == {Settled.DONE}
        assert counter.runtime.runner.running() == {}
        assert len(await counter.runs()) == 3


async def test_what_was_asked_for_is_counted(tmp_path: Path) -> None:
    """Each question, each end by its result, and what has not ended."""
    metrics = Metrics("1")
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        counter.runtime.events.listen(metrics)
        await push(small("a"), source, "team/a", ["v1"])
        held = target.faults.on("PUT", "/manifests/v1").hold()
        first = await counter.desk.ask(f"{source.host}/team/a:v1", [], ["token a"])
        await counter.desk.ask(f"{source.host}/team/a:v1", [], ())
        await held.reached.wait()
        metrics.asks.stand(counter.desk.counts())
        held.release()
        await counter.desk.wait(first.id)
        await counter.settled()
        for name in ("team/a:v1", "team/none", "other"):
            await counter.desk.ask(f"{source.host}/{name}", [], ["token a"])
        assert counter.desk.counts() == {"queued": 0, "deferred": 0, "running": 0}
    counted = [line for line in metrics.text({}).decode().splitlines() if line.startswith("mirrord_ask")]
    assert [line for line in counted if "_duration_" not in line or "_count" in line] == [
        'mirrord_asks_total{by="client"} 4.0',
        'mirrord_asks_total{by="operator"} 1.0',
        'mirrord_asks_ended_total{reason="",result="copied"} 1.0',
        'mirrord_asks_ended_total{reason="",result="present"} 1.0',
        'mirrord_asks_ended_total{reason="missing",result="refused"} 1.0',
        'mirrord_asks_ended_total{reason="not_allowed",result="refused"} 1.0',
        'mirrord_asks_open{state="queued"} 0.0',
        'mirrord_asks_open{state="deferred"} 0.0',
        'mirrord_asks_open{state="running"} 1.0',
        'mirrord_ask_duration_seconds_count{result="copied"} 1.0',
        'mirrord_ask_duration_seconds_count{result="present"} 1.0',
    ]
