"""`mirrord status` on terminals of several widths, in a pipe, and redrawn in place; against a real daemon."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Sequence

import pytest

from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.terminal import at_terminal, drawn, plain_lines

LONG = "a" * 31 + "-" + "z" * 31  # 63 characters
EVIL = "\\u001b[2J镜像 " * 1200  # as JSON: control characters, wide ones, 10 kB


def configure(desk: Desk, source: Registry, one: Registry, *, more: int = 0) -> None:
    """Configure a mirror with two targets, one with a long name, and some more that never run."""
    app = f"from: {{repository: {source.host}/a, tags: ['*']}}"
    desk.configure(
        "settings: {listen: '127.0.0.1:0'}\n"
        f"targets: {{one: {{kind: image, to: {one.host}/m}}}}\n"
        "mirrors:\n"
        f"- {{name: app, kind: image, {app}, to: [one, local]}}\n"
        f"- {{name: {LONG}, kind: image, {app}, to: local}}\n"
        + "".join(f"- {{name: m{number:04}, kind: image, {app}, to: [one, local]}}\n" for number in range(more))
    )


async def prepare(desk: Desk, source: Registry, one: Registry) -> None:
    """Let `app` fail at one target, with a long error, and the other mirror succeed."""
    await push(build_image(), source, "a", ["v1"])
    body = '{"errors":[{"code":"DENIED","message":"frozen ' + EVIL + '"}]}'
    one.faults.on("PUT", "/m/app/manifests/v1", times=None).status(403, body.encode())
    assert (await desk.run("sync", "app", LONG)).status == 2


def at_once(lines: Sequence[str]) -> list[list[str]]:
    """Return the words of lines as if they were drawn at the same time: a longer age leaves less room for a name."""
    return [re.sub(r"\S*…\S*", "…", re.sub(r"\d+ \w+ ago", "just now", line)).split() for line in lines]


@pytest.mark.parametrize("columns", [60, 80, 200])
async def test_it_fits(desk: Desk, columns: int) -> None:
    """Totals, then what fails with its error below; no line is wider than the terminal, nothing steers it."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one, more=2)
        await prepare(desk, source, one)
        async with desk.serving():
            seen = await drawn(desk, "status", columns=columns)
            bare = await drawn(desk, "status", columns=columns, NO_COLOR="1")
            dumb = await drawn(desk, "status", columns=columns, TERM="dumb")
            ascii_only = await drawn(desk, "status", columns=columns, PYTHONIOENCODING="ascii:backslashreplace")
    assert (seen.status, bare.status, dumb.status) == (1, 1, 1)
    assert seen.lines[0] == "4 mirrors: 1 failing, 2 new, 1 ok"
    assert seen.lines[1].split()[:3] == ["HEALTH", "MIRROR", "TARGET"]
    assert [line.split()[:3] for line in seen.lines[2:5]] == [
        ["✗", "failing", "app"],
        ["✗", "failing", "one"],
        ["✓", "ok", "local"],
    ]
    assert [line.split()[:3] for line in seen.lines[-2:]] == [["·", "new", "m0000"], ["·", "new", "m0001"]]
    assert re.fullmatch(r" +failed \w+( times in a row)?, first (just now|\d+ \w+ ago)", seen.lines[5].rstrip())
    assert any("status 403" in line for line in seen.lines[6:9])
    assert len(seen.lines) <= 12
    assert seen.widest <= columns
    assert all(line.isprintable() for line in seen.lines)
    assert re.findall(r"\x1b\[(?!\d*m)", seen.raw) == []  # nothing but colours
    assert "\x1b[31m✗ failing\x1b[0m" in seen.raw
    assert "\x1b" not in bare.raw + dumb.raw
    assert at_once(bare.lines) == at_once(dumb.lines) == at_once(seen.lines)
    assert (LONG in seen.raw) is (columns == 200)
    assert columns == 200 or re.search(r"aaa…z*z", seen.raw)
    assert [line.split()[:3] for line in ascii_only.lines[2:3]] == [["x", "failing", "app"]]


