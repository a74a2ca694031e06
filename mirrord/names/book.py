"""What names mean: aliases of registries, hosts of ours that stand for one, and what images are called by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import UsageError
from mirrord.names.naming import Naming, below, named, registry_prefix
from mirrord.wire.oci.reference import Reference

ANY: Final = "*"
"""The registry of a host whose paths begin with one: `m.example/docker.io/library/nginx`."""


@dataclass(frozen=True, slots=True)
class NameBook:
    """The section `names:` of a configuration.

    Attributes:
        aliases: `host` or `host/path` → the `host` or `host/path` that it stands for. The longest applies, and then
            those of the result.
        hosts: a host of ours → the registry that it stands for, `host` or `host/path`; `*` where the path names it.
        naming: what images are called at targets without a naming of their own, and in `local`; None means by mirror.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    naming: Naming | None = None

    def __post_init__(self) -> None:
        """Bring every name to its one spelling.

        Raises:
            UsageError: a name is no registry, or an alias leads back to itself.
        """
        aliases = {registry_prefix(alias): registry_prefix(meant) for alias, meant in self.aliases.items()}
        hosts = {
            our_host(host): meant if meant == ANY else registry_prefix(meant) for host, meant in self.hosts.items()
        }
        _check_ends(aliases)
        object.__setattr__(self, "aliases", aliases)
        object.__setattr__(self, "hosts", hosts)

    def canonical(self, reference: Reference) -> Reference:
        """Return the reference with aliases applied until none does; tag and digest stay.

        Raises:
            UsageError: an alias of one repository leads to a registry without a repository, or the name is too long.
        """
        found = reference
        for _ in self.aliases:  # no alias leads back to itself, so each applies at most once
            covering = [alias for alias in self.aliases if below(found.name, alias) is not None]
            if not covering:
                break
            found = _moved(found, max(covering, key=len), self.aliases)
        return found

    def registry(self, host: str) -> str:
        """Return the registry that a whole host stands for; the host itself where no alias applies."""
        try:
            return self.canonical(named(f"{host}/x/x")).domain
        except UsageError:
            return host

    def meant(self, text: str) -> Reference:
        """Return what a reference means to which one of our hosts may belong; any other is returned as it is.

        Raises:
            UsageError: it is no reference.
        """
        reference = Reference.parse(text)
        registry = self.hosts.get(reference.domain)
        if registry is None:
            return reference
        if registry == ANY:
            return Reference.parse(str(reference).partition("/")[2])
        return _moved(reference, reference.domain, self.hosts)

    def served_as(self, repository: Reference, own: str) -> str:
        """Return what clients call a repository in canonical form at our own address `own` (`host[:port]`).

        It is a path that begins with the registry or an alias of it, else below one of `hosts`; "" if only `?ns=` can
        name it.

        Raises:
            UsageError: the name with an alias or below a host is too long.
        """
        if begins_path(repository.domain):
            return f"{own}/{repository.name}"
        for alias, meant in self.aliases.items():
            if begins_path(alias.partition("/")[0]) and (rest := below(repository.name, meant)) is not None:
                place = "/".join(filter(None, (alias, rest)))
                if "/" in place and self.canonical(named(place)).name == repository.name:
                    return f"{own}/{place}"
        for host, meant in self.hosts.items():
            rest = below(repository.name, meant if "/" in meant else self.registry(meant)) if meant != ANY else None
            if rest and self.canonical(self.meant(f"{host}/{rest}")).name == repository.name:
                return f"{host}/{rest}"
        return ""


def begins_path(host: str) -> bool:
    """Return whether the path of a request can begin with a registry: it has no port, and a dot or is localhost."""
    return not {*":["} & {*host} and ("." in host or host == "localhost")


def our_host(text: str) -> str:
    """Return the one spelling of a host without a path.

    Raises:
        UsageError: it is none.
    """
    host = registry_prefix(text)
    if "/" in host:
        raise UsageError(f"{host[:80]!r} has a path; write the host alone: {host.partition('/')[0]}")
    return host


def _moved(reference: Reference, prefix: str, to: Mapping[str, str]) -> Reference:
    rest = below(reference.name, prefix)
    place = "/".join(filter(None, (to[prefix], rest)))
    if "/" not in place:
        raise UsageError(f"{prefix} stands for {place}, a registry without a repository; write {place}/NAME")
    found = named(place)
    return Reference(found.domain, found.path, reference.tag, reference.digest)


def _check_ends(aliases: Mapping[str, str]) -> None:
    """Refuse aliases that lead from one to another without an end."""
    left = dict(aliases)
    while left:
        last = [alias for alias, meant in left.items() if not any(_meet(meant, other) for other in left)]
        if not last:
            chain = ", ".join(f"{alias}: {meant}" for alias, meant in left.items())
            raise UsageError(f"aliases lead back to themselves ({chain[:200]}); remove one of them")
        for alias in last:
            del left[alias]


def _meet(one: str, other: str) -> bool:
    return below(one, other) is not None or below(other, one) is not None
