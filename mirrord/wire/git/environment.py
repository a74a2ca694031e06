"""What a git process gets besides its arguments: an environment made from nothing. Pure.

No configuration of the machine or of a user, no hooks, no prompt, no transport but the one that was asked for. A
credential travels as configuration in the environment of the one process that needs it, bound to the host's origin;
redirects are off, because git sends extra headers to whoever a redirect names. (An askpass program would cost a
refused request each time, and a program of ours that hands out secrets.) `/proc/<pid>/environ` is readable for the
same user only, as our own memory is.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from mirrord.errors import DeniedError
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostPolicy
from mirrord.wire.secret import Credential

PASSED: Final = ("PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_EXEC_PATH")
"""What git gets of our own environment: where programs, scratch space and the system's authorities are."""
PORTS: Final = {"https": 443, "http": 80, "ssh": 22}
_SYSTEM_KNOWN_HOSTS: Final = "/etc/ssh/ssh_known_hosts"
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>\d+))?")

_ALWAYS: Final = {
    "LC_ALL": "C",  # `failures` reads English
    "LANGUAGE": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_SSH_VARIANT": "ssh",
}
_SETTINGS: Final = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "credential.helper": "",
    "protocol.version": "2",
    "transfer.bundleURI": "false",  # CVE-2025-48385
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "safe.directory": "*",
    "http.followRedirects": "false",
    # One byte a second: a host that unpacks a push for minutes sends five bytes of keep-alive every five seconds.
    "http.lowSpeedLimit": "1",
}


def environment(
    home: Path,
    folder: Path | None,
    inherited: Mapping[str, str],
    settings: Mapping[str, str],
    *,
    scheme: str = "",
    ssh: str = "",
) -> dict[str, str]:
    """Return the whole environment of one git process: what is `PASSED` of ours, and settings that win over all files'.

    `home` is an empty folder. The bare repository in `folder` is never searched for: a damaged one must not lead to one
    above it. `scheme` is the only transport that is allowed ("" for none), `ssh` the command for it.
    """
    environ = {name: inherited[name] for name in PASSED if name in inherited}
    environ |= _ALWAYS | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "GIT_CEILING_DIRECTORIES": str(home.parent)}
    # Never there. Not /dev/null: whatever writes a user's configuration as root would put a file in its place.
    environ["GIT_CONFIG_GLOBAL"] = str(home / "no-gitconfig")
    environ |= {"GIT_ALLOW_PROTOCOL": scheme or "none", "GIT_SSH_COMMAND": ssh or "false"}
    if folder is not None:
        environ["GIT_DIR"] = str(folder.absolute())
    every = _SETTINGS | dict(settings)
    environ["GIT_CONFIG_COUNT"] = str(len(every))
    for number, (key, value) in enumerate(every.items()):
        environ[f"GIT_CONFIG_KEY_{number}"] = key
        environ[f"GIT_CONFIG_VALUE_{number}"] = value
    return environ


def host_port(address: Address) -> tuple[str, int]:
    """Return name (without brackets) and port of an address's host."""
    found = _AUTHORITY.fullmatch(address.host)
    assert found is not None  # `Address.parse` took it
    return found["host"].strip("[]"), int(found["port"] or PORTS[address.scheme])


def http_settings(
    address: Address, policy: HostPolicy, credential: Credential | None, pinned: Sequence[str], stall: float
) -> dict[str, str]:
    """Return the settings for one http(s) remote; nothing may come or go for `stall` seconds. Raises as `basic`.

    git (2.37 and newer) dials no other addresses than those that were judged (`pinned`).
    """
    settings = {
        "http.proxy": policy.proxy.full() if policy.proxy else "",
        "http.lowSpeedTime": str(max(1, math.ceil(stall))),
    }
    host, port = host_port(address)
    if pinned and host not in pinned:
        dialled = (f"[{one}]" if ":" in one else one for one in pinned)
        settings["http.curloptResolve"] = f"{host}:{port}:{','.join(dialled)}"
    files = {"http.sslCAInfo": policy.ca, "http.sslCert": policy.certificate, "http.sslKey": policy.key}
    settings |= {key: value for key, value in files.items() if value}
    if credential is not None:
        key = f"http.{address.scheme}://{address.host}/.extraHeader"
        settings[key] = f"Authorization: {basic(address, credential)}"
    return settings


def basic(address: Address, credential: Credential) -> str:
    """Return the value of the `Authorization` header for a Git remote; secret.

    Raises DeniedError: the credential is an identity token, which no Git host takes.
    """
    if credential.identity:
        text = f"{address.host}: an identity token is no password for Git; write a user name and a token under hosts:"
        raise DeniedError(text)
    return credential.basic


def ssh_command(address: Address, policy: HostPolicy, pinned: Sequence[str], stall: float) -> str:
    """Return the command that reaches an ssh remote: no prompt, no agent, no file of a user's, no unknown host key.

    The address that was judged is dialled; the host's key is looked up under its name.
    """
    host, port = host_port(address)
    seconds = max(1, math.ceil(stall / 4))
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "CheckHostIP": "no",
        "UserKnownHostsFile": _quoted(policy.known_hosts or _SYSTEM_KNOWN_HOSTS),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": _quoted(policy.ssh_key) if policy.ssh_key else "none",
        "ConnectTimeout": str(max(1, math.ceil(stall))),
        "ServerAliveInterval": str(seconds),
        "ServerAliveCountMax": "4",
        "HostKeyAlias": host if port == PORTS["ssh"] else f"[{host}]:{port}",
    }
    if pinned:
        options["HostName"] = pinned[0]
    return shlex.join(["ssh", "-F", "none", *(f"-o{key}={value}" for key, value in options.items())])


def _quoted(path: str) -> str:
    """Write a path for ssh_config(5): blanks and `%` mean something there."""
    return '"' + path.replace("%", "%%") + '"'
