"""Images that people ask for: what is refused, what is one run, what survives a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirrord.asking.asked import AskState
from mirrord.daemon import asking as daemon
from mirrord.model.request import ASKED, AskRecord
from mirrord.model.run import Result, Run
from mirrord.testing import Registry, build_image, push
from tests.support.asking import asking, rules, small

TWO = ["linux/amd64", "linux/arm64"]


async def test_an_image_is_copied_once(tmp_path: Path) -> None:
    """It is at every place under the name that is answered; asked for again, it is there, and nothing is written."""
    image = small("a")
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        await push(image, source, "team/app", ["v1"])
        asked = await counter.desk.ask(f" {source.host}/team/app:v1", [], ["token a"])
        assert (asked.over, asked.image, asked.copied) == (False, f"{source.host}/team/app:v1", False)
        ended = await counter.desk.wait(asked.id)
        assert ended
        assert (ended.id, ended.state, ended.copied, ended.reason, ended.text) == (
            asked.id,
            AskState.DONE,
            True,
            "",
            "",
        )
        name = f"{source.host.replace(':', '_')}/team/app"
        assert ended.places == (f"{target.host}/m/{name}:v1", f"127.0.0.1:8080/{name}:v1")
        assert target.content.tags[f"m/{name}"]["v1"] == image.digest
        target.forget()
        again = await counter.desk.ask(f"{source.host}/team/app:v1", [], ["token a"])
        assert (again.state, again.copied) == (AskState.DONE, False)
        assert target.count("HEAD|GET") == target.count("*") <= 1
        assert await counter.desk.find(again.id) == again
        assert await counter.runs() == [("asked", Result.SUCCESS)]


async def test_equal_questions_are_one(tmp_path: Path) -> None:
    """Who asks for what is under way gets that one."""
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        for name in ("a", "b", "c"):
            await push(small(name), source, f"team/{name}", ["v1"])
        images = [f"{source.host}/team/{name}:v1" for name in ("a", "a", "b", "c", "a")]
        asked = await asyncio.gather(*(counter.desk.ask(image, [], ["token a"]) for image in images))
        assert len({one.id for one in asked}) == 3
        ended = await asyncio.gather(*(counter.desk.wait(one.id) for one in asked))
        assert [one and one.state for one in ended] == [AskState.DONE] * 5
        assert 1 <= len(await counter.runs()) <= 3
        assert source.count("GET", "/blobs/") == sum(len(small(name).blobs) for name in ("a", "b", "c"))
        (whole, *_) = await counter.runtime.store.standing(ASKED)
        assert (whole.result, whole.failures, whole.behind) == (Result.SUCCESS, 0, 0)


async def test_refusals(tmp_path: Path) -> None:
    """Each has a reason for programs and a sentence for people; none begins a run, and only one asks a registry."""
    async with Registry() as source, Registry() as target:
        section, more = rules(source, target, "platforms: [linux/amd64]")
        (tmp_path / "denied.yaml").write_text(f"- {{image: '{source.host}/team/gone', reason: malware}}\n")
        more += f"\nsettings: {{denied: {tmp_path}/denied.yaml}}"
        async with asking(tmp_path, section, more) as counter:
            for image, platforms, reason, text in (
                ("", [], "not_an_image", ""),
                ("no image", [], "not_an_image", "no image"),
                ("x" * 5000, [], "not_an_image", "has 5000 characters"),
                ("https://quay.io/a/b", [], "not_an_image", ""),
                ("quay.io/a/b:1", [], "not_allowed", "is not among the images"),
                (f"{source.host}/team/gone:1", [], "taken_down", "malware"),
                (f"{source.host}/team/app:1", ["x86"], "platform", "is not copied: 'x86' is not a platform"),
                (f"{source.host}/team/app:1", ["linux/s390x"], "platform", "choose among linux/amd64"),
                (f"{source.host}/team/app:1", ["linux/amd64"] * 50, "platform", "at most 32"),
                (f"{source.host}/team/app:1", [], "missing", "app"),
            ):
                assert source.count("*") == 0
                asked = await counter.desk.ask(image, platforms, ["token a"])
                assert (asked.id, asked.state, asked.reason) == ("", AskState.REFUSED, reason)
                assert text in asked.text
                assert len(asked.image) <= 600
            assert source.count("*") > 0
            assert await counter.runs() == []
            assert await counter.runtime.store.open_requests() == []


async def test_without_the_section_nobody_can_ask(tmp_path: Path) -> None:
    """Nothing of it is on by default."""
    async with asking(tmp_path, "") as counter:
        asked = await counter.desk.ask("nginx", [], ())
        assert (asked.state, asked.reason) == (AskState.REFUSED, "off")
        assert await counter.desk.find("x") is None
        assert await counter.desk.wait("x") is None


async def test_rates_and_the_queue_are_bounded(tmp_path: Path) -> None:
    """Who asks for too much waits; the operator has no rate, but the queue has an end for everybody."""
    async with (
        Registry() as source,
        Registry() as target,
        asking(tmp_path, *rules(source, target, "limits: {an_hour: 1, waiting: 1}")) as counter,
    ):
        await push(small("a"), source, "team/a", ["v1", "v2"])
        await counter.copied(f"{source.host}/team/a:v1")
        limited = await counter.desk.ask(f"{source.host}/team/a:v2", [], ["token a", "198.51.100.1"])
        assert (limited.reason, 3500 < limited.after <= 3600) == ("rate", True)
        one, other = await asyncio.gather(
            counter.desk.ask(f"{source.host}/team/a:v2", [], ()),
            counter.desk.ask(f"{source.host}/team/b", [], ["token b"]),
        )
        assert (one.over, other.reason, other.after > 0) == (False, "full", True)
        ended = await counter.desk.wait(one.id)
        assert ended
        assert ended.state is AskState.DONE
        await counter.settled()
        late = await counter.desk.ask(f"{source.host}/team/b", [], ["token b"])
        assert late.reason == "missing", "a full queue counts for nobody"


async def test_a_slow_registry_lets_nobody_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks is told that it is queued, may look by the id, and hears how it ended; a restart knows of it."""
    monkeypatch.setattr(daemon, "_PROMPT", 0.0)
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        asked = await counter.desk.ask(f"{source.host}/team/none:v1", [], ["token a"])
        assert (asked.state, await counter.desk.find(asked.id)) == (AskState.QUEUED, asked)
        assert [one.id for one in await counter.runtime.store.open_requests()] == [asked.id]
        ended = await counter.desk.wait(asked.id)
        await counter.settled()
        assert ended
        assert (ended.id, ended.state, ended.reason) == (asked.id, AskState.FAILED, "missing")
        assert await counter.desk.find(asked.id) == ended
        assert await counter.runtime.store.open_requests() == []


