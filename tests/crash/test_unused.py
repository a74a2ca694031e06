"""`unused` of `keep`: what a real client pulled from a daemon stays, by times that outlive the daemon."""

from __future__ import annotations

import json
import os
import re
import time
from functools import partial
from pathlib import Path

import pytest

from mirrord.blobs.collector import Collector
from mirrord.blobs.uses import DiskUses
from mirrord.daemon import local
from mirrord.daemon.collecting import GarbageCollection
from mirrord.testing import Registry, build_image, push, require
from tests.support.commands import Desk
from tests.support.judges import crane
from tests.support.localstore import tags_in

DAY = 86400.0
IMAGES = {
    tag: build_image(["linux/amd64"], layer_size=500, seed=tag, index=index)
    for tag, index in (("1.0", False), ("1.1", False), ("1.2", True), ("1.3", True))
}


def make_old(state: Path) -> None:
    """Let all images have come in 1970, and let nobody have asked for one since."""
    for log in (state / "repositories").rglob("_links.jsonl"):
        lines = [re.sub(r'"at":[0-9]+', '"at":1', line) for line in log.read_text().splitlines()[1:]]
        body = "".join(f"{line}\n" for line in lines)
        log.write_text(json.dumps({"log": "0", "size": len(body)}) + "\n" + body)
    for file in (state / "blobs").glob("*/*/*"):
        os.utime(file, (1, 1))


async def collected(desk: Desk, monkeypatch: pytest.MonkeyPatch, now: float) -> set[str]:
    """Collect at that time, and return the names that went."""
    with monkeypatch.context() as patched:
        for kind in (DiskUses, Collector):
            patched.setattr(local, kind.__name__, partial(kind, clock=lambda: now))
        async with desk.opened() as runtime:
            assert runtime.collector
            found = await GarbageCollection(runtime, runtime.collector).collect()
    assert found.troubles == ()
    return {one.name for one in found.gone}


async def test_what_crane_pulls_stays_as_long_as_it_was_used(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images and indexes that crane pulled stay for 30 days from then, not from when they came; the others go."""
    require("crane")
    async with Registry() as source:
        for tag, image in IMAGES.items():
            await push(image, source, "up/app", [tag])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/up/app, tags: ['*']}}, "
            "keep: {unused: 30d}, to: local}]\n"
        )
        assert (await desk.run("sync")).status == 0
    repositories = desk.folder / "state" / "repositories"
    make_old(desk.folder / "state")
    before = time.time()
    async with desk.serving() as daemon:
        for tag in ("1.0", "1.2"):
            (desk.folder / tag).mkdir()
            assert await crane(f"{daemon.address}/app:{tag}", desk.folder / tag) == IMAGES[tag].digest
        after = time.time()
        daemon.process.terminate()
        assert await daemon.process.wait() == 0
    assert set(tags_in(repositories, "app")) == IMAGES.keys()
    assert await collected(desk, monkeypatch, before + 30 * DAY - 60) == {"1.1", "1.3"}
    assert set(tags_in(repositories, "app")) == {"1.0", "1.2"}
    assert await collected(desk, monkeypatch, after + 30 * DAY + 60) == {"1.0", "1.2"}
