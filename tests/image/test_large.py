"""Images at the bounds: everything is carried once, whatever shape it has."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from mirrord.model.digest import Digest
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.image.transfer import copied
from mirrord.testing import Image, Registry, push
from mirrord.testing.images import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from tests.support.world import World

MANY = 300


class Tree:
    """Builds an image by hand."""

    def __init__(self) -> None:
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}

    def blob(self, kind: str, data: bytes) -> dict[str, Any]:
        self.blobs[Digest.of(data)] = data
        return {"mediaType": kind, "digest": Digest.of(data), "size": len(data)}

    def manifest(self, *layers: bytes, config: bytes = b"{}") -> dict[str, Any]:
        parts = {"config": self.blob(OCI_CONFIG, config), "layers": [self.blob(OCI_LAYER, data) for data in layers]}
        return self._keep(OCI_MANIFEST, parts)

    def index(self, *entries: dict[str, Any]) -> dict[str, Any]:
        return self._keep(OCI_INDEX, {"manifests": entries})

    def image(self, root: dict[str, Any]) -> Image:
        return Image(root, self.manifests, self.blobs)

    def _keep(self, kind: str, document: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps({"schemaVersion": 2, "mediaType": kind, **document}).encode()
        self.manifests[Digest.of(body)] = kind, body
        return {"mediaType": kind, "digest": Digest.of(body), "size": len(body)}


def diamond(leaves: int, groups: int) -> Image:
    """Indexes that all lead to the same manifests, which share layers; one entry stands twice."""
    tree = Tree()
    shared = [tree.manifest(b"base", f"layer {leaf % 7}".encode(), config=f"{leaf}".encode()) for leaf in range(leaves)]
    inner = tree.index(*shared[: leaves // 2])
    tops = [tree.index(*shared, inner, tree.manifest(f"own {group}".encode())) for group in range(groups)]
    return tree.image(tree.index(*tops, tops[0], *shared[:3]))


async def run(world: World, image: Image, *targets: Registry | str) -> Registry:
    source = await world.registry("source")
    await push(image, source, "team/app", ["main"])
    source.forget()
    made = await world.run(world.mirror({"repository": f"{source.host}/team/app:main"}, *targets))
    assert made.result is Result.SUCCESS, made
    return source


@pytest.mark.parametrize("workers", [1, 2, 16])
async def test_a_wide_diamond(world: World, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """Whatever stands under many parents is read and written once, by any number of workers, and parents come last."""
    monkeypatch.setattr(copied, "WORKERS", workers)
    image = diamond(leaves=60, groups=4)
    one, two = await world.registry("one"), await world.registry("two")
    source = await run(world, image, one, two, LOCAL)
    read = Counter(exchange.path.rpartition("/")[2] for exchange in source.select("GET", "/(blobs|manifests)/"))
    assert read == Counter([*image.manifests, *image.blobs])
    for target in (one, two):
        assert target.tags["mirror/app"] == {"main": image.digest}
        assert target.content.dangling() == []
        written = [exchange.path.rpartition("/")[2] for exchange in target.select("PUT", "/manifests/sha256:")]
        assert sorted(written) == sorted(image.manifests)
    assert world.local_tags() == {"main": image.digest}


async def test_many_blobs_of_one_manifest(world: World) -> None:
    """A manifest with more layers than there are workers is carried, the longest of them first."""
    tree = Tree()
    image = tree.image(tree.manifest(*(b"%d " % size + b"x" * size for size in range(MANY))))
    target = await world.registry("target")
    await run(world, image, target)
    assert target.tags["mirror/app"] == {"main": image.digest}
    sizes = [exchange.received for exchange in target.select("PUT", "/blobs/uploads/")]
    assert len(sizes) == MANY + 1
    for at, size in enumerate(sizes):  # each of those under way together may be a little earlier or later
        assert abs(sorted(sizes, reverse=True)[at] - size) <= 3 * copied.WORKERS