async def test_each_image_of_a_run_is_told_its_own_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that are missing, also by digest, and with names that begin with that of another one."""
    monkeypatch.setattr(daemon, "_LOOK", 0.0)  # so that the run finds it
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        await push(small("a"), source, "team/a", ["v1"])
        names = ("a:v70", "a:v7", "a:v8", f"b@sha256:{'0' * 64}", f"a@sha256:{'1' * 64}", f"a@sha256:{'2' * 64}")
        images = [f"{source.host}/team/{name}" for name in names]
        asked = await asyncio.gather(*(counter.desk.ask(image, [], ()) for image in images))
        for image, one in zip(images, asked, strict=True):
            ended = await counter.desk.wait(one.id)
            assert ended
            assert (ended.state, ended.reason) == (AskState.FAILED, "missing")
            assert ended.text.startswith((f"{image} ", f"{image}: ")), ended.text


async def test_an_end_is_told_by_who_looks_while_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever begins to follow an image just then hears of its end, and not that it is queued."""
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        await push(small("a"), source, "team/a", ["v1"])
        store, writing, write = counter.runtime.store, asyncio.Event(), asyncio.Event()
        note = store.note_asked

        async def slow(record: AskRecord) -> None:
            if record.ended:
                writing.set()
                await write.wait()
            await note(record)

        monkeypatch.setattr(store, "note_asked", slow)
        asked = await counter.desk.ask(f"{source.host}/team/a:v1", [], ["token a"])
        await writing.wait()
        late = asyncio.create_task(counter.desk.wait(asked.id))
        seen = await counter.desk.find(asked.id)
        write.set()
        ended = await late
        assert seen
        assert ended
        assert (seen.over, ended.state, ended.copied) == (False, AskState.DONE, True)
        assert await counter.desk.find(asked.id) == ended


