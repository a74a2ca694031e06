"""Where credentials come from that are not in the configuration: docker's own, and behind them AWS's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple

from mirrord.errors import MirrordError
from mirrord.wire.dockerconfig import DockerKeyring
from mirrord.wire.ecr import EcrRegistry, ecr_registry
from mirrord.wire.host import REFUSED_LASTS, HostPolicy, Keyring, Login, Logins

_RENEWED: Final = 0.8  # of its lifetime: then a token is replaced, so that it outlives what is begun with it


class _Issued(NamedTuple):
    login: Login
    since: float  # monotonic time
    lifetime: float  # seconds


@dataclass(frozen=True, slots=True)
class Keyrings:
    """Docker's keyring, and for Amazon's registries that it does not know a token that AWS issues.

    Attributes:
        policies: rules by host; who we are at AWS.
        docker: the one that is asked first.
    """

    policies: Mapping[str, HostPolicy] = field(default_factory=dict)
    docker: Keyring = field(default_factory=DockerKeyring)
    _issued: dict[str, _Issued] = field(default_factory=dict, init=False, repr=False, compare=False)

    async def find(self, host: str) -> Logins:
        """See `Keyring.find`; not called for one host by two callers at once (`HostBook.credential`)."""
        known = await self.docker.find(host)
        if any(not login.namespace for login in known.found):
            return known
        registry = ecr_registry(self.policies.get(host) or HostPolicy(host))
        return known if registry is None else await self._issue(registry, known)

    async def _issue(self, registry: EcrRegistry, known: Logins) -> Logins:
        """Add a token of AWS, the last one while it is younger than a minute: a refusal then has another reason."""
        now, issued = monotonic(), self._issued.get(registry.host)
        if issued is None or now - issued.since >= REFUSED_LASTS:
            from mirrord.wire.vendors.aws import authorize  # noqa: PLC0415 - only Amazon's registries need it

            try:
                credential, lifetime = await authorize(registry)
            except MirrordError as error:
                failures = (*known.failures, str(error))
                if issued is None or now >= issued.since + issued.lifetime:
                    return known._replace(failures=failures)
                return Logins((*known.found, issued.login), failures, REFUSED_LASTS)  # it holds, so AWS is asked later
            issued = _Issued(Login("", credential, f"AWS ({registry.service})"), now, lifetime)
            self._issued[registry.host] = issued
        lasts = max(issued.since + issued.lifetime * _RENEWED - now, REFUSED_LASTS)
        return Logins((*known.found, issued.login), known.failures, lasts)
