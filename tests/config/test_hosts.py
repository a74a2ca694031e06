"""`hosts:` and the secrets that belong to them (bad inputs 10, 13, 15 and 70)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from mirrord.config.hosts import host_key
from mirrord.config.load import Configuration
from mirrord.wire.proxy import Proxy
from mirrord.wire.secret import Credential, Secret

Load = Callable[..., Configuration]
Refusal = Callable[..., tuple[str, ...]]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("docker.io", "docker.io"),
        ("REG.Example.com", "reg.example.com"),
        ("reg.example.com:443", "reg.example.com"),
        ("reg.example.com:5000", "reg.example.com:5000"),
        ("index.docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("registry.hub.docker.com", "docker.io"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("[::1]:5000", "[::1]:5000"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_host_keys(text: str, key: str) -> None:
    """A host has one spelling."""
    assert host_key(text) == key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("http://reg.example", "write reg.example and `insecure: true` below it", id="http"),
        pytest.param("https://reg.example/", "is a URL, not a host; write reg.example", id="https"),
        pytest.param("reg.example/team", "has a path; write only the host: reg.example", id="path"),
        pytest.param("*.example", "is not a host", id="wildcard"),
        pytest.param("", "is not a host", id="empty"),
        pytest.param("a b", "is not a host", id="space"),
        pytest.param("reg.example:x", "is not a host", id="port"),
        pytest.param("user:pw@reg.example", "is not a host", id="userinfo"),
        pytest.param("0x7f.1", "is not a host", id="18-hexadecimal"),
        pytest.param("2130706433", "is not a host", id="18-number"),
    ],
)
def test_bad_hosts(refusal: Refusal, text: str, said: str) -> None:
    """What is no host is refused with what to write."""
    (problem,) = refusal(f"hosts: {{'{text}': {{}}}}")
    assert said in problem
    assert "pw" not in problem


def test_everything_can_be_written(load: Load, tmp_path: Path) -> None:
    """Each key of a host arrives in its policy."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    leaf = authority.issue_cert("client.example")
    (tmp_path / "client.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    leaf.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    loaded = load(
        f"""hosts:
  Reg.example:
    auth: {{username: crane, password: {{env: TOKEN}}}}
    ca: {tmp_path}/ca.pem
    certificate: {tmp_path}/client.pem
    key: {tmp_path}/client.key
    proxy: http://proxy.example:3128
    proxy_auth: {{username: mirror, password: {{env: PROXY}}}}
    allow_private: true
    token_realms: [https://auth.example]
    requests: 3
    bandwidth: 40MiB/s
  127.0.0.1:5000: {{insecure: true}}
""",
        {"TOKEN": "p%ä\u2603", "PROXY": "p:@/"},
    )
    policy = loaded.book.policy("reg.example")
    assert policy.credential
    assert (policy.credential.username, policy.credential.password.reveal()) == ("crane", "p%ä\u2603")
    assert (policy.ca, policy.certificate, policy.key) == tuple(
        f"{tmp_path}/{name}" for name in ("ca.pem", "client.pem", "client.key")
    )
    assert (policy.proxy, policy.allow_private, policy.token_realms) == (
        Proxy("http://proxy.example:3128", Credential("mirror", Secret("p:@/"))),
        True,
        ("https://auth.example",),
    )
    assert policy.proxy
    assert policy.proxy.full() == "http://mirror:p%3A%40%2F@proxy.example:3128"
    assert (policy.requests, policy.bandwidth, policy.insecure) == (3, 40 * 2**20, None)
    assert loaded.book.policy("127.0.0.1:5000").insecure is True
    assert loaded.book.policy("other.example").credential is None


