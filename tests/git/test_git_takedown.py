"""`mirrord takedown` of a Git mirror, by command: clients get 451, what stays is listed, and a lift brings it back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk


async def clone(url: str, folder: Path) -> tuple[int, str]:
    """Clone with real git; return how that ended, and what it said."""
    process = await asyncio.create_subprocess_exec(
        *("git", "clone", "-q", url, str(folder)), stderr=asyncio.subprocess.PIPE, env={"PATH": "/usr/bin:/bin"}
    )
    _, said = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_a_git_mirror_is_taken_down_and_comes_back(tmp_path: Path) -> None:
    """Nothing is deleted at hosts, so they are listed; nobody clones it here, and no run moves anything."""
    desk, denied = Desk(tmp_path), tmp_path / "denied.yaml"
    denied.touch()
    async with GitHost(tmp_path / "source") as source, GitHost(tmp_path / "one") as target:
        upstream = Upstream(source.create("app.git"))
        upstream.commit("main", {"README": b"hello"})
        target.create("app.git")
        sections = {
            "settings": {"listen": "127.0.0.1:0", "denied": str(denied)},
            "targets": {"there": {"kind": "git", "to": target.url("app.git")}},
            "mirrors": [{"name": "app", "kind": "git", "from": source.url("app.git"), "to": ["there", "local"]}],
        }
        desk.configure("".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items()))
        async with desk.serving() as daemon:
            first = await desk.run("sync", "app")
            assert first.status == 0, (first.out, first.err)
            url = f"http://{daemon.address}/git/app.git"
            assert (await clone(url, tmp_path / "before"))[0] == 0
            done = await desk.run("takedown", "app", "--reason", "ticket 4711", "--json")
            left = {one["target"]: one["why"] for one in done.document["left"]}
            assert (done.status, {*left}) == (2, {"there", "local"}), (done.out, done.err)
            assert "it is not served" in left["local"]
            status, said = await clone(url, tmp_path / "denied")
            assert (status != 0, "451" in said) == (True, True), said
            assert "ticket 4711" in (await desk.run("sync", "app")).out
            assert (await desk.run("takedown", "app", "--lift")).status == 0
            assert (await desk.run("sync", "app")).status == 0
            assert (await clone(url, tmp_path / "after"))[0] == 0
