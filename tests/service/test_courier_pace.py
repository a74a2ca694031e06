"""The pace of messages, by service, on a loop whose clock jumps: no address gets more than its service takes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count

import pytest

from mirrord.daemon.courier import Courier
from mirrord.events import Event, Events, Notified
from mirrord.model.notice import Occasion
from mirrord.model.run import Result
from mirrord.report.status import ErrorStatus, MirrorStatus
from mirrord.syncer.values import Facts
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import WireRequest
from mirrord.wire.notify.known import SERVICES
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.secret import Secret
from tests.support.jumping import JumpingLoop
from tests.support.played import Played, Said

AT = datetime(2026, 11, 27, tzinfo=UTC)
MINUTES = 10
A_MINUTE = {"webhook": 60, "feishu": 60, "dingtalk": 20, "wecom": 20, "slack": 60, "telegram": 20}
"""Messages that an address gets: what the documents of its service allow, and never more than one a second."""
ACCEPTED = {
    "feishu": b'{"code":0,"msg":"success"}',
    "dingtalk": b'{"errcode":0,"errmsg":"ok"}',
    "wecom": b'{"errcode":0,"errmsg":"ok"}',
    "slack": b"ok",
    "telegram": b'{"ok":true,"result":{}}',
}


class Around:
    """What a courier sees, in memory; a mirror that fails in another way at each look."""

    def __init__(self, kind: str) -> None:
        self.times = defaultdict[str, list[float]](list)  # by path, when requests came
        self.body = ACCEPTED.get(kind, b"")
        self.http = Http(HostBook(), connect=lambda route, limits: Played(self.answer))
        self.events, self.url = Events(), ""
        self.facts: Facts = self
        self.paces: dict[Secret, float] = {}
        self.results: list[str] = []
        self.codes = count()
        self.events.listen(self.hear)

    def answer(self, request: WireRequest) -> Said:
        self.times[request.url.partition("?")[0]].append(asyncio.get_running_loop().time())
        return Said(200, {}, self.body)

    def hear(self, event: Event) -> None:
        assert isinstance(event, Notified)
        self.results.append(event.result)

    async def mirrors(self) -> Sequence[MirrorStatus]:
        error = ErrorStatus(f"code{next(self.codes)}", "why", permanent=False)
        return [MirrorStatus("app", Result.FAILED, last_attempt=AT, last_error=error)]

    def exhausted(self) -> Sequence[str]:
        return ()

    async def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        return {}

    async def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        pass


@pytest.fixture
def loop() -> Iterator[JumpingLoop]:
    loop = JumpingLoop()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def receiver(kind: str, name: str, address: str) -> Receiver:
    on = frozenset({Occasion.FAILURE})
    return Receiver(name, kind, Secret(f"https://127.0.0.1/{address}"), on=on, every=0.0, chat="-1001")


async def minutes(around: Around, *receivers: Receiver) -> None:
    """Let the receivers be served for some minutes."""
    tasks = [asyncio.create_task(Courier(one, around).work()) for one in receivers]
    await asyncio.sleep(60 * MINUTES - 0.5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await around.http.aclose()


@pytest.mark.parametrize("kind", SERVICES)
def test_an_address_gets_no_more_than_its_service_takes(loop: JumpingLoop, kind: str) -> None:
    """However much there is to report, by one receiver or by two of one address; other addresses have their own."""
    around = Around(kind)
    both = receiver(kind, "one", "shared"), receiver(kind, "two", "shared")
    loop.run_until_complete(minutes(around, *both, receiver(kind, "three", "own")))
    assert {url: len(times) for url, times in around.times.items()} == {
        f"https://127.0.0.1/{address}": A_MINUTE[kind] * MINUTES for address in ("shared", "own")
    }
    for times in around.times.values():
        busiest = max(sum(start <= time < start + 60 for time in times) for start in times)
        assert busiest == A_MINUTE[kind]
    assert set(around.results) == {"sent"}
