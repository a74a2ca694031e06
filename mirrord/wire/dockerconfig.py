"""Credentials from the files of docker and podman and from their credential helpers, so that one `login` is enough.

The places are asked in this order, and the first one that has a credential for the whole host ends the search:

1. `DOCKER_AUTH_CONFIG`, the JSON itself
2. the file that `REGISTRY_AUTH_FILE` names
3. docker's `config.json`, in `DOCKER_CONFIG` or `~/.docker`
4. podman's `containers/auth.json`, in `XDG_RUNTIME_DIR` (without it `/run/containers/UID/auth.json`), then in
   `XDG_CONFIG_HOME` or `~/.config`

In each place `credHelpers` come before `credsStore`, and that before `auths`. A host is matched exactly, never by
prefix. A key of `auths` may have a scheme, a slash at its end, and the path of an API version; docker's own entry for
Docker Hub has all of them. Without a scheme, what follows the host is a namespace, as podman writes it: `host/team` is
for the repositories below `team`, and the longest one that fits is used.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mirrord.errors import ConfigError
from mirrord.files import IrregularError, open_regular
from mirrord.program import Invocation, run
from mirrord.wire.host import HUB, HUB_ALIASES, Login, Logins
from mirrord.wire.secret import Credential, Secret, redact

LARGEST: Final = 4 * 1024 * 1024
HELPER_SECONDS: Final = 30.0
HUB_KEYS: Final = (
    "https://index.docker.io/v1/",
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "https://registry-1.docker.io",
)
"""How Docker Hub is spelled in `config.json`, the spelling of `docker login` first."""

_VERSIONS: Final = ("", "v1", "v2")  # paths of a registry's API, which say nothing about repositories
_NOT_FOUND: Final = "credentials not found"  # docker's helpers say this where they work and know nothing
_HEARD: Final = 16 * 1024  # bytes of what a failed helper says that are looked at
_SHOWN: Final = 300  # and characters of it that are shown
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HOST = re.compile(r"[\x21-\x7e]+")  # CVE-2020-5260: a newline in what a helper reads would start another question


class _HelperError(Exception):
    """A credential helper that gave no answer; the text says why."""


@dataclass(frozen=True, slots=True)
class DockerKeyring:
    """Looks a host up whenever asked: files and helpers may change under a running daemon."""

    # environment; the variables named above, `HOME` and `PATH` are read
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    seconds: float = HELPER_SECONDS  # how long a helper may take

    async def find(self, host: str) -> Logins:
        """Return the credentials for exactly this `host[:port]`, and which helpers failed or which file is missing.

        Raises:
            ConfigError: a file is not readable as JSON, too large, or holds a credential that HTTP cannot carry; names
                the file, never its content.
        """
        found: list[Login] = []
        failures: list[str] = []
        demanded = self.environ.get("REGISTRY_AUTH_FILE")
        for place in self._places():
            name, config = await asyncio.to_thread(_read, place)
            if config is None:
                if demanded and place == Path(demanded):
                    failures.append(f"{name}, which REGISTRY_AUTH_FILE names, does not exist or is empty")
                continue
            try:
                helped = await self._helped(config, host)
            except _HelperError as error:
                helped = None
                failures.append(str(error))
            found += [helped] if helped else _written(config, host, name)
            if any(not login.namespace for login in found):
                break
        return Logins(tuple(found), tuple(failures))

    def _places(self) -> Iterator[bytes | Path]:
        """Yield the JSON itself, then the files that may be there."""
        environ, home = self.environ, self.environ.get("HOME")
        if inline := environ.get("DOCKER_AUTH_CONFIG"):
            yield os.fsencode(inline)
        if file := environ.get("REGISTRY_AUTH_FILE"):
            yield Path(file)
        if docker := environ.get("DOCKER_CONFIG") or (home and f"{home}/.docker"):
            yield Path(docker, "config.json")
        runtime = environ.get("XDG_RUNTIME_DIR")
        yield Path(runtime, "containers/auth.json") if runtime else Path(f"/run/containers/{os.getuid()}/auth.json")
        if settings := environ.get("XDG_CONFIG_HOME") or (home and f"{home}/.config"):
            yield Path(settings, "containers/auth.json")

    async def _helped(self, config: dict[str, Any], host: str) -> Login | None:
        """Return what the first helper says that knows the host."""
        helpers = _mapping(config.get("credHelpers"))
        named = [helpers[key] for namespace, key in _keys(helpers, host) if not namespace]
        for helper in (*named[:1], config.get("credsStore")):
            if isinstance(helper, str) and helper:
                credential = await self._ask(helper, HUB_KEYS[0] if host == HUB else host)
                if credential is not None:
                    return Login("", credential, f"docker-credential-{helper}")
        return None

    async def _ask(self, helper: str, host: str) -> Credential | None:
        """Run `docker-credential-<helper> get` with the host on its standard input.

        Raises:
            _HelperError: it gave no answer.
            ConfigError: it answered with a credential that HTTP cannot carry.
        """
        name = f"docker-credential-{helper}"
        if not _HOST.fullmatch(host):
            return None
        if not _HELPER_NAME.fullmatch(helper):
            raise _HelperError(f"{helper[:80]!a} cannot be the name of a credential helper")
        said = bytearray()

        def hear(piece: bytes) -> None:
            said.extend(piece[: max(0, _HEARD - len(said))])

        asking = Invocation((name, "get"), self.environ, stdin=host.encode(), folder=".", on_error=hear)
        try:
            ended = await run(asking, limit=LARGEST, deadline=self.seconds)
        except FileNotFoundError:
            raise _HelperError(f"{name} is not installed (not in PATH)") from None
        except OSError as error:
            raise _HelperError(f"{name} cannot be run: {error.strerror}") from error
        if ended.ended_for:
            raise _HelperError(f"{name} failed: {ended.ended_for.value}")
        if ended.status:
            words = _words(ended.out) or _words(bytes(said)) or f"exit status {ended.status}"
            if words.lower().startswith(_NOT_FOUND):
                return None
            raise _HelperError(f"{name} failed: {words}")
        return _answered(ended.out, name)


def _answered(data: bytes, name: str) -> Credential | None:
    """Read what a helper says of a host it knows."""
    try:
        answer = _mapping(json.loads(data))
    except (ValueError, RecursionError):
        raise _HelperError(f"{name} failed: its answer is not JSON") from None
    username, secret = answer.get("Username"), answer.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        return None
    return _credential(username, secret, name)


def _words(data: bytes) -> str:
    """Return what a failed helper says, in one line and without secrets; nothing of an answer."""
    text = " ".join(data[:_HEARD].decode("utf-8", "replace").split())
    if "Secret" in text:
        return ""
    return redact("".join(char if char.isprintable() else " " for char in text))[:_SHOWN]


def _read(place: bytes | Path) -> tuple[str, dict[str, Any] | None]:
    """Return the name of a place and what it holds, None when it is not there or empty."""
    name, data = ("DOCKER_AUTH_CONFIG", place) if isinstance(place, bytes) else (str(place), _content(place))
    return name, _parsed(name, data) if data else None


def _content(path: Path) -> bytes:
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data = file.read(LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except (OSError, IrregularError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"{path}: cannot be read ({why}); fix it, or set DOCKER_CONFIG or REGISTRY_AUTH_FILE"
        ) from error
    if len(data) > LARGEST:
        raise ConfigError(f"{path}: larger than {LARGEST} bytes; is this a file of credentials?")
    return data


def _parsed(origin: str, data: bytes) -> dict[str, Any]:
    try:
        config = json.loads(data)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ConfigError(f"{origin}: not a JSON object; repair it, or `docker login` again")
    return config


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _keys(entries: Mapping[str, Any], host: str) -> list[tuple[str, str]]:
    """Return namespace and key of the entries for a host: long namespaces first, and the usual spelling first."""
    usual = HUB_KEYS if host == HUB else (host,)
    found = []
    for key in entries:
        scheme, slashes, rest = key.rpartition("://")
        named, _, path = rest.partition("/")
        named = HUB if named.lower() in HUB_ALIASES else named.lower()
        if named == host and scheme.lower() in ("", "http", "https"):
            namespace = "" if slashes or path.strip("/") in _VERSIONS else path.strip("/")
            found.append((namespace, key))
    return sorted(found, key=lambda one: (-len(one[0]), usual.index(one[1]) if one[1] in usual else len(usual)))


def _written(config: dict[str, Any], host: str, origin: str) -> list[Login]:
    """Return what `auths` holds for a host."""
    auths = _mapping(config.get("auths"))
    found: dict[str, Login] = {}
    for namespace, key in _keys(auths, host):
        if namespace not in found:
            credential = _entry(_mapping(auths[key]), f"{origin}: auths: {key}")
            if credential is not None:
                found[namespace] = Login(namespace, credential, f"{origin}, key {key}")
    return list(found.values())


def _entry(entry: dict[str, Any], origin: str) -> Credential | None:
    """Read one entry of `auths`: `identitytoken`, `username` and `password`, or `auth` (base64 of both)."""
    username, password = entry.get("username"), entry.get("password")
    encoded, identity = entry.get("auth"), entry.get("identitytoken")
    if isinstance(encoded, str) and encoded:
        try:
            text = base64.b64decode(encoded, validate=True).decode()
        except ValueError:  # not ASCII, not base64, or not UTF-8 inside; the error would carry what it could not decode
            raise ConfigError(f"{origin}: auth: not base64 of user:password; `docker login` again") from None
        username, _, password = text.partition(":")
        password = password.rstrip("\x00")
    if isinstance(identity, str) and identity:
        username, password = "<token>", identity
    if not isinstance(username, str) or not isinstance(password, str) or not password:
        return None
    return _credential(username, password, origin)


def _credential(username: str, password: str, origin: str) -> Credential:
    try:
        return Credential(username, Secret(password))
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
