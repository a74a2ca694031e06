"""Docker's own configuration: precedence, spellings of Docker Hub, helpers that misbehave."""

import asyncio
import base64
import json
import os
import stat
from typing import Any

import pytest

from mirrord.errors import ConfigError
from mirrord.wire.dockerconfig import HUB_KEYS, LARGEST, DockerKeyring


def basic(text: Any) -> Any:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def keyring(tmp_path: Any) -> Any:
    """Make a keyring over a configuration and helpers, given as shell scripts."""

    def make(config: Any = None, inline: Any = None, **helpers: Any) -> Any:
        environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin", "CANARY": str(tmp_path / "ran")}
        if config is not None:
            text = config if isinstance(config, bytes) else json.dumps(config).encode()
            (tmp_path / "config.json").write_bytes(text)
        if inline is not None:
            environ["DOCKER_AUTH_CONFIG"] = inline if isinstance(inline, str) else json.dumps(inline)
        for name, script in helpers.items():
            path = tmp_path / f"docker-credential-{name}"
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(stat.S_IRWXU)
        return DockerKeyring(environ, seconds=5.0)

    return make


def found(keyring: Any, host: str) -> Any:
    credential = asyncio.run(keyring.find(host))
    return credential and (credential.username, credential.password.reveal())


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": basic("u:p:with:colons")}, ("u", "p:with:colons")),
        ({"auth": basic("u:p\0\0")}, ("u", "p")),
        ({"username": "u", "password": "p"}, ("u", "p")),
        ({"auth": basic("u:p"), "identitytoken": "i"}, ("<token>", "i")),
        ({"auth": ""}, None), ({}, None), (None, None), ("x", None), ({"username": "u"}, None),
        ({"auth": basic("u")}, None),
    ],
)  # fmt: skip
def test_entries_of_auths(keyring: Any, entry: Any, expected: Any) -> None:
    """`auth`, `username` and `password`, `identitytoken`; half an entry is none."""
    assert found(keyring({"auths": {"reg.example:5000": entry}}), "reg.example:5000") == expected


@pytest.mark.parametrize("key", HUB_KEYS)
def test_docker_hub_has_many_names(keyring: Any, key: Any) -> None:
    """Whatever `docker login` and others wrote."""
    assert found(keyring({"auths": {key: {"auth": basic("u:p")}}}), "docker.io") == ("u", "p")


@pytest.mark.parametrize(
    "key", ["reg.example.evil.test", "xreg.example", "reg.example:443", "https://reg.example.evil.test"]
)
def test_10_hosts_are_matched_exactly(keyring: Any, key: Any) -> None:
    """No prefix, no suffix (bad input 10)."""
    assert found(keyring({"auths": {key: {"auth": basic("u:p")}}}), "reg.example") is None


def test_the_environment_comes_first(keyring: Any) -> None:
    """`DOCKER_AUTH_CONFIG` before the file; what it does not know is looked up in the file."""
    ring = keyring(
        {"auths": {"a": {"auth": basic("file:p")}, "b": {"auth": basic("file:p")}}},
        inline={"auths": {"a": {"auth": basic("env:p")}}},
    )
    assert found(ring, "a") == ("env", "p")
    assert found(ring, "b") == ("file", "p")


SAYS = 'read host; echo "{\\"ServerURL\\":\\"$host\\",\\"Username\\":\\"%s\\",\\"Secret\\":\\"$host\\"}"'


def test_helpers_come_before_entries(keyring: Any) -> None:
    """`credHelpers`, then `credsStore`, then `auths`; the host arrives on standard input."""
    config = {
        "credHelpers": {"a": "one"},
        "credsStore": "two",
        "auths": {"a": {"auth": basic("file:p")}, "b": {"auth": basic("file:p")}},
    }
    ring = keyring(config, one=SAYS % "helper", two=SAYS % "store")
    assert found(ring, "a") == ("helper", "a")
    assert found(ring, "b") == ("store", "b")
    assert found(ring, "docker.io") == ("store", "https://index.docker.io/v1/")


