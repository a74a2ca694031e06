"""What a run remembers of images: bounded in number and bytes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from mirrord.errors import ContentError, TooLargeError
from mirrord.model.digest import Digest
from mirrord.syncers.image.transfer import tree
from mirrord.syncers.image.transfer.tree import Extent, Manifests, Once, Parts
from mirrord.wire.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from mirrord.wire.oci.manifest import Manifest


def manifest(number: int, size: int = 0, children: int = 0) -> Manifest:
    """Return a manifest of its own digest, about `size` bytes long."""
    parts = [Descriptor(OCI_MANIFEST, Digest.of(f"{number} {child}".encode()), 1) for child in range(children)]
    return Manifest(OCI_INDEX, Digest.of(str(number).encode()), b" " * size, children=tuple(parts))


async def test_manifests_are_remembered_up_to_the_budget() -> None:
    """The newest stay, those used last longest, and each is read again only when it was forgotten."""
    manifests, read = Manifests(Once(), budget=50_000), list[int]()

    async def reading(number: int) -> Manifest:
        read.append(number)
        return manifest(number, 3000)

    async def get(*numbers: int) -> None:
        for number in numbers:
            assert (await manifests.read(number, reading(number))).digest == manifest(number).digest  # type: ignore[union-attr]  # it is one

    await get(1, 2, 1, 2, 3)
    assert read == [1, 2, 3]  # six times their 3000 bytes in memory: the third makes the first go
    await get(2, 3, 1)
    assert read == [1, 2, 3, 1]
    await get(3, 1, 2)
    assert read == [1, 2, 3, 1, 2]


async def test_what_is_no_manifest_has_a_weight_too() -> None:
    """Of entries that are blobs it is remembered that they are, and of no more than the budget lets."""
    manifests, read = Manifests(Once(), budget=50_000), list[int]()

    async def reading(number: int) -> None:
        read.append(number)

    for number in (*range(1000), 999, 0):
        assert await manifests.read(number, reading(number)) is None
    assert read == [*range(1000), 0]


async def test_one_reading_for_many_who_wait() -> None:
    """It is counted once: the budget is not used up by how many asked."""
    manifests, read, gate = Manifests(Once(), budget=50_000), list[int](), asyncio.Event()

    async def reading(number: int) -> Manifest:
        read.append(number)
        await gate.wait()
        return manifest(number, 3000)

    waiting = [asyncio.create_task(manifests.read(1, reading(1))) for _ in range(20)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*waiting)
    await manifests.read(2, reading(2))
    await manifests.read(1, reading(1))
    assert read == [1, 2]


async def test_what_was_done_is_remembered_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million pieces of work a bounded number is remembered, by their results and not by their tasks."""
    monkeypatch.setattr(tree, "DONE", 10)
    once, done = Once(), list[int]()

    async def work(number: int) -> int:
        done.append(number)
        return number

    for number in range(25):
        assert await once.do(number, work(number)) == number
    assert await once.do(24, work(24)) == 24
    assert await once.do(15, work(15)) == 15
    assert len(done) == 25
    assert await once.do(14, work(14)) == 14
    assert len(done) == 26


async def test_a_failure_is_not_remembered() -> None:
    """All who wait have it; who asks next has it tried again."""
    once, tries = Once(), list[int]()

    async def work() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ContentError("no")
        return "yes"

    waiting = [asyncio.create_task(once.do("x", work())) for _ in range(3)]
    assert [str(error) for error in await asyncio.gather(*waiting, return_exceptions=True)] == ["no"] * 3
    assert [await once.do("x", work()) for _ in range(2)] == ["yes"] * 2
    assert len(tries) == 2


def parts(number: int, size: int = 0, children: int = 0) -> Parts:
    made = manifest(number, size, children)
    return Parts.of(made.descriptor, made)


def test_an_image_has_an_end() -> None:
    """A4: 10 000 manifests and 100 MB of them, each counted once wherever it stands; the number is in the error."""
    extent = Extent()
    extent.found(parts(0, children=10_000))
    extent.found(parts(0, children=10_000))
    with pytest.raises(TooLargeError, match="more than 10000 manifests"):
        extent.found(parts(1, children=1))
    extent = Extent()
    for number in range(25):
        extent.found(parts(number, 4_000_000))
    with pytest.raises(TooLargeError, match="more than 100000000 bytes"):
        extent.found(parts(25, 1))


def test_parts_are_what_is_carried() -> None:
    """Children once each, blobs with the longest first and what is embedded in them; nothing that only people read."""
    data = {"mediaType": "text/plain", "digest": Digest.of(b"{}"), "size": 2, "data": "e30=", "annotations": {"a": "b"}}
    layers = [{"mediaType": "text/plain", "digest": Digest.of(b"x" * size), "size": size} for size in (1, 9, 3)]
    body = {"schemaVersion": 2, "config": data, "layers": layers, "annotations": {"c": "d"}}
    image = Manifest.parse(json.dumps(body).encode(), OCI_MANIFEST)
    found = Parts.of(Descriptor("", image.digest, 0), image)
    assert (found.entry.digest, found.size, found.children) == (image.digest, len(image.body), ())
    assert [one.size for one in found.blobs] == [9, 3, 2, 1]
    assert [(one.data, one.annotations) for one in found.blobs if one.data] == [(b"{}", {})]
    twice = replace(manifest(1, children=3), children=manifest(1, children=3).children * 2)
    assert len(Parts.of(Descriptor("", twice.digest, 0), twice).children) == 3
