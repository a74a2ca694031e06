"""Notifications of a real daemon: each thing once, whatever happens to the daemon and to the receiver."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from mirrord.commands import Sync
from mirrord.serve.remote import ControlClient

KEY = "the-key-of-the-hook"


class Hook:
    """A server that takes messages, or answers as it is told."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.path = "/hook/0123456789abcdef0123456789abcdef"
        self.status = 204
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
        if self.status < 300:
            self.got.append(document)
        else:
            self.refused += 1
        return Response(status=self.status)

    def told(self) -> list[tuple[str, str, str]]:
        """Return occasion, subject and code of each notice that was taken, in order."""
        return [(one["occasion"], one["subject"], one["code"]) for got in self.got for one in got["notices"]]


@pytest.fixture
def hook(httpserver: HTTPServer) -> Iterator[Hook]:
    yield Hook(httpserver)
    httpserver.check_assertions()


def configure(place: Any, *names: str, keys: str = "", extra: str = "") -> None:
    """Let these mirrors be, and tell the hook of them at once."""
    place.configure(*names, extra=extra)
    receiver = f"{{kind: webhook, url: {{env: HOOK_URL}}, secret: {{env: HOOK_KEY}}, every: 0s{keys}}}"
    (place.conf / "notify.yaml").write_text(f"notify:\n  ops: {receiver}\n")


def environ(hook: Hook) -> dict[str, str]:
    return {"HOOK_URL": hook.url, "HOOK_KEY": KEY}


async def sync(place: Any, name: str) -> str:
    (run,) = await ControlClient(place.state).carry_out(Sync((name,)))
    return str(run.result)


def broken(folder: Path) -> Path:
    """Take the source of a mirror away."""
    return folder.rename(folder.with_name(f"{folder.name}-away"))


async def test_a_failure_and_its_end_are_told_once(place: Any, hook: Hook) -> None:
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
    assert [occasion for occasion, _, _ in hook.told()] == ["failure", "recovery", "failure"]
    failure, recovery, again = (got["notices"][0] for got in hook.got)
    assert recovery["since"] == failure["since"] == failure["at"]
    assert again["since"] >= recovery["at"]
    assert len({got["id"] for got in hook.got}) == 3
    assert b'mirrord_notifications_total{receiver="ops",result="sent"} 3.0' in metrics
    (receiver,) = status["notify"]
    assert (receiver["name"], receiver["waiting"], receiver["last_error"]) == ("ops", 0, "")
    assert receiver["last_sent"] == hook.got[-1]["sent"]
    assert receiver["host"] == hook.url.split("/")[2]


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
    assert [occasion for occasion, _, _ in hook.told()] == ["failure", "recovery"]
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
    assert [occasion for occasion, _, _ in hook.told()] == ["failure"]
