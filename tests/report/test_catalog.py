"""The catalog as a document, and in pages."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mirrord.daemon.catalog import entries_of
from mirrord.errors import StorageError
from mirrord.model.catalog import CatalogEntry
from mirrord.model.memory import LastSeen, Memory
from mirrord.report.catalog import COLUMNS, FORMS
from mirrord.serve.catalog import PAGE, CatalogPages
from mirrord.syncer.port import load_syncers
from mirrord.syncer.values import Mirror, Target
from mirrord.syncers.git.plan.steps import EVERYTHING

T0 = datetime(2026, 5, 1, tzinfo=UTC)


def entry(number: int, **more: Any) -> CatalogEntry:
    """Return one of many entries."""
    values: dict[str, Any] = {
        "mirror": "m",
        "kind": "image",
        "item": f"v{number}",
        "source": f"quay.io/a/b:v{number}",
        "target": "hub",
        "name": f"r.example/b:v{number}",
        "digest": f"sha256:{number:064}",
    }
    return CatalogEntry(**{**values, **more}, at=T0)


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "=1\r\n=2"])
def test_no_cell_is_a_formula(text: str) -> None:
    """What a spreadsheet would calculate has a quote in front; line ends and tabs in a text are escaped."""
    document = FORMS["csv"]([entry(1, item=text)])
    head, row = csv.reader(io.StringIO(document))
    assert tuple(head) == COLUMNS
    assert row[2] == "'" + text.replace("\r", "\\r").replace("\n", "\\n")
    assert row[7] == "2026-05-01T00:00:00Z"


def test_what_is_known_of_content_is_in_the_last_columns() -> None:
    """Programs that read earlier columns by number keep working; what is unknown is an empty cell and null."""
    signed = {"referrers": 2, "signer": "release.pub", "origin": "sha256:abc"}
    entries = [entry(1, size=2048, platforms=("linux/amd64", "linux/arm64"), **signed), entry(2)]
    assert COLUMNS[-6:] == ("at", "size", "platforms", "referrers", "signer", "origin")
    _, one, two = csv.reader(io.StringIO(FORMS["csv"](entries)))
    assert (one[8:], two[8:]) == (
        ["2048", "linux/amd64 linux/arm64", "2", "release.pub", "sha256:abc"],
        ["", "", "", "", ""],
    )
    one_too, two_too = json.loads(FORMS["json"](entries))["entries"]
    assert (one_too["size"], one_too["platforms"]) == (2048, ["linux/amd64", "linux/arm64"])
    assert (two_too["size"], two_too["platforms"], two_too["referrers"]) == (None, [], None)


def test_a_text_stays_on_its_line() -> None:
    """Whatever a name holds, an entry is one line of three columns."""
    document = FORMS["txt"]([entry(1, source="a\tb\nc\x1b[2J"), entry(2)])
    assert document.splitlines() == [
        f"a\\tb\\nc\\x1b[2J\tr.example/b:v1\tsha256:{1:064}",
        f"quay.io/a/b:v2\tr.example/b:v2\tsha256:{2:064}",
    ]


def test_json_is_one_entry_a_line() -> None:
    """The document is JSON, and each entry is a line of its own."""
    document = FORMS["json"]([entry(1), entry(2)])
    assert [one["item"] for one in json.loads(document)["entries"]] == ["v1", "v2"]
    assert document.count("\n") == 4
    assert json.loads(FORMS["json"]([])) == {"entries": []}


@pytest.mark.parametrize(
    ("kind", "spec", "to", "item", "own"),
    [
        ("git", "https://git.example/a/b.git", "https://h.example/c/d.git", EVERYTHING, ""),
        ("helm", "https://charts.example/stable", "oci://h.example/c", "app-1.0.0", "#app-1.0.0"),
    ],
)
def test_other_kinds_have_names_too(kind: str, spec: str, to: str, item: str, own: str) -> None:
    """A chart is named by the address of its repository, `#`, and its own name, Git whole; old places are left out."""
    syncer = load_syncers()[kind]
    mirror_keys, target_keys = syncer.models()
    target = Target("t", kind, to, target_keys.model_validate({}))
    mirror = Mirror("m", kind, mirror_keys.model_validate({"from": spec}), (target,))
    origin, places = syncer.places(mirror)
    place = f"{origin} > {places['t']}"
    memory = Memory({("t", item): LastSeen("d", T0, place), ("t", "old"): LastSeen("d", T0, "elsewhere")})
    (found,) = entries_of(mirror, syncer, memory)
    assert (found.source, found.name) == (f"{origin}{own}", f"{places['t']}{own}")
    assert "h.example/c" in found.name


class Asked:
    """A record that counts how often it is read."""

    def __init__(self, entries: Sequence[CatalogEntry]) -> None:
        self.entries, self.edition, self.count = entries, 0, 0
        self.broken = False

    async def read(self) -> Sequence[CatalogEntry]:
        self.count += 1
        await asyncio.sleep(0.01)
        if self.broken:
            raise StorageError("disk")
        return self.entries


@pytest.fixture
async def asked() -> AsyncIterator[tuple[Asked, str, aiohttp.ClientSession]]:
    record = Asked([entry(number) for number in range(PAGE + 5)])
    pages = CatalogPages(record.read, lambda: record.edition)
    app = web.Application()
    for path, handler in pages.pages().items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server: Any = site._server
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1/catalog"
    async with aiohttp.ClientSession() as session:
        yield record, url, session
    await runner.cleanup()


async def test_pages_follow_one_another(asked: tuple[Asked, str, aiohttp.ClientSession]) -> None:
    """A page has at most `PAGE` entries and a link to the next one; the last one has none."""
    record, url, session = asked
    found: list[str] = []
    following: Any = f"{url}.txt"
    while following:
        async with session.get(following) as answer:
            found += (await answer.text()).splitlines()
            following = answer.links["next"]["url"] if "next" in answer.links else None
    assert len(found) == len(set(found)) == PAGE + 5
    assert record.count == 1


async def test_many_clients_cost_one_reading(asked: tuple[Asked, str, aiohttp.ClientSession]) -> None:
    """However many ask at once, the record is read once; after a run it is read again."""
    record, url, session = asked

    async def get() -> str:
        async with session.get(f"{url}.json") as answer:
            return answer.headers["ETag"]  # of the bytes: the same after a run that changed nothing

    assert len(set(await asyncio.gather(*(get() for _ in range(20))))) == 1
    assert record.count == 1
    tag = await get()
    record.edition += 1
    assert await get() == tag
    assert record.count == 2


async def test_a_record_that_cannot_be_read(asked: tuple[Asked, str, aiohttp.ClientSession]) -> None:
    """The client is told to come again, and gets the catalog when the record can be read."""
    record, url, session = asked
    record.broken = True
    async with session.get(f"{url}.csv") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    record.broken = False
    async with session.get(f"{url}.csv") as answer:
        assert answer.status == 200
