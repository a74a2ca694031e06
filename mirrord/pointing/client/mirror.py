"""What a client's configuration is made of: where each registry is served, and the files that say so. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mirrord.errors import UsageError
from mirrord.wire.host import HUB

CA_FILE: Final = "mirrord-ca.crt"
"""The certificate authority of the mirror, in a folder of the client."""
MARK: Final = "# by `mirrord client-config`"
"""The first line of each file that is ours alone."""
Version = tuple[int, ...]
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})(?:[.+-][0-9A-Za-z.+-]{0,40})?")


@dataclass(frozen=True, slots=True)
class PointedRegistry:
    """A registry, and where the mirror serves it.

    Attributes:
        registry: as it is written in names of images: `docker.io`.
        endpoint: `host[/path]` for clients that say in each request which registry they mean (`?ns=`).
        place: `host[/path]` that stands before the path of an image in its name; "" where no name can be that.
    """

    registry: str
    endpoint: str
    place: str


@dataclass(frozen=True, slots=True)
class ClientMirror:
    """A mirror as its clients see it.

    Attributes:
        scheme: `https` or `http`.
        host: `host[:port]`.
        registries: what it serves, in the order of the configuration.
        hub: `host[:port]` that stands for Docker Hub without a path; "" for none.
        fallback: whether clients may ask the registry itself where the mirror does not answer.
        ca: PEM text of the authority of the mirror's certificate; "" for one that clients know.
        token: whether clients need a token.
    """

    scheme: str
    host: str
    registries: tuple[PointedRegistry, ...]
    hub: str = ""
    fallback: bool = True
    ca: str = ""
    token: bool = False

    @property
    def insecure(self) -> bool:
        """Whether it speaks plain HTTP."""
        return self.scheme == "http"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every `host[:port]` that clients connect to, the mirror's own first."""
        places = (one.place or one.endpoint for one in self.registries)
        return tuple(dict.fromkeys((self.host, *(place.partition("/")[0] for place in places))))

    def url(self, one: PointedRegistry) -> tuple[str, bool]:
        """Return the URL of an endpoint in the API of registries, and whether that has a path of its own."""
        host, _, path = one.endpoint.partition("/")
        return f"{self.scheme}://{host}{f'/v2/{path}' if path else ''}", bool(path)

    def authority(self, *paths: str) -> tuple[ClientFile, ...]:
        """Return the authority of the mirror's certificate as a file at each path; none for one that clients know."""
        return tuple(ClientFile(path, self.ca) for path in paths) if self.ca else ()

    def named(self) -> tuple[PointedRegistry, ...]:
        """Return the registries that the name of an image can begin with."""
        return tuple(one for one in self.registries if one.place)


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A file of a client.

    Attributes:
        path: where it belongs; relative where the user chooses the folder.
        text: its content.
        part: whether this is to be added to a file that has more in it.
    """

    path: str
    text: str
    part: bool = False


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """All that a client needs.

    Attributes:
        files: in the order in which they are written.
        after: the command after which they are in use; "" where none is needed.
        notes: what else the user has to know, a sentence each.
    """

    files: tuple[ClientFile, ...]
    after: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """A client, and what makes its configuration.

    Attributes:
        name: as it is typed.
        setup: makes the files, for a version or for an unknown one.
        versions: those at which the files change, the oldest that is known first; () where all read the same.
    """

    name: str
    setup: Callable[[ClientMirror, Version | None], ClientSetup]
    versions: tuple[str, ...] = ()

    def version(self, text: str) -> Version:
        """Read the version of the client as people write it.

        Raises:
            UsageError: it is none, is older than what is known, or does not matter.
        """
        if not self.versions:
            raise UsageError(f"--version {text[:20]!a}: all versions of {self.name} read the same; leave it out")
        found = _VERSION.fullmatch(text)
        known = f"known are {self.versions[0]} and later, with changes at {', '.join(self.versions[1:])}"
        if not found:
            raise UsageError(f"--version {text[:20]!a} is no version; write one such as {self.versions[-1]}: {known}")
        version = int(found[1]), int(found[2])
        if version < tuple(map(int, self.versions[0].split("."))):
            raise UsageError(
                f"--version {text[:20]!a}: nothing is known of {self.name} before {self.versions[0]}; {known}"
            )
        return version


def token_notes(mirror: ClientMirror, *commands: str) -> tuple[str, ...]:
    """Return the note about the token, where clients need one; `commands` log in with it."""
    if not mirror.token:
        return ()
    how = " or ".join(f"`{command} login --username token {mirror.host}`" for command in commands)
    return (f"clients need a token (`mirrord token add NAME --read` prints one): {how or 'see the comments'}",)


def unnamed_notes(mirror: ClientMirror) -> tuple[str, ...]:
    """Return the note about registries that this client cannot ask the mirror for."""
    left = [one.registry for one in mirror.registries if not one.place]
    if not left:
        return ()
    return (f"left out, since no name of an image can begin with them here: {', '.join(left)}; write names: aliases",)


def fallback_notes(mirror: ClientMirror, client: str) -> tuple[str, ...]:
    """Return the note that a client always asks the registry itself, where that was not wanted."""
    if mirror.fallback:
        return ()
    return (f"{client} cannot be kept from the registry itself: block {HUB} and the others in your network",)


def quoted(text: str) -> str:
    """Write a text as a string that JSON, YAML and TOML read: names of hosts and paths need no escapes."""
    return f'"{text}"'


def indented(text: str, by: str) -> str:
    """Indent every line."""
    return "".join(f"{by}{line}\n" for line in text.splitlines())
