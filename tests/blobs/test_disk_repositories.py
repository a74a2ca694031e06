"""Names of the local store on disk: one log per repository, right after any failure."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord import failpoints
from mirrord.blobs import disk_repositories, logged_repository
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.repositories import ManifestRef, RepositoryState
from mirrord.errors import ConflictError, StorageError, UnreachableError
from mirrord.model.digest import Digest
from tests.support.disks import fill, small_disk
from tests.support.localstore import linked_in, tags_in

ONE, TWO, BLOB = (Digest.of(text) for text in (b"one", b"two", b"blob"))
LINK = ManifestRef("application/json", 3, (BLOB,))
OLD = {
    "tags": {"main": ONE, "v1": ONE},
    "manifests": {
        ONE: {"mediaType": "application/json", "size": 3, "refs": [BLOB]},
        TWO: {"mediaType": "application/json", "size": 3, "refs": [], "subject": ONE},
    },
}
"""As versions before 0.2 wrote it, and as those after that did: with and without a subject."""
OLD_STATE = RepositoryState(
    {"main": ONE, "v1": ONE},
    {ONE: ManifestRef("application/json", 3, (BLOB,), None), TWO: ManifestRef("application/json", 3, (), ONE)},
)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "repositories"


@pytest.fixture
def links(folder: Path) -> DiskRepositories:
    return DiskRepositories(folder)


@pytest.fixture
def document(folder: Path) -> Path:
    """A repository as an earlier version left it."""
    (folder / "app").mkdir(parents=True)
    file = folder / "app" / "_links.json"
    file.write_text(json.dumps(OLD, indent=1))
    return file


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def log_of(folder: Path) -> Path:
    return folder / "app" / "_links.jsonl"


async def test_nothing_new_writes_nothing(links: DiskRepositories, folder: Path) -> None:
    """Publishing what is there already does not touch the file."""
    await links.publish("app", {ONE: LINK}, {"main": ONE})
    before = log_of(folder).stat()
    await links.publish("app", {ONE: LINK}, {"main": ONE})
    await links.publish("app", {ONE: LINK}, {"main": ONE}, exactly=True)
    after = log_of(folder).stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


async def test_publishing_costs_what_is_new(links: DiskRepositories, folder: Path) -> None:
    """A tag of a large repository is one short line and one flush; the log is not read again, and not written anew."""
    many = {Digest.of(f"{n}".encode()): LINK for n in range(2000)}
    await links.publish("app", many, {f"v{n}": digest for n, digest in enumerate(many)})
    before = log_of(folder).stat()
    assert before.st_size > 500_000
    flushed: list[int] = []
    failpoints.arm("links.appended", lambda: flushed.append(log_of(folder).stat().st_size))
    for number in range(10):
        await links.publish("app", {TWO: LINK}, {f"new-{number}": TWO, "v1": next(iter(many))})
    after = log_of(folder).stat()
    assert after.st_ino == before.st_ino
    assert flushed[-1] == after.st_size
    assert len(flushed) == 10
    assert after.st_size - before.st_size < 2000
    assert len(tags_in(folder, "app")) == 2010


async def test_one_thing_is_found_without_the_others(
    links: DiskRepositories, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked for for the first time, a tag or a manifest costs the reading of its own line, in a log of thousands."""
    many = {Digest.of(f"{n}".encode()): ManifestRef("application/json", n, (BLOB,)) for n in range(1000)}
    await links.publish("app", many, {f"v{n}": digest for n, digest in enumerate(many)}, exactly=True)
    await links.publish("app", {TWO: LINK}, {"main": TWO})
    parsed: list[object] = []
    read = json.loads

    def counted(text: bytes) -> object:
        parsed.append(text)
        return read(text)

    monkeypatch.setattr(json, "loads", counted)
    wanted = Digest.of(b"500")
    cold = DiskRepositories(folder)
    assert await cold.tag("app", "v500") == wanted
    assert await cold.manifest("app", wanted) == many[wanted]
    assert await cold.tag("app", "main") == TWO
    assert await cold.links("app", wanted)
    assert await cold.tag("app", "absent") is None
    assert len(parsed) <= 6  # the first line of the log, and one for each that was found; a digest is in two
    assert max(len(str(text)) for text in parsed) < 1000
    for _ in range(disk_repositories.LOOKS + 1):  # who goes on asking has all of it read once
        assert await cold.tag("app", "v501")
    count = len(parsed)
    assert await cold.tag("app", "v502")
    assert len(parsed) == count


