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
        return DockerKeyring(environ, seconds=30.0)

    return make


def found(keyring: Any, host: str, repository: str = "") -> Any:
    login = asyncio.run(keyring.find(host)).of(repository)
    return login and (login.credential.username, login.credential.password.reveal())


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


SPELLINGS = ["{}", "{}/", "https://{}", "https://{}/", "http://{}", "http://{}/", "HTTPS://{}", "{}/v1", "{}/v2/",
             "https://{}/v1/", "https://{}/v2/", "https://{}/v2", "https://{}/some/path"]  # fmt: skip


@pytest.mark.parametrize("host", ["reg.example", "reg.example:5000", "127.0.0.1:5000", "[::1]:5000", "localhost:5000"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_host_has_many_spellings(keyring: Any, host: str, spelling: str) -> None:
    """A key of `auths` or `credHelpers` may be a URL of the registry, in any case (docker's ConvertToHostname)."""
    key = spelling.format(host)
    assert found(keyring({"auths": {key: {"auth": basic("u:p")}}}), host, "a/b") == ("u", "p")
    assert found(keyring({"credHelpers": {key: "one"}}, one=SAYS % "h"), host, "a/b") == ("h", host)


def test_the_usual_spelling_comes_first(keyring: Any) -> None:
    """Of several spellings of one host the plain one counts, else the first one of the file; empty ones do not."""
    auths = {"https://a": {"auth": basic("url:p")}, "a/": {"auth": basic("slash:p")}}
    assert found(keyring({"auths": auths}), "a") == ("url", "p")
    assert found(keyring({"auths": {**auths, "a": {"auth": basic("plain:p")}}}), "a") == ("plain", "p")
    assert found(keyring({"auths": {**auths, "a": {}}}), "a") == ("url", "p")


@pytest.mark.parametrize(
    ("repository", "user"),
    [("team/app", "app"), ("team/app/sub", "app"), ("team/apple", "team"), ("team", "team"), ("teams/x", "host"),
     ("other", "host"), ("v2/x", "host"), ("", "host")],
)  # fmt: skip
def test_namespaces(keyring: Any, repository: str, user: str) -> None:
    """Podman's keys for a part of a host: the longest one that covers the repository, segment by segment."""
    keys = ("a/team", "a", "a/team/app", "b/team", "a/other.evil", "xa/other")
    ring = keyring({"auths": {key: {"auth": basic(f"{key.rpartition('/')[2]}:p")} for key in keys}})
    assert found(ring, "a", repository) == ("a" if user == "host" else user, "p")


def test_a_namespace_alone(keyring: Any) -> None:
    """A credential for a part of a host is for nothing else there; at Docker Hub, too."""
    keys = ("a/team", "docker.io/team/", "index.docker.io/v1")
    ring = keyring({"auths": {key: {"auth": basic("u:p")} for key in keys}})
    assert (found(ring, "a", "team/x"), found(ring, "a", "x"), found(ring, "a")) == (("u", "p"), None, None)
    assert found(ring, "docker.io", "team/x") == found(ring, "docker.io", "library/x") == ("u", "p")


PLACES = ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME")


@pytest.mark.parametrize("count", range(1, len(PLACES) + 1))
def test_places_in_their_order(tmp_path: Any, count: int) -> None:
    """Docker's places and podman's: the first one that knows the host; a namespace in an earlier one counts before."""
    environ = {"HOME": str(tmp_path)}
    for place in PLACES[-count:]:
        text = json.dumps({"auths": {"a": {"auth": basic(f"{place}:p")}, f"a/{place.lower()}": {"auth": basic("n:p")}}})
        file = tmp_path / place / {"DOCKER_CONFIG": "config.json"}.get(place, "containers/auth.json")
        file.parent.mkdir(parents=True)
        file.write_text(text)
        environ[place] = {"DOCKER_AUTH_CONFIG": text, "REGISTRY_AUTH_FILE": str(file)}.get(place, str(tmp_path / place))
    ring, first = DockerKeyring(environ), PLACES[-count]
    assert found(ring, "a") == (first, "p")
    assert found(ring, "a", f"{first.lower()}/x") == ("n", "p")
    source = asyncio.run(ring.find("a")).found[-1].source
    assert source == f"{first if count == 5 else environ[first]}{SUFFIXES.get(first, '')}, key a"


SUFFIXES = {"DOCKER_CONFIG": "/config.json", "XDG_RUNTIME_DIR": "/containers/auth.json",
            "XDG_CONFIG_HOME": "/containers/auth.json"}  # fmt: skip


def test_homes_of_files(tmp_path: Any) -> None:
    """Without variables: `~/.docker/config.json`, then `~/.config/containers/auth.json`."""
    ring = DockerKeyring({"HOME": str(tmp_path)})
    for user, name in (("podman", ".config/containers/auth.json"), ("docker", ".docker/config.json")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(json.dumps({"auths": {"a": {"auth": basic(f"{user}:p")}}}))
        assert found(ring, "a") == (user, "p")


def test_a_missing_file_is_named_where_a_variable_names_it(tmp_path: Any) -> None:
    """`REGISTRY_AUTH_FILE` names one file; of docker's and podman's own files any may be missing."""
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"a": {"auth": basic("u:p")}}}))
    ring = DockerKeyring({"REGISTRY_AUTH_FILE": f"{tmp_path}/none", "DOCKER_CONFIG": str(tmp_path)})
    logins = asyncio.run(ring.find("a"))
    assert [login.credential.username for login in logins.found] == ["u"]
    assert logins.failures == (f"{tmp_path}/none, which REGISTRY_AUTH_FILE names, does not exist or is empty",)
    assert asyncio.run(DockerKeyring({"DOCKER_CONFIG": f"{tmp_path}/none"}).find("a")).failures == ()


