"""Which registries the front serves, and where: what clients are pointed at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from mirrord.config.load import Configuration
from mirrord.errors import UsageError
from mirrord.names.book import ANY, NameBook
from mirrord.names.naming import named
from mirrord.pointing.client.mirror import ClientMirror, PointedRegistry
from mirrord.pointing.image_mirrors import KIND
from mirrord.pointing.places import own_registry
from mirrord.syncers.image.upstream.allow_file import read_lists
from mirrord.wire.host import HUB

_SAMPLE = "/x/x"  # deep enough that no `library/` is put in front


def client_mirror(read: Configuration, *, fallback: bool = True, ca: str = "") -> tuple[ClientMirror, tuple[str, ...]]:
    """Return the mirror as clients see it, and notices about it. Reads the allow list of the front, so it blocks.

    A registry is served when it is one of the front's `upstreams`, and `allow` has a line for it. Aliases of such a
    registry are served, too.

    Args:
        read: the configuration.
        fallback: whether clients may ask the registry itself where the mirror does not answer.
        ca: PEM text of the authority of the mirror's certificate; "" for one that clients know.

    Raises:
        UsageError: there is no front, or it serves nothing.
        ConfigError: nobody knows its address.
    """
    rules = read.fronts.get(KIND)
    if rules is None:
        raise UsageError("no front serves registries to clients; write front: {image: {upstreams: …, allow: …}}")
    own, scheme = own_registry(read), "https" if read.settings.address().startswith("https:") else "http"
    lists, _, problems = read_lists(rules, read.names)
    allowed = {entry.name.partition("/")[0] for entry in lists.allow.entries()}
    excepted = {entry.name for entry in read.pointing.excepted if entry.wildcard == "/**"}
    hosts = [host for host in rules.upstreams if (problems or host in allowed) and host not in excepted]
    pointed = tuple(one for host in hosts for one in _pointed(host, own, read.names))
    if not pointed:
        raise UsageError(f"{rules.place('front.image.allow')}: allows nothing of any of the upstreams; add a line")
    hub = _hub(own, read.names) if HUB in hosts else ""
    mirror = ClientMirror(scheme, own, pointed, hub, fallback, ca, read.needs_token())
    return mirror, tuple(_notices(read, problems))


def _notices(read: Configuration, problems: Sequence[str]) -> Iterator[str]:
    if problems:
        yield f"{problems[0]}; all upstreams of the front are pointed at"
    if not read.settings.reaches_others():
        own = read.settings.address()
        yield f"{own} is this machine alone; for other clients write settings: {{url: https://mirror.example.com}}"


def _pointed(registry: str, own: str, book: NameBook) -> Iterator[PointedRegistry]:
    """Yield a registry, and the aliases of it that are hosts."""
    aliases = [alias for alias in book.aliases if "/" not in alias and book.registry(alias) == registry]
    for name in (registry, *aliases):
        host = _stands_for(own, book)
        if host is None:
            yield PointedRegistry(name, own, _place(name, own, book))
        elif place := next((ours for ours, meant in book.hosts.items() if _is(meant, registry, book)), ""):
            yield PointedRegistry(name, place, place)


def _place(name: str, own: str, book: NameBook) -> str:
    with suppress(UsageError):
        return book.served_as(named(f"{name}{_SAMPLE}"), own).removesuffix(_SAMPLE)
    return ""


def _stands_for(own: str, book: NameBook) -> str | None:
    """Return the one registry that our own address stands for; None where paths and `?ns=` say it."""
    meant = book.hosts.get(own) or book.hosts.get(own.rpartition(":")[0], ANY)
    return None if meant == ANY else meant


def _is(meant: str, registry: str, book: NameBook) -> bool:
    return meant != ANY and "/" not in meant and book.registry(meant) == registry


def _hub(own: str, book: NameBook) -> str:
    """Return the host at which a path without a registry is one of Docker Hub."""
    ours = next((host for host, meant in book.hosts.items() if _is(meant, HUB, book)), "")
    return ours or (own if _stands_for(own, book) is None else "")
