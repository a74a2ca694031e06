"""`mirrord runs`: what each run of a mirror did, on a terminal and in a pipe."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from mirrord.cli.runs import runs
from mirrord.model.history import RunRecord
from mirrord.model.run import Result
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.terminal import drawn

EVIL = "\x1b[2J镜像" * 1200  # control characters, wide ones, 10 kB


def configure(desk: Desk, source: Registry, one: Registry, name: str = "app") -> None:
    desk.configure(
        "settings: {listen: '127.0.0.1:0'}\n"
        f"targets: {{one: {{kind: image, to: {one.host}/m}}}}\n"
        "mirrors:\n"
        f"- {{name: {name}, kind: image, from: {{repository: {source.host}/a, tags: ['*']}}, to: [one, local]}}\n"
    )


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "daemon"])
async def test_each_run_is_a_row(desk: Desk, daemon: bool) -> None:
    """Newest first: what each run did, and its first error; from a daemon or the record."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one)
        await push(build_image(layer_size=100_000), source, "a", ["v1"])
        assert (await desk.run("sync")).status == 0
        assert (await desk.run("sync")).status == 0
        await push(build_image(seed="other"), source, "a", ["v2"])
        one.faults.on("PUT", "/manifests/v2").status(403, b'{"errors":[{"code":"DENIED","message":"frozen today"}]}')
        assert (await desk.run("sync")).status == 2
        if daemon:
            async with desk.serving():
                listed = await desk.run("runs", "app")
                document = (await desk.run("runs", "app", "--json", "--limit", "2")).document
        else:
            listed = await desk.run("runs", "app")
            document = (await desk.run("runs", "app", "--json", "--limit", "2")).document
    head, *rows = listed.out.splitlines()
    assert (listed.status, head.split()) == (
        0,
        ["RESULT", "STARTED", "DURATION", "TRIGGER", "ITEMS", "READ", "SENT", "RUN", "ERROR"],
    )
    cells = [re.split(r"  +", row) for row in rows]
    assert [cell[0] for cell in cells] == ["partial", "noop", "success"]
    assert [cell[4] for cell in cells] == ["1 written, 2 up to date, 1 refused", "2 up to date", "2 written"]
    assert [cell[7] for cell in cells] == ["3", "2", "1"]
    assert "frozen today" in cells[0][8]
    assert [cell[8] for cell in cells[1:]] == ["-", "-"]
    assert {len(cell) for cell in cells} == {9}
    assert cells[2][6] != "0 B"
    assert (document["mirror"], [run["id"] for run in document["runs"]]) == ("app", [3, 2])
    newest = document["runs"][0]
    assert (newest["result"], newest["trigger"], newest["targets"][0]["refused"]) == ("partial", "command", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", newest["started"])


async def test_older_runs(desk: Desk) -> None:
    """`--limit` and `--before` page through the runs; a terminal says how to go on."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one)
        await push(build_image(), source, "a", ["v1"])
        for _ in range(3):
            assert (await desk.run("sync")).status == 0
        newer = await drawn(desk, "runs", "app", "--limit", "2")
        older = await desk.run("runs", "app", "--before", "2")
        none = await desk.run("runs", "app", "--before", "1")
    assert newer.lines[-1] == "older runs: mirrord runs app --before 2"
    assert len(newer.lines) == 4
    assert [row.split()[0] for row in older.out.splitlines()] == ["RESULT", "success"]
    assert (none.status, none.out) == (0, "app: no runs before 1\n")


async def test_a_wrong_word(desk: Desk) -> None:
    """A name that no mirror has, or a limit out of range, is said, and nothing is listed."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one)
        await push(build_image(), source, "a", ["v1"])
        assert (await desk.run("runs", "app")).status == 64  # nothing has run yet
        assert (await desk.run("sync")).status == 0
        said = await desk.run("runs", "ap")
        assert (said.status, said.err) == (64, "mirrord: no mirror is called 'ap'; did you mean app?\n")
        for words in (("app", "--limit", "0"), ("app", "--limit", "1001"), ("app", "--before", "x"), ()):
            assert (await desk.run("runs", *words)).status == 64


@pytest.mark.parametrize("columns", [40, 80, 200])
async def test_it_fits(desk: Desk, columns: int) -> None:
    """No line is wider than the terminal, also with an error of 10 kB of wide and control characters, nor steers it."""
    name = "n" * 63
    async with Registry() as source, Registry() as one:
        configure(desk, source, one, name)
        await push(build_image(), source, "a", ["v1"])
        body = '{"errors":[{"code":"DENIED","message":"' + EVIL.replace("\x1b", "\\u001b") + '"}]}'
        one.faults.on("PUT", "/manifests/v1").status(403, body.encode())
        assert (await desk.run("sync")).status == 2
        seen = await drawn(desk, "runs", name, columns=columns)
        bare = await drawn(desk, "runs", name, columns=columns, NO_COLOR="1")
        dumb = await drawn(desk, "runs", name, columns=columns, TERM="dumb")
    assert seen.status == 0
    assert seen.widest <= columns
    assert all(line.isprintable() for line in seen.lines)
    assert columns == 40 or "镜像" in seen.raw
    assert len(seen.lines) <= 5, seen.lines
    assert re.findall(r"\x1b\[(?!\d*m)", seen.raw) == []  # nothing but colours
    assert "\x1b[31mpartial\x1b[0m" in seen.raw
    assert "\x1b" not in bare.raw + dumb.raw
    assert bare.lines == dumb.lines == seen.lines


def test_which_replica(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several replicas each run says which one carried it out; runs of before they were several say nothing."""
    at = datetime(2026, 11, 28, tzinfo=UTC)
    ran = [RunRecord("app", "image", "schedule", at, at, Result.NOOP, replica=name) for name in ("one-1a2b3c", "")]
    monkeypatch.setattr("mirrord.cli.runs.ask", lambda *_, **__: ran)
    assert runs(name="app", limit=20, before=None, config=None, state=None, json=False) == 0
    head, *rows = (re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines())
    column = head.index("REPLICA")
    assert [row[column] for row in rows] == ["one-1a2b3c", "-"]