def test_the_host_is_never_an_argument(keyring: Any, tmp_path: Any) -> None:
    """Only `get` stands in the argv that everybody can read."""
    ring = keyring({"credsStore": "spy"}, spy='echo "$@" > "$CANARY"; echo "{}"')
    assert found(ring, "reg.example") is None
    assert (tmp_path / "ran").read_text() == "get\n"


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "echo nonsense",
        "echo '[]'",
        'echo \'{"Username":1,"Secret":2}\'',
        'echo \'{"Username":"u"}\'',
        "sleep 60",
    ],
    ids=["fails", "no-json", "no-object", "no-text", "no-secret", "hangs"],
)
def test_a_broken_helper_is_no_answer(keyring: Any, script: Any) -> None:
    """The entry in the file still counts."""
    ring = keyring({"credsStore": "broken", "auths": {"a": {"auth": basic("file:p")}}}, broken=f"exec {script}")
    ring = DockerKeyring(ring.environ, seconds=0.5 if "sleep" in script else 5.0)
    assert found(ring, "a") == ("file", "p")


@pytest.mark.parametrize("name", ["missing", "../evil", "a/b", "a b", "", 7, "-x"])
def test_a_missing_or_odd_helper_is_no_answer(keyring: Any, name: Any) -> None:
    """A helper that is not installed is not fatal, and a path is no helper's name."""
    ring = keyring({"credHelpers": {"a": name}, "auths": {"a": {"auth": basic("file:p")}}})
    assert found(ring, "a") == ("file", "p")


@pytest.mark.parametrize("host", ["a\nhost=evil", "a\r", "a b", "a\0"])
def test_13_no_second_question_in_a_host(keyring: Any, tmp_path: Any, host: str) -> None:
    """Control characters never reach a helper (CVE-2020-5260, bad input 13)."""
    ring = keyring({"credsStore": "spy"}, spy='touch "$CANARY"; echo "{}"')
    assert found(ring, host) is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "config",
    [b"{", b"[]", b"\xff", b"[" * 100_000, json.dumps({"auths": {"a": {"auth": "%%%"}}}).encode(),
     json.dumps({"auths": {"a": {"auth": "c4nary\u00fc"}}}).encode(),
     json.dumps({"auths": {"a": {"username": "u", "password": "c4nary\ud800"}}}).encode(),
     json.dumps({"auths": {"a": {"username": "c4nary\ud800", "password": "p"}}}).encode(),
     json.dumps({"auths": {"a": {"auth": basic("u:c4nary\np")}}}).encode(),
     json.dumps({"auths": {"a": {"username": "u:c4nary", "password": "c4nary"}}}).encode()],
    ids=["json", "list", "bytes", "deep", "base64", "no-ascii", "surrogate", "surrogate-name", "newline", "colon"],
)  # fmt: skip
def test_broken_files_are_named_not_quoted(keyring: Any, config: Any, tmp_path: Any) -> None:
    """The message says which file, and repeats nothing of it (bad inputs 13 and 14)."""
    with pytest.raises(ConfigError) as caught:
        asyncio.run(keyring(config).find("a"))
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "c4nary" not in str(caught.value)


def test_a_pipe_is_not_waited_for(keyring: Any, tmp_path: Any) -> None:
    """What is no regular file is named, not read."""
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ConfigError, match=r"cannot be read \(is a pipe"):
        asyncio.run(keyring().find("a"))


def test_a_huge_file_is_refused(keyring: Any) -> None:
    """4 MiB are enough for any docker configuration."""
    with pytest.raises(ConfigError, match="larger than"):
        asyncio.run(keyring(b" " * (LARGEST + 1)).find("a"))


def test_no_configuration_at_all(tmp_path: Any) -> None:
    """Nothing set, nothing there: nobody's credential."""
    assert asyncio.run(DockerKeyring({}).find("a")) is None
    assert asyncio.run(DockerKeyring({"HOME": str(tmp_path)}).find("a")) is None
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {"a": {"auth": basic("u:p")}}}))
    assert found(DockerKeyring({"HOME": str(tmp_path)}), "a") == ("u", "p")


def test_printing_a_keyring_shows_no_environment() -> None:
    """`DOCKER_AUTH_CONFIG` is a secret in itself."""
    assert "c4nary" not in repr(DockerKeyring({"DOCKER_AUTH_CONFIG": "c4nary"}))


def test_an_environment_that_is_not_utf_8() -> None:
    """What the system hands over as lone surrogates is named like any other broken configuration."""
    with pytest.raises(ConfigError, match="DOCKER_AUTH_CONFIG: not a JSON object"):
        asyncio.run(DockerKeyring({"DOCKER_AUTH_CONFIG": '{"\udcff": 1}'}).find("a"))
