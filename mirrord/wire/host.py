"""How to talk to one host: a value, made from `hosts:` of the configuration or by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mirrord.wire.secret import Credential


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """Rules for one `host[:port]` as people write it in references and URLs (`docker.io`).

    Attributes:
        host: lower-case `host` or `host:port`.
        credential: explicit credential, or None (docker's own configuration may have one).
        insecure: plain HTTP. None means the default: yes for loopback, no elsewhere.
        ca: PEM file with the authorities to trust instead of the system's.
        certificate: PEM file with client certificate and key, or None.
        key: PEM file with the key when it is not in `certificate`.
        proxy: URL of an HTTP proxy, or None.
        allow_private: private, link-local… addresses may be dialled (loopback literals are always allowed
            when the operator wrote them as host).
        token_realms: further `https://host` origins to which this host's credentials may be sent for a token.
        ssh_key: file with the private key for Git over ssh, or None.
        known_hosts: file with the host's keys for Git over ssh; None for the machine's own.
        requests: how many requests may be under way at once.
        bandwidth: bytes a second for content, or None.
    """

    host: str
    credential: Credential | None = None
    insecure: bool | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    proxy: str | None = None
    allow_private: bool = False
    token_realms: tuple[str, ...] = ()
    ssh_key: str | None = None
    known_hosts: str | None = None
    requests: int = 8
    bandwidth: float | None = None


class Keyring(Protocol):
    """Where credentials come from that are not in the configuration."""

    async def find(self, host: str) -> Credential | None:
        """Return the credential for exactly this host, or None. May run a docker credential helper."""
        ...


class NoKeyring:
    """Nobody's credentials."""

    async def find(self, host: str) -> Credential | None:  # noqa: ARG002 - the port's signature
        """Return None."""
        return None


@dataclass(frozen=True, slots=True)
class HostBook:
    """All hosts that the operator wrote about; every other host gets the defaults."""

    policies: Mapping[str, HostPolicy] = field(default_factory=dict)
    keyring: Keyring = field(default_factory=NoKeyring)

    def policy(self, host: str) -> HostPolicy:
        """Return the rules for exactly this `host[:port]` (case-folded, default port dropped by the caller)."""
        return self.policies.get(host) or HostPolicy(host)
