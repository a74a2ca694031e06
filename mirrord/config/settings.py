"""`settings:`: the program itself. Few keys, all with defaults; each one changes something."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mirrord.config.check import Strict, check
from mirrord.config.lines import Problems, Value
from mirrord.config.units import Deadline, Size, Trust, between, parse_size
from mirrord.errors import UntrustedError
from mirrord.model.origin import ConfigOrigin
from mirrord.wire.origin import check_url

_LISTEN = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")
_ANYWHERE = {"0.0.0.0": "localhost", "[::]": "localhost"}  # noqa: S104 - addresses to listen on, and what to open instead


def _listen(text: str) -> str:
    match = _LISTEN.fullmatch(text)
    if not match or int(match["port"]) > 65535:
        raise ValueError(f"{text[:60]!r} is no address to listen on; write host:port, such as 127.0.0.1:8080")
    return text.lower()


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
    """`settings.spool`: content on its way."""

    budget: Annotated[Size, AfterValidator(between("16MiB", "1024TiB", parse_size))] = 20 * 2**30


class Log(Strict):
    """`settings.log`; `auto` is text on a terminal and JSON elsewhere."""

    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Strict):
    """`settings`.

    Attributes:
        listen: `host:port` of the HTTP server; port 0 takes a free one.
        url: `https://host[:port]` under which clients reach this server, in all addresses that are printed; by default
            it follows from `listen`.
        spool: content on its way.
        parallel: how many batches of one run, and how many mirrors of one command, are under way at once.
        trust: seconds for which a digest recorded at a target is trusted; a mirror may say otherwise.
        deadline: seconds after which a run is cancelled; a mirror may say otherwise.
        log: what is logged, and how.
    """

    listen: Annotated[str, AfterValidator(_listen), Field(examples=["127.0.0.1:8080"])] = "127.0.0.1:8080"
    url: Annotated[str, AfterValidator(_url), Field(examples=["https://mirror.example.org"])] | None = None
    spool: SpoolSettings = SpoolSettings()
    parallel: Annotated[int, Field(ge=1, le=64)] = 8
    trust: Trust = 12 * 3600.0
    deadline: Deadline = 6 * 3600.0
    log: Log = Log()

    def address(self, listen: str = "") -> str:
        """Return `scheme://host[:port]` for clients: `url`, else from where the server listens; "" while nobody knows.

        `listen` is where it really does, when that is known: `--listen` overrides the configuration, and port 0 takes
        a free one.
        """
        host, _, port = (listen or self.listen).rpartition(":")
        return self.url or ("" if port == "0" else f"http://{_ANYWHERE.get(host, host)}:{port}")


def read_settings(value: Value, problems: Problems, environ: Mapping[str, str]) -> Settings:
    """Validate `settings:`; `$MIRRORD_LISTEN`, as containers set it, overrides `settings.listen`."""
    written = dict(value) if isinstance(value, dict) else {}
    if listen := environ.get("MIRRORD_LISTEN"):
        written["listen"] = listen
        problems.origins["settings", "listen"] = ConfigOrigin("environment MIRRORD_LISTEN")
    return check(Settings, written, ("settings",), problems) or Settings()