async def test_a_pipe_has_all(desk: Desk) -> None:
    """In a pipe each mirror and target is a row with all cells and whole names, whatever COLUMNS says."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one)
        await prepare(desk, source, one)
        async with desk.serving():
            wide = await desk.run("status")
            narrow = await desk.run("status", COLUMNS="40")
    assert wide.status == 1
    assert "\x1b" not in wide.out
    assert (
        re.sub("[0-9]+ seconds? ago", "just now", narrow.out).split()
        == re.sub("[0-9]+ seconds? ago", "just now", wide.out).split()
    )
    totals, head, *rows = wide.out.splitlines()
    assert totals == "2 mirrors: 1 failing, 1 ok"
    names = ["app", "app", "app", LONG, LONG]
    cells = [re.split(r"  +", row) for row in rows[:5]]
    assert [cell[1] for cell in cells] == names
    assert [cell[2] for cell in cells] == ["-", "one", "local", "-", "local"]
    assert [cell[0] for cell in cells] == ["failing", "failing", "ok", "ok", "ok"]
    assert {len(cell) for cell in cells} == {len(head.split("  ")) - head.split("  ").count("")} == {9}
    assert [cell[6] for cell in cells] == ["1", "1", "-", "-", "-"]
    assert re.fullmatch(r"app: failed \w+( times in a row)?, first (just now|\d+ \w+ ago)", rows[5])
    assert rows[6].startswith("app: one: v1: ")
    assert "frozen" in rows[6]


async def test_watching_redraws_in_place(desk: Desk) -> None:
    """The screen is kept, not cleared at each look; it shows what changes, follows the size, and Ctrl-C restores it."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one, more=1000)
        await prepare(desk, source, one)
        async with desk.serving(), at_terminal(desk, "status", "--watch") as terminal:
            at = await terminal.shows("1002 mirrors: ")
            await terminal.shows("more lines", await terminal.shows("✗ failing", at))
            one.faults.clear()
            assert (await desk.run("sync", "app")).status == 0
            at = await terminal.shows("2 ok", at)
            terminal.resize(10, 50)
            for _ in range(2):  # the first one may have been drawn before
                begin = await terminal.shows("1002 mirrors: ", at)
                at = await terminal.shows("more lines", begin)
            small = terminal.raw[begin:at]
            terminal.process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(terminal.process.wait(), 30) == 130
    assert terminal.raw.count("\x1b[?1049h") == terminal.raw.count("\x1b[?1049l") == 1
    assert terminal.raw.count("\x1b[?25l") == terminal.raw.count("\x1b[?25h") == 1
    assert terminal.raw.count("\x1b[2J") <= 1
    assert "Traceback" not in terminal.raw
    shown = plain_lines(small)
    assert len(shown) == 10
    assert max(map(len, shown)) <= 50


@pytest.mark.parametrize("dumb", [True, False], ids=["dumb", "pipe"])
async def test_watching_elsewhere_appends(desk: Desk, dumb: bool) -> None:
    """A terminal that cannot be steered, and a pipe, get one look after the other, without escapes."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one)
        await prepare(desk, source, one)
        if dumb:
            async with at_terminal(desk, "status", "--watch", TERM="dumb") as terminal:
                await terminal.shows("2 mirrors: ", await terminal.shows("2 mirrors: "))
                terminal.process.send_signal(signal.SIGINT)
                assert await asyncio.wait_for(terminal.process.wait(), 30) == 130
            assert "\x1b" not in terminal.raw
            return
        async with desk.started("status", "--watch") as process:
            assert process.stdout is not None
            seen = await process.stdout.readuntil(b"2 mirrors: ") + await process.stdout.readuntil(b"2 mirrors: ")
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 130
        assert b"\x1b" not in seen
