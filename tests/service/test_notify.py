"""Notifications of a real daemon: each thing once, whatever happens to the daemon and to the receiver."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from mirrord.commands import Reload, Sync, TryReceiver
from mirrord.errors import DeniedError, UsageError
from mirrord.serve.remote import ControlClient

KEY = "the-key-of-the-hook"


class Hook:
    """A server that takes messages, or answers as it is told."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.path = "/hook/0123456789abcdef0123456789abcdef"
        self.status, self.headers = 204, dict[str, str]()
        self.ids: list[str] = []
        self.got: list[dict[str, Any]] = []
        self.refused = 0
        server.expect_request(self.path, method="POST").respond_with_handler(self.answer)

    @property
    def url(self) -> str:
        return self.server.url_for(self.path)

    def answer(self, request: Request) -> Response:
        body = request.get_data()
        signed = hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
        assert request.headers["X-Mirrord-Signature"] == f"sha256={signed}"
        document = json.loads(body)
        assert request.headers["X-Mirrord-Delivery"] == document["id"]
        self.ids.append(document["id"])
        if self.status < 300:
            self.got.append(document)
        else:
            self.refused += 1
        return Response(status=self.status, headers=self.headers)

    def reported(self) -> list[tuple[str, str, str]]:
        """Return occasion, subject and code of each notice that was taken, in order."""
        return [(one["occasion"], one["subject"], one["code"]) for got in self.got for one in got["notices"]]


@pytest.fixture
def hook(httpserver: HTTPServer) -> Iterator[Hook]:
    yield Hook(httpserver)
    httpserver.check_assertions()


def configure(place: Any, *names: str, every: str = "0s", extra: str = "") -> None:
    """Let these mirrors be, and report to the hook what happens to them."""
    place.configure(*names, extra=extra)
    receiver = f"{{kind: webhook, url: {{env: HOOK_URL}}, secret: {{env: HOOK_KEY}}, every: {every}}}"
    (place.conf / "notify.yaml").write_text(f"notify:\n  ops: {receiver}\n")


def environ(hook: Hook) -> dict[str, str]:
    return {"HOOK_URL": hook.url, "HOOK_KEY": KEY}


async def sync(place: Any, name: str) -> str:
    (run,) = await ControlClient(place.state).carry_out(Sync((name,)))
    return str(run.result)


async def receiver(daemon: Any) -> dict[str, Any]:
    """Return what `/status` says of the only receiver."""
    (entry,) = json.loads((await daemon.get("/status"))[1])["notify"]
    return dict(entry)


def broken(folder: Path) -> Path:
    """Take the source of a mirror away."""
    return folder.rename(folder.with_name(f"{folder.name}-away"))


async def test_a_failure_and_its_end_are_reported_once(place: Any, hook: Hook) -> None:
    """A mirror that fails is reported once, however often; its recovery says since when; then it can fail again."""
    source = place.source("m", "one")
    configure(place, "m")
    async with place.daemon(**environ(hook)) as daemon:
        assert await sync(place, "m") == "success"
        away = broken(source)
        assert [await sync(place, "m") for _ in range(3)] == ["failed"] * 3
        await daemon.logged("notify.sent")
        away.rename(source)
        assert await sync(place, "m") == "noop"
        await daemon.logged("notify.sent", 2)
        broken(source)
        assert await sync(place, "m") == "failed"
        await daemon.logged("notify.sent", 3)
        metrics = (await daemon.get("/metrics"))[1]
        status = json.loads((await daemon.get("/status"))[1])
    assert [occasion for occasion, _, _ in hook.reported()] == ["failure", "recovery", "failure"]
    failure, recovery, again = (got["notices"][0] for got in hook.got)
    assert recovery["since"] == failure["since"] <= failure["at"]  # the time of the last run when it was sent
    assert again["since"] >= recovery["at"]
    assert len({got["id"] for got in hook.got}) == 3
    assert b'mirrord_notifications_total{receiver="ops",result="sent"} 3.0' in metrics
    (entry,) = status["notify"]
    assert (entry["name"], entry["waiting"], entry["last_error"]) == ("ops", 0, "")
    assert entry["last_sent"] >= hook.got[-1]["sent"]
    assert entry["host"] == hook.url.split("/")[2]


