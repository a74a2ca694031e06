"""Faults of the machine under a running daemon, by their rows: killed, frozen, locked out, powered off."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mirrord.commands import GetStatus, Sync
from mirrord.model.run import Result, Run
from mirrord.serve.remote import ControlClient
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk, Served
from tests.support.layouts import write_layout

NAME = "app.git"
MIB = 1 << 20


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def configure(desk: Desk, *mirrors: str, targets: str = "") -> None:
    listed = "".join(f"- {{{mirror}}}\n" for mirror in mirrors)
    desk.configure(f"settings: {{listen: '127.0.0.1:0'}}\ntargets: {{{targets}}}\nmirrors:\n{listed}")


async def sync(desk: Desk, *names: str) -> Run:
    (run,) = await ControlClient(desk.folder / "state").carry_out(Sync(names))
    return run


async def alive(daemon: Served) -> bool:
    async with aiohttp.ClientSession() as client, client.get(f"http://{daemon.address}/livez") as answer:
        return answer.status == 200


def upstream_of(host: GitHost) -> Upstream:
    upstream = Upstream(host.create(NAME))
    upstream.commit("main", {"README.md": b"one\n"})
    upstream.commit("dev", {"dev.txt": os.urandom(MIB)})
    return upstream


@pytest.mark.parametrize("where", ["source", "target"])
async def test_f4_killed_in_the_middle_of_a_fetch_or_a_push(desk: Desk, where: str) -> None:
    """F4: kill -9 while git fetches or pushes: after a restart all refs arrive, and no lock or half pack is left."""
    async with GitHost(desk.folder / "up") as source, GitHost(desk.folder / "down") as target:
        upstream = upstream_of(source)
        target.create(NAME)
        mirror = f"name: app, kind: git, from: {source.url(NAME)}, to: [t, local]"
        configure(desk, mirror, targets=f"t: {{kind: git, to: '{target.base}/{{name}}.git'}}")
        if where == "source":
            held = source.faults.on("POST", "git-upload-pack", times=None).stall(after=20_000)
        else:
            held = target.faults.on("POST", "git-receive-pack").hold()
        async with desk.serving() as daemon:
            running = asyncio.create_task(sync(desk))
            async with asyncio.timeout(60):
                await held.reached.wait()
            daemon.process.kill()
            await asyncio.gather(running, return_exceptions=True)
        source.faults.clear()
        target.faults.clear()
        async with desk.serving():
            run = await sync(desk)
        assert run.result in (Result.SUCCESS, Result.NOOP), run  # git itself lives on, and may have been through
        assert target.refs(NAME) == upstream.refs()
    cache = desk.folder / "state" / "git"
    assert [file for file in cache.rglob("*") if file.name.endswith(".lock") or file.name.startswith("tmp_")] == []


async def test_f40_git_that_ignores_sigterm_is_killed_at_the_deadline(desk: Desk) -> None:
    """F40: a git that hangs and ignores SIGTERM is gone after its mirror's deadline; the daemon and others go on."""
    program = shutil.which("git")
    wrapper = desk.folder / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(f"#!/bin/sh\ntrap '' TERM\nexec {program} \"$@\"\n")
    wrapper.chmod(0o755)
    async with GitHost(desk.folder / "up") as source, GitHost(desk.folder / "well") as well:
        upstream_of(source)
        upstream_of(well)
        configure(
            desk,
            f"name: hangs, kind: git, from: {source.url(NAME)}, to: local, deadline: 10s",
            f"name: good, kind: git, from: {well.url(NAME)}, to: local",
        )
        held = source.faults.on("POST", "git-upload-pack", times=None).stall(after=20_000)
        path = f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}"
        async with desk.serving(PATH=path) as daemon:
            run = await sync(desk, "hangs")
            assert held.hits
            assert run.code == "deadline", run
            assert (await sync(desk, "good")).result is Result.SUCCESS
            assert list(_children(daemon.process.pid)) == []
            assert await alive(daemon)


