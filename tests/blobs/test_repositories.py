"""Names of the local store: one atomic file per repository, right after any failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.blobs.repositories import ManifestRef, Repositories, RepositoryState
from mirrord.errors import StorageError
from mirrord.model.digest import Digest

ONE, TWO, BLOB = (Digest.of(text) for text in (b"one", b"two", b"blob"))
LINK = ManifestRef("application/json", 3, (BLOB,))


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "repositories"


@pytest.fixture
def links(folder: Path) -> Repositories:
    return Repositories(folder)


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


async def test_publishing_adds_up(links: Repositories, folder: Path) -> None:
    """Tags move, manifests stay, and another process reads the same."""
    await links.publish("team/app", {ONE: LINK}, {"main": ONE, "main-1": ONE})
    await links.publish("team/app", {TWO: LINK}, {"main": TWO})
    for reader in (links, Repositories(folder)):
        assert reader.get("team/app") == RepositoryState({"main": TWO, "main-1": ONE}, {ONE: LINK, TWO: LINK})
    assert links.get("team") is None
    assert links.get("team/app/more") is None
    assert [*links.repositories()] == ["team/app"]
    assert links.linked() == {ONE, TWO, BLOB}


async def test_nothing_new_writes_nothing(links: Repositories, folder: Path) -> None:
    """Publishing what is there already does not touch the file."""
    await links.publish("app", {ONE: LINK}, {"main": ONE})
    before = (folder / "app" / "_links.json").stat()
    await links.publish("app", {ONE: LINK}, {"main": ONE})
    assert (folder / "app" / "_links.json").stat().st_ino == before.st_ino


async def test_repositories_inside_repositories(links: Repositories) -> None:
    """`team` and `team/app` are two repositories with nothing in common."""
    await links.publish("team", {ONE: LINK}, {"main": ONE})
    await links.publish("team/app", {TWO: LINK}, {"main": TWO})
    assert [*links.repositories()] == ["team", "team/app"]
    assert [links.get(name) for name in links.repositories()] == [
        RepositoryState({"main": ONE}, {ONE: LINK}),
        RepositoryState({"main": TWO}, {TWO: LINK}),
    ]


async def test_many_at_once(links: Repositories) -> None:
    """Publishing into one repository from many mirrors at once loses nothing."""
    await asyncio.gather(*(links.publish("app", {ONE: LINK}, {f"v{n}": ONE}) for n in range(20)))
    linked = links.get("app")
    assert linked is not None
    assert linked.tags == {f"v{n}": ONE for n in range(20)}


@pytest.mark.parametrize(("name", "after"), [("links.written", "old"), ("links.renamed", "new")])
async def test_failing_in_the_middle(links: Repositories, folder: Path, name: str, after: str) -> None:
    """A failure before the rename leaves the old names, one after it the new ones; never a mix, and no leftover."""
    await links.publish("app", {ONE: LINK}, {"main": ONE, "main-1": ONE})
    failpoints.arm(name, failpoints.fail)
    with pytest.raises(StorageError, match=r"_links\.json"):
        await links.publish("app", {TWO: LINK}, {"main-2": TWO, "main": TWO})
    old = {"main": ONE, "main-1": ONE}
    expected = old if after == "old" else {"main": TWO, "main-1": ONE, "main-2": TWO}
    for reader in (links, Repositories(folder)):
        linked = reader.get("app")
        assert linked is not None
        assert linked.tags == expected
    assert files(folder) == ["_links.json"]
    failpoints.disarm()
    await links.publish("app", {TWO: LINK}, {"main-2": TWO, "main": TWO})
    linked = links.get("app")
    assert linked is not None
    assert linked.tags == {"main": TWO, "main-1": ONE, "main-2": TWO}


async def test_sweep(links: Repositories, folder: Path) -> None:
    """What a kill left half written goes, the names stay."""
    await links.publish("team/app", {ONE: LINK}, {"main": ONE})
    (folder / "team" / "app" / "._links.json.0123abcd.tmp").write_text("{")
    links.sweep()
    assert files(folder) == ["_links.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"tags": [], "manifests": {}}',
        '{"tags": {"main": "sha256:x"}, "manifests": {}}',
        '{"tags": {}, "manifests": {"x": {}}}',
    ],
)
async def test_damage_is_named(links: Repositories, folder: Path, text: str) -> None:
    """A damaged file is a StorageError that names it, also for the sweep, which then must take nothing for unlinked."""
    await links.publish("app", {ONE: LINK}, {"main": ONE})
    (folder / "app" / "_links.json").write_text(text)
    with pytest.raises(StorageError, match=r"_links\.json"):
        links.get("app")
    with pytest.raises(StorageError, match=r"_links\.json"):
        links.linked()


async def test_the_file_is_for_people_too(links: Repositories, folder: Path) -> None:
    """The file is plain JSON: tags, and manifests with media type, size and what they refer to and are about."""
    await links.publish("app", {ONE: LINK}, {"main": ONE})
    assert json.loads((folder / "app" / "_links.json").read_text()) == {
        "tags": {"main": ONE},
        "manifests": {ONE: {"mediaType": "application/json", "size": 3, "refs": [BLOB], "subject": ""}},
    }
