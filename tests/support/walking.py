"""The oracle after a crash: follows whatever is named down to its last byte; what it cannot follow is an error.

It shares no code with what it judges but the parser of manifests and the two classes that read the embedded store.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from mirrord.model.digest import Digest
from mirrord.testing.servers import DockerRegistry
from mirrord.wire.oci.manifest import ACCEPT, Manifest
from tests.support.localstore import linked_in, place_in


async def walk(registry: DockerRegistry, repository: str) -> Mapping[str, str]:
    """Return the tags of a repository, all of whose content was read and checked; empty when there is none.

    Raises:
        AssertionError: something that is named is not there, or has other bytes than its digest says.
    """
    return await walk_at(registry.url, repository)


async def walk_at(url: str, repository: str) -> Mapping[str, str]:
    """Do as `walk` at any registry."""
    base = f"{url}/v2/{repository}"
    async with aiohttp.ClientSession() as session:
        names = [name for name in await _listed(session, base) if await _settled(session, base, name)]
        seen: set[str] = set()
        return {name: await _walk_tree(session, base, name, seen) for name in names}


async def _listed(session: aiohttp.ClientSession, base: str) -> list[str]:
    async with session.get(f"{base}/tags/list") as answer:
        return [] if answer.status == 404 else (await answer.json(content_type=None))["tags"] or []


async def _settled(session: aiohttp.ClientSession, base: str, name: str) -> bool:
    """Wait, for five seconds at most, until a registry has ended what a client asked that is dead by now.

    docker-registry lists a tag as soon as its folder is there, some files before it resolves, and lists it until its
    folder is gone, some files after its manifest. Nothing tells when it is through, hence the looking again. Returns
    whether the tag is listed still.
    """
    for _ in range(100):
        async with session.head(f"{base}/manifests/{name}", headers={"Accept": ACCEPT}) as answer:
            if answer.status == 200:
                return True
        if name not in await _listed(session, base):
            return False
        await asyncio.sleep(0.05)
    return True


async def _walk_tree(session: aiohttp.ClientSession, base: str, name: str, seen: set[str]) -> str:
    async with session.get(f"{base}/manifests/{name}", headers={"Accept": ACCEPT}) as answer:
        begun = answer.status != 200  # docker-registry empties the file of a tag before it writes it
    if begun:
        await _settled(session, base, name)
    async with session.get(f"{base}/manifests/{name}", headers={"Accept": ACCEPT}) as answer:
        assert answer.status == 200, f"{base}: {name} points at nothing"
        body, kind = await answer.read(), answer.headers["Content-Type"]
    digest = Digest.of(body)
    manifest = Manifest.parse(body, kind, digest)
    for part in {one.digest: one for one in (*manifest.children, *manifest.blobs)}.values():
        if part.digest in seen:
            continue
        seen.add(part.digest)
        if part in manifest.children:
            await _walk_tree(session, base, part.digest, seen)
            continue
        async with session.get(f"{base}/blobs/{part.digest}") as answer:
            assert answer.status == 200, f"{base}: {name} refers to {part.digest}, which is not there"
            assert Digest.of(await answer.read(), part.digest.algorithm) == part.digest
    return digest


def walk_layout(folder: Path) -> Mapping[str, str]:
    """Return the names of an OCI layout, all of whose content was read and checked; empty when there is none yet.

    What has no name is called by its digest.

    Raises:
        AssertionError: as `walk`.
    """
    if not (folder / "index.json").exists():
        return {}
    assert json.loads((folder / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}

    def check(digest: str, kind: str) -> None:
        body = (folder / "blobs" / digest.replace(":", "/")).read_bytes()
        assert Digest.of(body, digest.partition(":")[0]) == digest
        if kind:
            manifest = Manifest.parse(body, kind, Digest(digest))
            for part in (*manifest.children, *manifest.blobs):
                check(part.digest, part.media_type if part in manifest.children else "")

    entries = json.loads((folder / "index.json").read_bytes())["manifests"]
    for entry in entries:
        check(entry["digest"], entry["mediaType"])
    names = [entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in entries]
    return {name or entry["digest"]: entry["digest"] for name, entry in zip(names, entries, strict=True)}


def walk_local(state: Path, repository: str) -> Mapping[str, str]:
    """Return the tags of a repository of the embedded store, all of whose content was read and checked.

    Raises:
        AssertionError: as `walk`.
    """
    linked = linked_in(state / "repositories", repository)
    if linked is None:
        return {}
    for text in linked.content:
        digest = Digest.parse(text)
        file = place_in(state / "blobs", digest)
        assert file is not None, f"{repository} links {digest}, which is not there"
        assert Digest.of(file.read_bytes(), digest.algorithm) == digest
    assert set(linked.tags.values()) <= set(linked.manifests), f"{repository} has a tag of an unknown manifest"
    return {tag: str(digest) for tag, digest in linked.tags.items()}


def leftovers(state: Path) -> list[str]:
    """Name what a crash may leave in a state directory, and a later run must have cleared away."""
    files = [file for file in state.rglob("*") if file.is_file()]
    halves = [file for file in files if file.suffix in (".part", ".tmp") or state / "scratch" in file.parents]
    spooled = [file for file in files if file.parent == state / "spool" and file not in halves]
    return [str(file.relative_to(state)) for file in (*halves, *(file for file in spooled if not _whole(file)))]


def _whole(file: Path) -> bool:
    digest = Digest.parse(file.name.replace("-", ":", 1))
    return Digest.of(file.read_bytes(), digest.algorithm) == digest
