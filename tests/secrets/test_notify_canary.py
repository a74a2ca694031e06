"""A canary in each secret of each receiver, with services that fail in every way: it is never seen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from pathlib import Path

import aiohttp
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.support.canary import Canary
from tests.support.commands import Desk

PAGES = ("/", "/status", "/metrics", "/readyz?verbose", "/api/v1/catalog.json")
FAILING = {
    "refuses": (403, {}),
    "breaks": (500, {}),
    "waits": (429, {"Retry-After": "1000"}),
    "redirects": (302, {"Location": "/elsewhere"}),
    "accepts": (200, {}),
}
KINDS = ("webhook", "feishu", "dingtalk", "wecom", "slack")


def path_of(kind: str, secret: str) -> str:
    """Return where the secret of a hook stands in its address."""
    return {
        "dingtalk": f"/robot/send?access_token={secret}",
        "wecom": f"/cgi-bin/webhook/send?key={secret}",
    }.get(kind, f"/hooks/{secret}")


@pytest.mark.parametrize("way", FAILING)
async def test_receivers(desk: Desk, httpserver: HTTPServer, way: str) -> None:
    """Not in a log, a page, a command line, the state, or what commands print, however the services answer."""
    status, headers = FAILING[way]

    def echo(request: Request) -> Response:
        """Answer with all that came, as the error of each service."""
        text = f"{request.url} {request.get_data(as_text=True)} {dict(request.headers)}"
        return Response(json.dumps({"msg": text, "errmsg": text, "description": text}), status, headers)

    canaries = {kind: Canary(kind, Canary.make(kind).text[:32]) for kind in (*KINDS, "telegram")}
    keys = {kind: Canary.make(f"{kind}-key") for kind in ("webhook", "feishu", "dingtalk")}
    environ, lines = {"API": httpserver.url_for("/api")}, ["notify:"]
    for kind in KINDS:
        file = desk.folder / "home" / kind
        file.write_text(httpserver.url_for("").rstrip("/") + path_of(kind, canaries[kind].text))
        file.chmod(0o400)
        secret = f", secret: {{env: KEY_{kind.upper()}}}" if kind in keys else ""
        lines.append(f"  {kind}: {{kind: {kind}, url: {{file: {file}}}, every: 0s{secret}}}")
    environ |= {f"KEY_{kind.upper()}": key.text for kind, key in keys.items()}
    environ["TOKEN"] = f"1:{canaries['telegram'].text}"
    lines.append("  telegram: {kind: telegram, token: {env: TOKEN}, url: {env: API}, chat: '-1', every: 0s}")
    httpserver.expect_request(re.compile("/.*")).respond_with_handler(echo)
    dead = "{repository: '127.0.0.1:1/a', tags: [v1]}"
    desk.configure(
        "settings: {listen: '127.0.0.1:0', log: {level: debug}}\n"
        f"mirrors: [{{name: app, kind: image, from: {dead}, to: local}}]\n" + "\n".join(lines)
    )
    said: list[str | bytes] = []
    async with desk.serving(**environ) as daemon, aiohttp.ClientSession() as session:
        ran = await desk.run("sync", "app")
        assert ran.status == 69
        await daemon.logged("notify.failed", len(canaries) - (way == "accepts"))  # only a webhook takes any 200
        for words in (("notify", "list"), ("notify", "list", "--json"), *(("notify", "test", one) for one in canaries)):
            tried = await desk.run(*words, **environ)
            said += [tried.out, tried.err]
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                said.append(file.read_bytes())
        for page in PAGES:
            async with session.get(f"http://{daemon.address}{page}") as answer:
                said += [await answer.read(), str(answer.headers)]
        assert [entry["host"] for entry in (await desk.run("status", "--json")).document["notify"]]
        daemon.process.terminate()
        await asyncio.wait_for(daemon.process.wait(), 60)
        said += [json.dumps(line, ensure_ascii=False) for line in daemon.lines]
    if way != "redirects":  # an error about a redirect quotes nothing
        assert any("***" in text for text in said if isinstance(text, str))
    assert len(httpserver.log) >= 2 * len(canaries)
    for name, canary in {**canaries, **{f"{kind} key": key for kind, key in keys.items()}}.items():
        assert [heard for text in said for heard in canary.heard(text)] == [], name
        for folder in ("state", "tmp", "conf.d"):
            assert canary.heard_below(desk.folder / folder) == [], name
    assert all(canaries[kind].heard_below(desk.folder / "home") for kind in KINDS)  # where it must be, it is heard
