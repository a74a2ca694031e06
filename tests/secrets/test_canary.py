"""A canary in every place where a secret may stand, and every way to fail: it is never seen (bad input 14)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import pytest

from mirrord.testing import Registry, build_image, push
from mirrord.testing.ports import free_port
from tests.support.auth import Auth
from tests.support.canary import Canary
from tests.support.commands import Desk
from tests.support.tls import Authority


class World:
    """One source and a target for each way to fail; each with a credential of its own, each kept another way."""

    def __init__(self, desk: Desk, registries: Mapping[str, Registry], canaries: Mapping[str, Canary]) -> None:
        self.desk, self.registries, self.canaries = desk, registries, canaries
        self.environ: dict[str, str] = {}
        self.said: list[str | bytes] = []

    def configure(self, dead: str) -> None:
        lines = ["settings: {listen: '127.0.0.1:0'}", "hosts:"]
        login = f"{{username: {self.canaries['proxy'].user}, password: {{env: PROXY_PASSWORD}}}}"
        self.environ["PROXY_PASSWORD"] = self.canaries["proxy"].text
        keys = {"tls": "insecure: false", "proxy": f"proxy: 'http://{dead}', proxy_auth: {login}"}
        for number, (name, registry) in enumerate(self.registries.items()):
            auth = self._auth(number, name)
            more = ", ".join(filter(None, (auth, keys.get(name))))
            lines.append(f"  '{registry.host}': {{{more}}}")
        targets = [name for name in self.registries if name != "source"]
        lines += ["targets:"]
        lines += [f"  {name}: {{kind: image, to: {self.registries[name].host}/m}}" for name in targets]
        source = self.registries["source"].host
        lines += ["mirrors:", f"  - {{name: app, kind: image, from: {{repository: {source}/a, tags: ['*']}},"]
        lines += [f"     to: [{', '.join(targets)}, local]}}"]
        self.desk.configure("\n".join(lines))

    def _auth(self, number: int, name: str) -> str:
        """Keep the credential of a host in one of the four places; return what `hosts:` says about it."""
        canary, folder = self.canaries[name], self.desk.folder / "secrets"
        folder.mkdir(exist_ok=True)
        way = ("env", "file", "credential", "docker")[number % 4]
        if way == "env":
            self.environ[f"SECRET_{number}"] = canary.text
            where = f"{{env: SECRET_{number}}}"
        elif way == "docker":
            self.docker(name)
            return ""
        else:
            file = folder / name
            file.write_text(f"{canary.text}\n")
            file.chmod(0o400)
            self.environ["CREDENTIALS_DIRECTORY"] = str(folder)
            where = f"{{file: {file}}}" if way == "file" else f"{{credential: {name}}}"
        return f"auth: {{username: {canary.user}, password: {where}}}"

    def docker(self, *names: str) -> None:
        """Write docker's own configuration for these hosts, too."""
        file = self.desk.folder / "home" / ".docker" / "config.json"
        file.parent.mkdir(exist_ok=True)
        auths = json.loads(file.read_text())["auths"] if file.exists() else {}
        for name in names:
            pair = f"{self.canaries[name].user}:{self.canaries[name].text}"
            auths[self.registries[name].host] = {"auth": base64.b64encode(pair.encode()).decode()}
        file.write_text(json.dumps({"auths": auths}))

    async def run(self, *arguments: str, status: int) -> str:
        said = await self.desk.run(*arguments, **self.environ)
        self.said += [said.out, said.err]
        assert said.status == status, said
        return said.out + said.err

    def silent(self) -> None:
        """Fail when any canary was heard in what was said, in the state, or in what is left of temporary files."""
        for name, canary in self.canaries.items():
            assert [canary.heard(text) for text in self.said if canary.heard(text)] == [], name
            for folder in (self.desk.folder / "state", self.desk.temporary, self.desk.folder / "conf.d"):
                assert canary.heard_below(folder) == [], name
        kept = [name for name, canary in self.canaries.items() if canary.heard_below(self.desk.folder / "secrets")]
        assert kept == ["ok", "realm", "e403", "e500"]  # where it must be, it is heard


