"""`hosts:`: how to talk to a host, wherever it appears, and the secrets that takes.

Names are compared by equality, so they are made canonical. Secrets stand somewhere else: in the environment, in a
private file, or where systemd put them: `{env: NAME}`, `{file: /path}` or `{credential: name}`. No error text ever
holds what was read.
"""

from __future__ import annotations

import os
import re
import ssl
import unicodedata
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from mirrord.config.check import Strict, check
from mirrord.config.files import AbsentError, read_file
from mirrord.config.lines import Problems, Trail, Value
from mirrord.config.units import Rate, between, parse_rate
from mirrord.errors import MirrordError, UntrustedError
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.origin import check_url
from mirrord.wire.proxy import Proxy
from mirrord.wire.secret import Credential, Secret

_HUB = {"index.docker.io": "docker.io", "registry-1.docker.io": "docker.io"}
_MAX_PEM = 4 * 2**20
_PROXY = "http://proxy.example.com:3128"
_SECTION: Trail = ("hosts",)


MAX_SECRET = 64 * 2**10
_WAYS = "write {env: NAME}, {file: /path} or {credential: name}"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]{0,127})\}")
_CREDENTIAL = re.compile(r"(?!\.)[A-Za-z0-9._@-]{1,255}")


class SecretSource(Strict):
    """Where a secret is; exactly one of the three.

    Attributes:
        env: name of an environment variable.
        file: absolute path of a file that only its owner can read.
        credential: name of a file in `$CREDENTIALS_DIRECTORY` (systemd `LoadCredential=`).
    """

    env: Annotated[str | None, Field(examples=["REGISTRY_TOKEN"])] = None
    file: Annotated[str | None, Field(examples=["/etc/mirrord/token"])] = None
    credential: Annotated[str | None, Field(examples=["registry-token"])] = None

    @model_validator(mode="before")
    @classmethod
    def _no_plain_text(cls, value: object) -> object:
        if isinstance(value, str) and (variable := _VARIABLE.fullmatch(value)):
            raise ValueError(f"variables are not replaced in the configuration; write {{env: {variable[1]}}}")
        if isinstance(value, str | int | float):
            raise ValueError(f"a secret may not stand in the configuration; {_WAYS}")  # noqa: TRY004 - pydantic's way to say no
        if isinstance(value, dict) and len(value) != 1:
            raise ValueError(f"wants exactly one place; {_WAYS}")
        return value


def read_secret(source: SecretSource, environ: Mapping[str, str]) -> Secret:
    """Fetch a secret. One trailing newline is dropped, everything else is kept exactly.

    Raises:
        AbsentError: it is not on this machine.
        ValueError: it is empty, too long, not UTF-8, holds control characters, or others can read its
            file; the text names variable or file and the next step, never the content.
    """
    if (name := source.env) is not None:
        if not _NAME.fullmatch(name):
            # Not named in the text: somebody may have written the secret itself here.
            raise ValueError("this is no name of an environment variable; write letters, digits and _ only")
        if name not in environ:
            raise AbsentError(f"environment variable {name} is not set; set it, or take the secret from somewhere else")
        return _checked(environ[name], f"environment variable {name}")
    if (name := source.credential) is not None:
        if not _CREDENTIAL.fullmatch(name):
            raise ValueError("this is no name of a credential; write letters, digits and . _ @ - only, without a path")
        directory = environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            hint = f"add LoadCredential={name}:/path to the unit"
            raise AbsentError(f"credential {name}: $CREDENTIALS_DIRECTORY is not set; {hint}")
        # systemd makes these 0400 or 0440, readable by the service's own group only.
        return _from_file(Path(directory) / name, 0o037)
    path = Path(source.file or "")
    if not path.is_absolute():
        raise ValueError("the path of a secret file is not absolute; write it from / on")
    # An identity others can read is no identity (bad input 15).
    return _from_file(path, 0o077)


def _from_file(path: Path, forbidden: int) -> Secret:
    try:
        data, mode = read_file(path, MAX_SECRET)
    except ValueError as error:
        raise type(error)(f"secret file {path} {error}") from error
    if mode & forbidden:
        raise ValueError(f"secret file {path} has mode {mode:04o}, others can use it; run chmod 0400 {path}")
    try:
        return _checked(data.decode(), f"secret file {path}")
    except UnicodeDecodeError:
        # `from None`: the error holds the bytes.
        raise ValueError(f"secret file {path} is not UTF-8; save it as UTF-8") from None


