"""`mirrord restore` of images: listed, planned, restored, undone and released, against real registries."""

from __future__ import annotations

import pytest

from mirrord.daemon.lock import StateLock
from mirrord.failpoints import CRASH_STATUS
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.commands import Desk
from tests.support.walking import walk, walk_local

OLD, NEW = build_image(["linux/amd64"], seed="old"), build_image(["linux/amd64"], seed="new")


def configure(desk: Desk, source: Registry, target: Registry | DockerRegistry) -> None:
    desk.configure(
        "settings: {listen: '127.0.0.1:0'}\n"
        f"targets: {{there: {{kind: image, to: {target.host}/mirror}}}}\n"
        "mirrors:\n"
        f"- {{name: app, kind: image, from: {{repository: {source.host}/app, tags: ['*']}}, to: [there, local]}}\n"
    )


async def moved(desk: Desk, source: Registry) -> None:
    """Let `v1` move from the old image to the new one, and `v2` appear."""
    await push(OLD, source, "app", ["v1"])
    assert (await desk.run("sync")).status == 0
    await push(NEW, source, "app", ["v1", "v2"])
    assert (await desk.run("sync")).status == 0


async def tags(desk: Desk, target: DockerRegistry) -> dict[str, str]:
    """Return the tags of the target, which has to be whole and to have the same as `local`."""
    there = await walk(target, "mirror/app")
    assert walk_local(desk.folder / "state", "app") == there
    return dict(there)


@pytest.mark.parametrize(("program", "daemon"), [("docker-registry", False), ("registry3", True)])
async def test_from_the_list_to_the_release(desk: Desk, program: str, daemon: bool) -> None:
    """The list names digests and where they are; what is planned is done; a held tag stays until it is released."""
    require(program)
    async with Registry() as source, DockerRegistry(program=program, access_log=True) as target:
        configure(desk, source, target)
        await moved(desk, source)
        if daemon:
            async with desk.serving():
                await restored(desk, source, target)
        else:
            await restored(desk, source, target)


async def restored(desk: Desk, source: Registry, target: DockerRegistry) -> None:
    (backup,) = (await desk.run("restore", "app", "--json")).document["backups"]
    assert (backup["name"], backup["where"]) == (f"v1@{OLD.digest}", "local, there, the source")
    said = await desk.run("restore", "app")
    assert said.out.splitlines()[0].split() == ["BACKUP", "WAS", "CONTENT", "IS", "AT", "WHY"]
    await source.stop()
    planned = await desk.run("restore", "app", "v1", "--dry-run")
    assert planned.status == 0, planned
    assert "restored from local or there" in planned.out
    assert (await tags(desk, target))["v1"] == NEW.digest

    wrong = await desk.run("restore", "app", "v1", "v3")
    assert (wrong.status, "v3 cannot be restored: nothing is recorded of it" in wrong.err) == (64, True)
    done = await desk.run("restore", "app", f"v1@{OLD.digest[:14]}")
    assert done.status == 0, done
    assert await tags(desk, target) == {"v1": OLD.digest, "v2": NEW.digest}
    await source.start()
    synced = await desk.run("sync", "app")
    assert synced.status == 0
    assert "`mirrord restore app v1 --release` lets the source decide again" in synced.out
    assert (await tags(desk, target))["v1"] == OLD.digest
    status = (await desk.run("status", "--json")).document
    assert "v1 was restored" in str(status["mirrors"][0]["remarks"])
    listed = (await desk.run("restore", "app", "--json")).document["backups"]
    assert listed[0]["name"] == "v1"
    assert listed[0]["why"] == "restored; overrides the source until it is released"

    assert (await desk.run("restore", "app", "v1", "--release")).status == 0
    assert (await tags(desk, target))["v1"] == NEW.digest
    assert (await desk.run("restore", "app", "v1", "--release")).status == 64


@pytest.mark.parametrize("program", ["docker-registry", "registry3"])
async def test_a_run_is_undone_by_its_number(desk: Desk, program: str) -> None:
    """What it moved goes back, and then what it made is removed: nothing needs its digest any more."""
    require(program)
    async with Registry() as source, DockerRegistry(program=program, access_log=True) as target:
        configure(desk, source, target)
        await moved(desk, source)
        runs = (await desk.run("runs", "app", "--json")).document["runs"]
        number = str(runs[0]["id"])
        done = await desk.run("restore", "app", "--run", number)
        assert done.status == 0, done
        assert await tags(desk, target) == {"v1": OLD.digest}
        assert (await desk.run("restore", "app", "--run", "99")).status == 64
        assert (await desk.run("sync", "app")).status == 0
        assert await tags(desk, target) == {"v1": OLD.digest}


@pytest.mark.parametrize(
    ("place", "again"),
    [("restore.held", "sync"), ("ledger.intended", "restore"), ("push.tag", "sync"), ("record.receipts", "restore")],
)
async def test_killed_while_it_restores(desk: Desk, place: str, again: str) -> None:
    """Wherever the process ends, nothing named lacks content, and the next run of either kind completes the restore."""
    require("docker-registry")
    async with Registry() as source, DockerRegistry(access_log=True) as target:
        configure(desk, source, target)
        await moved(desk, source)
        crashed = await desk.run("restore", "app", "v1", MIRRORD_FAILPOINTS=f"{place}=exit:0")
        assert crashed.status == CRASH_STATUS, crashed
        for there in (await walk(target, "mirror/app"), walk_local(desk.folder / "state", "app")):
            assert there["v1"] in (OLD.digest, NEW.digest)
        run = await desk.run(again, "app", *(["v1"] if again == "restore" else []))
        assert run.status == 0, run
        assert (await tags(desk, target))["v1"] == OLD.digest


async def test_without_the_database_nothing_is_restored(desk: Desk) -> None:
    """The error says that the ledger is lost, and how a tag is set by hand; the targets stay as they are."""
    require("docker-registry")
    async with Registry() as source, DockerRegistry() as target:
        configure(desk, source, target)
        await moved(desk, source)
        for file in (desk.folder / "state").glob("mirrord.db*"):
            file.unlink()
        said = await desk.run("restore", "app", "v1")
        assert (said.status, "the database was lost" in said.err) == (64, True), said
        assert (await desk.run("restore", "app", "--run", "2")).status == 64
        assert (await tags(desk, target))["v1"] == NEW.digest


async def test_two_processes_do_not_restore_at_once(desk: Desk) -> None:
    """While another command holds the state, a restore is told to wait, and changes nothing."""
    async with Registry() as source, Registry() as target:
        configure(desk, source, target)
        await moved(desk, source)
        with StateLock(desk.folder / "state", "sync"):
            said = await desk.run("restore", "app", "v1")
        assert said.status == 75, said
        assert target.tags["mirror/app"]["v1"] == NEW.digest
