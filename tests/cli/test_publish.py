"""`mirrord publish` as CI runs it: a machine without memory, jobs run again, a daemon that takes them in order."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import ClientSession

from mirrord.cli.console import short
from mirrord.testing import Image, Moment, Registry, build_image, push
from tests.support.commands import Desk, Said
from tests.support.layouts import write_layout

PLACE = "mirror/app"
CREATED = "org.opencontainers.image.created"
A, B = "a" * 40, "b" * 40


def layout(desk: Desk, commit: str, day: int) -> Image:
    image = build_image(seed=commit, index_annotations={CREATED: f"2024-01-0{day}T10:00:00+02:00"})
    write_layout(image, desk.folder / commit[:7])
    return image


def configured(desk: Desk, *targets: Registry) -> None:
    hosts = "".join(f"  {target.name}: {{kind: image, to: {target.host}/mirror}}\n" for target in targets)
    names = ", ".join(target.name for target in targets)
    desk.configure(
        f"settings: {{listen: '127.0.0.1:0'}}\ntargets:\n{hosts}"
        f"mirrors:\n  - {{name: app, kind: image, from: {{layouts: builds}}, to: [{names}]}}\n"
    )


async def publish(desk: Desk, commit: str, *options: str | Path) -> Said:
    build = ("--layout", commit[:7], "--branch", "main", "--commit", commit)
    return await desk.run("publish", "app", *build, *options)


async def test_if_newest_on_machines_without_memory(desk: Desk) -> None:
    """The same command with a fresh `--state` each time: an older build gets its own tag, `main` stays, exit code 0."""
    async with Registry(name="one") as one, Registry(name="two") as two:
        configured(desk, one, two)
        a, b = layout(desk, A, 1), layout(desk, B, 2)
        assert (await publish(desk, B, "--if-newest", "--state", "state-0")).status == 0
        for number in (1, 2):
            said = await publish(desk, A, "--if-newest", "--state", f"state-{number}")
            assert said.status == 0, said
            for target in (one, two):
                assert target.tags[PLACE] == {"main-aaaaaaa": a.digest, "main-bbbbbbb": b.digest, "main": b.digest}
                created = "created 2024-01-02T08:00:00Z; main-aaaaaaa was created 2024-01-01T08:00:00Z"
                told = f"remark: {target.name}: main left alone: it is {short(str(b.digest))} there, {created}"
                assert told in said.out.splitlines()
            rows = [line.split() for line in said.out.splitlines() if line.startswith(("one", "two"))]
            assert [row[:2] for row in rows] == [["one", "main-aaaaaaa"], ["two", "main-aaaaaaa"]]
        again = await publish(desk, A, "--state", "state-3")
        assert again.status == 0
        assert [target.tags[PLACE]["main"] for target in (one, two)] == [a.digest] * 2
        document = (await publish(desk, B, "--if-newest", "--state", "state-3", "--json")).document
        assert (document["result"], document["remarks"]) == ("success", [])
        assert [target.tags[PLACE]["main"] for target in (one, two)] == [b.digest] * 2


async def test_the_daemon_takes_publishes_in_order(desk: Desk) -> None:
    """A hangs at a target while B is asked for: B is carried out after it and has `main`; `--if-newest` arrives too."""
    async with Registry(name="one") as one:
        configured(desk, one)
        a, b = layout(desk, A, 1), layout(desk, B, 2)
        async with desk.serving():
            held = one.faults.on("PUT", "/blobs/uploads/").hold()
            slow = asyncio.create_task(publish(desk, A))
            await one.wait(Moment.STARTED, "PUT", "/blobs/uploads/")
            late = asyncio.create_task(publish(desk, B))
            held.release()
            assert [said.status for said in await asyncio.gather(slow, late)] == [0, 0]
            assert one.tags[PLACE]["main"] == b.digest
            said = await publish(desk, A, "--if-newest")
            assert said.status == 0
            assert "main left alone" in said.out
            assert one.tags[PLACE]["main"] == b.digest
            status = await desk.run("status")
            assert f"app: remark: one: main left alone: it is {short(str(b.digest))} there" in status.out
            assert (await publish(desk, A)).status == 0
            assert one.tags[PLACE]["main"] == a.digest
            assert "remark" not in (await desk.run("status")).out


async def test_a_folder_and_a_publish_by_commands_on_one_state(desk: Desk) -> None:
    """`plan --explain`, `sync` and `status` name the tag that a publish keeps from the folder, and say why."""
    async with Registry(name="one") as one:
        configured(desk, one)
        a, b = layout(desk, A, 1), layout(desk, B, 2)
        for commit, image in ((A, a), (B, b)):
            write_layout(image, desk.folder / "builds" / commit[:7], "main", commit)
        assert (await desk.run("sync")).status == 0
        assert one.tags[PLACE]["main"] == b.digest
        assert (await publish(desk, A)).status == 0
        why = f"main left alone: it is main-aaaaaaa ({short(str(a.digest))}) by publish 1 of "
        for command in (("plan", "--explain"), ("plan",), ("sync",)):
            said = await desk.run(*command)
            assert said.status == 0
            assert f"remark: one: {why}" in said.out, said
            assert said.out.rstrip().endswith("only a build created later moves it")
        assert f"app: remark: one: {why}" in (await desk.run("status")).out
        assert one.tags[PLACE]["main"] == a.digest


async def test_names_that_do_not_go_together(desk: Desk) -> None:
    """A branch that would take a build's tag ends with 1 and both names; one with the tag of a pull request with 64."""
    async with Registry(name="one") as one:
        configured(desk, one)
        a, _ = layout(desk, A, 1), layout(desk, B, 2)
        assert (await publish(desk, A)).status == 0
        taken = await desk.run("publish", "app", "--layout", B[:7], "--branch", "main-aaaaaaa", "--commit", B, "--json")
        assert taken.status == 1
        (step,) = taken.document["plan"]["steps"]
        assert step["action"] == "refuse"
        assert step["reason"].startswith(f"main-aaaaaaa is the tag of a build of main ({a.digest}) and never moves")
        assert "main-aaaaaaa-bbbbbbb cannot have it" in step["reason"]
        assert one.tags[PLACE]["main-aaaaaaa"] == a.digest
        pull = await desk.run("publish", "app", "--layout", B[:7], "--branch", "pr/7", "--commit", B)
        assert pull.status == 64
        assert "branch pr/7 would get the tag pr-7" in pull.err