def _checked(text: str, where: str) -> Secret:
    secret = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not secret:
        raise ValueError(f"{where} is empty; put the secret in")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in secret):
        # One newline in a secret would let it write header lines (CVE-2020-5260, CVE-2024-52006 for git's helpers).
        raise ValueError(f"{where} holds control characters; keep the secret alone, on one line, in UTF-8")
    return Secret(secret)


def host_key(text: str) -> str:
    """Return the one spelling of a host: lower case, IDNA, default port dropped, Docker Hub's names as `docker.io`.

    Raises:
        ValueError: a URL, a path, a wildcard or no host at all; the text says what to write.
    """
    if "://" in text:
        rest = text.partition("://")[2].strip("/")
        hint = " and `insecure: true` below it" if text.lower().startswith("http:") else ""
        raise ValueError(f"is a URL, not a host; write {rest or 'the host alone'}{hint}")
    if "/" in text:
        raise ValueError(f"holds a path; write the host alone: {text.partition('/')[0]}")
    try:
        origin = check_url(f"https://{text}")
    except UntrustedError as error:
        raise ValueError(f"is no host ({error}); write host or host:port, such as registry.example.com:5000") from error
    return _HUB.get(origin.authority, origin.authority)


def _url(text: str, what: str, example: str) -> str:
    try:
        return str(check_url(text))
    except UntrustedError as error:
        hint = f"{example}, with user name and password in `proxy_auth:`" if error.reason == "userinfo" else example
        raise ValueError(f"is no {what} ({error}); write such as {hint}") from error


_proxy = partial(_url, what="proxy", example=_PROXY)


def _realm(text: str) -> str:
    origin = _url(text, "token realm", "https://auth.example.com")
    if urlsplit(text).path not in ("", "/"):
        raise ValueError(f"holds a path; write scheme and host alone: {origin}")
    return origin


class Auth(Strict):
    """`hosts.HOST.auth`; user name `<token>` says that the password is an identity token."""

    username: Annotated[str, Field(min_length=1, examples=["robot"])]
    password: Annotated[SecretSource, Field(examples=["{env: REGISTRY_TOKEN}"])]


class Host(Strict):
    """One entry of `hosts:`; see `HostPolicy` for what each key does."""

    auth: Annotated[Auth | None, Field(examples=["{username: robot, password: {env: REGISTRY_TOKEN}}"])] = None
    insecure: bool | None = None
    ca: Annotated[str | None, Field(examples=["/etc/ssl/private-ca.pem"])] = None
    certificate: Annotated[str | None, Field(examples=["/etc/mirrord/client.pem"])] = None
    key: Annotated[str | None, Field(examples=["/etc/mirrord/client.key"])] = None
    proxy: Annotated[str, AfterValidator(_proxy), Field(examples=[_PROXY])] | None = None
    proxy_auth: Annotated[Auth | None, Field(examples=["{username: mirror, password: {env: PROXY_PASSWORD}}"])] = None
    allow_private: bool = False
    token_realms: Annotated[
        tuple[Annotated[str, AfterValidator(_realm)], ...], Field(examples=["[https://auth.example.com]"])
    ] = ()
    ssh_key: Annotated[str | None, Field(examples=["/etc/mirrord/id_ed25519"])] = None
    known_hosts: Annotated[str | None, Field(examples=["/etc/mirrord/known_hosts"])] = None
    requests: Annotated[int, Field(ge=1, le=256)] = 8
    bandwidth: Annotated[Rate, AfterValidator(between("1KiB/s", "1TiB/s", parse_rate))] | None = None


def read_hosts(value: Value, problems: Problems, environ: Mapping[str, str]) -> HostBook:
    """Validate `hosts:` and fetch its secrets; whatever is wrong with a host is noted, and the host left out."""
    policies: dict[str, HostPolicy] = {}
    seen: dict[str, Trail] = {}
    for written, entry in (value if isinstance(value, dict) else {}).items():
        trail = (*_SECTION, written)
        try:
            name = host_key(written)
        except ValueError as error:
            problems.add(trail, str(error))
            continue
        if name in seen:
            there = f"{problems.spell(seen[name])} at {problems.origin(seen[name])}"
            problems.add(trail, f"is the same host as {there}; keep one of them")
        seen.setdefault(name, trail)
        host = check(Host, entry, trail, problems)
        if host is not None:
            policies[name] = _policy(name, host, trail, problems, environ)
    return HostBook(policies)