async def test_a_bug_leaves_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits hears of it, without what it names; the next image is copied."""

    async def broken(*_: object, **__: object) -> Run:
        raise ZeroDivisionError("https://a:secret-0123@example.com/")

    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        await push(small("a"), source, "team/a", ["v1"])
        with monkeypatch.context() as patch:
            patch.setattr(counter.runtime.runner, "sync", broken)
            ended = await counter.copied(f"{source.host}/team/a:v1")
        assert (ended.state, "secret-0123" in ended.text) == (AskState.FAILED, False)
        assert (await counter.copied(f"{source.host}/team/a:v1")).state is AskState.DONE


async def test_nobody_loses_a_platform(tmp_path: Path) -> None:
    """Two people who ask for one platform each find both; a third one asks for nothing new."""
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        await push(build_image([*TWO, "linux/s390x"], layers=1, layer_size=500), source, "team/app", ["v1"])
        image = f"{source.host}/team/app:v1"
        assert (await counter.copied(image, "linux/amd64")).platforms == ("linux/amd64",)
        assert {*(await counter.copied(image, "linux/arm64")).platforms} == {*TWO}
        await counter.settled()
        again = await counter.desk.ask(image, ["linux/amd64"], ())
        assert (again.state, again.copied) == (AskState.DONE, False)
        known = await counter.runtime.store.memory(ASKED)
        assert {*known["hub", image].platforms} == {*TWO}
        assert (await counter.copied(image)).platforms == ()
        await counter.settled()
        assert len((await counter.runtime.store.memory(ASKED))["hub", image].platforms) == 3


async def test_an_image_survives_a_restart(tmp_path: Path) -> None:
    """What was queued when mirrord was killed is copied by the next process, under the same id."""
    async with Registry() as source, Registry() as target:
        await push(small("a"), source, "team/a", ["v1"])
        async with asking(tmp_path, *rules(source, target)) as counter:
            await counter.runtime.runner.stop(0.0)
            counter.runtime.runner.stopping = False  # as a process that is killed: nothing ends in order
            asked = await counter.desk.ask(f"{source.host}/team/a:v1", [], ["token a"])
            counter.runtime.runner.stopping = True
            assert (await counter.desk.ask(f"{source.host}/team/b", [], ())).reason == "stopping"
        async with asking(tmp_path, *rules(source, target)) as counter:
            ended = await counter.desk.wait(asked.id)
            assert ended
            assert (ended.state, ended.copied) == (AskState.DONE, True)
            assert await counter.runtime.store.open_requests() == []
        async with asking(tmp_path, *rules(source, target)) as counter:
            assert await counter.desk.find(asked.id) == ended


async def test_who_asks_while_mirrord_starts_hears_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The door opens before the record is read, which may have this image already: there is one request for it."""
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        await push(small("a"), source, "team/a", ["v1"])
        with monkeypatch.context() as patch:
            patch.setattr(counter.desk._runs, "work", lambda: None)
            asked = await counter.desk.ask(f"{source.host}/team/a:v1", [], ["token a"])
        follower = counter.desk.follow(asked.id)
        assert await anext(follower) == asked
        await counter.desk.resume()
        async with asyncio.timeout(20):
            assert [one.state async for one in follower][-1] is AskState.DONE


async def test_who_asks_while_mirrord_ends_is_not_forgotten(tmp_path: Path) -> None:
    """It shuts down while a slow registry is asked: who is told an id finds the image there after the restart."""
    async with Registry() as source, Registry() as target:
        await push(small("a"), source, "team/a", ["v1"])
        async with asking(tmp_path, *rules(source, target)) as counter:
            held = source.faults.on("*", "/manifests/").hold()
            question = asyncio.create_task(counter.desk.ask(f"{source.host}/team/a:v1", [], ["token a"]))
            await held.reached.wait()
            await counter.runtime.runner.stop(0.0)
            await counter.desk.close()
            held.release()
            asked = await question
            assert (asked.state, bool(asked.id)) == (AskState.QUEUED, True)
        async with asking(tmp_path, *rules(source, target)) as counter:
            ended = await counter.desk.wait(asked.id)
            assert ended
            assert (ended.id, ended.state) == (asked.id, AskState.DONE)


async def test_a_failure_is_told(tmp_path: Path) -> None:
    """A target that refuses the image fails it, with the code of the error."""
    async with Registry() as source, Registry() as target, asking(tmp_path, *rules(source, target)) as counter:
        await push(small("a"), source, "team/a", ["v1"])
        target.faults.on("PUT", "/manifests/", times=None).status(403)
        ended = await counter.copied(f"{source.host}/team/a:v1")
        assert (ended.state, ended.reason) == (AskState.FAILED, "denied")
