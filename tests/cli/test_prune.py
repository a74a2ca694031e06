"""`mirrord prune` as an operator types it: first the plan, then `--apply`; exit codes and JSON."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.commands import Desk


async def tags_at(server: DockerRegistry) -> set[str]:
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/v2/m/app/tags/list") as answer:
        return set((await answer.json())["tags"])


async def test_a_prune(tmp_path: Path) -> None:
    """Nothing goes without `--apply` or before its time; the plan says why; the daemon does it for the command, too."""
    require("docker-registry")
    desk = Desk(tmp_path)
    async with Registry() as source, DockerRegistry() as server:
        for tag in ("v1", "v2", "v3", "v4"):
            await push(build_image(["linux/amd64"], seed=tag, layer_size=500), source, "up/app", [tag])
        text = (
            "settings: {{listen: '127.0.0.1:0'}}\n"
            f"targets: {{{{there: {{{{kind: image, to: {server.host}/m}}}}}}}}\n"
            f"mirrors: [{{{{name: app, kind: image, from: {{{{repository: {source.host}/up/app, tags: ['*']}}}}, "
            "to: [there, local]{more}}}]\n"
        )
        desk.configure(text.format(more=""))
        assert (await desk.run("sync")).status == 0
        del source.content.tags["up/app"]["v1"]
        early = await desk.run("prune", "app", "--apply")
        assert (early.status, "1 left there" in early.out) == (0, True), early
        assert "`mirrord prune app` says why names are left there" in early.err, early

        desk.configure(text.format(more=", prune: {after: 0s}"))
        said = await desk.run("prune", "app")
        assert said.status == 0, said
        assert "app (image): 1 to do, 0 left there" in said.out
        row = next(line for line in said.out.splitlines() if line.startswith("delete"))
        assert "the source does not have it any more; can be brought back from local" in row
        assert "nothing was removed; `--apply` does it" in said.err
        short = await desk.run("prune", "app", "--quiet")
        assert short.out == "app (image): 1 to do, 0 left there\n", short
        planned = (await desk.run("prune", "app", "--json")).document["plans"]
        assert [(one["action"], one["item"]) for one in planned[0]["steps"]] == [("delete", "v1")]
        assert await tags_at(server) == {"v1", "v2", "v3", "v4"}

        done = await desk.run("prune", "app", "--apply")
        assert done.status == 0, done
        assert any(line.split()[:2] == ["there", "v1"] and "deleted" in line for line in done.out.splitlines())
        assert await tags_at(server) == {"v2", "v3", "v4"}
        runs = (await desk.run("runs", "app", "--json")).document["runs"]
        assert [one["trigger"] for one in runs[:2]] == ["prune", "prune"]
        rows = (await desk.run("runs", "app")).out.splitlines()[1:3]
        assert [said in row for said, row in zip(("  1 deleted  ", "  1 left there  "), rows, strict=True)] == [
            True,
            True,
        ]
        status = (await desk.run("status", "--json")).document["mirrors"][0]
        assert {one["name"]: one["items"] for one in status["targets"]} == {"there": 3, "local": 4}

        async with desk.serving():
            del source.content.tags["up/app"]["v2"]
            assert (await desk.run("prune", "app")).status == 0
            assert (await desk.run("prune", "app", "--apply")).status == 0
        assert await tags_at(server) == {"v3", "v4"}
        assert (await desk.run("prune", "app", "--apply")).status == 0

        source.content.tags["up/app"].clear()
        lost = await desk.run("prune", "app", "--apply")
        assert (lost.status, "lists no tags at all" in lost.out) == (1, True), lost
        assert await tags_at(server) == {"v3", "v4"}


async def test_what_cannot_be_pruned(tmp_path: Path) -> None:
    """No name, an unknown one, a kind without prunes, and a source that lists nothing: an error that says so."""
    desk = Desk(tmp_path)
    desk.configure(
        "settings: {listen: '127.0.0.1:0'}\n"
        "mirrors:\n"
        f"  - {{name: built, kind: image, from: {{layouts: {tmp_path}}}, to: [local]}}\n"
        "  - {name: code, kind: git, from: 'https://git.example/code.git', to: [local]}\n"
    )
    assert (await desk.run("prune")).status == 64
    assert (await desk.run("prune", "other")).status == 64
    git = await desk.run("prune", "code")
    assert (git.status, "`mirrord prune` is not for mirrors of kind git yet" in git.err) == (64, True), git
    built = await desk.run("prune", "built")
    assert (built.status, "its source is no registry" in built.out) == (1, True), built
