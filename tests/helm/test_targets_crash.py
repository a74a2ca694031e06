"""Killed or failing in the middle of a publication: old or new, never a mix, and the next run puts it right."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from mirrord.failpoints import CRASH_STATUS
from mirrord.model.digest import Digest
from tests.support.chartfiles import pack_chart, sign_chart
from tests.support.chartworld import index_of, open_chart_world, publish_until, sound, version_of

OLD, NEW = pack_chart("crane", "1.0.0"), pack_chart("crane", "1.1.0")
CHANGED = pack_chart("crane", "1.0.0", description="built again")


def digests(*archives: bytes) -> dict[str, str]:
    return {version_of(one).item: str(Digest.of(one)) for one in archives}


CHILDREN = multiprocessing.get_context("forkserver")  # from a process that has everything loaded: ten times as fast
CHILDREN.set_forkserver_preload(["tests.support.chartruns"])


def publish(folder: Path, kind: str, what: str, armed: str) -> int | None:
    """Publish in a child that ends or fails where `armed` says; return its status."""
    archives = [OLD, NEW] if what == "added" else [CHANGED]
    child = CHILDREN.Process(target=publish_until, args=(folder, kind, archives, armed))
    child.start()
    child.join(60)
    child.kill()
    child.join()
    return child.exitcode


@pytest.mark.parametrize("verb", ["exit", "fail"])
@pytest.mark.parametrize(
    ("kind", "what", "step"),
    [
        ("local", "added", ("store.linked", False)),
        ("local", "added", ("links.written", False)),
        ("local", "added", ("links.renamed", True)),
        ("local", "changed", ("store.linked", False)),
        ("local", "changed", ("links.written", False)),
        ("local", "changed", ("links.renamed", True)),
        ("directory", "added", ("links.written", False)),
        ("directory", "added", ("links.renamed", True)),
        ("directory", "changed", ("links.renamed", True)),
    ],
    ids=str,
)
async def test_old_or_new(kind: str, what: str, step: tuple[str, bool], verb: str, tmp_path: Path) -> None:
    """Whatever step is the last, what is served is the old index or the new one, each with all its files."""
    point, is_new = step
    async with open_chart_world(tmp_path) as world:
        target = await world.target(kind)
        await world.put(target, OLD, sign_chart(OLD))
        await target.finish(index_of(OLD))
    status = publish(tmp_path, kind, what, f"{point}={verb}")
    assert status == (CRASH_STATUS if verb == "exit" else 1)
    after = digests(OLD, NEW) if what == "added" else digests(CHANGED)
    async with open_chart_world(tmp_path) as world:
        assert sound(await world.published(kind)) == (after if is_new else digests(OLD))
    assert publish(tmp_path, kind, what, "") == 0
    async with open_chart_world(tmp_path) as world:
        world.links.sweep()
        assert sound(await world.published(kind)) == after
        assert [*tmp_path.rglob("*.tmp")] == []


async def test_a_replaced_archive_in_a_folder_converges(tmp_path: Path) -> None:
    """Killed between the two renames of a replaced version, the next run makes archive and index agree again."""
    async with open_chart_world(tmp_path) as world:
        target = await world.target("directory")
        await world.put(target, OLD)
        await target.finish(index_of(OLD))
    assert publish(tmp_path, "directory", "changed", "links.written=exit") == CRASH_STATUS
    assert publish(tmp_path, "directory", "changed", "") == 0
    async with open_chart_world(tmp_path) as world:
        assert sound(await world.published("directory")) == digests(CHANGED)
        assert [*tmp_path.rglob("*.tmp")] == []
