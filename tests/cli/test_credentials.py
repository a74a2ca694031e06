"""`mirrord copy` takes docker's own credentials, from wherever docker keeps them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from mirrord.testing.running import run
from tests.support.auth import Auth
from tests.support.commands import Desk

USER, PASSWORD = "robot$team", 'p:ä/s s"%2F\\'  # whatever a password may hold


def config(host: str, user: str = USER, password: str = PASSWORD) -> str:
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": secret}}})


def written(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(text)
    return folder


async def test_basic_at_a_real_registry(desk: Desk) -> None:
    """Files in docker's and podman's spellings open a docker-registry with htpasswd; a failure says what was used."""
    require("docker-registry", "htpasswd")
    image = build_image(layer_size=50_000)
    async with Registry() as source, DockerRegistry(user=(USER, PASSWORD)) as target:
        await push(image, source, "a", ["v1"])
        words = ("copy", f"{source.host}/a:v1", f"{target.host}/a")
        denied = await desk.run(*words)
        assert denied.status == 1
        assert (
            f"(no credentials for {target.host} were found; run `docker login {target.host}`)"
            in denied.out + denied.err
        )
        missing = await desk.run(*words, REGISTRY_AUTH_FILE="/none")
        assert "were found; /none, which REGISTRY_AUTH_FILE names, does not exist" in missing.out + missing.err
        wrong = written(desk.folder / "wrong", config(target.host, password="c4nary-wrong"))
        denied = await desk.run(*words, DOCKER_CONFIG=str(wrong))
        assert denied.status == 1
        assert f"(used the credentials of {wrong}/config.json, key {target.host})" in denied.out + denied.err
        assert "c4nary" not in denied.err + denied.out
        for number, key in enumerate(("{}", "https://{}/v2/", "http://{}", "{}/", "{}/team", "{}/team/app")):
            folder = written(desk.folder / f"docker{number}", config(key.format(target.host)))
            said = await desk.run(*words[:2], f"{target.host}/team/app:{number}", DOCKER_CONFIG=str(folder))
            assert said.status == 0, (key, said.err)
        other = await desk.run(*words, DOCKER_CONFIG=str(folder))
        assert f"(no credentials for {target.host} were found" in other.out + other.err


async def test_podman_s_file(desk: Desk) -> None:
    """What `podman login` wrote for a part of a registry opens that part, and no other."""
    require("docker-registry", "htpasswd", "podman")
    image = build_image(layer_size=50_000)
    async with Registry() as source, DockerRegistry(user=(USER, PASSWORD)) as target:
        await push(image, source, "a", ["v1"])
        file = desk.folder / "auth.json"
        place = f"{target.host}/team"
        login = ("podman", "login", "--tls-verify=false", "--authfile", file, "-u", USER, "-p", PASSWORD, place)
        logged = await run(*login, env=desk.environ)
        assert logged.status == 0, logged.output
        assert list(json.loads(file.read_text())["auths"]) == [place]
        for name, status in (("team/app", 0), ("other", 1)):
            said = await desk.run("copy", f"{source.host}/a:v1", f"{target.host}/{name}", REGISTRY_AUTH_FILE=str(file))
            assert said.status == status, said.err


async def test_a_helper_that_fails(desk: Desk) -> None:
    """Its own words are in the error, beside the fact that there were no credentials."""
    written(desk.folder / "home" / ".docker", '{"credsStore": "test"}')
    program = helper(desk.folder) / "docker-credential-test"
    program.write_text("#!/bin/sh\necho 'session ended, run: corp login' >&2\nexit 1\n")
    async with Registry(auth=Auth(basic=(USER, PASSWORD))) as source:
        said = await desk.run("copy", f"{source.host}/a:v1", "oci:out", PATH=f"{program.parent}:{desk.environ['PATH']}")
    assert said.status == 1
    failure = "docker-credential-test failed: session ended, run: corp login"
    assert f"no credentials for {source.host} were found; {failure}; run" in said.err


@pytest.mark.parametrize("way", ["DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", "home", "helper"])
async def test_bearer(desk: Desk, way: str) -> None:
    """A registry with tokens is opened by each of docker's ways, at the source and at the target."""
    image = build_image(layer_size=50_000)
    doors = Auth(bearer=(USER, PASSWORD)), Auth(bearer=(USER, PASSWORD))
    async with Registry(auth=doors[0]) as source, Registry(auth=doors[1]) as target:
        await push(image, source, "a", ["v1"])
        both = json.loads(config(source.host))
        both["auths"] |= json.loads(config(target.host))["auths"]
        environ: dict[str, str] = {}
        if way == "DOCKER_CONFIG":
            environ[way] = str(written(desk.folder / "docker", json.dumps(both)))
        elif way == "DOCKER_AUTH_CONFIG":
            environ[way] = json.dumps(both)
        elif way == "home":
            written(desk.folder / "home" / ".docker", json.dumps(both))
        else:
            written(desk.folder / "home" / ".docker", '{"credsStore": "test"}')
            environ["PATH"] = f"{helper(desk.folder)}:{desk.environ['PATH']}"
        said = await desk.run("copy", f"{source.host}/a:v1", f"{target.host}/x/a", **environ)
        assert said.status == 0, said
        assert target.tags["x/a"] == {"v1": image.digest}


def helper(folder: Path) -> Path:
    """Write a credential helper as docker starts it: the host on standard input, the answer as JSON."""
    program = folder / "bin" / "docker-credential-test"
    program.parent.mkdir()
    answer = json.dumps({"Username": USER, "Secret": PASSWORD})
    (folder / "answer.json").write_text(answer)
    program.write_text(
        f"#!/bin/sh\nread host\ncase $host in 127.0.0.1:*) cat '{folder}/answer.json';; *) exit 1;; esac\n"
    )
    program.chmod(0o755)
    return program.parent


async def test_damaged_docker_configuration(desk: Desk) -> None:
    """A `config.json` that is none ends the copy with a line that names it, never its content."""
    folder = written(desk.folder / "docker", '{"auths": {"h": {"auth": "canary-1234"')
    async with Registry(auth=Auth(bearer=(USER, PASSWORD))) as source:
        said = await desk.run("copy", f"{source.host}/a:v1", "oci:out", DOCKER_CONFIG=str(folder))
    assert said.status == 78
    assert str(folder / "config.json") in said.err
    assert "canary-1234" not in said.err
