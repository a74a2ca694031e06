"""`/api/v1/`: parts of lists, tags, errors, and the documents that describe it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel
from yarl import URL

from mirrord.daemon.rows import rows_of
from mirrord.errors import StorageError
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Run
from mirrord.names.natural import natural_order
from mirrord.record.store import PAGE, Store, open_store
from mirrord.report.board import Board
from mirrord.report.rows import LISTS, ListPart, RowsAsked
from mirrord.report.schemas import status_schema
from mirrord.report.status import Status
from mirrord.serve import api as serve_api
from mirrord.serve.app import make_app
from mirrord.serve.asking import SYNC_PATH
from mirrord.serve.description import description
from mirrord.serve.door import Listener, address_of, bind
from mirrord.serve.incoming import TrustedProxies
from mirrord.serve.rendered import Body, tagged
from mirrord.syncer.values import Mirror, Target
from tests.support.schemas import judge, of_api

T0 = datetime(2026, 11, 21, 1, 2, 3, 456789, tzinfo=UTC)
PLACES = {"a": "origin > a", "b": "origin > b"}


class Nothing(BaseModel):
    pass


MIRRORS = [
    Mirror(name, "image", Nothing(), tuple(Target(one, "image", one, Nothing()) for one in "ab"))
    for name in ("m", "empty", *(f"n{number}" for number in range(5)))
]


def run(minute: int, *items: str, failing: bool = False) -> Run:
    """Return a run that wrote these items to `a`, and to `b` unless that fails."""
    at, steps = T0 + timedelta(minutes=minute), []
    receipts = []
    for item in items:
        for target in "ab":
            step = Step(Action.COPY, item, f"sha256:{minute}", target, (item,), "")
            bad = failing and target == "b"
            outcome, said = (Outcome.FAILED, "b.example: <b>no</b>\x1b") if bad else (Outcome.DONE, "")
            steps.append(step)
            receipts.append(
                Receipt(step, outcome, said, "denied" if bad else "", sent=5, size=7, platforms=("linux/amd64",))
            )
    plan = Plan("m", "image", at, tuple(steps))
    return Run("m", "image", "schedule", at, at + timedelta(seconds=30), plan, tuple(receipts), places=PLACES)


@dataclass
class Viewed:
    """What is served, from a real record."""

    store: Store
    asked: list[RowsAsked] = field(default_factory=list)
    editions: int = 0
    board: Board = field(default_factory=Board)
    fronts: Mapping[str, Any] = field(default_factory=dict)

    async def status(self) -> Status:
        with suppress(StorageError):
            self.board.learn(await self.store.standing())
        return self.board.status("1", T0 + timedelta(hours=1), MIRRORS, started=T0)

    async def rows(self, asked: RowsAsked) -> ListPart:
        self.asked.append(asked)
        syncer = type("Places", (), {"items": None, "places": lambda *_: ("origin", {"a": "a", "b": "b"})})()
        snapshot = type("Snapshot", (), {"mirror": lambda *_: MIRRORS[0], "syncer": lambda *_: syncer})()
        return await rows_of(cast("Any", snapshot), self.store, asked)

    def edition(self) -> int:
        return self.editions

    def proxies(self) -> TrustedProxies:
        return TrustedProxies((), "")

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@dataclass
class Api:
    """The API as a client sees it."""

    view: Viewed
    client: ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        """Return status, document and header fields of an answer."""
        async with self.client.get(URL(path, encoded=True), headers=headers) as answer:
            body = await answer.read()
            return answer.status, await answer.json(content_type=None) if body else None, answer.headers

    async def parts(self, path: str) -> AsyncIterator[list[Any]]:
        """Yield the rows of one part after the other, as `Link` leads."""
        while path:
            status, found, headers = await self.get(path)
            assert status == 200
            (rows,) = found.values()
            yield rows
            path = headers.get("Link", "").partition(">")[0].removeprefix("<")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """Serve an empty record."""
    store = await open_store(tmp_path / "mirrord.db", T0)
    view = Viewed(store)
    listener, connection = Listener(make_app(cast("Any", view))), bind("127.0.0.1:0")
    await listener.listen(connection)
    try:
        async with ClientSession(f"http://{address_of(connection)}") as client:
            yield Api(view, client)
    finally:
        await listener.close()
        connection.close()
        await store.close()


@pytest.fixture
async def filled(api: Api) -> Api:
    """Add 25 runs, 32 items, a failure and 25 moves of a mirror to the record."""
    store = api.view.store
    await store.add_run(run(0, *(f"v{number}" for number in range(30))))
    for minute in range(1, 25):
        await store.add_run(run(minute, "latest", "odd ?&=%2F#é", failing=minute == 24))
    move = LedgerEntry("m", "a", "latest", "a", None, "sha256:1", T0, T0)
    for number in range(25):
        await store.intend([LedgerEntry("m", "a", f"t{number}", "a", None, "sha256:1", T0, T0)])
    await store.settle([LedgerEntry(*(move.mirror, move.target, "t1", *("a", None, "x", T0, T0)), Settled.DONE)])
    return api


async def test_every_answer_is_as_it_is_described(filled: Api) -> None:
    """The OpenAPI document is valid, and each path of it answers with exactly the keys that it names."""
    document = (await filled.get("/api/v1/openapi.json"))[1]
    OpenAPIV31SpecValidator(document).validate()
    assert document == description()
    described = 0
    for path in (path for path in document["paths"] if not path.startswith(SYNC_PATH)):
        for name in ("m", "empty"):
            status, found, headers = await filled.get(path.replace("{name}", name))
            assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
            judge(of_api(document, path), found)
            described += 1
    assert described == 2 * (5 + len(LISTS))
    schema = (await filled.get("/api/v1/status.schema.json"))[1]
    assert schema == status_schema()
    judge(schema, (await filled.get("/status"))[1])
    _, behind, _ = await filled.get("/api/v1/mirrors/m/behind")
    assert [(one["target"], one["item"], one["code"]) for one in behind["behind"]] == [
        ("b", "latest", "denied"),
        ("b", "odd ?&=%2F#é", "denied"),
    ]
    _, items, _ = await filled.get("/api/v1/mirrors/m/items?limit=1")
    assert items["items"][0]["item"] == "latest"
    at, unsigned = items["items"][0]["at"]["a"], {"referrers": None, "signer": "", "origin": ""}
    assert (
        at
        == {"digest": "sha256:24", "at": "2026-11-21T01:26:33.456789Z", "size": 7, "platforms": ["linux/amd64"]}
        | unsigned
    )


@pytest.mark.parametrize(("what", "key", "count"), [("runs", "id", 25), ("items", "item", 32), ("ledger", "id", 25)])
async def test_parts_stay_right_while_rows_are_added(filled: Api, what: str, key: str, count: int) -> None:
    """Whoever follows `Link` gets each row once, in order, whatever runs add meanwhile."""
    found, minute = list[Any](), 100
    async for rows in filled.parts(f"/api/v1/mirrors/m/{what}?limit=15"):
        assert len(rows) <= 15
        found += [row[key] for row in rows]
        minute += 1
        await filled.view.store.add_run(run(minute, "latest", "a-new-one"))
        await filled.view.store.intend([LedgerEntry("m", "a", "more", "a", None, "x", T0, T0)])
        filled.view.editions += 1
    assert len(found) == len(set(found)) == count
    assert found == (sorted(found, key=natural_order) if key == "item" else sorted(found, reverse=True))


async def test_what_is_behind_has_no_end_before_its_last_row(filled: Api) -> None:
    """More rows than one question to the record returns come in parts, each once, by target and name."""
    names = [f"late-{number:04}" for number in range(PAGE // 2 + 30)]
    late = run(200, *names)
    receipts = tuple(replace(one, outcome=Outcome.FAILED, code="server") for one in late.receipts)
    await filled.view.store.add_run(replace(late, receipts=receipts))
    filled.view.editions += 1
    found = [row async for rows in filled.parts("/api/v1/mirrors/m/behind?limit=200") for row in rows]
    assert len(found) == 2 * len(names) > PAGE
    assert [(one["target"], one["item"]) for one in found] == [(target, name) for target in "ab" for name in names]


async def test_mirrors_in_parts(filled: Api) -> None:
    """Mirrors come by name, with all that `/status` says of each."""
    parts = [[one["name"] for one in rows] async for rows in filled.parts("/api/v1/mirrors?limit=3")]
    assert parts == [["empty", "m", "n0"], ["n1", "n2", "n3"], ["n4"]]
    _, m, headers = await filled.get("/api/v1/mirrors/m")
    assert m in (await filled.get("/status"))[1]["mirrors"]
    assert "Link" not in headers
    assert [rows async for rows in filled.parts("/api/v1/mirrors/m/behind?limit=1")][1][0]["item"] == "odd ?&=%2F#é"


async def test_many_clients_cost_one_rendering(filled: Api) -> None:
    """A part is read once for all who ask within a second; unchanged bytes keep their tag, each form its own."""
    path = "/api/v1/mirrors/m/runs"
    answers = await asyncio.gather(*(filled.get(path) for _ in range(20)))
    assert len(filled.view.asked) == 1
    (tag,) = {headers["ETag"] for _, _, headers in answers}
    filled.view.editions += 1  # something happened elsewhere
    assert (await filled.get(path, **{"If-None-Match": tag}))[:2] == (304, None)
    assert len(filled.view.asked) == 2
    plain = (await filled.get(path, **{"Accept-Encoding": "identity"}))[2]
    assert "Content-Encoding" not in plain
    assert (plain["ETag"], plain["Vary"]) != (tag, "")
    await filled.view.store.add_run(run(99, "latest"))
    filled.view.editions += 1
    status, found, headers = await filled.get(path, **{"If-None-Match": tag})
    assert (status, len(found["runs"]), headers["ETag"] == tag) == (200, 26, False)
    for number in range(1, 101):
        await filled.get(f"{path}?limit={number}")
    assert len(filled.view.asked) == 3 + 100  # the first part was forgotten meanwhile: few are kept


BAD = {
    "/api/v1/mirrors/nobody": 404,
    "/api/v1/mirrors/%3Cscript%3Ealert(1)%3C/script%3E": 404,
    "/api/v1/mirrors/<script>": 404,
    "/api/v1/mirrors/m%00": 400,
    "/api/v1/mirrors/m%0d%0aX:%20y": 400,
    "/api/v1/mirrors/%2e%2e/m": 400,
    "/api/v1/mirrors/a%2Fb": 400,
    "/api/v1/mirrors/%ff": 404,
    "/api/v1/mirrors/" + "x" * 3000: 404,
    "/api/v1/mirrors/" + "x" * 4090: 414,
    "/api/v1/mirrors/": 404,
    "/api/v1/mirrors/m/": 404,
    "/api/v1/mirrors/m/secrets": 404,
    "/api/v1/mirrors/m/runs/1": 404,
    "/api/v2/mirrors": 404,
    "/api/v1/mirrors?limit=0": 400,
    "/api/v1/mirrors?limit=201": 400,
    "/api/v1/mirrors?limit=-1": 400,
    "/api/v1/mirrors/m/runs?limit=99999999999999999999": 400,
    "/api/v1/mirrors/m/runs?limit=1.5": 400,
    "/api/v1/mirrors/m/runs?limit=": 400,
    "/api/v1/mirrors/m/runs?after=v1": 400,
    "/api/v1/mirrors/m/runs?after=-1": 400,
    "/api/v1/mirrors/m/runs?after=9999999999999999999": 400,
    "/api/v1/mirrors/m/items?after=%00": 400,
    "/api/v1/mirrors/m/items?after=%1b[31m": 400,
}


@pytest.mark.parametrize("path", BAD, ids=lambda path: path[:60])
async def test_bad_requests_are_problems(api: Api, path: str) -> None:
    """Each is refused as RFC 9457 says, without a word of the request, and asks the record nothing."""
    status, found, headers = await api.get(path)
    assert (status, headers["Content-Type"]) == (BAD[path], "application/problem+json")
    judge({**description()["components"]["schemas"]["Problem"]}, found)
    assert (found["status"], found["type"]) == (status, "about:blank")
    assert "script" not in str(found)
    assert api.view.asked == []


@pytest.mark.parametrize("path", ["/api/v1/mirrors", "/api/v1/mirrors/m", "/api/v1/nothing"])
async def test_the_api_is_read_only(api: Api, path: str) -> None:
    """Nothing but GET and HEAD is answered, and no other site's pages may read it."""
    async with api.client.post(path, json={}) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert answer.headers["Content-Type"] == "application/problem+json"
    async with api.client.get(path, headers={"Origin": "https://other.example"}) as answer:
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
    async with api.client.head(path) as answer:
        assert await answer.read() == b""


