"""Files of certificates and keys that a configuration names, looked at when it is read."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Protocol

from mirrord.config.files import AbsentError, absolute, read_file
from mirrord.config.lines import Problems, Trail

_MAX_PEM = 4 * 2**20


class TlsFiles(Protocol):
    """The keys of a host that name files for TLS."""

    @property
    def ca(self) -> str | None:
        """Authorities."""

    @property
    def certificate(self) -> str | None:
        """The client's."""

    @property
    def key(self) -> str | None:
        """Its key."""

    @property
    def insecure(self) -> bool | None:
        """Whether there is no TLS at all."""


class SshFiles(Protocol):
    """The keys of a host that name files for ssh."""

    @property
    def ssh_key(self) -> str | None:
        """Our key."""

    @property
    def known_hosts(self) -> str | None:
        """The host's keys."""


def readable(path: str, trail: Trail, problems: Problems) -> bool:
    """Return whether a file can be read; else the problem is added, or noted when only this machine lacks the file."""
    try:
        read_file(Path(absolute(path, "")), _MAX_PEM)
    except ValueError as error:
        note = problems.lack if isinstance(error, AbsentError) else problems.add
        note(trail, f"{path} {error}")
        return False
    return True


def check_authorities(path: str, trail: Trail, problems: Problems) -> None:
    """Load a file of authorities."""
    if readable(path, trail, problems):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except (OSError, ValueError):
            problems.add(trail, f"{path} contains no PEM certificate; give a file with BEGIN CERTIFICATE")


def check_tls(host: TlsFiles, trail: Trail, problems: Problems) -> None:
    """Load what TLS will need, so that a wrong file is found now and not at the first connection."""
    for key, path in (("ca", host.ca), ("certificate", host.certificate), ("key", host.key)):
        if path and host.insecure:
            problems.add((*trail, key), "has no effect with `insecure: true`; keep one of them")
    if host.key and not host.certificate:
        problems.add((*trail, "key"), "has no certificate; write `certificate:` beside it")
    if host.ca:
        check_authorities(host.ca, (*trail, "ca"), problems)
    pair = [(key, path) for key, path in (("certificate", host.certificate), ("key", host.key)) if path]
    if host.certificate and all([readable(path, (*trail, key), problems) for key, path in pair]):  # noqa: C419 - each one has to be reported
        try:
            # The empty password keeps OpenSSL from asking on the terminal for the one of an encrypted key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(host.certificate, host.key, password="")
        except (OSError, ValueError):
            what = "do not contain a PEM certificate and its unencrypted key; give both, in one file or as `key:`"
            problems.add((*trail, "certificate"), f"{' and '.join(path for _, path in pair)} {what}")


def check_ssh(host: SshFiles, trail: Trail, problems: Problems) -> None:
    """Look for the files that ssh will need, and at who can read the key."""
    if host.known_hosts:
        readable(host.known_hosts, (*trail, "known_hosts"), problems)
    if not host.ssh_key or not readable(host.ssh_key, (*trail, "ssh_key"), problems):
        return
    path = Path(host.ssh_key)
    if b"PRIVATE KEY-----" not in path.read_bytes():
        problems.add((*trail, "ssh_key"), f"{path} contains no private key; give the file without .pub")
    status = path.stat()
    if status.st_uid == os.geteuid() and status.st_mode & 0o077:  # ssh refuses such a key
        problems.add((*trail, "ssh_key"), f"{path} can be read by others, so ssh refuses it; chmod 600 {path}")