@pytest.mark.parametrize("place", ["env: TOKEN", "file: /TMP/token", "credential: token"])
def test_an_error_can_name_where_a_credential_is_written(load: Load, folder: Path, tmp_path: Path, place: str) -> None:
    """The clause for errors names the file, the line and the place of the secret, and never the secret."""
    (tmp_path / "token").write_text("canary")
    (tmp_path / "token").chmod(0o400)
    place = place.replace("/TMP", str(tmp_path))
    text = f"hosts:\n  reg.example:\n    requests: 3\n    auth: {{username: crane, password: {{{place}}}}}"
    book = load(text, {"TOKEN": "canary", "CREDENTIALS_DIRECTORY": str(tmp_path)}).book
    said = f"`auth:` in {folder}/main.yaml:4, {place.replace(':', '')}"
    assert book.explain("reg.example") == f"used the credentials of {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("reqests: 2", "reqests: unknown key; did you mean 'requests'?", id="67-typo"),
        pytest.param("insecure: maybe", "insecure: 'maybe' is not true or false; write true or false", id="67-flag"),
        pytest.param(
            "requests: 0", "requests: '0' is not allowed; write a value greater than or equal to 1", id="67-range"
        ),
        pytest.param("bandwidth: 40MiB", "bandwidth: '40MiB' is not a rate", id="rate"),
        pytest.param("proxy: proxy:3128", "proxy: is not a proxy", id="proxy"),
        pytest.param(
            "proxy: 'http://me:canary@proxy:3128'", "user name and password in `proxy_auth:`", id="proxy-with-password"
        ),
        pytest.param("proxy_auth: {username: u, password: {env: HOME}}", "proxy_auth: has no proxy", id="proxy-auth"),
        pytest.param(
            "token_realms: [https://a.example/token]", "write only scheme and host: https://a.example", id="realm-path"
        ),
        pytest.param("token_realms: [http://a.example]", "token_realms[0]: is not encrypted", id="realm-http"),
        pytest.param("ca: relative.pem", "ca: relative.pem is not absolute", id="ca-relative"),
        pytest.param("ca: /nowhere/ca.pem", "ca: /nowhere/ca.pem does not exist", id="ca-missing"),
        pytest.param("ca: /dev/zero", "ca: /dev/zero is a device", id="ca-device"),
        pytest.param("ca: EMPTY", "contains no PEM certificate", id="ca-empty"),
        pytest.param(
            "certificate: EMPTY", "do not contain a PEM certificate and its unencrypted key", id="certificate-empty"
        ),
        pytest.param("key: EMPTY", "key: has no certificate", id="key-alone"),
        pytest.param("{insecure: true, ca: EMPTY}", "has no effect with `insecure: true`", id="insecure-with-ca"),
        pytest.param(
            "auth: canary", "auth: this value is not a mapping; write a mapping, such as {username:", id="auth-text"
        ),
        pytest.param("auth: {username: '', password: {env: T}}", "auth.username: is empty", id="no-user"),
        pytest.param("auth: {username: 'a:b', password: {env: T}}", "auth.username: ", id="colon-in-user"),
        pytest.param(
            "auth: {password: {env: T}}", "auth.username: is missing; write username: robot", id="missing-user"
        ),
        pytest.param(
            "auth: {username: u}",
            "auth.password: is missing; write password: {env: REGISTRY_TOKEN}",
            id="missing-password",
        ),
    ],
)
def test_wrong_hosts(refusal: Refusal, tmp_path: Path, text: str, said: str) -> None:
    """Bad inputs 67 and 70: what is wrong with a host is told with its key, and never shows a secret."""
    (tmp_path / "empty.pem").touch()
    entry = (text if text.startswith("{") else f"{{{text}}}").replace("EMPTY", f"{tmp_path}/empty.pem")
    problems = refusal(f"hosts: {{reg.example: {entry}}}", {"T": "a-secret"})
    assert problems[0].startswith("main.yaml:1: hosts.reg.example.")
    assert said in "\n".join(problems)
    assert "canary" not in "\n".join(problems)