async def test_a_restart_is_no_new_failure(place: Any, hook: Hook) -> None:
    """What was reported is not reported again after a restart; the recovery is, and says since when."""
    source = place.source("m", "one")
    configure(place, "m")
    away = broken(source)
    async with place.daemon(**environ(hook)) as daemon:
        assert await sync(place, "m") == "failed"
        await daemon.logged("notify.sent")
        daemon.kill(signal.SIGKILL)
        await daemon.end()
    async with place.daemon(**environ(hook)) as daemon:
        assert await sync(place, "m") == "failed"
        away.rename(source)
        assert await sync(place, "m") == "success"
        await daemon.logged("notify.sent")
    assert [occasion for occasion, _, _ in hook.reported()] == ["failure", "recovery"]
    assert hook.got[1]["notices"][0]["since"] == hook.got[0]["notices"][0]["since"]


async def test_a_kill_before_the_message_loses_nothing(place: Any, hook: Hook) -> None:
    """A failure that was not yet delivered when the daemon was killed is delivered after the next start."""
    source = place.source("m", "one")
    configure(place, "m")
    broken(source)
    hook.status = 503
    async with place.daemon(**environ(hook)) as daemon:
        assert await sync(place, "m") == "failed"
        await daemon.logged("notify.failed")
        daemon.kill(signal.SIGKILL)
        await daemon.end()
    assert (hook.got, hook.refused) == ([], 1)
    hook.status = 204
    async with place.daemon(**environ(hook)) as daemon:
        await daemon.logged("notify.sent")
        assert daemon.named("run.finished") == []
    assert [occasion for occasion, _, _ in hook.reported()] == ["failure"]


async def test_since_when_it_fails_outlives_the_daemon(place: Any, hook: Hook) -> None:
    """A report says since when a mirror fails, also of one whose first failure an earlier daemon saw."""
    source = place.source("m", "one")
    configure(place, "m")
    broken(source)
    hook.status = 503
    async with place.daemon(**environ(hook)) as daemon:
        assert await sync(place, "m") == "failed"
        (first,) = json.loads((await daemon.get("/status"))[1])["mirrors"]
        await asyncio.sleep(1.1)  # times are written to the second
        assert await sync(place, "m") == "failed"
        daemon.kill(signal.SIGKILL)
        await daemon.end()
    hook.status = 204
    async with place.daemon(**environ(hook)) as daemon:
        await daemon.logged("notify.sent")
    (notice,) = hook.got[-1]["notices"]
    assert notice["since"] == first["failing_since"] < notice["at"]


async def test_what_is_over_by_then_is_left_out(place: Any, hook: Hook) -> None:
    """A failure that could not be delivered and is over before it could is not reported."""
    source = place.source("m", "one")
    configure(place, "m")
    away = broken(source)
    hook.status = 503
    async with place.daemon(**environ(hook)) as daemon:
        assert await sync(place, "m") == "failed"
        await daemon.logged("notify.failed")
        away.rename(source)
        assert await sync(place, "m") == "success"
        hook.status = 204
        async with asyncio.timeout(60):
            while (await receiver(daemon))["waiting"]:  # noqa: ASYNC110 - another process is looked at
                await asyncio.sleep(0.05)
    assert hook.reported() == []


async def test_two_hundred_failures_are_few_messages(place: Any, hook: Hook) -> None:
    """Mirrors that fail together come in one message, ordered, each once."""
    names = [f"m{number:03}" for number in range(200)]
    configure(place, *names, every="1h")  # gathers for ten seconds, and then only the end sends
    for name in names:
        broken(place.source(name))
    async with place.daemon(**environ(hook)) as daemon:
        runs = await ControlClient(place.state).carry_out(Sync())
        assert {str(run.result) for run in runs} == {"failed"}
        daemon.kill(signal.SIGTERM)  # what waits is sent at the end
        assert await daemon.end() == 0
    assert sorted(subject for _, subject, _ in hook.reported()) == names
    assert len(hook.got) <= 2
    assert sum(got["count"] for got in hook.got) == 200


async def test_a_hanging_service_delays_nothing(place: Any, hook: Hook) -> None:
    """While a service does not answer runs go on, other receivers get their messages, and the daemon ends in time."""
    source = place.source("m", "one")
    configure(place, "m")
    with (place.conf / "notify.yaml").open("a") as file:
        file.write("  other: {kind: webhook, url: {env: SLOW_URL}, every: 0s}\n")
    broken(source)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, and nobody reads
        slow = {"SLOW_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/"}
        async with place.daemon(**environ(hook), **slow) as daemon:
            assert [await sync(place, "m") for _ in range(3)] == ["failed"] * 3
            await daemon.logged("notify.sent")
            daemon.kill(signal.SIGTERM)
            assert await daemon.end() == 0
            assert daemon.lines[-1]["event"] == "daemon.stopped"
            assert [one["receiver"] for one in daemon.named("notify.sent")] == ["ops"]
            assert daemon.named("notify.failed") == []
    assert [occasion for occasion, _, _ in hook.reported()] == ["failure"]


