"""A repository of thousands of refs, by command: few lines for people, everything for machines."""

from __future__ import annotations

from typing import Any

import aiohttp

from mirrord.names.natural import natural_order
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.servers import require
from tests.support.commands import Desk
from tests.support.gitcontent import fill

REFS = 2000
LATE = 1100  # more than the record names of a target


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


async def test_pages_for_machines_have_every_ref(desk: Desk) -> None:
    """Items of the API, in parts, and the log have the refs that `status` has, though the record has only a few."""
    require("git")
    async with GitHost(desk.folder / "upstream") as host, GitHost(desk.folder / "forge") as forge:
        upstream = Upstream(host.create("code.git"))
        fill(upstream, 30, 100_000)
        forge.create("code.git")
        forge.create("other.git")
        desk.configure(_configuration(host, forge, "{name}"))
        assert (await desk.run("sync")).status == 0
        refusal = 'case "$1" in refs/tags/late) echo "protected" >&2; exit 1;; esac\n'
        forge.hook("code.git", "update", f"#!/bin/sh\n{refusal}")
        upstream.tag("late", "main")
        assert (await desk.run("sync")).status == 2
        refs = host.refs("code.git")
        async with desk.serving() as daemon, aiohttp.ClientSession(f"http://{daemon.address}") as session:
            items = await _items(session)
            assert {item: at["local"]["digest"] for item, at in items.items()} == refs
            assert {item for item, at in items.items() if "forge" not in at} == {"refs/tags/late"}
            async with session.get("/log/code.txt") as answer:
                lines = [line.split(" ") for line in (await answer.text()).splitlines()]
        there = {(line[2].partition("#")[2], line[-1]) for line in lines if line[1] == "SYNCHRONIZED:"}
        assert there == set(refs.items())
        assert len([line for line in lines if line[1] == "SYNCHRONIZED:"]) == 2 * len(refs) - 1
        assert [line[2].partition("#")[2] for line in lines if line[1] == "NOT-SYNCHRONIZED:"] == ["refs/tags/late"]
        (shown,) = (await desk.run("status", "code", "--all", "--json")).document["mirrors"]
        assert [one["item"] for one in shown["detail"]["items"]] == sorted(refs, key=natural_order)
        desk.configure(_configuration(host, forge, "other"))
        async with desk.serving() as daemon, aiohttp.ClientSession(f"http://{daemon.address}") as session:
            assert all(list(at) == ["local"] for at in (await _items(session)).values()), "nothing is at the new place"


async def test_what_is_not_known_is_not_said_to_be_there(desk: Desk) -> None:
    """Of more refused tags than the record names, the log says of none that the target has it, and counts the rest."""
    require("git")
    async with GitHost(desk.folder / "upstream") as host, GitHost(desk.folder / "forge") as forge:
        upstream = Upstream(host.create("code.git"))
        fill(upstream, 3, 100_000)
        forge.create("code.git")
        desk.configure(_configuration(host, forge, "{name}"))
        assert (await desk.run("sync")).status == 0
        refusal = 'case "$1" in refs/tags/late-*) echo "protected" >&2; exit 1;; esac\n'
        forge.hook("code.git", "update", f"#!/bin/sh\n{refusal}")
        main = host.refs("code.git")["refs/heads/main"]
        upstream.load("".join(f"reset refs/tags/late-{one}\nfrom {main}\n\n" for one in range(LATE)).encode())
        assert (await desk.run("sync")).status == 2
        async with desk.serving() as daemon, aiohttp.ClientSession(f"http://{daemon.address}") as session:
            async with session.get("/log/code.txt") as answer:
                lines = [line.split(" ", 5) for line in (await answer.text()).splitlines()]
            items = await _items(session)
    there = [line[4] for line in lines if line[1] == "SYNCHRONIZED:" and "/late-" in line[2]]
    assert len(there) == LATE
    assert not [name for name in there if name.startswith(forge.base.partition("//")[2])]
    assert len([line for line in lines if line[1] == "NOT-SYNCHRONIZED:"]) == 1000
    assert lines[-1][1] == "NOTE:"
    assert " ".join(lines[-1]).count(f"{LATE - 1000} more items") == 1
    late = [at for item, at in items.items() if "/late-" in item]
    assert [list(at) for at in late] == [["local"]] * LATE


def _configuration(host: GitHost, forge: GitHost, name: str) -> str:
    return (
        f"settings: {{listen: '127.0.0.1:0'}}\ntargets: {{forge: {{kind: git, to: '{forge.base}/{name}.git'}}}}\n"
        f"mirrors: [{{name: code, kind: git, from: '{host.url('code.git')}', to: [forge, local]}}]\n"
    )


async def _items(session: aiohttp.ClientSession) -> dict[str, Any]:
    found: dict[str, Any] = {}
    path: Any = "/api/v1/mirrors/code/items?limit=7"
    while path:
        async with session.get(path) as answer:
            document = await answer.json()
        assert len(document["items"]) <= 7
        found |= {row["item"]: row["at"] for row in document["items"]}
        path = answer.links["next"]["url"] if "next" in answer.links else ""
    return found