async def test_a_part_of_the_mirrors_is_made_once_for_all(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many who ask for the list at once share it; who asks for odd parts gets them right, and few of them are kept."""
    made: list[bytes] = []
    status = api.view.status
    lists: list[Status] = []

    async def listed() -> Status:
        lists.append(await status())
        return lists[-1]

    api.view.status = listed  # type: ignore[method-assign]  # of this one alone

    def counted(body: bytes) -> Body:
        made.append(body)
        return tagged(body)

    monkeypatch.setattr(serve_api, "tagged", counted)
    names = sorted(mirror.name for mirror in MIRRORS)
    every = await asyncio.gather(*(api.get("/api/v1/mirrors?limit=3") for _ in range(50)))
    assert [[one["name"] for one in found["mirrors"]] for _, found, _ in every] == [names[:3]] * 50
    assert len(made) <= len(lists)  # a new one each second, however slow this machine is
    made.clear()
    for _ in range(2):
        for number in range(30):
            _, found, _ = await api.get(f"/api/v1/mirrors?limit=2&after=m{number:02}")
            assert [one["name"] for one in found["mirrors"]] == ["n0", "n1"]
    assert len(made) >= 60 - 7 * 2  # seven more beside the first one, and the list may be a new one meanwhile


async def test_odd_cursors_ask_for_what_is_behind_them(filled: Api) -> None:
    """Any text is a name that may have been there: what follows it in order is sent, and nothing fails."""
    for after in ("zzz", "%ff%fe", "%ed%a0%80", "x" * 2000, "'%20OR%201=1--", "%F0%9F%98%80"):
        status, found, _ = await filled.get(f"/api/v1/mirrors/m/items?after={after}")
        assert (status, found.keys()) == (200, {"items"})
        assert len(found["items"]) == (32 if after.startswith("'") else 0)


async def test_a_record_that_cannot_be_read(api: Api) -> None:
    """Then lists are 503 with a time to ask again, and the mirrors themselves are shown."""
    await api.view.store.close()
    status, found, headers = await api.get("/api/v1/mirrors/m/days")
    assert (status, headers["Retry-After"], found["title"]) == (503, "10", "Service Unavailable")
    assert (await api.get("/api/v1/mirrors/m"))[0] == 200