async def test_a_refusal_is_logged_once_and_a_reload_mends_it(place: Any, hook: Hook) -> None:
    """A bad key is no loop: one request and one line; with another address the message arrives."""
    source = place.source("m", "one")
    configure(place, "m")
    broken(source)
    hook.status = 403
    async with place.daemon(**environ(hook), OTHER_URL=f"{hook.url}?again=1") as daemon:
        assert await sync(place, "m") == "failed"
        line = await daemon.logged("notify.failed")
        assert line["result"] == "refused"
        assert [await sync(place, "m") for _ in range(3)] == ["failed"] * 3
        entry = await receiver(daemon)
        assert (entry["waiting"], entry["last_sent"]) == (1, None)
        assert entry["last_error"] == line["error"] == f"{entry['host']}: answered 403"
        assert (hook.refused, len(daemon.named("notify.failed"))) == (1, 1)
        metrics = (await daemon.get("/metrics"))[1]
        assert b'notifications_total{receiver="ops",result="refused"} 1.0' in metrics
        assert b'notifications_failing{receiver="ops"} 1.0' in metrics
        hook.status = 204
        file = place.conf / "notify.yaml"
        file.write_text(file.read_text().replace("HOOK_URL", "OTHER_URL"))
        changes = await ControlClient(place.state).carry_out(Reload())
        assert changes.taken == ("notify",)
        await daemon.logged("notify.sent")
        file.unlink()
        await ControlClient(place.state).carry_out(Reload())
        assert json.loads((await daemon.get("/status"))[1])["notify"] == []
        assert b'receiver="ops"' not in (await daemon.get("/metrics"))[1]
    assert [occasion for occasion, _, _ in hook.reported()] == ["failure"]


async def test_a_test_message_wakes_what_waits(place: Any, hook: Hook) -> None:
    """`notify test` through the daemon prints the answer; what the service refused before is then sent again."""
    source = place.source("m", "one")
    configure(place, "m")
    broken(source)
    hook.status = 403
    async with place.daemon(**environ(hook)) as daemon:
        client = ControlClient(place.state)
        assert await sync(place, "m") == "failed"
        await daemon.logged("notify.failed")
        with pytest.raises(DeniedError, match="answered 403"):
            await client.carry_out(TryReceiver("ops"))
        with pytest.raises(UsageError, match="no receiver is called 'opps'; there are ops"):
            await client.carry_out(TryReceiver("opps"))
        hook.status = 204
        answer = await client.carry_out(TryReceiver("ops"))
        assert (answer.receiver, answer.kind, answer.answer) == ("ops", "webhook", "204")
        await daemon.logged("notify.sent")
    assert [occasion for occasion, _, _ in hook.reported()] == ["test", "failure"]


async def test_a_service_that_asks_for_a_pause_gets_it(place: Any, hook: Hook) -> None:
    """429 with `Retry-After` is kept to, and the message arrives then, under the same id."""
    source = place.source("m", "one")
    configure(place, "m")
    broken(source)
    hook.status, hook.headers = 429, {"Retry-After": "1"}
    async with place.daemon(**environ(hook)) as daemon:
        assert await sync(place, "m") == "failed"
        await daemon.logged("notify.failed")
        hook.status = 204
        await daemon.logged("notify.sent")
    assert hook.refused == 1
    assert len(set(hook.ids)) == 1


async def test_a_stale_mirror_is_reported(place: Any, hook: Hook) -> None:
    """A mirror whose last success is too long ago is reported once, without any run."""
    place.source("m", "one")
    configure(place, "m", extra=", stale: 1m")
    async with place.daemon(**environ(hook)) as daemon:
        assert await sync(place, "m") == "success"
        daemon.kill(signal.SIGTERM)
        await daemon.end()
    past = "update standing set last_success = last_success - 7200000000 where mirror = 'm'"
    with contextlib.closing(sqlite3.connect(place.state / "mirrord.db")) as record:
        record.execute(past)
        record.commit()
    for _ in range(2):
        async with place.daemon(**environ(hook)) as daemon:
            if not hook.got:
                await daemon.logged("notify.sent")
            daemon.kill(signal.SIGTERM)
            await daemon.end()
    assert hook.reported() == [("stale", "m", "")]
