"""How to talk to a host, and our credentials for it: from `hosts:` of the configuration, or by default."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol

from mirrord.errors import MirrordError
from mirrord.keyedlock import KeyedLock
from mirrord.wire import advice
from mirrord.wire.oci.profiles import Profile, profile_of
from mirrord.wire.origin import Origin
from mirrord.wire.proxy import Proxies, Proxy
from mirrord.wire.secret import Credential

HUB: Final = "docker.io"
HUB_ALIASES: Final = frozenset({"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
"""Other names of Docker Hub; rules and credentials for one of them are those of `HUB`."""

KEYRING_LASTS: Final = 300.0
"""Seconds for which an answer of the keyring is kept if it does not say: passwords of helpers change."""
REFUSED_LASTS: Final = 60.0
"""Seconds for which an answer is kept that was refused twice."""


@dataclass(frozen=True, slots=True)
class AwsAccess:
    """Who we are at AWS, and where its API for a registry is; what is None is found out by AWS's own rules.

    Attributes:
        profile: a profile of AWS's configuration files.
        region: where the registry is; needed only if its name does not say it.
        role: ARN of a role that is assumed for the registry.
        endpoint: URL of the API, such as that of a private link.
    """

    profile: str | None = None
    region: str | None = None
    role: str | None = None
    endpoint: str | None = None


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
        proxy: an HTTP proxy, or None.
        allow_private: private, link-local… addresses may be dialled (loopback literals are always allowed
            when they are the host itself).
        token_realms: further `https://host` origins to which this host's credentials may be sent for a token.
        ssh_key: file with the private key for Git over ssh, or None.
        known_hosts: file with the host's keys for Git over ssh; None for that of the machine.
        requests: how many requests may be under way at once.
        bandwidth: bytes a second for content, or None.
        profile: kind of registry (a name of `mirrord.wire.oci.profiles`), or None for what its name says.
        aws: who we are at AWS, where the host is an Amazon ECR; None for what AWS's own rules find.
        source: where `credential` is written, for messages.
    """

    host: str
    credential: Credential | None = None
    insecure: bool | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    proxy: Proxy | None = None
    allow_private: bool = False
    token_realms: tuple[str, ...] = ()
    ssh_key: str | None = None
    known_hosts: str | None = None
    requests: int = 8
    bandwidth: float | None = None
    profile: str | None = None
    aws: AwsAccess | None = None
    source: str = field(default="`auth:` under hosts:", compare=False)

    @property
    def registry(self) -> Profile:
        """What is known about registries of its kind."""
        return profile_of(self.host, self.profile)


_NOT_OURS: Final[Mapping[str, Any]] = {
    "credential": None,
    "certificate": None,
    "key": None,
    "token_realms": (),
    "ssh_key": None,
    "aws": None,
}  # fmt: skip - one line


@lru_cache(1024)
def _unwritten(host: str) -> HostPolicy:
    return HostPolicy(host)


class Login(NamedTuple):
    """One credential for a host, or for a part of its repositories."""

    namespace: str  # `team` for `team` and everything below it, "" for the whole host
    credential: Credential
    source: str  # where it is written, as messages say it

    def covers(self, repository: str) -> bool:
        """Whether it is for this repository; "" stands for the host itself."""
        return not self.namespace or f"{repository}/".startswith(f"{self.namespace}/")


class Logins(NamedTuple):
    """What a keyring knows about one host."""

    found: tuple[Login, ...] = ()  # the first one that covers a repository is used
    failures: tuple[str, ...] = ()  # of credential helpers, in their own words, and a file that is missing
    lasts: float = KEYRING_LASTS  # seconds for which the answer is kept

    def of(self, repository: str) -> Login | None:
        """Return the credential that is used for a repository."""
        return next((login for login in self.found if login.covers(repository)), None)


class Keyring(Protocol):
    """Where credentials come from that are not in the configuration."""

    async def find(self, host: str) -> Logins:
        """Return the credentials for exactly this host. May run a docker credential helper."""


@dataclass(slots=True)
class _Found:
    """The keyring's answer for one host."""

    logins: Logins  # the answer
    until: float  # when it is asked again (monotonic time)
    refused: Logins  # the answer of which the host refused something last


@dataclass(frozen=True, slots=True)
class _Restricted:
    """A keyring that answers for some hosts alone."""

    keyring: Keyring
    hosts: frozenset[str]

    async def find(self, host: str) -> Logins:
        """See `Keyring.find`."""
        return await self.keyring.find(host) if host in self.hosts else Logins()