def test_an_encrypted_key_is_refused_without_asking_for_its_password(refusal: Refusal, tmp_path: Path) -> None:
    """Nobody is asked on the terminal."""
    leaf = trustme.CA().issue_cert("client.example")
    (tmp_path / "client.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    (tmp_path / "client.key").write_bytes(key.private_bytes(*pem))
    (problem,) = refusal(f"hosts: {{reg.example: {{certificate: {tmp_path}/client.pem, key: {tmp_path}/client.key}}}}")
    assert "unencrypted key" in problem


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io"])
def test_a_known_registry_is_of_no_other_kind(load: Load, refusal: Refusal, host: str) -> None:
    """Docker Hub's API would be asked as if it were another's; the kind that a host is known for may be written."""
    (problem,) = refusal(f"hosts: {{{host}: {{profile: harbor}}}}\n")
    assert problem == f"main.yaml:1: hosts.{host}.profile: docker.io is Docker Hub; leave `profile:` out"
    assert load("hosts: {quay.io: {profile: quay}}").book.policy("quay.io").profile == "quay"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("profile: artefactory", "'artefactory' is not a known kind of registry; did you mean 'artifactory'?"),
        ("profile: 3", "'3' is not a known kind of registry; use one of: acr, "),
        ("api: harbor", "api: unknown key; write profile: harbor"),
    ],
)
def test_a_kind_of_registry_that_is_none(refusal: Refusal, written: str, said: str) -> None:
    """A wrong kind is refused with the nearest one; the key has one name."""
    (problem,) = refusal(f"hosts: {{r.example: {{{written}}}}}\n")
    assert problem.startswith("main.yaml:1: hosts.r.example.")
    assert said in problem


def test_quirks_of_a_known_registry_may_be_left_out(load: Load) -> None:
    """`generic` is allowed everywhere."""
    assert load("hosts: {ghcr.io: {profile: generic}}").book.policy("ghcr.io").profile == "generic"


def test_one_host_under_two_names(refusal: Refusal) -> None:
    """Bad input 10: two spellings of one host would make one of them win in silence."""
    (problem,) = refusal("hosts:\n  docker.io: {}\n  Index.Docker.io: {}\n")
    assert (
        problem
        == "main.yaml:3: hosts.Index.Docker.io: is the same host as hosts.docker.io at main.yaml:2; keep one of them"
    )


def secret_of(load: Load, source: str, environ: dict[str, str]) -> str:
    loaded = load(f"hosts: {{reg.example: {{auth: {{username: u, password: {source}}}}}}}", environ)
    credential = loaded.book.policy("reg.example").credential
    assert credential
    return credential.password.reveal()


