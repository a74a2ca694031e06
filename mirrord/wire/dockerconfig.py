"""Credentials from docker's own configuration and its credential helpers, so that `docker login` is enough.

Order: `DOCKER_AUTH_CONFIG` (the JSON itself), then `config.json` in `DOCKER_CONFIG` or `~/.docker`; in each
`credHelpers`, then `credsStore`, then `auths`. A host is matched exactly, never by prefix.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mirrord.errors import ConfigError
from mirrord.files import IrregularError, open_regular
from mirrord.program import Invocation, run
from mirrord.wire.secret import Credential, Secret

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

_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HOST = re.compile(r"[\x21-\x7e]+")  # CVE-2020-5260: a newline in what a helper reads would start another question


@dataclass(frozen=True, slots=True)
class DockerKeyring:
    """Looks a host up whenever asked: files and helpers may change under a running daemon."""

    # environment; `DOCKER_AUTH_CONFIG`, `DOCKER_CONFIG`, `HOME` and `PATH` are read
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    seconds: float = HELPER_SECONDS  # how long a helper may take

    async def find(self, host: str) -> Credential | None:
        """Return the credential for exactly this `host[:port]`, or None.

        Raises:
            ConfigError: a configuration is not readable as JSON, too large, or holds a credential that HTTP cannot
                carry; names the file, never its content.
        """
        for origin, config in await asyncio.to_thread(self._configurations):
            found = await self._in(config, host, origin)
            if found is not None:
                return found
        return None

    def _configurations(self) -> list[tuple[str, dict[str, Any]]]:
        found = []
        inline = self.environ.get("DOCKER_AUTH_CONFIG")
        if inline:
            found.append(("DOCKER_AUTH_CONFIG", _parsed("DOCKER_AUTH_CONFIG", os.fsencode(inline))))
        folder, home = self.environ.get("DOCKER_CONFIG"), self.environ.get("HOME")
        if folder or home:
            path = Path(folder or f"{home}/.docker") / "config.json"
            if data := _content(path):
                found.append((str(path), _parsed(str(path), data)))
        return found

    async def _in(self, config: dict[str, Any], host: str, origin: str) -> Credential | None:
        keys = (
            HUB_KEYS if host == "docker.io" else (host, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/")
        )
        helpers = _mapping(config.get("credHelpers"))
        for helper in (*(helpers.get(key) for key in keys), config.get("credsStore")):
            if isinstance(helper, str) and helper:
                found = await self._ask(helper, HUB_KEYS[0] if host == "docker.io" else host)
                if found is not None:
                    return found
        auths = _mapping(config.get("auths"))
        for key in keys:
            found = _written(_mapping(auths.get(key)), f"{origin}: auths: {key}")
            if found is not None:
                return found
        return None

    async def _ask(self, helper: str, host: str) -> Credential | None:
        """Run `docker-credential-<helper> get` with the host on its standard input; a broken helper is no answer."""
        if not _HELPER_NAME.fullmatch(helper) or not _HOST.fullmatch(host):
            return None
        asking = Invocation((f"docker-credential-{helper}", "get"), self.environ, stdin=host.encode(), folder=".")
        try:
            ended = await run(asking, limit=LARGEST, deadline=self.seconds)
            answer = json.loads(b"" if ended.status or ended.ended_for else ended.out)
        except (OSError, ValueError, RecursionError):
            return None
        username, secret = _mapping(answer).get("Username"), _mapping(answer).get("Secret")
        if not isinstance(username, str) or not isinstance(secret, str) or not secret:
            return None
        return _credential(username, secret, f"docker-credential-{helper}")


def _content(path: Path) -> bytes:
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data = file.read(LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except (OSError, IrregularError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot be read ({why}); fix it or set DOCKER_CONFIG") from error
    if len(data) > LARGEST:
        raise ConfigError(f"{path}: larger than {LARGEST} bytes; is this docker's configuration?")
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


def _written(entry: dict[str, Any], origin: str) -> Credential | None:
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
