"""Which image a request means: a repository of `local`, or one at a registry. Pure.

Three forms name a registry: the host that the client used (`names.hosts`), containerd's `?ns=`, and the first segment
of the name (`docker.io/library/nginx`). Several must agree, and decide nothing about what may be fetched.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mirrord.errors import UsageError
from mirrord.names.book import ANY, NameBook, our_host
from mirrord.names.naming import below, named
from mirrord.syncers.image.front.path import BadRequestError, RegistryPath
from mirrord.wire.host import HUB, HUB_ALIASES
from mirrord.wire.oci.reference import NAME_LIMIT, Reference


@dataclass(frozen=True, slots=True)
class AskedName:
    """A repository as the client names it. Messages to clients use no other name: an alias may hide a private registry.

    Attributes:
        registry: the registry as a clause has it: `up.example`, or `the registry behind m.example`.
        name: `up.example/team/app`.
    """

    registry: str
    name: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for.

    Attributes:
        path: its path.
        reference: the repository that it means, in canonical form, or None where it can only be one of `local`.
        called: what messages to the client call it.
        local: its name in `local` if such a repository exists; "" where the request names a registry beside the path.
        short: whether the path names no registry: then an existing repository of `local` is the only one it can mean.
        namespace: the registry of `?ns=`, for the answer; "" without one.
        wrong: why no registry can have a repository of this name; None where one can.
    """

    path: RegistryPath
    reference: Reference | None
    called: AskedName
    local: str
    short: bool = False
    namespace: str = ""
    wrong: BadRequestError | None = None


def asked_for(
    path: RegistryPath, host: str, namespace: str | None, book: NameBook, upstreams: Collection[str]
) -> Asked:
    """Find out what a request means.

    A repository of `local` may have any name (`docker.io__library__nginx`, `localhost_5000/app`), also one that looks
    like a registry and is none.

    Args:
        path: its path.
        host: `host[:port]` that the client used, or "".
        namespace: the value of `?ns=`, or None.
        book: aliases of registries, and hosts of ours.
        upstreams: the registries of the front: a short name is one at Docker Hub only if that is among them.

    Raises:
        BadRequestError: it means nothing, or two things at once.
    """
    ours = _registry_of(host, book)
    spoken = None if namespace is None else _registry(namespace)
    if ours and spoken and _canonical(f"{ours}/x/x", book).domain != _canonical(f"{spoken}/x/x", book).domain:
        raise BadRequestError(
            400, "NAME_INVALID", f"{host} stands for another registry than ns={spoken}; leave one of them out"
        )
    registry = ours or spoken
    called = _called(host if ours else "", spoken, path.name)
    dotted = _is_registry(path.name.partition("/")[0])
    local = "" if spoken or (ours and not dotted) else path.name
    short = not registry and not dotted
    try:
        reference: Reference | None = _meant(registry or (HUB if short else ""), called, path.name, book)
    except BadRequestError as error:
        if not local:
            raise
        return Asked(path, None, called, local, wrong=error)
    if short and HUB not in upstreams:
        reference = None
    return Asked(path, reference, called, local, short, spoken or "")


def _meant(registry: str, called: AskedName, name: str, book: NameBook) -> Reference:
    """Return the repository `name` of a registry, or of the one that it begins with itself.

    Raises:
        BadRequestError: no registry can have it.
    """
    if registry:
        return _canonical(_below(registry, called.registry, name, book), book)
    if "/" not in name:
        raise BadRequestError(404, "NAME_INVALID", f"{name} is a registry without a repository; write {name}/NAME")
    return _canonical(name, book)


def _called(host: str, spoken: str | None, name: str) -> AskedName:
    """Return how a client named a repository: by a host that stands for a registry, a namespace, or the path alone."""
    first = name.partition("/")[0]
    if spoken is not None:
        return AskedName(spoken, name if _is_registry(first) else f"{spoken}/{name}")
    if host:
        return AskedName(f"the registry behind {host}", f"{host}/{name}")
    return AskedName(first, name) if _is_registry(first) else AskedName(HUB, f"{HUB}/{name}")


def _registry_of(host: str, book: NameBook) -> str | None:
    """Return the registry that one of our hosts stands for, with its port or without; None if paths name it."""
    name = host.lower()
    bare = name.rpartition(":")[0] if name.rpartition(":")[2].isdecimal() else name
    meant = book.hosts.get(name) or book.hosts.get(bare)
    return None if meant == ANY else meant


def _registry(namespace: str) -> str:
    if len(namespace) > NAME_LIMIT:
        raise BadRequestError(400, "NAME_INVALID", "ns: is longer than a host")
    try:
        return our_host(namespace)
    except UsageError as error:
        raise BadRequestError(400, "NAME_INVALID", f"ns: {error}") from error


def _is_registry(segment: str) -> bool:
    return "." in segment or segment == "localhost"


def _below(registry: str, called: str, name: str, book: NameBook) -> str:
    """Return `host/path`; a name that begins with a registry itself has to name the same one, which is `called` so."""
    first, slash, _ = name.partition("/")
    if not slash or not _is_registry(first):
        return f"{registry}/{name}"
    named_one = _canonical(name, book)
    if below(named_one.name, _canonical(f"{registry}/x/x", book).name.removesuffix("/x/x")) is None:
        raise BadRequestError(400, "NAME_INVALID", f"the request is for {called}, but its name begins with {first}")
    return named_one.name


def _canonical(name: str, book: NameBook) -> Reference:
    """Return the repository of a whole `host/path` in its one spelling, aliases applied."""
    host, _, path = name.partition("/")
    if len(name) > NAME_LIMIT:
        raise BadRequestError(404, "NAME_INVALID", f"the name of the repository has more than {NAME_LIMIT} characters")
    try:
        reference = named(f"{HUB if host in HUB_ALIASES else host}/{path}")
    except UsageError as error:
        raise BadRequestError(404, "NAME_INVALID", str(error)) from error
    try:
        return book.canonical(reference)
    except UsageError as error:  # it says where the alias leads, which is not for clients
        raise BadRequestError(404, "NAME_INVALID", f"{host} is an alias, and leads to no repository here") from error