async def test_what_does_not_exist_is_looked_for_once(
    links: DiskRepositories, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that clients ask for again and again costs no look at the disk, until it is published; few are kept."""
    looks: list[str] = []
    real = Path.read_bytes

    def counted(path: Path) -> bytes:
        looks.append(path.parent.name)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    monkeypatch.setattr(disk_repositories, "MISSED", 2)
    for _ in range(3):
        assert not await links.exists("app")
        assert await links.tag("app", "main") is None
    assert looks == ["app", "app"]  # the log, and the document of an earlier version
    await links.publish("app", {ONE: LINK}, {"main": ONE})
    assert await links.tag("app", "main") == ONE
    state = await links.state("app")
    assert state is not None
    await links.remove("app", expect=state.revision)
    assert not await links.exists("app")
    assert not (folder / "app" / "_links.jsonl").exists()
    looks.clear()
    for name in ("b", "c", "d", "d", "c", "b"):
        assert not await links.exists(name)
    assert looks == ["b", "b", "c", "c", "d", "d", "b", "b"]


async def test_a_log_does_not_grow_for_ever(links: DiskRepositories, folder: Path) -> None:
    """A tag that moves again and again takes room for some moves only, and what it names in the end is right."""
    digests = [Digest.of(f"{n}".encode()) for n in range(7)]
    await links.publish("app", dict.fromkeys(digests, LINK), {"v1": ONE})
    for number in range(2000):
        await links.publish("app", {}, {"main": digests[number % 7]})
    assert log_of(folder).stat().st_size <= logged_repository.SHORT
    assert tags_in(folder, "app") == {"v1": ONE, "main": digests[1999 % 7]}


@pytest.mark.parametrize(
    ("name", "after", "beginning"),
    [
        ("links.appended", "old", "log"),
        ("links.written", "old", "log"),
        ("links.renamed", "new", "log"),
        ("links.written", "old", "document"),
        ("links.renamed", "new", "document"),
    ],
)
async def test_failing_in_the_middle(folder: Path, document: Path, name: str, after: str, beginning: str) -> None:
    """A failure leaves the old names or the new ones; never a mix, no leftover, and the next attempt works."""
    links = DiskRepositories(folder)
    if beginning == "log":
        document.unlink()
        await links.publish("app", OLD_STATE.manifests, OLD_STATE.tags)
    exactly = name != "links.appended"  # a log is written anew
    new = {"main": TWO, "main-2": TWO} if exactly else {"main": TWO, "main-2": TWO, "v1": ONE}
    failpoints.arm(name, failpoints.fail)
    with pytest.raises(StorageError, match=r"_links\.jsonl"):
        await links.publish("app", {TWO: LINK}, {"main-2": TWO, "main": TWO}, exactly=exactly)
    failpoints.disarm()
    expected = OLD_STATE.tags if after == "old" else new
    for reader in (links, DiskRepositories(folder)):
        state = await reader.state("app")
        assert state is not None
        assert state.tags == expected
    assert not [file for file in files(folder) if file.startswith(".")]
    await links.publish("app", {TWO: LINK}, {"main-2": TWO, "main": TWO}, exactly=exactly)
    links.sweep()
    assert tags_in(folder, "app") == new
    assert files(folder) == ["_links.jsonl"]


async def test_a_torn_line_is_no_line(links: DiskRepositories, folder: Path) -> None:
    """Wherever a crash cut the last publication off, all before it is read, and the next one comes in its place."""
    await links.publish("app", {ONE: LINK}, {"main": ONE})
    whole = log_of(folder).read_bytes()
    await links.publish("app", {TWO: LINK}, {"main": TWO, "v2": TWO})
    more = log_of(folder).read_bytes()
    torn = [more[:length] for length in range(len(whole), len(more))]
    torn += [more[:-20] + bytes(19) + b"\n", whole + bytes(100), whole + bytes(100) + b"\n"]  # blocks never written
    for data in torn:
        log_of(folder).write_bytes(data)
        again = DiskRepositories(folder)
        assert await again.tag("app", "main") == ONE
        assert linked_in(folder, "app") == RepositoryState({"main": ONE}, {ONE: LINK})
        assert await again.linked() == {ONE, BLOB}
        await again.publish("app", {}, {"v3": ONE})
        assert tags_in(folder, "app") == {"main": ONE, "v3": ONE}
    log_of(folder).write_bytes(more)
    assert tags_in(folder, "app") == {"main": TWO, "v2": TWO}


async def test_an_earlier_document_is_read(links: DiskRepositories, folder: Path, document: Path) -> None:
    """What an earlier version wrote is there as it was, however it is asked for, and asking writes nothing."""
    assert await links.tag("app", "v1") == ONE
    assert await links.manifest("app", TWO) == OLD_STATE.manifests[TWO]
    assert await links.links("app", BLOB)
    assert await links.state("app") == OLD_STATE
    assert list(await links.names()) == ["app"]
    assert await links.linked() == {ONE, TWO, BLOB}
    links.sweep()
    assert files(folder) == [document.name]


async def test_an_earlier_document_is_replaced(links: DiskRepositories, folder: Path, document: Path) -> None:
    """The next publication replaces it by a log with all of it; a revision of it is good for that."""
    state = await links.state("app")
    assert state is not None
    with pytest.raises(ConflictError):
        await links.publish("app", {}, {"v2": TWO}, expect="")
    await links.publish("app", {}, {"v2": TWO}, expect=state.revision)
    expected = RepositoryState({**OLD_STATE.tags, "v2": TWO}, OLD_STATE.manifests)
    assert await links.state("app") == linked_in(folder, "app") == expected
    assert files(folder) == ["_links.jsonl"]


async def test_a_crash_between_log_and_document(links: DiskRepositories, folder: Path, document: Path) -> None:
    """Where both are there the log is right: it has all of the document; a start takes the document away."""
    before = document.read_bytes()
    await links.publish("app", {}, {"main": TWO})
    document.write_bytes(before)
    again = DiskRepositories(folder)
    assert await again.tag("app", "main") == TWO
    assert await again.names() == ["app"]
    again.sweep()
    assert files(folder) == ["_links.jsonl"]
    assert tags_in(folder, "app") == {"main": TWO, "v1": ONE}


async def test_sweep(links: DiskRepositories, folder: Path) -> None:
    """What a kill left half written goes, the names stay."""
    await links.publish("team/app", {ONE: LINK}, {"main": ONE})
    for name in ("._links.jsonl.0123abcd.tmp", "._links.json.0123abcd.tmp"):
        (folder / "team" / "app" / name).write_text("{")
    links.sweep()
    assert files(folder) == ["_links.jsonl"]


async def test_called_off(links: DiskRepositories, folder: Path) -> None:
    """Who publishes and is called off has published whole or not at all, and the next one does not mix with it."""
    await links.publish("app", {ONE: LINK}, {"main": ONE})
    for number in range(20):
        task = asyncio.ensure_future(links.publish("app", {}, {f"off-{number}": ONE}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await links.publish("app", {}, {f"on-{number}": ONE})
        await asyncio.wait([task])
    await links.publish("app", {}, {"last": ONE})
    tags = tags_in(folder, "app")
    assert {f"on-{number}" for number in range(20)} | {"main", "last"} <= tags.keys()
    assert await links.state("app") == linked_in(folder, "app")


async def test_much_is_not_remembered(links: DiskRepositories, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs are kept in memory up to a number of bytes, those that were used last; the others are read again."""
    for number in range(5):
        await links.publish(f"app{number}", {ONE: LINK}, {"main": ONE})
    size = (folder / "app0" / "_links.jsonl").stat().st_size
    monkeypatch.setattr(disk_repositories, "REMEMBERED", 3 * size)
    await links.publish("app0", {}, {"more": ONE})
    for number in range(5):
        assert await links.tag(f"app{number}", "main") == ONE
        assert len(links._recent) <= 3
    assert await links.tag("app0", "main") == ONE


HEAD = '{"log":"00","size":0}\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]\n",
        "{}\n",
        f"{HEAD}[]\n{HEAD}",
        f'{HEAD}{{"tags":[]}}\n',
        f'{HEAD}{{"tags":{{"main":"sha256:x"}}}}\n',
        f'{HEAD}{{"manifests":{{"x":{{}}}}}}\n',
        f'{HEAD}{{"untag":["main"]}}\n',
        f"{HEAD}not json\n",
    ],
)
async def test_damage_is_named(links: DiskRepositories, folder: Path, text: str) -> None:
    """A damaged log is a StorageError that names it, also for the sweep, which then must take nothing for unlinked."""
    (folder / "app").mkdir(parents=True)
    log_of(folder).write_text(text)
    for attempt in (links.state("app"), links.linked(), links.publish("app", {}, {"main": ONE})):
        with pytest.raises(StorageError, match=r"_links\.jsonl"):
            await attempt
    assert log_of(folder).read_text() == text


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"tags": [], "manifests": {}}', '{"tags": {"main": "sha256:x"}, "manifests": {}}']
)
async def test_damage_of_an_earlier_document_is_named(links: DiskRepositories, document: Path, text: str) -> None:
    """A damaged document of an earlier version is one, too, and is not replaced."""
    document.write_text(text)
    for attempt in (links.tag("app", "main"), links.linked(), links.publish("app", {}, {"main": ONE})):
        with pytest.raises(StorageError, match=r"_links\.json"):
            await attempt
    assert files(document.parent) == ["_links.json"]


