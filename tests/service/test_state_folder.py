"""The page on the state directory names what is there."""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from mirrord.testing.running import run
from mirrord.testing.servers import require
from mirrord.testing.stage import Stage, open_stage
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "state.md"
BESIDE = {"mirrord.db-wal", "mirrord.db-shm"}  # the page names them in the row of their database


def entries(state: Path) -> set[str]:
    """Return what is in a state directory, folders with a slash, as the page writes them."""
    return {f"{entry.name}{'/' if entry.is_dir() else ''}" for entry in state.iterdir()} - BESIDE


async def use_the_front(stage: Stage) -> None:
    """Let its allow list be a file, pull an image through it, add a token, and make the webhook's certificate."""
    (stage.folder / "allows.txt").write_text("source.example/team/*\n")
    configuration = stage.folder / "conf.d" / "demo.yaml"
    written = "allow: [source.example/team/*]"
    assert written in configuration.read_text()
    configuration.write_text(configuration.read_text().replace(written, f"allow: {stage.folder}/allows.txt"))
    reference = Reference.parse(stage.pulled)
    with configuration.open("a") as file:
        file.write("webhook: {listen: '127.0.0.1:0', names: [mirrord.example]}\n")
    where = ("-c", configuration.parent)
    for command in (("reload",), ("token", "add", "reader", "--read"), ("webhook", "certificate", *where)):
        done = await run(sys.executable, "-m", "mirrord", *command, "--state", stage.state, seconds=60)
        assert done.status == 0, done.output
    async with Http(HostBook()) as http:
        await Repository(http, reference).get_manifest(reference.tag or "")


async def test_the_page_names_every_entry_of_a_real_state_directory(tmp_path: Path) -> None:
    """After runs of images, charts and a repository, while the daemon runs: each entry has a row, each row an entry."""
    require("git")
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", PAGE.read_text().partition("## Facts")[0], re.MULTILINE))
    async with open_stage() as stage:
        names = ("app", "charts", "code")  # `release` fails, as its page shows
        words = ("-m", "mirrord", "sync", *names, "-c", stage.folder / "conf.d", "--state", stage.state)
        ran = await run(sys.executable, *words, seconds=120)
        assert ran.status == 0, ran.output
        await use_the_front(stage)
        there = set(rows) - {"replica"}  # with `settings.record` only
        assert entries(stage.state) == there
        copied = shutil.copytree(stage.state, tmp_path / "state", ignore=shutil.ignore_patterns("*.sock"))
        # A command in a copy of it, as after kill -9: what is there only during use goes at its end.
        ended = await run(sys.executable, *words[:-1], copied, seconds=120)
        assert ended.status == 0, ended.output
    assert entries(copied) == there - {"control.sock"}
    assert (copied / "reserve").stat().st_size == max(1 << 20, (copied / "mirrord.db").stat().st_size)
    assert "while no process uses the directory it has the size of the database" in rows["reserve"]
    # What the rows say of the folders' content.
    assert [entry.name for entry in (copied / "git").iterdir()] == ["code.git"]
    assert "`<mirror>.git`" in rows["git/"]
    assert {entry.name for entry in (copied / "repositories").iterdir()} == {"app", "_helm"}
    assert "`_helm/`" in rows["repositories/"]
    blobs = [str(file.relative_to(copied / "blobs")) for file in (copied / "blobs").rglob("*") if file.is_file()]
    assert [name for name in blobs if not re.fullmatch(r"sha256/(..)/\1[0-9a-f]{62}", name)] == []
    assert "`<algorithm>/<two digits>/<hex>`" in rows["blobs/"]


async def test_the_page_names_every_fact_of_a_real_state_directory(tmp_path: Path) -> None:
    """After runs and verifications of images, charts and a repository: each kind of fact has a row on the page."""
    require("git")
    known = re.findall(r"^\| `([a-z.]+)", PAGE.read_text().partition("## Facts")[2], re.MULTILINE)
    async with open_stage() as stage:
        where = ("-c", stage.folder / "conf.d", "--state", stage.state)
        for command in ("sync", "verify"):
            ran = await run(sys.executable, "-m", "mirrord", command, "app", "charts", "code", *where, seconds=120)
            assert ran.status == 0, ran.output
        with closing(sqlite3.connect(stage.state / "mirrord.db")) as link:
            found = {name for (name,) in link.execute("SELECT DISTINCT name FROM facts WHERE mirror != ''")}
    assert "verified" in found
    assert {re.split("[:.]", name)[0] for name in found} <= set(known)