def _children(pid: int) -> Iterator[str]:
    """Name the programs that a process has started and that still run."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        if int(rest.split()[1]) == pid:
            yield name


async def test_f35_a_locked_record_is_waited_for(desk: Desk) -> None:
    """F35: somebody else holds the database: the daemon answers all the while, and the run is remembered afterwards."""
    async with Registry() as source:
        await push(build_image(["linux/amd64"]), source, "a", ["v1"])
        configure(desk, f"name: app, kind: image, to: local, from: {{repository: {source.host}/a, tags: [v1]}}")
        async with desk.serving() as daemon:
            with closing(sqlite3.connect(desk.folder / "state" / "mirrord.db", isolation_level=None)) as other:
                held = source.faults.on("HEAD", "/manifests/").hold()
                running = asyncio.create_task(sync(desk))
                await held.reached.wait()  # the run has read the record, and will write it at its end
                other.execute("BEGIN IMMEDIATE")
                held.release()
                while not (desk.folder / "state" / "repositories" / "app").exists():
                    assert await alive(daemon)
                for _ in range(20):
                    assert await alive(daemon)
                other.execute("ROLLBACK")
                assert (await running).result is Result.SUCCESS
            status: Any = await ControlClient(desk.folder / "state").carry_out(GetStatus())
    assert status.mirrors[0].result is Result.SUCCESS


async def test_f42_frozen_in_the_middle_of_a_run(desk: Desk) -> None:
    """F42: stopped in mid-transfer and thawed: the run goes on from where it was; the next one finds it done."""
    image = build_image(["linux/amd64"], layers=1, layer_size=3 * MIB)
    async with Registry() as source, Registry() as target:
        await push(image, source, "a", ["v1"])
        mirror = f"name: app, kind: image, to: [t, local], from: {{repository: {source.host}/a, tags: [v1]}}"
        configure(desk, mirror, targets=f"t: {{kind: image, to: {target.host}/m}}")
        held = source.faults.on("GET", f"/blobs/{image.layers[0]}").stall(after=MIB)
        async with desk.serving() as daemon:
            running = asyncio.create_task(sync(desk))
            async with asyncio.timeout(60):
                await held.reached.wait()
            daemon.process.send_signal(signal.SIGSTOP)
            again = asyncio.create_task(sync(desk))
            held.release()
            await asyncio.sleep(2)  # the time that the machine was away
            daemon.process.send_signal(signal.SIGCONT)
            assert [(await one).result for one in (running, again)] == [Result.SUCCESS, Result.NOOP]
            assert await alive(daemon)
        assert target.tags == {"m/app": {"v1": image.digest}}
        assert source.count("GET", f"/blobs/{image.layers[0]}") == 1


async def test_f43_a_large_blob_costs_little_memory(desk: Desk) -> None:
    """F43: a layer of 256 MiB from a registry to a registry and `local`: the daemon never holds 150 MiB."""
    require("docker-registry")
    image = build_image(["linux/amd64"], layers=1, layer_size=256 * MIB)
    write_layout(image, desk.folder / "build", "v1")
    async with DockerRegistry() as source, DockerRegistry() as target:
        assert (await desk.run("copy", "oci:build", f"{source.host}/a:v1")).status == 0
        mirror = f"name: app, kind: image, to: [t, local], from: {{repository: {source.host}/a, tags: [v1]}}"
        configure(desk, mirror, targets=f"t: {{kind: image, to: {target.host}/m}}")
        async with desk.serving() as daemon:
            run = await sync(desk)
            assert run.result is Result.SUCCESS, run
            status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])
    assert run.read > 256 * MIB
    assert peak < 150 * 1024


TRACED = "openat,write,fsync,fdatasync,rename,renameat,renameat2,link,linkat"
LINKS = "_links.jsonl"


async def test_f6_names_follow_content_that_is_on_the_disk(desk: Desk) -> None:
    """F6: power may fail at any moment: a name is set after its content and folders were flushed, and then flushed."""
    require("strace")
    async with Registry() as source:
        await push(build_image(), source, "a", ["v1", "v2"])
        configure(desk, f"name: app, kind: image, to: local, from: {{repository: {source.host}/a, tags: ['v*']}}")
        log = desk.folder / "trace"
        words = ("strace", "-f", "-y", "-qq", "-s", "1000", "-e", f"trace={TRACED}", "-o", str(log))
        process = await asyncio.create_subprocess_exec(
            *(*words, sys.executable, "-m", "mirrord", "sync"), cwd=desk.folder, env=desk.environ,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await process.wait() == 0
    steps = list(_traced(log.read_text(errors="replace"), desk.folder / "state"))
    named = [number for number, (_, old, new) in enumerate(steps) if (new or old).endswith(LINKS)]
    named = [number for number in named if steps[number][0] != "flush"]
    assert [steps[number][0] for number in named] == ["name", "append"], "one tag, then another"
    for number in named:
        what, old, new = steps[number]
        flushed = {place for what, place, _ in steps[:number] if what == "flush"}
        content = [(old, new) for what, old, new in steps[:number] if what == "name" and "/blobs/" in new]
        assert content
        for before, place in [*content, *([(old, new)] if what == "name" else [])]:
            assert flushed & {before, place}, f"{place} got its name before its bytes were flushed"
        for _, place in content:
            assert str(Path(place).parent) in flushed, f"the folder of {place} was not flushed before {new or old}"
        later = {place for what, place, _ in steps[number:] if what == "flush"}
        assert (str(Path(new).parent) if what == "name" else old) in later, "what names content was not flushed"


def _traced(text: str, state: Path) -> Iterator[tuple[str, str, str]]:
    """Yield what was done below `state`: `flush` of a path, `name` from an old one to a new one, `append` of names."""
    waiting: dict[str, str] = {}
    for line in text.splitlines():
        pid, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            waiting[pid] = call.removesuffix("<unfinished ...>")
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", call):
            call = waiting.pop(pid, "") + call[resumed.end() :]
        if (appended := re.match(r"write\(\d+<([^>]*)>", call)) and appended[1].endswith(LINKS):
            yield "append", appended[1], ""
        if not re.search(r"\)\s+= 0", call):
            continue
        if flushed := re.match(r"f(?:data)?sync\(\d+<([^>]*)>", call):
            if flushed[1].startswith(str(state)):
                yield "flush", flushed[1], ""
        elif re.match(r"(?:rename|link)", call):
            old, new = re.findall(r'"([^"]*)"', call)[:2]
            folders = re.findall(r"(?:AT_FDCWD|\d+)<([^>]*)>", call) or [str(state.parent)] * 2
            pair = [str(Path(folder) / name) for folder, name in zip(folders, (old, new), strict=False)]
            if pair[1].startswith(str(state)):
                yield "name", pair[0], pair[1]
