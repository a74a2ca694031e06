"""What a person sees on a terminal: bars while it works, then the table."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from mirrord.testing import Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
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


def frames(drawn: str, name: str) -> list[str]:
    """Return what was drawn of the bar called `name`, in order."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    return [line.removeprefix(name).strip() for line in re.split(r"[\r\n]+", plain) if line.startswith(name)]


async def test_bars(desk: Desk) -> None:
    """A bar for each target, with steps, bytes and average rate in one unit; what became of each is in the pipe."""
    image = build_image(layer_size=300_000)
    async with Registry() as source, Registry() as one, Registry() as two:
        await push(image, source, "a", ["v1"])
        words = ("copy", f"{source.host}/a:v1", f"{one.host}/a", f"{two.host}/a")
        status, out, drawn = await on_a_terminal(desk, *words)
    assert status == 0, drawn
    assert "\x1b[" in drawn
    for name in (f"{one.host}/a:v1", f"{two.host}/a:v1"):
        assert re.fullmatch(r"━+ 100%  1/1  1\.2 MiB sent  [0-9.]+ [KM]iB/s", frames(drawn, name)[-1]), drawn
        assert all("1/1" in frame for frame in frames(drawn, name) if "100%" in frame)
    assert re.fullmatch(r"1\.2 MiB read  [0-9.]+ [KM]iB/s", frames(drawn, "source")[-1]), drawn
    assert "done" not in drawn
    assert "\x1b" not in out
    assert out.splitlines()[1].split()[:2] == ["TARGET", "NAMES"]
    assert [line.split()[:2] for line in out.splitlines()[2:]] == [[f"{at.host}/a:v1", "v1"] for at in (one, two)]


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "daemon"])
async def test_a_bar_is_full_when_its_target_is_done(desk: Desk, dead: str, daemon: bool) -> None:
    """Steps are those of the plan from the first frame on, also with a daemon; no bar with work left is at 100 %."""
    async with Registry() as source, Registry() as one, ChartRepository() as charts:
        for number in range(5):
            await push(build_image(layer_size=200_000, seed=str(number)), source, "a", [f"v{number}"])
            charts.add(build_chart("app", f"1.{number}.0"))
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{one: {{kind: image, to: {one.host}/m}}, dead: {{kind: image, to: {dead}/m}}}}\n"
            "mirrors:\n"
            f"- {{name: app, kind: image, from: {{repository: {source.host}/a, tags: ['*']}}, to: [one, dead]}}\n"
            f"- {{name: charts, kind: helm, from: {charts.url}, to: local}}\n"
        )
        async with desk.serving() if daemon else nullcontext():
            status, _, drawn = await on_a_terminal(desk, "sync")
    assert status == 2, drawn
    for name, planned in {"app/one": 5, "app/dead": 5, "charts/local": 6}.items():
        seen = frames(drawn, name)
        assert {text for frame in seen for text in re.findall(r" [0-9]+/([0-9]+)", frame)} == {str(planned)}, drawn
        assert all("/" in frame for frame in seen), drawn
        assert [frame for frame in seen if "100%" in frame and f" {planned}/{planned}" not in frame] == []
        assert "100%" in seen[-1]
    assert "5/5, 5 failed" in frames(drawn, "app/dead")[-1]
    assert drawn.count(f"{dead}: unreachable; trying again") == (0 if daemon else 1)  # the daemon's log has it


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