def refused_secret(refusal: Refusal, source: str, environ: dict[str, str]) -> str:
    (problem,) = refusal(f"hosts:\n  reg.example: {{auth: {{username: u, password: {source}}}}}", environ)
    assert problem.startswith("main.yaml:2: hosts.reg.example.auth.password")
    return problem.partition("password: ")[2]


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        pytest.param(b"tok%en\n", "tok%en", id="13-newline"),
        pytest.param(b"token\r\n", "token", id="13-windows"),
        pytest.param(b" to ken ", " to ken ", id="13-spaces"),
        pytest.param("tök\u2603en".encode(), "tök\u2603en", id="13-unicode"),
        pytest.param(b"x" * 8192, "x" * 8192, id="13-8kB"),
    ],
)
def test_secret_files(load: Load, tmp_path: Path, content: bytes, secret: str) -> None:
    """Bad input 13: one trailing newline is dropped, everything else is kept exactly."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(0o400)
    assert secret_of(load, f"{{file: {file}}}", {}) == secret


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_private_modes(load: Load, tmp_path: Path, mode: int) -> None:
    """Bad input 15: a file that only its owner can read is fine."""
    file = tmp_path / "secret"
    file.write_text("token")
    file.chmod(mode)
    assert secret_of(load, f"{{file: {file}}}", {}) == "token"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o440, 0o620, 0o666])
def test_open_modes(refusal: Refusal, tmp_path: Path, mode: int) -> None:
    """Bad input 15: a secret that others can read is refused with file and mode."""
    file = tmp_path / "secret"
    file.write_text("canary")
    file.chmod(mode)
    said = refused_secret(refusal, f"{{file: {file}}}", {})
    assert said == f"secret file {file} has mode {mode:04o}, others can use it; run chmod 0400 {file}"


def test_systemd_credentials(load: Load, refusal: Refusal, tmp_path: Path) -> None:
    """A credential of systemd may be 0440, and not more."""
    file = tmp_path / "ghcr-token"
    file.write_text("token\n")
    file.chmod(0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert secret_of(load, "{credential: ghcr-token}", environ) == "token"
    file.chmod(0o444)
    said = refused_secret(refusal, "{credential: ghcr-token}", environ)
    fix = "give it mode 0400 or 0440, in Kubernetes by `defaultMode: 0440`"
    assert said.endswith(f" has mode 0444, others can use it; {fix}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "is empty; put the secret in", id="empty"),
        pytest.param(b"\n", "is empty; put the secret in", id="only-a-newline"),
        pytest.param(b"canary\nX: y", "contains control characters", id="13-newline-inside"),
        pytest.param(b"canary\n\n", "contains control characters", id="13-two-newlines"),
        pytest.param(b"can\x00ary", "contains control characters", id="13-nul"),
        pytest.param("can\x85ary".encode(), "contains control characters", id="13-c1"),
        pytest.param(b"canary\xff", "is not UTF-8", id="13-bytes"),
        pytest.param(b"canary" * 20_000, "is longer than 65536 bytes", id="13-long"),
    ],
)
def test_bad_secrets(refusal: Refusal, tmp_path: Path, content: bytes, said: str) -> None:
    """Bad input 13: what no header can carry is refused, and never shown."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(0o400)
    problem = refused_secret(refusal, f"{{file: {file}}}", {})
    assert said in problem
    assert "canary" not in problem


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param(
            "canary",
            "a secret must not be written in the configuration; write {env: NAME}, {file: /path} or",
            id="plain",
        ),
        pytest.param("{env: A, file: /x}", "needs exactly one place", id="two"),
        pytest.param("{}", "needs exactly one place", id="none"),
        pytest.param("{evn: A}", "unknown key; did you mean 'env'?", id="67-typo"),
        pytest.param("{env: NOWHERE}", "environment variable NOWHERE is not set; set it", id="70-env"),
        pytest.param("{env: 'canary+/='}", "this is not the name of an environment variable", id="env-name"),
        pytest.param("{env: EMPTY}", "environment variable EMPTY is empty", id="70-env-empty"),
        pytest.param("{file: /nowhere/token}", "secret file /nowhere/token does not exist", id="70-file"),
        pytest.param("{file: token}", "not absolute", id="file-relative"),
        pytest.param("{file: /dev/zero}", "secret file /dev/zero is a device", id="70-device"),
        pytest.param("{credential: x}", "credential x: $CREDENTIALS_DIRECTORY is not set", id="70-credential"),
        pytest.param(
            "{credential: x}", "under systemd add LoadCredential=x:/path to the unit; elsewhere set", id="unit"
        ),
        pytest.param("{credential: ../x}", "this is not the name of a credential", id="credential-path"),
    ],
)
def test_wrong_places_of_secrets(refusal: Refusal, source: str, said: str) -> None:
    """Bad input 70: a secret that is not where it should be is named with the next step, and never shown."""
    problems = refusal(f"hosts: {{reg.example: {{auth: {{username: u, password: {source}}}}}}}", {"EMPTY": ""})
    assert said in problems[0]
    assert "canary" not in "".join(problems)


def test_a_pipe_as_secret_does_not_hang(refusal: Refusal, tmp_path: Path) -> None:
    """Nobody waits for somebody to write."""
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe" in refused_secret(refusal, f"{{file: {tmp_path}/pipe}}", {})


def test_a_loaded_configuration_does_not_show_secrets(load: Load) -> None:
    """Bad input 14: neither repr nor str of what was loaded holds the secret."""
    loaded = load("hosts: {reg.example: {auth: {username: u, password: {env: T}}}}", {"T": "canary-5f2a"})
    assert "canary-5f2a" not in f"{loaded!r}{loaded}"
