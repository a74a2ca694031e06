"""Where a database is and how it is entered: PostgreSQL, across the network or by a socket. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from mirrord.wire.secret import Secret

EXAMPLE: Final = "postgresql://db.example/mirrord"
_LIKE: Final = f"write {EXAMPLE}, with the role and @ before the host"  # messages mask a role
_ENTERED: Final = "holds a password; leave only the role before @, and write password: {env: NAME} beside url"
_SCHEMES: Final = ("postgresql", "postgres")
_PORT: Final = 5432
_PORTS: Final = re.compile("[0-9]{1,5}")
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f-\xa0\ud800-\udfff]")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]|/[^,]{0,100}")


@dataclass(frozen=True, slots=True)
class Server:
    """One server: a name or an address, or the folder of its socket."""

    host: str  # without brackets
    port: int

    @property
    def socket(self) -> bool:
        """Whether it is reached by a socket of this machine."""
        return self.host.startswith("/")

    def __str__(self) -> str:
        """Return it as a part of a URL."""
        host = f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        return host if self.port == _PORT else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A database of PostgreSQL.

    Attributes:
        servers: where it may be; the one that takes changes is used.
        name: of the database.
        user: the role, or "" for that of the operating system.
        password: its password, if it needs one, as it was when the configuration was read.
        fresh: reads the password again, for a new connection; ValueError with what is wrong with it.
        ca: PEM file with the authorities that vouch for the servers; None for those of this machine.
        insecure: whether connections across the network need no TLS.
    """

    servers: tuple[Server, ...]
    name: str
    user: str = ""
    password: Secret | None = None
    ca: str | None = None
    insecure: bool = False
    fresh: Callable[[], Secret] | None = field(default=None, repr=False, compare=False)

    def login(self) -> dict[str, str]:
        """Return the role and its password, as far as they are known, by the names of libpq's keywords; secret.

        Blocks. ValueError: the password cannot be read any more.
        """
        password = self.fresh() if self.fresh else self.password
        login = {"user": self.user, "password": password.reveal() if password else ""}
        return {name: value for name, value in login.items() if value}

    def __str__(self) -> str:
        """Return how messages name the database: its URL without the role, which they would mask."""
        hosts = ",".join(map(str, self.servers))
        return f"postgresql://{hosts}/{quote(self.name, safe='')}"


def read_database_url(url: str) -> DatabaseAddress:
    """Read the URL of a database, as libpq writes them: `postgresql://[USER@]HOST[:PORT][,…]/DATABASE`.

    A folder as `?host=/run/postgresql`, or in the place of a host with `%2F` for its slashes, is that of a socket.

    Raises:
        ValueError: it is not such a URL, or holds a password; the text repeats nothing of it.
    """
    if _CONTROL.search(url):
        raise ValueError(f"holds a blank or a control character; {_LIKE}")
    scheme, slashes, _ = url.partition("://")
    if not slashes or scheme.lower() not in _SCHEMES:
        raise ValueError(f"is not the address of a PostgreSQL database; {_LIKE}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"is not the address of a PostgreSQL database; {_LIKE}") from None
    login, _, places = parts.netloc.rpartition("@")
    hosts = _queried(parts.query, places)
    if ":" in unquote(login) or "@" in login:  # no role has a colon in its name
        raise ValueError(_ENTERED)
    name = unquote(parts.path.removeprefix("/"))
    if not name or "/" in name or parts.fragment or not hosts:
        raise ValueError(f"needs a host and the name of a database, and nothing behind it; {_LIKE}")
    return DatabaseAddress(tuple(_server(one) for one in hosts.split(",")), name, unquote(login))


def _queried(query: str, hosts: str) -> str:
    """Return the hosts, which may be a folder in the query; everything else there has a key of its own, or none."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    if any("password" in name.lower() for name in given):
        raise ValueError(_ENTERED)
    if not query:
        return hosts
    if list(given) != ["host"] or hosts or not given["host"].startswith("/"):
        raise ValueError(
            "has options after ?, of which only host=/FOLDER of a socket is known; TLS is verified without one,"
            " and `ca:` and `insecure:` stand beside url"
        )
    return given["host"]


def _server(text: str) -> Server:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, str(_PORT)
    host = unquote(host)
    if not _HOST.fullmatch(host) or not _PORTS.fullmatch(port) or not 0 < int(port) <= 65535:
        raise ValueError(f"has a host or a port that is none; {_LIKE}")
    return Server(host.strip("[]").lower() if not host.startswith("/") else host, int(port))