@pytest.mark.parametrize("kept", [True, False], ids=["state", "fresh"])
async def test_a_deleted_main_comes_back(desk: Desk, kept: bool) -> None:
    """A1 (c): somebody deleted `main`: the same `publish` sets it again, with the state that knows it and without."""
    async with Registry(name="one") as one:
        configured(desk, one)
        a = layout(desk, A, 1)
        await publish(desk, A, "--state", "state-0")
        del one.tags[PLACE]["main"]
        await push(a, one, PLACE, ["main-aaaaaaa"])
        said = await publish(desk, A, "--state", "state-0" if kept else "state-1")
        assert said.status == 0
        assert "success" in said.out
        assert one.tags[PLACE] == {"main-aaaaaaa": a.digest, "main": a.digest}


async def test_a_published_build_is_shown_by_both_its_names_at_once(desk: Desk) -> None:
    """Page, API, log, catalog and status have build and branch where they are, after each publish, before any run."""
    async with Registry(name="one") as one, Registry(name="two") as two:
        configured(desk, one, two)
        first, second = layout(desk, A, 1), layout(desk, B, 2)
        two.faults.on("PUT", "/manifests/", times=None).status(403)
        async with desk.serving() as daemon, ClientSession(f"http://{daemon.address}") as session:

            async def read(path: str) -> str:
                async with session.get(path) as answer:
                    assert answer.status == 200
                    return await answer.text()

            async def shown() -> dict[str, dict[str, str]]:
                items = json.loads(await read("/api/v1/mirrors/app/items"))["items"]
                found = {one["item"]: {place: seen["digest"] for place, seen in one["at"].items()} for one in items}
                log, catalog = await read("/log/app.txt"), await read("/api/v1/catalog.txt")
                page, said = await read("/mirrors/app"), await desk.run("status", "app")
                assert "builds:" not in log + catalog  # a folder of builds has no such tags
                for item, at in found.items():
                    for target in (one, two):
                        name = f"{target.host}/{PLACE}:{item}"
                        present = f" and {name} are synchronized: {at.get(target.name)}"
                        assert (present in log) is (target.name in at)
                        assert (f"\t{name}\t{at.get(target.name)}\n" in catalog) is (target.name in at)
                    assert f">{item}<" in page
                    assert item in said.out
                return found

            assert (await publish(desk, A)).status == 2
            a, b = str(first.digest), str(second.digest)
            assert await shown() == {"main": {"one": a}, "main-aaaaaaa": {"one": a}}
            two.faults.clear()
            assert (await publish(desk, B)).status == 0
            both = {"one": b, "two": b}
            assert await shown() == {"main": both, "main-aaaaaaa": {"one": a}, "main-bbbbbbb": both}


async def test_a_publish_does_not_answer_for_the_source(desk: Desk) -> None:
    """A tag that a publish set is still asked for at the source when it becomes one that never changes there."""
    async with Registry(name="source") as source, Registry(name="one") as one:
        text = (
            f"settings: {{listen: '127.0.0.1:0'}}\ntargets:\n  one: {{kind: image, to: {one.host}/mirror}}\nmirrors:\n"
            f"  - {{name: app, kind: image, to: one, from: {{repository: {source.host}/team/app, tags: [main]}}"
        )
        desk.configure(text + "}\n")
        layout(desk, A, 1)
        assert (await publish(desk, A)).status == 0
        await push(build_image(seed="theirs"), source, "team/app", ["main"])
        desk.configure(text + ", immutable: [main]}\n")
        said = await desk.run("sync")
        assert source.count("HEAD", "/manifests/main") == 1
        assert (said.status, "never moves" in said.out) == (1, True)
