"""A canary in each secret of the front: what reads its upstream, what its clients send, and the key of its TLS."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path

import aiohttp

from mirrord.testing import Registry, build_image, push
from tests.support.auth import Auth
from tests.support.canary import Canary
from tests.support.commands import Desk
from tests.support.frontdesk import ALIAS, configuration
from tests.support.tls import Authority

PAGES = ("/", "/status", "/metrics", "/readyz?verbose", "/api/v1/catalog.json")
COMMANDS = (("status", "--json"), ("token", "list"))


def inside(key: Path) -> str:
    """Return what is secret in a PEM file."""
    return "".join(line for line in key.read_text().splitlines() if "-----" not in line)


def basic(canary: Canary) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{canary.user}:{canary.text}'.encode()).decode()}"}


def guarded(host: str, certificate: Path, key: Path, user: str) -> str:
    """Return a configuration of TLS and of a front that reads one repository of a host with credentials."""
    tls = {"certificate": str(certificate), "key": str(key)}
    settings = {"listen": "127.0.0.1:0", "url": "https://m.example", "log": {"level": "debug"}, "tls": tls}
    front = configuration(host, "mirrors: []\n", upstreams=[{host: {"credentials": True}}])
    front = front.replace('settings: {"listen": "127.0.0.1:0"}', f"settings: {json.dumps(settings)}")
    login = f"{{username: {user}, password: {{env: UPSTREAM}}}}"
    return f"{front.replace(f'{host}/**', f'{host}/team/app')}hosts: {{'{host}': {{auth: {login}}}}}\n"


async def test_front(desk: Desk) -> None:
    """Nothing of them is in a log, a page, an answer, the state or what commands print; nothing of a client goes on."""
    upstream_login, stranger, broken = Canary.make("robot"), Canary.make("stranger"), Canary.make("broken")
    authority = Authority(desk.folder)
    certificate, key = authority.pair("127.0.0.1")
    served_key = Canary("key", inside(key))
    auth = Auth(bearer=(upstream_login.user, upstream_login.text))
    heard: list[str | bytes] = []
    async with Registry(auth=auth) as upstream:
        await push(build_image(["linux/amd64"]), upstream, "team/app", ["v1"])
        desk.configure(guarded(upstream.host, certificate, key, upstream_login.user))
        made = await desk.run("token", "add", "cluster", "--read")
        token = Canary("token", made.out.strip())
        async with (
            desk.serving(UPSTREAM=upstream_login.text) as daemon,
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=authority.ca))
            ) as session,
        ):
            base = f"https://{daemon.address}"

            async def ask(path: str, status: int, **headers: str) -> None:
                async with session.get(f"{base}{path}", headers=headers) as answer:
                    heard.extend((str(answer.headers), body := await answer.read()))
                    assert answer.status == status, (path, body)

            manifest = f"/v2/{ALIAS}/team/app/manifests/"
            await ask(f"{manifest}v1", 200, **basic(token))
            await ask(f"{manifest}v1", 200, Authorization=f"Bearer {token.text}")
            await ask(f"{manifest}v1", 401, **basic(stranger))
            await ask("/v2/_token", 401, **basic(stranger))
            await ask(f"/v2/{ALIAS}/team/other/manifests/v1", 403, **basic(token))
            echo = json.dumps({"errors": [{"code": "DENIED", "message": f"sent {upstream_login.text}"}]}).encode()
            for tag, status, shown in (("v2", 403, 403), ("v3", 500, 502)):
                fault = upstream.faults.on("*", f"/manifests/{tag}", times=None)
                fault.status(status, echo, {"Retry-After": "0", "X-Sent": upstream_login.text[:32]})
                await ask(f"{manifest}{tag}", shown, **basic(token))
            key.write_text(f"-----BEGIN PRIVATE KEY-----\n{broken.text}\n-----END PRIVATE KEY-----\n")
            assert str(key) in (await daemon.logged("daemon.notice"))["message"]
            for path in PAGES:
                await ask(path, 200)
            for words in (*COMMANDS, ("front", "--json", f"{upstream.host}/team/app:v1")):
                said = await desk.run(*words, UPSTREAM=upstream_login.text)
                heard += [said.out, said.err]
            daemon.process.terminate()
            await asyncio.wait_for(daemon.process.wait(), 60)
            await daemon.logged("daemon.stopped")
            events = {line["event"] for line in daemon.lines}
            assert {"front.answered", "front.refused", "front.failed", "http.request"} <= events
            heard += [json.dumps(line, ensure_ascii=False) for line in daemon.lines]
        assert auth.issued
        sent = "\n".join(str(exchange.headers) + exchange.path for exchange in upstream.log)
    for canary in (upstream_login, stranger, broken, token, served_key):
        assert [canary.heard(text) for text in heard if canary.heard(text)] == [], canary.user
        assert canary.heard_below(desk.folder / "state") == [], canary.user
    assert [canary.user for canary in (stranger, token, served_key) if canary.heard(sent)] == []
    assert upstream_login.heard(sent)  # where it must be, it is heard
