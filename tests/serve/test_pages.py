"""Pages over many mirrors: what did not change is not written again, and who wants gzip gets it."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import make_mocked_request
from pydantic import BaseModel

from mirrord.model.history import Standing
from mirrord.model.run import Result
from mirrord.model.verification import Level, TargetVerification
from mirrord.report.board import Board
from mirrord.report.status import MirrorStatus, Running, Status
from mirrord.serve.door import Listener, address_of, bind
from mirrord.serve.pages.rows import MirrorRows
from mirrord.serve.rendered import Body, Copies, Fragments, Paced, Rendered
from mirrord.serve.status import document, line_of
from mirrord.syncer.values import Mirror, Target
from tests.support.overview import overview

Part = TypeVar("Part")
T0 = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)


class Nothing(BaseModel):
    pass


MIRRORS = [Mirror(f"m{number}", "image", Nothing(), (Target("a", "image", "x", Nothing()),)) for number in range(50)]


def standing(name: str, result: Result = Result.NOOP) -> list[Standing]:
    return [Standing(name, target, T0, T0, result=result, items=3) for target in ("", "a")]


class Shown:
    """A board of fifty mirrors, and which of them were written when it was shown."""

    def __init__(self) -> None:
        self.board = Board(one for mirror in MIRRORS for one in standing(mirror.name))
        self.written: Counter[str] = Counter()
        self.rows = MirrorRows("en")
        self.rows._rows = Fragments(self._counted(self.rows._row))
        self.lines = Fragments(self._counted(line_of))

    def _counted(self, write: Callable[[MirrorStatus], Part]) -> Callable[[MirrorStatus], Part]:
        def counted(mirror: MirrorStatus) -> Part:
            self.written[mirror.name] += 1
            return write(mirror)

        return counted

    def status(self, seconds: int = 0, **more: object) -> Status:
        return self.board.status("1", T0 + timedelta(seconds=seconds), MIRRORS, started=T0, **more)  # type: ignore[arg-type]  # fields by keyword

    def show(self, status: Status) -> Counter[str]:
        """Write both pages; return which mirrors were written for that."""
        self.written.clear()
        text = overview(status, self.rows)
        told = json.loads(document(status, self.lines))
        assert [one["name"] for one in told["mirrors"]] == [mirror.name for mirror in MIRRORS]
        assert told["now"] in text
        return self.written.copy()


@pytest.mark.parametrize("what", ["run", "running", "next"])
def test_only_what_changed_is_written_anew(what: str) -> None:
    """All are written once; then each page costs only the mirrors of which something happened, and shows that."""
    shown = Shown()
    assert shown.show(shown.status()) == dict.fromkeys((mirror.name for mirror in MIRRORS), 2)
    assert shown.show(shown.status(1)) == {}
    if what == "run":
        shown.board.learn(standing("m7", Result.FAILED))
    more: dict[str, object] = {
        "running": {"m7": Running("command", T0)} if what == "running" else {},
        "next_runs": {"m7": T0} if what == "next" else {},
    }
    status = shown.status(2, **more)
    assert shown.show(status) == {"m7": 2}
    seen = status.mirrors[7]
    assert {"run": seen.result is Result.FAILED, "running": seen.running, "next": seen.next_run}[what]
    assert shown.show(shown.status(3, **more)) == {}


def test_mirrors_come_and_go() -> None:
    """A mirror that is no longer configured is shown no more; one that is new is, though nothing is known of it."""
    shown = Shown()
    shown.show(shown.status())
    new = Mirror("new", "image", Nothing(), (Target("b", "image", "x", Nothing()),))
    now = shown.board.status("1", T0, [*MIRRORS[1:], new], started=T0)
    told = json.loads(document(now, shown.lines))["mirrors"]
    assert [one["name"] for one in told] == [*(mirror.name for mirror in MIRRORS[1:]), "new"]
    assert (told[-1]["state"], told[-1]["targets"][0]["name"]) == ("new", "b")


async def test_gzip_for_who_wants_it() -> None:
    """A page is packed once for all who accept that; each form has a tag of its own, and 304."""
    text = b"mirror\n" * 5000

    async def make() -> bytes:
        return text

    rendered = Rendered(make, lambda: 0, {"Content-Type": "text/plain"}, every=60.0)
    app = web.Application()
    app.router.add_get("/", rendered.answer)
    listener, connection = Listener(app), bind("127.0.0.1:0")
    await listener.listen(connection)
    try:
        async with ClientSession(f"http://{address_of(connection)}", auto_decompress=False) as session:
            tags = set()
            for accepted in ("gzip", "identity"):
                headers = {"Accept-Encoding": accepted}
                async with session.get("/", headers=headers) as answer:
                    body, tag = await answer.read(), answer.headers["ETag"]
                    assert (answer.status, answer.headers["Vary"]) == (200, "Accept-Encoding")
                assert (gzip.decompress(body) if accepted == "gzip" else body) == text
                assert len(body) < 500 or accepted == "identity"
                async with session.get("/", headers={**headers, "If-None-Match": tag}) as answer:
                    assert (answer.status, answer.headers["ETag"], await answer.read()) == (304, tag, b"")
                tags.add(tag)
            assert len(tags) == 2
    finally:
        await rendered.close()
        await listener.close()
        connection.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_request_at_the_very_end_of_a_rendering() -> None:
    """Who asks between the end of a rendering and what follows from it gets the next page, and blocks nobody."""
    numbers, late = [0], list[asyncio.Task[web.Response]]()

    async def make() -> bytes:
        numbers[0] += 1  # an event that the page under way does not show
        if not late:  # runs in the loop's next turn, before the callbacks of the task that ends here
            late.append(asyncio.create_task(rendered.answer(make_mocked_request("GET", "/"))))
        return b"page %d" % numbers[0]

    def ended(*_: object) -> None:
        raise AssertionError("the loop never came back")

    rendered = Rendered(make, lambda: min(numbers[0], 1), {}, every=0.01)
    previous = signal.signal(signal.SIGALRM, ended)  # a loop without an end keeps every timer of asyncio from coming
    signal.setitimer(signal.ITIMER_REAL, 10)
    try:
        first = await rendered.answer(make_mocked_request("GET", "/"))
        second = await late[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert (first.body, second.body) == (b"page 1", b"page 2")
    await rendered.close()


async def test_what_lasts_is_made_anew_after_an_event_alone() -> None:
    """It is kept while nothing happens, and made anew for who asks after an event."""
    edition, made = [0], list[int]()

    async def make() -> int:
        made.append(edition[0])
        return edition[0]

    paced = Paced(make, lambda: edition[0], every=0.0, lasts=3600.0)
    assert [await paced.current() for _ in range(3)] == [0, 0, 0]
    edition[0] = 1
    assert [await paced.current() for _ in range(3)] == [1, 1, 1]
    assert made == [0, 1]


async def test_what_nobody_asks_for_takes_no_memory() -> None:
    """What was made is let go when its time is over, without a further request."""
    gone = asyncio.Event()

    async def make() -> Counter[str]:
        made = Counter[str]()
        weakref.finalize(made, gone.set)
        return made

    paced = Paced(make, lambda: 0, every=0.01)
    await paced.current()
    async with asyncio.timeout(10):
        await gone.wait()


async def test_copies_are_few_and_made_once() -> None:
    """Who asks at the same time shares a body; of many the last ones are kept."""
    made = list[str]()

    def body(key: str) -> Body:
        made.append(key)
        return Body(key.encode())

    copies = Copies[str](2)
    first = await asyncio.gather(*(copies.get("a", lambda: body("a")) for _ in range(5)))
    assert len({*map(id, first)}) == 1
    for key in "bcba":
        await copies.get(key, lambda key=key: body(key))  # type: ignore[misc]  # bound at once
    assert made == ["a", "b", "c", "a"]


async def test_a_copy_that_failed_is_made_again() -> None:
    """Without memory for a moment, a page fails once: the next reader gets it."""
    copies, whole = Copies[str](), Body(b"whole")
    failing = [MemoryError()]

    def make() -> Body:
        if failing:
            raise failing.pop()
        return whole

    with pytest.raises(MemoryError):
        await copies.get("a", make)
    assert await copies.get("a", make) is whole


def test_a_certificate_that_is_not_in_use() -> None:
    """Page and document say why changed files of `settings.tls` are not in use; the page escapes it."""
    shown = Shown()
    status = replace(shown.status(), certificate_error="/a&b.pem cannot be read")
    assert "the one before stays in use: /a&amp;b.pem cannot be read" in overview(status, shown.rows)
    assert json.loads(document(status, shown.lines))["certificate_error"] == "/a&b.pem cannot be read"
    assert "certificate" not in overview(shown.status(), shown.rows)


@pytest.mark.parametrize(
    ("language", "fine", "differs", "count"),
    [
        ("en", "All 50 mirrors are healthy", "1 of 50 mirrors differs from what was mirrored", "2 items differ"),
        ("zh", "全部 50 个同步任务均正常", "50 个同步任务中有 1 个与已同步的内容不一致", "2 个条目不一致"),
    ],
)
def test_drift_is_said_at_a_glance(language: str, fine: str, differs: str, count: str) -> None:
    """The page does not call all mirrors healthy while a verification found drift, and its row says where."""
    shown = Shown()
    assert f"<title>{fine}" in overview(shown.status(), language=language)
    found = TargetVerification("a", T0, Level.NAMES, checked=3, drift=2)
    shown.board.learn([replace(one, verified=replace(found, target=one.target)) for one in standing("m7")])
    text = overview(shown.status(1), language=language)
    assert (fine in text, f"<title>{differs}" in text, text.count(count)) == (False, True, 1)
    shown.board.learn(standing("m7", Result.FAILED))
    assert differs not in overview(shown.status(2), language=language)
