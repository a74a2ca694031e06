"""Which hosts the mirrors name: what is missing for them on this machine, and which entries of `hosts:` are unused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from mirrord.config.hosts import host_key
from mirrord.config.lines import Problems
from mirrord.config.mirrors import Targets
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import FrontRules, Mirror
from mirrord.wire.host import HostBook
from mirrord.wire.trust import reach_of
from mirrord.wire.vendors.known import api_host

_BETWEEN = re.compile(r"[/@]")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
_ANSWERED = {"asking": "asking.issues", "pull_requests": "pull_requests"}
_ALIKE = 0.7  # of each word of a host and the one that was meant


@dataclass(frozen=True, slots=True)
class HostUsers:
    """Which mirrors need which hosts.

    Attributes:
        named: host → the mirrors that name it.
        anywhere: mirrors that may need any host: only their run knows which.
    """

    named: Mapping[str, frozenset[str]]
    anywhere: frozenset[str] = frozenset()

    def of(self, host: str) -> frozenset[str] | None:
        """Return the mirrors that need a host; None where any mirror may, as none names it."""
        return self.named[host] | self.anywhere if host in self.named else None


@dataclass(frozen=True, slots=True)
class Absence:
    """A secret or a file that the configuration names and that is not on this machine, or not readable for this user.

    Attributes:
        problem: `file:line: key: what is missing; what to do`.
        mirrors: which mirrors name the host; None where any mirror may need it: what is missing for the record, or for
            a host that none of them names, which may still be one to which another host redirects.
        receiver: who cannot be notified without it, `asking.issues` where nobody can be answered,
            `pull_requests` where nobody can be told, or "".
    """

    problem: str
    mirrors: frozenset[str] | None
    receiver: str = ""


def users_of_hosts(
    mirrors: Sequence[Mirror],
    syncers: Mapping[str, Syncer],
    fronts: Mapping[str, FrontRules],
    others: Sequence[str] = (),
) -> HostUsers | None:
    """Return which mirrors need which host, those of fronts and `others` included; None when a kind cannot tell."""
    found: dict[str, set[str]] = {host: set() for rules in fronts.values() for host in rules.upstreams}
    found |= {host_key(host): set() for host in others}
    anywhere: set[str] = set()
    for mirror in mirrors:
        hosts = syncers[mirror.kind].hosts
        if hosts is None:
            return None
        named = hosts(mirror)
        if named is None:
            anywhere.add(mirror.name)
        for host in named or ():
            found.setdefault(host, set()).add(mirror.name)
    return HostUsers({host: frozenset(names) for host, names in found.items()}, frozenset(anywhere))


def absences(users: HostUsers | None, problems: Problems) -> Iterator[Absence]:
    """Yield what is not on this machine, in the order in which it was written."""
    for trail, what in problems.absent:
        name, line = str(trail[1]), problems.line(trail, what)
        if trail[0] == "notify":
            yield Absence(line, frozenset(), name)
        elif trail[0] in _ANSWERED:
            yield Absence(line, frozenset(), _ANSWERED[trail[0]])  # a receiver may be called `issues`
        elif trail[0] == "settings":
            yield Absence(line, None)
        else:
            yield Absence(line, users.of(host_key(name)) if users else None)


def unused_hosts(
    users: HostUsers | None, targets: Targets, written: object, book: HostBook, problems: Problems
) -> Iterator[str]:
    """Yield a sentence for each entry of `hosts:` that no mirror and no target names, and that is no API of these."""
    if not users or not users.named or users.anywhere or not isinstance(written, dict):
        return  # a folder without mirrors is one that is not finished
    if any(trail[0] == "notify" for trail, _ in problems.absent):
        return  # nobody knows which host such a receiver has
    parts = {part for target in targets.values() if target for part in _BETWEEN.split(target.to.lower())}
    apis = {api_host(book, one) for one in users.named}
    for key in written:
        host = host_key(key)
        # In `git@host:path` the host is followed by a path.
        idle = any(
            part == host or (part.startswith(f"{host}:") and not part[len(host) + 1 :][:1].isdigit()) for part in parts
        )
        if host not in users.named and host not in apis and not idle:
            close = next((one for one in sorted(users.named) if _alike(host, one)), "")
            rest = f"did you mean {close!r}?" if close else "it applies only where another host redirects to it"
            yield problems.line(("hosts", key), f"no mirror and no target names this host; {rest}")


def lacking_logins(fronts: Mapping[str, FrontRules], book: HostBook, problems: Problems) -> Iterator[str]:
    """Yield a sentence for each upstream that is read with credentials and has none under `hosts:`."""
    written = {host_key(str(trail[1])) for trail in problems.origins if trail[::2] == ("hosts", "auth")}
    for kind, rules in fronts.items():
        for host, ours in rules.upstreams.items():
            policy = book.policies.get(host)
            if ours and host not in written and not (policy and policy.certificate):
                what = f"hosts: has no auth for {host}, so docker's own login of this user is used, or none"
                yield problems.line(("front", kind, "upstreams"), what)


def unused_targets(mirrors: Sequence[Mirror], targets: Targets, problems: Problems) -> Iterator[str]:
    """Yield a sentence for each target that no mirror names."""
    named = {target.name for mirror in mirrors for target in mirror.targets}
    for name in targets if mirrors else ():
        if name not in named:
            yield problems.line(("targets", name), "no mirror writes to this target, so its `to` was not checked")


def unread_proxies(users: HostUsers | None, book: HostBook, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence when the environment names a proxy and `hosts:` names none: mirrors do not use the former."""
    name = next((name for name in _PROXIES if environ.get(name)), "")
    far = users and (users.anywhere or any(not reach_of(book.policy(host)).loopback for host in users.named))
    if name and far and not any(policy.proxy for policy in book.policies.values()):
        yield f"{name} is set, and only `mirrord copy` uses it; for mirrors write `proxy:` under hosts:, at each host"


def _alike(one: str, other: str) -> bool:
    """Whether one host is a typo of the other, or lacks its port: word by word, as `git.a.b` is none of `ghcr.a.b`."""
    words, meant = (host.partition(":")[0].split(".") for host in (one, other))
    likeness = (SequenceMatcher(None, *pair).ratio() for pair in zip(words, meant, strict=False))
    return len(words) == len(meant) and all(ratio >= _ALIKE for ratio in likeness)
