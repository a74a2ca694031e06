"""A courier over a record in memory: what it keeps, when it gives up, and what it tells of hosts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from mirrord.daemon import courier as module
from mirrord.daemon.courier import Courier
from mirrord.errors import StorageError
from mirrord.events import Event, Events, Notified
from mirrord.model.notice import Occasion
from mirrord.model.run import Result
from mirrord.report.status import ErrorStatus, MirrorStatus
from mirrord.syncer.values import Facts
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.secret import Secret

AT = datetime(2026, 11, 27, tzinfo=UTC)
FINE = MirrorStatus("app", Result.NOOP, last_attempt=AT)


def failing(code: str) -> MirrorStatus:
    return MirrorStatus("app", Result.FAILED, last_attempt=AT, last_error=ErrorStatus(code, "why", permanent=False))


class Around:
    """What a courier sees; a port of the product, in memory."""

    def __init__(self, http: Http) -> None:
        self.http, self.events, self.url = http, Events(), ""
        self.facts: Facts = self
        self.paces: dict[Secret, float] = {}
        self.states: list[MirrorStatus] = []
        self.hosts: list[str] = []
        self.kept: dict[str, Mapping[str, str]] = {}
        self.full = False
        self.heard: list[Notified] = []
        self.news = asyncio.Event()
        self.events.listen(self._hear)

    def _hear(self, event: Event) -> None:
        assert isinstance(event, Notified)
        self.heard.append(event)
        self.news.set()

    async def mirrors(self) -> Sequence[MirrorStatus]:
        return self.states

    def exhausted(self) -> Sequence[str]:
        return self.hosts

    async def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        if self.full:
            raise StorageError("the disk is full")
        return self.kept.get(name, {})

    async def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        if self.full:
            raise StorageError("the disk is full")
        self.kept[name] = facts

    async def result(self) -> Notified:
        """Wait for the next attempt."""
        async with asyncio.timeout(30):
            await self.news.wait()
        self.news.clear()
        return self.heard[-1]


@pytest.fixture
async def around() -> AsyncIterator[Around]:
    async with Http(HostBook()) as http:
        yield Around(http)


def receiver(server: HTTPServer, **keys: Any) -> Receiver:
    on = frozenset({Occasion.FAILURE, Occasion.RECOVERY, Occasion.BUDGET})
    return Receiver("ops", "webhook", Secret(server.url_for("/hook/0123456789abcdef")), on=on, every=0.0, **keys)


@asynccontextmanager
async def working(to: Receiver, around: Around) -> AsyncIterator[Courier]:
    courier = Courier(to, around)
    task = asyncio.create_task(courier.work())
    try:
        yield courier
    finally:
        courier.close()
        await asyncio.wait_for(task, 30)


async def test_what_cannot_be_sent_for_a_day_is_dropped(
    around: Around, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a day of attempts a message is given up, and counted; what comes later is tried again."""
    httpserver.expect_request("/hook/0123456789abcdef").respond_with_data("", 503)
    around.states = [failing("denied")]
    async with working(receiver(httpserver), around) as courier:
        assert (await around.result()).result == "failed"
        assert (courier.status.waiting, courier.status.last_sent) == (1, None)
        monkeypatch.setattr(module, "GIVE_UP", 0.0)
        courier.wake()
        assert (await around.result()).result == "dropped"
        around.states = [failing("unreachable")]
        httpserver.clear()
        httpserver.expect_request("/hook/0123456789abcdef").respond_with_data("", 204)
        courier.wake()
        assert (await around.result()).result == "sent"
        assert courier.status.last_error == ""
    sent = [request.json["notices"][0]["code"] for request, answer in httpserver.log if answer.status_code == 204]
    assert sent == ["unreachable"]


async def test_an_error_is_logged_once(around: Around, httpserver: HTTPServer) -> None:
    """The same error again is marked as such; another one is not."""
    httpserver.expect_oneshot_request("/hook/0123456789abcdef").respond_with_data("", 403)
    httpserver.expect_oneshot_request("/hook/0123456789abcdef").respond_with_data("", 403)
    httpserver.expect_oneshot_request("/hook/0123456789abcdef").respond_with_data("gone", 410)
    around.states = [failing("denied")]
    async with working(receiver(httpserver), around) as courier:
        assert (await around.result()).again is False
        for again in (True, False):
            courier._attempts.following = 0.0  # an hour later
            courier.wake()
            event = await around.result()
            assert (event.result, event.again) == ("refused", again)


async def test_a_full_disk_repeats_nothing_while_it_runs(around: Around, httpserver: HTTPServer) -> None:
    """Where the record takes nothing the daemon still knows what it reported."""
    httpserver.expect_request("/hook/0123456789abcdef").respond_with_data("", 204)
    around.full, around.states = True, [failing("denied")]
    async with working(receiver(httpserver), around) as courier:
        assert (await around.result()).result == "sent"
        around.states = [FINE]
        courier.wake()
        assert (await around.result()).result == "sent"
    assert [request.json["notices"][0]["occasion"] for request, _ in httpserver.log] == ["failure", "recovery"]


async def test_a_host_without_requests(around: Around, httpserver: HTTPServer) -> None:
    """It is reported once; a receiver for some mirrors hears nothing of hosts."""
    httpserver.expect_request("/hook/0123456789abcdef").respond_with_data("", 204)
    around.hosts = ["docker.io"]
    async with working(receiver(httpserver, mirrors=("app",)), around):
        await asyncio.sleep(0)
    assert httpserver.log == []
    for _ in range(2):  # also after a restart
        async with working(receiver(httpserver), around):
            await asyncio.sleep(0)
    ((request, _),) = httpserver.log
    assert [(one["occasion"], one["subject"]) for one in request.json["notices"]] == [("budget", "docker.io")]


async def test_a_mirror_that_is_gone_is_forgotten(around: Around, httpserver: HTTPServer) -> None:
    """The record keeps nothing of mirrors that are no longer configured, nor of those that are well."""
    httpserver.expect_request("/hook/0123456789abcdef").respond_with_data("", 204)
    around.states = [failing("denied")]
    async with working(receiver(httpserver), around):
        await around.result()
    assert set(around.kept["notify.ops"]) == {"", "app"}
    around.states = []
    async with working(receiver(httpserver), around):
        await asyncio.sleep(0)
    assert set(around.kept["notify.ops"]) == {""}
    assert len(httpserver.log) == 1


async def test_a_bug_does_not_end_a_courier(
    around: Around, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in a look is counted, and the next one works."""
    httpserver.expect_request("/hook/0123456789abcdef").respond_with_data("", 204)
    around.states = [failing("denied")]
    with monkeypatch.context() as broken:
        broken.setattr(around, "mirrors", None)
        async with working(receiver(httpserver), around) as courier:
            assert (await around.result()).error.startswith("a bug: TypeError")
            broken.undo()
            courier.wake()
            assert (await around.result()).result == "sent"
