"""A mirror of images whose registry dies, and every chat service beside it: one message each, in its own form."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from mirrord.testing import build_image, push, require
from mirrord.testing.servers import DockerRegistry
from tests.support.commands import Desk

ANSWERS = {
    "feishu": '{"code":0,"msg":"success"}',
    "dingtalk": '{"errcode":0,"errmsg":"ok"}',
    "wecom": '{"errcode":0,"errmsg":"ok"}',
    "slack": "ok",
    "bot": '{"ok":true,"result":{}}',
}
TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"


def text_of(kind: str, document: Any) -> str:
    """Return the text of a message as its service shows it."""
    inside = {"feishu": ("content", "text"), "dingtalk": ("markdown", "text"), "wecom": ("markdown", "content")}
    for key in inside.get(kind, ("text",)):
        document = document[key]
    return str(document)


async def test_a_registry_dies_and_comes_back(desk: Desk, httpserver: HTTPServer) -> None:
    """Runs fail three times and work again: each service gets one failure and one recovery, and `/status` agrees."""
    require("docker-registry")
    got: dict[str, list[str]] = {kind: [] for kind in ANSWERS}

    def answer(request: Request) -> Response:
        kind = request.path.split("/")[1].removesuffix(TOKEN)
        got[kind].append(text_of(kind, json.loads(request.get_data())))
        return Response(ANSWERS[kind])

    environ = {"TOKEN": TOKEN, "API": httpserver.url_for("/")}
    for kind in ANSWERS:
        path = f"/bot{TOKEN}/sendMessage" if kind == "bot" else f"/{kind}/0123456789abcdef"
        httpserver.expect_request(path, method="POST").respond_with_handler(answer)
        environ[f"{kind.upper()}_URL"] = httpserver.url_for(path)
    lines = [f"  {kind}: {{kind: {kind}, url: {{env: {kind.upper()}_URL}}, every: 0s}}" for kind in ANSWERS]
    lines[-1] = "  bot: {kind: telegram, token: {env: TOKEN}, url: {env: API}, chat: '-1001', every: 0s}"
    async with DockerRegistry() as registry:
        await push(build_image(["linux/amd64"]), registry.url, "team/app", ["v1"])
        desk.configure(
            f"settings: {{listen: '127.0.0.1:0'}}\nmirrors:\n"
            f"  - {{name: app, kind: image, from: {{repository: {registry.host}/team/app, tags: [v1]}}, to: local}}\n"
            f"notify:\n" + "\n".join(lines)
        )
        async with desk.serving(**environ) as daemon:
            assert (await desk.run("sync", "app")).status == 0
            await registry.stop()
            assert [(await desk.run("sync", "app")).status for _ in range(3)] == [69] * 3
            await daemon.logged("notify.sent", len(ANSWERS))
            await registry.start()
            assert (await desk.run("sync", "app")).status == 0
            await daemon.logged("notify.sent", 2 * len(ANSWERS))
            (entry, *others) = (await desk.run("status", "--json")).document["notify"]
            assert len(others) == len(ANSWERS) - 1
            assert (entry["waiting"], entry["last_error"]) == (0, "")
            daemon.process.terminate()
            await asyncio.wait_for(daemon.process.wait(), 60)
    for kind, texts in got.items():
        failure, recovery = texts
        assert failure.startswith("mirrord: 1 mirror fails\n"), kind
        assert "app fails since 20" in failure, kind
        assert f"{registry.host}: no connection" in failure, kind
        assert recovery.startswith("mirrord: 1 mirror works again\n"), kind
        assert "app works again; it was broken for" in recovery, kind
