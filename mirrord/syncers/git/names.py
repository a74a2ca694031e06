"""Where a Git mirror reads from and writes to, as addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from mirrord.errors import ConfigError, MirrordError, UntrustedError
from mirrord.plan.naming import target_text
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.wire.forges.known import canonical, forge_of
from mirrord.wire.forges.port import joined, web_host
from mirrord.wire.git.address import Address, check
from mirrord.wire.git.refs import valid_oid

if TYPE_CHECKING:
    from mirrord.syncers.git.spec import GitSpec, GitTarget
    from mirrord.wire.forges.page import Page
    from mirrord.wire.forges.port import Forge
    from mirrord.wire.host import HostBook


FOLDER: Final = "git"
"""Where the caches are, in the state directory."""
MARK: Final = "mirrord-serve"
"""In the folder of a cache: the name under which it is served, in UTF-8."""


def spec_of(mirror: Mirror) -> GitSpec:
    """Return the mirror's own part as what it is."""
    return cast("GitSpec", mirror.spec)


def options_of(target: Target) -> GitTarget:
    """Return the target's own part as what it is."""
    return cast("GitTarget", target.options)


def repository_name(mirror: Mirror) -> str:
    """Return what the repository is called at targets with `{name}`, and in `local` (`/git/<name>.git`)."""
    return spec_of(mirror).name or mirror.name


def address(mirror: Mirror, url: str) -> str:
    """Return the URL of the repository that `local` serves, for `git clone`."""
    return f"{url}/git/{repository_name(mirror)}.git"


def raw_address(mirror: Mirror, file: Page, url: str) -> str | None:
    """Return the URL at which `local` serves a file; None without `url`, and for a short commit id: it takes none."""
    if not url or (file.commit and not valid_oid(file.words[0])):
        return None
    return f"{url}/{joined('raw', repository_name(mirror), *file.full)}"


def source_address(mirror: Mirror) -> Address:
    """Return the address that the mirror reads. Raises ConfigError: that is no address of a repository."""
    return _read(spec_of(mirror).source, None, f"{mirror.origin}: mirrors.{mirror.name}.from").address


def target_address(mirror: Mirror, target: Target) -> Address:
    """Return the address that `target` stands for.

    `{name}` and `{mirror}` in `to` are replaced. A `to` without them is one repository when it ends in `.git`, and else
    the place under which the repository gets its name, as for images. Raises ConfigError: that is no address, or not of
    the form that repositories have at this kind of host.
    """
    return _target(mirror, target).address


def forge_at(mirror: Mirror, target: Target) -> Forge:
    """Return which kind of host a target is on. Raises ConfigError: as `target_address`."""
    return _target(mirror, target).forge


def places(mirror: Mirror) -> tuple[str, Mapping[str, str]]:
    """Return origin and targets in canonical spelling: one for all ways to write a repository. Raises ConfigError."""
    found = dict[str, str]()
    for target in mirror.targets:
        # A file system may ignore case, and URLs that differ by case only confuse people.
        local = f"{LOCAL}/{repository_name(mirror).casefold()}" if target.name == LOCAL else ""
        found[target.name] = local or canonical(target_address(mirror, target), options_of(target).host)
    return canonical(source_address(mirror)), found


def hosts(mirror: Mirror) -> frozenset[str]:
    """Return the hosts that a mirror names: those of its repositories, and those at which their API is."""
    named = [target_address(mirror, target) for target in mirror.targets if target.name != LOCAL]
    addresses = (source_address(mirror), *named)
    return frozenset(host for address in addresses for host in (address.host, web_host(address)))


def ignored_keys(mirror: Mirror, book: HostBook) -> tuple[str, ...]:
    """Return notices about keys that git and ssh cannot obey, and about addresses that may be slips.

    Raises ConfigError with a problem for each address that `hosts:` does not allow.
    """
    addresses = {f"{mirror.origin}: mirrors.{mirror.name}.from": source_address(mirror)}
    for target in mirror.targets:
        if target.name != LOCAL:
            addresses[f"{target.origin}: targets.{target.name}.to"] = target_address(mirror, target)
    warnings, problems = [], []
    for place, address in addresses.items():
        policy, where = book.policy(address.host), f"hosts.{address.host}"
        try:
            check(address, policy)
        except UntrustedError as error:
            problems.append(f"{place}: {error}")
        if address.relative and _PORT.match(address.path) and forge_of(address).name == "plain":
            port, _, path = address.path.partition("/")
            meant = f"ssh://{address.user}@{address.host}:{port}/{path}"
            warnings.append(f"{place}: {address} reads {port} as a folder; if it is a port, write {meant}")
        if policy.bandwidth is not None:
            over, keep = ("Git over ssh", "its") if address.scheme == "ssh" else ("what git fetches", "pushes and")
            what = f"has no effect on {over} ({keep} LFS objects keep to it); limit it in the network"
            warnings.append(f"{where}.bandwidth: {what}")
        if policy.proxy is not None and address.scheme == "ssh":
            what = "has no effect on Git over ssh, which connects directly; write an https:// address"
            warnings.append(f"{where}.proxy: {what}")
    if problems:
        raise ConfigError(*problems)
    return tuple(warnings)


def _target(mirror: Mirror, target: Target) -> _Repository:
    text = target_text(mirror, target, repository_name(mirror), below=not target.to.strip().endswith(".git"))
    return _read(text, options_of(target).host, f"{target.origin}: targets.{target.name}.to")


_PORT: Final = re.compile(r"[0-9]{2,5}/")


class _Repository(NamedTuple):
    address: Address
    forge: Forge


def _read(text: str, word: str | None, where: str) -> _Repository:
    try:
        return _parsed(text, word)
    except MirrordError as error:
        raise ConfigError(f"{where}: {error}") from error


@lru_cache(4096)  # several rooms ask, in each run
def _parsed(text: str, word: str | None) -> _Repository:
    address = Address.parse(text)
    forge = forge_of(address, word)
    if forge.name != "plain" and not address.path.endswith(".git"):
        # Some hosts answer the short form with a redirect, which is not followed with a credential.
        address = Address.parse(f"{text.rstrip('/')}.git")
    if not forge.fits(address):
        raise ConfigError(f"{text} is not a repository at {forge.name}; write {forge.form} behind the host")
    return _Repository(address, forge)
