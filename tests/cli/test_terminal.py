"""What a person sees on a terminal: bars while it works, then the table."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.layouts import write_docker_archive, write_layout


async def on_a_terminal(desk: Desk, *arguments: str | Path) -> tuple[int, str, str]:
    """Run a command whose standard error is a terminal; returns its status, standard output, and what was drawn."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mirrord", *map(str, arguments)),
        cwd=desk.folder,
        env={**desk.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = asyncio.create_task(asyncio.to_thread(_drain, ours))
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode(), await drawn


def _drain(terminal: int) -> str:
    drawn = b""
    try:
        while piece := os.read(terminal, 65536):
            drawn += piece
    except OSError:  # how the kernel says that the other end was closed
        pass
    finally:
        os.close(terminal)
    return drawn.decode()


async def test_bars(desk: Desk) -> None:
    """One bar for the source and one for each target; what became of each goes to the pipe, as a table."""
    image = build_image(layer_size=300_000)
    async with Registry() as source, Registry() as one, Registry() as two:
        await push(image, source, "a", ["v1"])
        words = ("copy", f"{source.host}/a:v1", f"{one.host}/a", f"{two.host}/a")
        status, out, drawn = await on_a_terminal(desk, *words)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert status == 0, drawn
    assert "\x1b[" in drawn
    bars = [line for line in re.split(r"[\r\n]+", plain) if "━" in line]
    for name in ("source", f"{one.host}/a:v1", f"{two.host}/a:v1"):
        last = [line for line in bars if line.startswith(name)][-1]
        assert re.search(r" 1\.2/1\.2 Mi?B ", last), plain
    assert "done" not in plain
    assert "\x1b" not in out
    assert out.splitlines()[1].split()[:2] == ["TARGET", "NAMES"]


async def test_json_is_quiet(desk: Desk) -> None:
    """With `--json` nothing is drawn, even on a terminal."""
    async with Registry() as source, Registry() as one:
        await push(build_image(), source, "a", ["v1"])
        status, out, drawn = await on_a_terminal(desk, "copy", "--json", f"{source.host}/a:v1", f"{one.host}/a")
    assert (status, drawn) == (0, "")
    assert out.startswith("{")


async def test_what_strangers_write_steers_no_terminal(desk: Desk) -> None:
    """Branch names of layouts, names in archives, file names: control characters and line ends are written out."""
    evil = "\x1b[2J\u202e\nmissing: nothing"
    for name, branch in (("x", f"ma{evil}"), ("y", "ma-2J-missing-nothing"), ("z", f"pr-7{evil}")):
        write_layout(build_image(["linux/amd64"], seed=name), desk.folder / "builds" / name, branch, "abc1234")
    (desk.folder / "builds" / os.fsdecode(b"\xff\x1b[31m")).mkdir()
    write_docker_archive(build_image(["linux/amd64"]), desk.folder / "a.tar", f"a{evil}:v1", f"b{evil}:v1")
    async with Registry(name="one") as one:
        desk.configure(
            f"targets: {{one: {{kind: image, to: {one.host}/mirror}}}}\n"
            "mirrors: [{name: app, kind: image, from: {layouts: builds}, to: one}]\n"
        )
        ran = [await desk.run(*words) for words in (("plan", "app"), ("sync", "app"), ("status",))]
        ran.append(await desk.run("copy", "docker-archive:a.tar:v2", f"{one.host}/a"))
    for said in ran:
        assert said.out + said.err
        assert all(line.isprintable() for line in (said.out + said.err).split("\n")), said
        assert r"\x1b[2J\u202e\nmissing: nothing" in said.out + said.err
    assert ran[0].status == ran[1].status == 2
    assert r"\udcff\x1b[31m" in ran[1].out
    assert not [line for line in ran[1].out.splitlines() if line.startswith("missing: nothing")]