async def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A line that could be written in part only is taken back: readers see what was there before."""
    with contextlib.ExitStack() as stack:
        try:
            disk = stack.enter_context(small_disk(tmp_path / "disk", 1 << 20))
        except UnreachableError as error:
            pytest.skip(str(error))
        links = DiskRepositories(disk)
        await links.publish("app", {ONE: LINK}, {"main": ONE})
        before = log_of(disk).read_bytes()
        fill(disk / "others")
        many = tuple(Digest.of(f"{n}".encode()) for n in range(200))
        with pytest.raises(StorageError, match=r"_links\.jsonl: No space"):
            await links.publish("app", {TWO: ManifestRef("application/json", 3, many)}, {"main": TWO})
        assert log_of(disk).read_bytes() == before
        assert await links.tag("app", "main") == ONE
        (disk / "others").unlink()
        await links.publish("app", {TWO: LINK}, {"main": TWO})
        assert tags_in(disk, "app") == {"main": TWO}


async def test_the_file_is_for_people_too(folder: Path) -> None:
    """The log is lines of plain JSON: one for each tag and manifest, then one for each publication, and when."""
    links = DiskRepositories(folder, lambda: 1_764_288_000.9)
    await links.publish("app", {ONE: LINK}, {"main": ONE})
    await links.publish("app", {TWO: LINK}, {"main": TWO})
    manifest = {"mediaType": "application/json", "size": 3, "refs": [BLOB], "subject": ""}
    head, *lines = map(json.loads, log_of(folder).read_text().splitlines())
    assert head.keys() == {"log", "size"}
    assert lines == [
        {"manifests": {ONE: manifest}},
        {"tags": {"main": ONE}, "at": 1_764_288_000},
        {"manifests": {TWO: manifest}, "tags": {"main": TWO}, "at": 1_764_288_000},
    ]