def test_a_broken_place_behind_an_answer_is_not_looked_at(tmp_path: Any) -> None:
    """Whoever has a credential is not kept from it by a file that would be asked later."""
    (tmp_path / "auth.json").write_text("{")
    inline = json.dumps({"auths": {"a": {"auth": basic("u:p")}}})
    ring = DockerKeyring({"DOCKER_AUTH_CONFIG": inline, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")})
    assert found(ring, "a") == ("u", "p")
    with pytest.raises(ConfigError, match=r"auth\.json: not a JSON object"):
        found(ring, "b")


@pytest.mark.parametrize("key", [*HUB_KEYS, "registry.hub.docker.com"])
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
    ring = DockerKeyring(ring.environ, seconds=0.5 if "sleep" in script else 30.0)
    assert found(ring, "a") == ("file", "p")


FAILURES = [
    ("echo 'token expired, run foo login'; exit 1", "docker-credential-x failed: token expired, run foo login"),
    ("echo 'token expired,\n  run foo' >&2; exit 1", "docker-credential-x failed: token expired, run foo"),
    ("exit 3", "docker-credential-x failed: exit status 3"),
    ("echo nonsense", "docker-credential-x failed: its answer is not JSON"),
    ('echo \'{"Username":"u","Secret":"c4nary"}\'; exit 1', "docker-credential-x failed: exit status 1"),
    (
        "echo 'Authorization: Bearer c4nary0123456789abcdef'; exit 1",
        "docker-credential-x failed: Authorization: Bearer ***",
    ),
    ("sleep 60", "docker-credential-x failed: it exceeded its deadline"),
    ("yes c4nary >&2", "docker-credential-x failed: it exceeded its deadline"),
    ("printf 'x%.0s' $(seq 1000); exit 1", f"docker-credential-x failed: {'x' * 300}"),
    ("echo 'credentials not found in native keychain'; exit 1", None),
    ("echo '{}'", None),
]


@pytest.mark.parametrize(("script", "said"), FAILURES)
def test_why_a_helper_failed(keyring: Any, script: str, said: str | None) -> None:
    """Its own words are kept, in one short line and never with what an answer holds; knowing nothing is no failure."""
    ring = keyring({"credsStore": "x"}, x=script)
    ring = DockerKeyring(ring.environ, seconds=0.5 if "60" in script or "yes" in script else 30.0)
    logins = asyncio.run(ring.find("a"))
    assert (logins.found, logins.failures) == ((), (said,) if said else ())


@pytest.mark.parametrize(
    ("name", "said"),
    [("none", "docker-credential-none is not installed (not in PATH)"),
     ("../x", "'../x' cannot be the name of a credential helper")],
)  # fmt: skip
def test_a_helper_that_cannot_be_run(keyring: Any, name: str, said: str) -> None:
    """The failure says which helper is missing, or that it is none."""
    assert asyncio.run(keyring({"credHelpers": {"a": name}}).find("a")).failures == (said,)


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
    assert found(DockerKeyring({}), "a") is None
    assert found(DockerKeyring({"HOME": str(tmp_path)}), "a") is None
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
