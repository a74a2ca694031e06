"""`mirrord token`: made and revoked beside a daemon or without one, and what skopeo and podman do with a token."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mirrord.errors import UnreachableError
from mirrord.testing import Registry, build_image, push, require
from mirrord.testing.running import run
from tests.support.commands import Desk
from tests.support.imagetools import podman

GUARDED = """\
settings: {{listen: "127.0.0.1:0", url: "https://mirror.example"}}
mirrors: [{{name: app, kind: image, from: {{repository: {source}/a, tags: [v1]}}, to: local}}]
front: {{image: {{upstreams: [{{docker.io: {{credentials: true}}}}], allow: [docker.io/team/app]}}}}
"""
BELOW = """\
hosts: {{"{host}": {{auth: {{username: any, password: {{env: TOKEN}}}}}}}}
mirrors: [{{name: app, kind: image, from: {{repository: {host}/app, tags: [v1]}}, to: local}}]
"""


async def test_tokens_without_a_daemon(desk: Desk) -> None:
    """A token is printed once, listed by name, and revoked; mistakes are named, and leave nothing behind."""
    assert (await desk.run("token", "list")).out == "no tokens in state\n"
    assert not (desk.folder / "state").exists()
    needless = await desk.run("token", "add", "one")
    assert (needless.status, needless.err) == (64, "mirrord: say what the token is for: --read, --ask, or both\n")
    added = await desk.run("token", "add", "one", "--read")
    assert (added.status, added.err) == (0, "only its hash is kept: this is shown once\n")
    token = added.out.strip()
    assert token.startswith("mirrord_")
    written = await desk.run("token", "add", "two", "--read", "--json")
    assert written.document["token"].startswith("mirrord_")
    assert (await desk.run("token", "add", "one", "--read")).status == 64
    listed = await desk.run("token", "list")
    assert [line.split()[0] for line in listed.out.splitlines()] == ["NAME", "one", "two"]
    assert [one["name"] for one in (await desk.run("token", "list", "--json")).document["tokens"]] == ["one", "two"]
    assert token not in listed.out + (desk.folder / "state" / "tokens.json").read_text()
    assert (await desk.run("token", "revoke", "one")).status == 0
    assert (await desk.run("token", "revoke", "one")).status == 64
    assert [one["name"] for one in (await desk.run("token", "list", "--json")).document["tokens"]] == ["two"]


async def test_a_token_that_is_missing(desk: Desk) -> None:
    """Where a token is needed and there is none, `check`, the log of a start, and `reload` with its log say so."""
    lacking = "all of /v2/ needs a token, and there is none in state; make one: mirrord token add NAME --read"
    desk.configure("settings: {listen: '127.0.0.1:0'}\nmirrors: []\n")
    assert "token" not in (await desk.run("check")).err
    async with desk.serving() as daemon:
        desk.configure(GUARDED.format(source="localhost:1"))
        assert f"notice: {lacking}\n" in (await desk.run("check")).err
        assert lacking in (await desk.run("check", "--json")).document["notices"]
        assert lacking in (await desk.run("reload")).out.splitlines()
        assert [one["message"] for one in daemon.lines if one["event"] == "daemon.notice"].count(lacking) == 1
        guarded = await desk.run("front", "docker.io/team/app:v1")
        assert guarded.out.splitlines()[1] == "  allowed      yes, with a token"
        assert (await desk.run("front", "--json", "docker.io/team/app:v1")).document["needs_token"] is True
    async with desk.serving() as daemon:
        assert lacking in [one.get("message") for one in daemon.lines]
        assert (await desk.run("token", "add", "one", "--read")).status == 0
        assert lacking not in (await desk.run("check")).err
        assert lacking not in (await desk.run("reload")).out
        assert (await desk.run("token", "revoke", "one")).status == 0
        assert lacking in (await desk.run("reload")).out


async def test_mirrord_reads_mirrord(desk: Desk, tmp_path: Path) -> None:
    """Another mirrord reads with a token in `hosts:`, and reports that a wrong one is refused."""
    require("docker-registry")
    (tmp_path / "other").mkdir()
    image, other = build_image(["linux/amd64"]), Desk(tmp_path / "other")
    async with Registry() as source:
        await push(image, source, "a", ["v1"])
        desk.configure(GUARDED.format(source=source.host))
        async with desk.serving() as daemon:
            assert (await desk.run("sync")).status == 0
            token = (await desk.run("token", "add", "below", "--read")).out.strip()
            other.configure(BELOW.format(host=daemon.address))
            wrong = await other.run("sync", TOKEN="mirrord_wrong")
            assert wrong.status != 0
            assert "needs a token" in wrong.out + wrong.err
            right = await other.run("sync", TOKEN=token)
            assert (right.status, right.err) == (0, ""), right.out
            assert token not in right.out + right.err


async def test_clients_log_in(desk: Desk) -> None:
    """Where our credentials read an upstream, skopeo and podman need a token, log in with it, and lose it again."""
    require("skopeo", "podman")
    image, auth = build_image(["linux/amd64"]), desk.folder / "auth.json"
    async with Registry() as source:
        await push(image, source, "a", ["v1"])
        desk.configure(GUARDED.format(source=source.host))
        async with desk.serving() as daemon:
            assert (await desk.run("sync")).status == 0
            name, plain = f"docker://{daemon.address}/app:v1", ("--tls-verify=false", "--authfile", auth)
            auth.write_text("{}")
            closed = await run("skopeo", "inspect", "--raw", *plain, name)
            assert closed.status != 0
            assert "needs a token" in closed.output or "unauthorized" in closed.output
            token = (await desk.run("token", "add", "cluster-1", "--read")).out.strip()
            for tool in ("skopeo", "podman"):
                auth.write_text("{}")
                wrong = await run(tool, "login", *plain, "-u", "any", "-p", "mirrord_wrong", daemon.address)
                assert wrong.status != 0
                login = await run(tool, "login", *plain, "-u", "any", "-p", token, daemon.address)
                assert login.status == 0, login.output
                assert daemon.address in json.loads(auth.read_text())["auths"]
            raw = await run("skopeo", "inspect", "--raw", *plain, name)
            assert raw.output.encode() == image.body
            auth.write_text("{}")
            bearer = await run("skopeo", "inspect", "--raw", *plain, "--registry-token", token, name)
            assert bearer.output.encode() == image.body
            wrong = await run("skopeo", "inspect", "--raw", *plain, "--registry-token", "mirrord_wrong", name)
            assert wrong.status != 0
            assert "log in with it as the password" in wrong.output
            login = await run("skopeo", "login", *plain, "-u", "any", "-p", token, daemon.address)
            assert login.status == 0, login.output
            try:
                async with podman() as call:
                    pulled = await call("pull", "--tls-verify=false", "--authfile", str(auth), name)
                    assert pulled.status == 0, pulled.output
            except UnreachableError as error:
                pytest.skip(str(error))
            assert (await desk.run("token", "revoke", "cluster-1")).status == 0
            asked = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{daemon.address}/v2/")
            for _ in range(300):
                if (await run(*asked, "-u", f"any:{token}")).output == "401":
                    break
                await asyncio.sleep(0.2)
            else:
                pytest.fail("a revoked token is still valid")
            assert (await run(*asked)).output == "401"
            open_pages = await run("curl", "-sf", f"http://{daemon.address}/status")
            assert open_pages.status == 0
            log = json.dumps(daemon.lines)
            assert token not in log