def _policy(name: str, host: Host, trail: Trail, problems: Problems, environ: Mapping[str, str]) -> HostPolicy:
    _check_tls(host, trail, problems)
    credential = _login(host.auth, (*trail, "auth"), problems, environ) if host.auth else None
    for number, realm in enumerate(host.token_realms):
        if realm.startswith("http://") and not host.insecure:
            what = "is not encrypted, and would carry the password; write https://, or `insecure: true` for the host"
            problems.add((*trail, "token_realms", number), what)
    _check_ssh(host, trail, problems)
    if host.proxy_auth and not host.proxy:
        problems.add((*trail, "proxy_auth"), "has no proxy; write `proxy:` beside it")
    proxied = _login(host.proxy_auth, (*trail, "proxy_auth"), problems, environ) if host.proxy_auth else None
    proxy = Proxy(host.proxy, proxied) if host.proxy else None
    return HostPolicy(name, credential, proxy=proxy, **host.model_dump(exclude={"auth", "proxy", "proxy_auth"}))


def _login(auth: Auth, trail: Trail, problems: Problems, environ: Mapping[str, str]) -> Credential | None:
    try:
        secret = read_secret(auth.password, environ)
    except AbsentError as error:
        problems.lack((*trail, "password"), str(error))
        return None
    except ValueError as error:
        problems.add((*trail, "password"), str(error))
        return None
    try:
        return Credential(auth.username, secret)
    except MirrordError as error:
        problems.add((*trail, "username"), f"{error}; write the name alone")
        return None


def _check_tls(host: Host, trail: Trail, problems: Problems) -> None:
    """Load what TLS will need, so that a wrong file is found now and not at the first connection."""
    for key, path in (("ca", host.ca), ("certificate", host.certificate), ("key", host.key)):
        if path and host.insecure:
            problems.add((*trail, key), "is of no use with `insecure: true`; keep one of them")
    if host.key and not host.certificate:
        problems.add((*trail, "key"), "has no certificate; write `certificate:` beside it")
    if host.ca and _readable(host.ca, (*trail, "ca"), problems):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(host.ca)
        except (OSError, ValueError):
            problems.add((*trail, "ca"), f"{host.ca} holds no PEM certificate; give a file with BEGIN CERTIFICATE")
    pair = [(key, path) for key, path in (("certificate", host.certificate), ("key", host.key)) if path]
    if host.certificate and all([_readable(path, (*trail, key), problems) for key, path in pair]):  # noqa: C419 - every one is to be told
        try:
            # The empty password keeps OpenSSL from asking on the terminal for the one of an encrypted key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(host.certificate, host.key, password="")
        except (OSError, ValueError):
            what = "do not hold a PEM certificate and its unencrypted key; give both, in one file or as `key:`"
            problems.add((*trail, "certificate"), f"{' and '.join(path for _, path in pair)} {what}")


def _check_ssh(host: Host, trail: Trail, problems: Problems) -> None:
    if host.known_hosts:
        _readable(host.known_hosts, (*trail, "known_hosts"), problems)
    if not host.ssh_key or not _readable(host.ssh_key, (*trail, "ssh_key"), problems):
        return
    path = Path(host.ssh_key)
    if b"PRIVATE KEY-----" not in path.read_bytes():
        problems.add((*trail, "ssh_key"), f"{path} holds no private key; give the file without .pub")
    status = path.stat()
    if status.st_uid == os.geteuid() and status.st_mode & 0o077:  # what ssh would say, and not do it
        problems.add((*trail, "ssh_key"), f"{path} can be read by others, so ssh refuses it; chmod 600 {path}")


def _readable(path: str, trail: Trail, problems: Problems) -> bool:
    if not Path(path).is_absolute():
        problems.add(trail, f"{path} is not absolute; write the path from / on")
        return False
    try:
        read_file(Path(path), _MAX_PEM)
    except AbsentError as error:
        problems.lack(trail, f"{path} {error}")
        return False
    except ValueError as error:
        problems.add(trail, f"{path} {error}")
        return False
    return True
