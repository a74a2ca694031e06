"""`mirrord restore` of many refs in one command: by names and globs, all of them or none."""

from __future__ import annotations

from pathlib import Path

from mirrord.testing import require
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk

CONFIGURATION = """\
settings: {{listen: '127.0.0.1:0'}}
targets: {{there: {{kind: git, to: '{there}'}}}}
mirrors: [{{name: code, kind: git, from: '{upstream}', to: [there]}}]
"""


async def test_many_refs_come_back_by_one_command(tmp_path: Path) -> None:
    """Globs and names are restored by one run, a row each; what matches nothing restores nothing; so for releases."""
    require("git")
    desk = Desk(tmp_path)
    async with GitHost(tmp_path / "git") as host:
        upstream = Upstream(host.create("code.git"))
        host.create("there.git")
        for branch in ("main", "a", "b", "c"):
            upstream.commit(branch, {"README.md": branch.encode()})
        desk.configure(CONFIGURATION.format(upstream=host.url("code.git"), there=host.url("there.git")))
        assert (await desk.run("sync")).status == 0
        before = upstream.refs()
        for branch in ("a", "b", "c"):
            upstream.delete(f"refs/heads/{branch}")
        assert (await desk.run("sync", "code", "--allow")).status == 0
        assert host.refs("there.git") == upstream.refs() != before
        kept = (await desk.run("restore", "code", "--json")).document["backups"]
        names = {one["item"]: one["name"] for one in kept}
        assert set(names) == {"refs/heads/a", "refs/heads/b", "refs/heads/c"}

        wrong = await desk.run("restore", "code", names["refs/heads/a"], "*/heads/nothing*")
        assert (wrong.status, host.refs("there.git")) == (64, upstream.refs())
        assert "*/heads/nothing* is no backup of this mirror" in wrong.err

        said = await desk.run("restore", "code", names["refs/heads/a"], "*/heads/[ab]")
        rows = [line.split()[:2] for line in said.out.splitlines() if line.startswith("there ")]
        assert (said.status, rows) == (0, [["there", "refs/heads/a"], ["there", "refs/heads/b"]]), said
        assert host.refs("there.git") == {ref: oid for ref, oid in before.items() if ref != "refs/heads/c"}

        wrong = await desk.run("restore", "code", "--release", "refs/heads/*", "refs/heads/c")
        assert (wrong.status, "refs/heads/c was not brought back" in wrong.err) == (64, True)
        assert (await desk.run("restore", "code", "--release", "refs/heads/*")).status == 0
        assert host.refs("there.git") == upstream.refs()


async def test_nothing_of_a_mirror_that_was_taken_down_is_restored(tmp_path: Path) -> None:
    """The command fails with the reason, and no run after a lift does what was asked for meanwhile."""
    require("git")
    desk, denied = Desk(tmp_path), tmp_path / "denied.yaml"
    denied.touch()
    async with GitHost(tmp_path / "git") as host:
        upstream = Upstream(host.create("code.git"))
        host.create("there.git")
        for branch in ("main", "a"):
            upstream.commit(branch, {"README.md": branch.encode()})
        sections = CONFIGURATION.format(upstream=host.url("code.git"), there=host.url("there.git"))
        desk.configure(sections.replace("settings: {", f"settings: {{denied: '{denied}', "))
        assert (await desk.run("sync")).status == 0
        upstream.delete("refs/heads/a")
        assert (await desk.run("sync", "code", "--allow")).status == 0
        (kept,) = (await desk.run("restore", "code", "--json")).document["backups"]
        denied.write_text("- {mirror: code, reason: a claim}\n")
        said = await desk.run("restore", "code", kept["name"])
        assert (said.status, "code: taken down, so nothing of it is restored: a claim" in said.err) == (1, True), said
        denied.write_text("")
        assert (await desk.run("sync")).status == 0
        assert host.refs("there.git") == upstream.refs()