def command_lines() -> bytes:
    """Return the command line of every process of this machine, as anybody may read it."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_bytes())
    return b"\n".join(found)


@pytest.fixture
async def world(desk: Desk) -> AsyncIterator[World]:
    names = ("source", "ok", "realm", "redirect", "wrong", "e403", "e500", "tls", "proxy")
    canaries = {name: Canary.make(f"user-{name}", 8000 if number % 2 else 40) for number, name in enumerate(names)}
    auths = {name: Auth(bearer=(canary.user, canary.text)) for name, canary in canaries.items()}
    auths["wrong"] = Auth(bearer=("user-wrong", "another"))
    auths["ok"] = Auth(basic=(canaries["ok"].user, canaries["ok"].text))
    async with contextlib.AsyncExitStack() as stack:
        thief = await stack.enter_async_context(Registry())
        auths["realm"].realm = f"{thief.url}/token"
        registries = {}
        for name in names:
            tls = Authority(desk.folder).server() if name == "tls" else None
            registries[name] = await stack.enter_async_context(Registry(auth=auths[name], tls=tls))
        for name, code, pattern in (("e403", 403, "^/v2/."), ("e500", 500, "^/v2/."), ("wrong", 401, "^/token")):
            raw, *_, encoded, basic, _ = canaries[name].forms()  # a registry that tells everybody what it was told
            for method, echo in (("GET", raw), ("POST", encoded), ("PUT|PATCH", basic)):
                told = [{"code": "DENIED", "message": f"told {echo}"}]
                headers = {"Retry-After": "0", "WWW-Authenticate": f'Basic realm="{raw[:32]}"'}
                fault = registries[name].faults.on(method, pattern, times=None)
                fault.status(code, json.dumps({"errors": told}).encode(), headers if code != 403 else {})
        registries["redirect"].faults.on("POST", "/blobs/uploads/", times=None).redirect(
            f"{thief.url}/v2/x/blobs/uploads/"
        )
        await push(build_image(layer_size=50_000), registries["source"], "a", ["v1"])
        made = World(desk, registries, canaries)
        made.configure(f"127.0.0.1:{free_port()}")
        yield made
        stolen = [exchange for exchange in thief.log if "authorization" in exchange.headers]
        assert stolen == []
        assert thief.count("*", "/token") == 0
        assert auths["source"].issued
        assert registries["ok"].tags == {"m/app": {"v1": registries["source"].tags["a"]["v1"]}}


async def test_commands(world: World) -> None:
    """`check`, `sync`, `plan` and `status`, over success and every failure; watched in `/proc` while they run."""
    gate = world.registries["source"].faults.on("GET", "/blobs/", times=None).hold()
    async with world.desk.started("sync", **world.environ) as process:
        await gate.reached.wait()
        listed = command_lines()
        assert b"mirrord\0sync" in listed
        world.said.append(listed)
        world.registries["source"].faults.clear()
        out, err = await process.communicate()
        world.said += [out, err]
        assert process.returncode == 2, err
    text = out.decode()
    for name, words in {
        "realm": "names the token realm",
        "wrong": "used the credentials of `auth:` in conf.d/a.yaml:7, env SECRET_4",
        "e403": "told ***",
        "e500": "told ***",
        "tls": "TLS",
        "proxy": "the proxy",
    }.items():
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert words in line, line
    await world.run("check", "--json", status=0)
    await world.run("plan", "--json", status=0)
    await world.run("status", "--json", status=1)
    world.silent()


async def test_daemon(world: World) -> None:
    """The log, `/status`, `/metrics`, the page, the state directory and the control socket of a daemon."""
    async with world.desk.serving(**world.environ) as daemon:
        synced = await world.run("sync", status=2)
        assert "told ***" in synced
        world.said.append(command_lines())
        async with aiohttp.ClientSession() as session:
            for path in ("/", "/status", "/metrics", "/livez?verbose", "/v2/app/tags/list"):
                async with session.get(f"http://{daemon.address}{path}") as answer:
                    assert answer.status == 200
                    world.said += [await answer.read(), str(answer.headers)]
        daemon.process.terminate()
        await asyncio.wait_for(daemon.process.wait(), 60)
        await daemon.logged("daemon.stopped")
        world.said += [json.dumps(line, ensure_ascii=False) for line in daemon.lines]
    world.silent()


async def test_copy(world: World) -> None:
    """`copy` with docker's configuration alone, to a target that takes it and to each that does not."""
    world.docker(*world.registries)
    hosts = {name: registry.host for name, registry in world.registries.items()}
    source = f"{hosts['source']}/a:v1"
    failing = [f"{hosts[name]}/m/app" for name in ("realm", "redirect", "wrong", "e403", "e500")]
    await world.run("copy", source, f"{hosts['ok']}/m/app", *failing, status=2)
    await world.run("copy", "--json", source, *failing, status=1)
    for name in ("wrong", "e403", "realm"):
        await world.run("copy", f"{hosts[name]}/a:v1", "oci:out", status=1)
    world.silent()
