"""A repository of thousands of refs, by command: few lines for people, everything for machines."""

from __future__ import annotations

from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.servers import require
from tests.support.commands import Desk
from tests.support.gitcontent import fill

REFS = 2000


async def test_thousands_of_refs_are_a_few_lines(desk: Desk) -> None:
    """`plan` and `sync` print a row for each target; -v a row for each ref; JSON is complete; -q prints nothing."""
    require("git")
    async with GitHost(desk.folder / "upstream") as upstream, GitHost(desk.folder / "forge") as forge:
        fill(Upstream(upstream.create("code.git")), REFS, 100_000)
        forge.create("code.git")
        desk.configure(
            f"targets: {{forge: {{kind: git, to: '{forge.base}/{{name}}.git'}}}}\n"
            f"mirrors: [{{name: code, kind: git, from: '{upstream.url('code.git')}', to: [forge, local]}}]\n"
        )
        planned = await desk.run("plan")
        head, _, *rows = planned.out.splitlines()
        assert (head, len(rows), planned.err) == (f"code (git): {2 * REFS} to do, 0 up to date", 2, "")
        assert all(f"and {REFS - 3} more (-v shows all)" in row and row.endswith("  created") for row in rows)
        each = await desk.run("plan", "-v")
        assert len(each.out.splitlines()) == 2 + 2 * REFS
        document = (await desk.run("plan", "--json")).document
        assert len(document["plans"][0]["steps"]) == 2 * REFS
        synced = await desk.run("sync")
        assert (synced.status, len(synced.out.splitlines()), synced.err) == (0, 4, "")
        assert forge.refs("code.git") == upstream.refs("code.git")
        again = await desk.run("sync", "-q")
        assert (again.status, again.out, again.err) == (0, "", "")
        explained = await desk.run("plan", "--explain")
        assert explained.out.splitlines()[0] == f"code (git): 0 to do, {2 * REFS} up to date"


async def test_thousands_of_refused_refs_are_one_line(desk: Desk) -> None:
    """A host that rejects each tag with a message of its own: `sync -q` and `status` have one line for all of them."""
    require("git")
    async with GitHost(desk.folder / "upstream") as upstream, GitHost(desk.folder / "forge") as forge:
        fill(Upstream(upstream.create("code.git")), REFS, 100_000)
        forge.create("code.git")
        refusal = 'case "$1" in refs/tags/*) echo "GH013: tags are protected here" >&2; exit 1;; esac\n'
        forge.hook("code.git", "update", f"#!/bin/sh\n{refusal}")
        desk.configure(
            f"targets: {{forge: {{kind: git, to: '{forge.base}/{{name}}.git'}}}}\n"
            f"mirrors: [{{name: code, kind: git, from: '{upstream.url('code.git')}', to: forge}}]\n"
        )
        tags = sum(ref.startswith("refs/tags/") for ref in upstream.refs("code.git"))
        synced = await desk.run("sync", "-q")
        assert (synced.status, synced.err) == (2, "")
        head, _, row = synced.out.splitlines()
        assert head.startswith("code: partial in ")
        assert f" and {tags - 3} more (-v shows all)  refused " in row
        assert "GH013: tags are protected here (" in row
        assert row.count("refs/tags/") == 3
        (line,) = [line for line in (await desk.run("status")).out.splitlines() if line.startswith("code: forge: ")]
        assert f"refs/tags/v1 and {tags - 1} more: " in line
        assert line.count("refs/") == 1