@dataclass(frozen=True, slots=True)
class HostBook:
    """The rules of the configuration for hosts; every other host gets the defaults.

    Attributes:
        policies: rules by host.
        keyring: where credentials come from that no policy has.
        proxies: which proxy leads to a host whose policy names none.
        ca: PEM file with authorities to trust besides the system's, at hosts whose policy names none.
        advice: what errors say instead of a text of `mirrord.wire.advice`, where the policies are not from `hosts:`;
            `{host}` in it stands for the host.
    """

    policies: Mapping[str, HostPolicy] = field(default_factory=dict)
    keyring: Keyring | None = None
    proxies: Proxies = field(default_factory=Proxies)
    ca: str | None = None
    advice: Mapping[str, str] = field(default_factory=dict)
    _found: dict[str, _Found] = field(default_factory=dict, init=False, repr=False, compare=False)
    _asking: KeyedLock = field(default_factory=KeyedLock, init=False, repr=False, compare=False)

    def policy(self, host: str) -> HostPolicy:
        """Return the rules for exactly this `host[:port]` (case-folded, default port dropped by the caller)."""
        return self.policies.get(host) or _unwritten(host)

    def proxy(self, policy: HostPolicy, origin: Origin) -> Proxy | None:
        """Return the proxy through which `origin` is reached on behalf of a host, or None."""
        return policy.proxy or self.proxies.to(origin)

    async def credential(self, host: str, repository: str = "") -> Credential | None:
        """Return our credential for a repository at a host: that of the configuration, else that of the keyring.

        The keyring is asked once for all repositories of a host.

        Raises:
            ConfigError: docker's own configuration cannot be read.
        """
        credential = self.policy(host).credential
        if credential is not None or self.keyring is None:
            return credential
        async with self._asking.hold(host):
            found = self._found.get(host)
            if found is None or monotonic() >= found.until:
                answer = await self.keyring.find(host)
                found = _Found(answer, monotonic() + answer.lasts, found.refused if found else Logins())
                self._found[host] = found
            login = found.logins.of(repository)
            return login.credential if login else None

    def known(self, host: str, repository: str = "") -> Credential | None:
        """Return what `credential` gave last for a repository at a host, without asking."""
        credential = self.policy(host).credential
        if credential is not None:
            return credential
        found = self._found.get(host)
        login = found.logins.of(repository) if found else None
        return login.credential if login else None

    def for_strangers(self, opted_in: Collection[str]) -> HostBook:
        """Return the book for requests on behalf of clients whom we do not know: with what is ours at some hosts alone.

        At all others no credential, client certificate or keyring is used; how they are reached stays.
        """
        policies = {
            host: policy if host in opted_in else replace(policy, **_NOT_OURS) for host, policy in self.policies.items()
        }
        keyring = _Restricted(self.keyring, frozenset(opted_in)) if self.keyring and opted_in else None
        better = {advice.OWN_AUTH: "write `credentials: true` under front: and `auth:` under hosts:"}
        return replace(self, policies=policies, keyring=keyring, advice={**self.advice, **better})

    def refused(self, host: str) -> None:
        """Note that a host refused our credential, so that the keyring is asked again: it may have a newer one."""
        found = self._found.get(host)
        if found is not None:
            again = found.logins == found.refused
            found.until = min(found.until, monotonic() + REFUSED_LASTS) if again else 0.0
            found.refused = found.logins

    def advise(self, error: MirrordError, host: str) -> None:
        """Let an error of a request to a host advise what applies to this book."""
        for configured, better in self.advice.items():
            error.args = (str(error).replace(configured, better.format(host=host)), *error.args[1:])

    def explain(self, host: str, repository: str = "", *, registry: bool = True) -> str:
        """Return a clause that says which credential `credential` gave, and where it is written; for messages.

        Where there was none it advises `docker login` only at a `registry`, which takes one.
        """
        policy = self.policy(host)
        if policy.credential is not None:
            return f"used the credentials of {policy.source}"
        found = self._found.get(host)
        login = found.logins.of(repository) if found else None
        used = f"used the credentials of {login.source}" if login else f"no credentials for {host} were found"
        better = f"{advice.AUTH} `docker login {host}`" if registry else advice.OWN_AUTH
        fix = () if login else (better,)
        return "; ".join((used, *(found.logins.failures if found else ()), *fix))
