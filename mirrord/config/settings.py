"""`settings:`: the program itself. Few keys, all with defaults; each one changes something."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from mirrord.config.about import AboutKeys
from mirrord.config.bucket import BUCKET_HINTS, BucketKeys, BucketUrl
from mirrord.config.check import Strict, check
from mirrord.config.files import absolute
from mirrord.config.keep import LocalSettings
from mirrord.config.lines import Problems, Trail, Value
from mirrord.config.pem import readable
from mirrord.config.record import RECORD_HINTS, RecordKeys
from mirrord.config.units import Deadline, Network, Rate, Size, Stale, Trust, between, parse_rate, parse_size
from mirrord.config.verify import VerifyKeys
from mirrord.errors import UntrustedError
from mirrord.model.origin import ConfigOrigin
from mirrord.wire.certificate import server_context
from mirrord.wire.database import EXAMPLE
from mirrord.wire.origin import check_url

_LISTEN = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")
_ANYWHERE = {"0.0.0.0": "localhost", "[::]": "localhost"}  # noqa: S104 - addresses to listen on, and what to open instead


def _listen(text: str) -> str:
    match = _LISTEN.fullmatch(text)
    if not match or int(match["port"]) > 65535:
        raise ValueError(f"{text[:60]!r} is not an address to listen on; write host:port, such as 127.0.0.1:8080")
    return text.lower()


Listen = Annotated[str, AfterValidator(_listen)]
"""Where to listen."""


def _url(text: str) -> str:
    """Return `scheme://host[:port]` of the address that clients use, in one spelling."""
    try:
        origin = check_url(text)
    except UntrustedError as error:
        raise ValueError(f"{error}; write https://host or https://host:port") from error
    if text.rstrip("/").count("/") > 2 or "?" in text or "#" in text:
        raise ValueError(
            f"{str(origin)!r} is followed by a path or a query; write {origin}: the names of images cannot have a path"
            " in front of /v2/, so let the proxy pass on a host name of its own"
        )
    return str(origin)


class SpoolSettings(Strict):
    """`settings.spool`: content in transit."""

    budget: Annotated[
        Size,
        AfterValidator(between("16MiB", "1024TiB", parse_size)),
        Field(
            description=(
                "Disk space for content in transit, at least 16 MiB. Clones that clients have not read yet may"
                " take up to a quarter as much in addition."
            )
        ),
    ] = 20 * 2**30


class Log(Strict):
    """`settings.log`; `auto` is text on a terminal and JSON elsewhere."""

    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="`json`, `text`, or `auto`: text on a terminal, JSON elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged: `debug`, `info`, `warning` or `error`."
    )


class TlsSettings(Strict):
    """`settings.tls`: TLS of our own."""

    certificate: Annotated[
        str,
        Field(
            description="PEM file with the certificate, followed by those of its issuers.",
            examples=["/etc/mirrord/tls/fullchain.pem"],
        ),
    ]
    key: Annotated[
        str,
        Field(description="PEM file with the unencrypted key of `certificate`.", examples=["/etc/mirrord/tls/key.pem"]),
    ]


class Settings(Strict):
    """`settings`: durations in seconds, sizes in bytes."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("port", "address", "host"), "write listen: 127.0.0.1:8080"),
        **{f"blobs.{key}": hint for key, hint in BUCKET_HINTS.items()},
        "token": "write tokens: /etc/mirrord/tokens, a folder with tokens.json",
        **{f"record.{key}": hint for key, hint in RECORD_HINTS.items()},
    }

    listen: Annotated[
        Listen,
        Field(
            description="`host:port` of the HTTP server; port 0 takes a free one. `MIRRORD_LISTEN` overrides it.",
            examples=["127.0.0.1:8080"],
        ),
    ] = "127.0.0.1:8080"
    url: (
        Annotated[
            str,
            AfterValidator(_url),
            Field(
                description=(
                    "`https://host[:port]` under which clients reach this server, for instance through a"
                    " proxy. It is used in every address that mirrord prints and shows. It has no path: image"
                    " names cannot have one before `/v2/`. Default: `http://` and `listen`."
                ),
                examples=["https://mirror.example.org"],
            ),
        ]
        | None
    ) = None
    tls: TlsSettings | None = Field(
        default=None,
        description=(
            "Speak TLS (1.2 or later) on `listen`, with this certificate. Changed files are loaded within seconds; a"
            " bad pair is logged, and the one before stays in use. Default: plain HTTP."
        ),
    )
    proxies: Annotated[
        tuple[Network, ...],
        Field(
            description=(
                "Addresses and networks of the proxies in front of mirrord. Only from them are `X-Forwarded-For`,"
                " `X-Forwarded-Proto`, `X-Forwarded-Host` and `Forwarded` used: for the address of a client, and for"
                " the addresses in answers. A proxy MUST set or remove these fields. `[]` trusts none."
            ),
            examples=[["10.1.2.3", "fd00::/8"]],
        ),
    ] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    record: RecordKeys | None = Field(
        default=None,
        description=(
            "A PostgreSQL database for what mirrord knows of its mirrors: its URL, or a mapping. Needs"
            " `pip install 'mirrord[scale]'`. Default: the file `mirrord.db` in the state directory."
        ),
        examples=[EXAMPLE],
    )
    spool: SpoolSettings = Field(default=SpoolSettings(), description="Content in transit.")
    blobs: BucketUrl | BucketKeys | None = Field(
        default=None,
        description=(
            "Bucket in which the content and the names of `local` are, for several replicas: `s3://BUCKET/PREFIX`, or"
            " the keys below. It needs `pip install 'mirrord[scale]'`, and a restart when it changes. Default: the"
            " state directory."
        ),
        examples=["s3://mirror.example.org/local"],
    )
    verify: VerifyKeys = Field(
        default=VerifyKeys(),
        description="When and how mirrors compare their targets with what was mirrored. Default: on command only.",
    )
    local: LocalSettings = Field(default=LocalSettings(), description="What mirrord itself keeps and serves.")
    parallel: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description=(
                "How many mirrors of one command, and how many batches of one run, are processed at a time: 1 to 64."
            ),
        ),
    ] = 8
    requests: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None,
        description=(
            "Maximum number of concurrent requests to all hosts together, 1 to 4096; each host has its own `requests`,"
            " too. Clients of the front keep at least a third. Default: no limit."
        ),
        examples=[32],
    )
    bandwidth: Annotated[Rate, AfterValidator(between("1KiB/s", "1TiB/s", parse_rate))] | None = Field(
        default=None,
        description=(
            "Limit for content from and to all hosts together, in bytes per second in each direction; each host has its"
            " own `bandwidth`, too. What the front reads counts, what its clients get does not: they have"
            " `limits.bandwidth`. It applies where the `bandwidth` of a host does. Default: no limit."
        ),
        examples=["40MiB/s"],
    )
    trust: Trust = Field(
        default=12 * 3600.0,
        description=(
            "How long a digest recorded at a target is trusted before the target is asked again. `0s` asks every time."
        ),
    )
    deadline: Deadline = Field(default=6 * 3600.0, description="A run that takes longer is cancelled. 10 s to 30 d.")
    stale: Stale | None = Field(
        default=None,
        description=(
            "Time without a successful run after which a mirror with a schedule counts as stale, 1 m to 3660 d."
            " Default: three times the longest time between two of its starts, at least `1h`."
        ),
    )
    denied: str | None = Field(
        default=None,
        description=(
            "Absolute path of the file with what was taken down: it is never mirrored, served or restored again."
            " `mirrord takedown` adds to it, so the user of mirrord must be able to replace it; it may be edited by"
            " hand, too. It must exist, outside of the folder of the configuration. Default: nothing is denied."
        ),
        examples=["/var/lib/mirrord/denied.yaml"],
    )
    tokens: Annotated[str, AfterValidator(absolute)] | None = Field(
        default=None,
        description=(
            "Absolute path of the folder whose `tokens.json` has the tokens of clients, for replicas that share it."
            " `mirrord token add NAME --state FOLDER` makes it. Default: the state directory."
        ),
        examples=["/etc/mirrord/tokens"],
    )
    about: AboutKeys = Field(
        default=AboutKeys(),
        description="What you say of the mirror: shown on pages, in documents, and where something was taken down.",
    )
    log: Log = Field(default=Log(), description="Logging.")

    @property
    def scheme(self) -> str:
        """`https` if the server speaks TLS itself, else `http`."""
        return "https" if self.tls else "http"

    def address(self, listen: str = "") -> str:
        """Return `scheme://host[:port]` for clients: `url`, else from where the server listens; "" while nobody knows.

        `listen` is where it really does, when that is known: `--listen` overrides the configuration, and port 0 takes
        a free one.
        """
        host, _, port = (listen or self.listen).rpartition(":")
        return self.url or ("" if port == "0" else f"{self.scheme}://{_ANYWHERE.get(host, host)}:{port}")

    def reaches_others(self, listen: str = "") -> bool:
        """Return whether clients beyond this machine can reach the server: by `url`, or by where it listens."""
        hosts = {(listen or self.listen).rpartition(":")[0], *({urlsplit(self.url).hostname} if self.url else ())}
        return not all(_on_loopback(host or "") for host in hosts)


def _on_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def read_settings(value: Value, problems: Problems, environ: Mapping[str, str]) -> Settings:
    """Validate `settings:`; `$MIRRORD_LISTEN`, as containers set it, overrides `settings.listen`."""
    written = dict(value) if isinstance(value, dict) else {}
    if listen := environ.get("MIRRORD_LISTEN"):
        written["listen"] = listen
        problems.origins["settings", "listen"] = ConfigOrigin("environment MIRRORD_LISTEN")
    settings = check(Settings, written, ("settings",), problems) or Settings()
    if settings.tls:
        check_pair(settings.tls.certificate, settings.tls.key, ("settings", "tls"), problems)
    return settings


def check_pair(certificate: str, key: str, trail: Trail, problems: Problems) -> None:
    """Load the `certificate` and `key` of a server, so that a wrong file is found now and not by the first client."""
    pair = [("certificate", certificate), ("key", key)]
    if all([readable(path, (*trail, name), problems) for name, path in pair]):  # noqa: C419 - each one has to be reported
        try:
            server_context(certificate, key)
        except ValueError as error:
            files = " and ".join(dict.fromkeys(path for _, path in pair))
            problems.add((*trail, "certificate"), f"{files} {error}")
