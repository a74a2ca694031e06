"""Who is notified. The address of a hook is a secret: texts name its host, and nothing else of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from mirrord.model.notice import Occasion
from mirrord.wire.origin import Origin, check_url, parted
from mirrord.wire.secret import Secret

TELEGRAM: Final = "https://api.telegram.org"
"""Where the Bot API is, unless somebody runs a server of their own."""
_WORD, _VALUE = 16, 8  # characters from which on a part of a path, and a value of a query, is a secret of its own


_TOKEN: Final = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,128}")


def origin_of(url: Secret) -> Origin:
    """Return the origin of a secret address. Raises UntrustedError: it is none."""
    return check_url(url.reveal())


def bot_address(token: Secret, api: Secret | None) -> Secret:
    """Return where messages of a Telegram bot go; `api` is the address of a Bot API server, or None.

    Raises:
        ValueError: this is not the token of a bot.
    """
    if not _TOKEN.fullmatch(token.reveal()):
        raise ValueError("is not the token of a bot; copy it from @BotFather: digits, a colon, letters")
    base = api.reveal().rstrip("/") if api else TELEGRAM
    return Secret(f"{base}/bot{token.reveal()}/sendMessage")


@dataclass(frozen=True, slots=True)
class Receiver:
    """One entry of `notify:`, validated.

    Attributes:
        name: its name.
        kind: the service, a key of `known.SERVICES`.
        url: where messages go; secret.
        secret: key for signatures, or None.
        chat: the chat of a Telegram bot, else "".
        on: what is reported to it.
        mirrors: names of mirrors and globs.
        language: of its messages.
        every: least seconds between two messages.
    """

    name: str
    kind: str
    url: Secret
    secret: Secret | None = None
    chat: str = ""
    on: frozenset[Occasion] = frozenset()
    mirrors: tuple[str, ...] = ("*",)
    language: str = "en"
    every: float = 300.0
    _parts: tuple[Secret, ...] = field(default=(), repr=False, compare=False)  # they live as long as the address

    def __post_init__(self) -> None:
        """Register the parts of the address that would open it, so that no text shows them."""
        _, rest = parted(self.url.reveal())
        split = urlsplit(rest)
        parts = [rest.lstrip("/"), *(value for _, value in parse_qsl(split.query))]
        parts = [part for part in parts if len(part) >= _VALUE]
        parts += [part for part in split.path.split("/") if len(part) >= _WORD]
        object.__setattr__(self, "_parts", tuple(map(Secret, parts)))

    @property
    def host(self) -> str:
        """`host[:port]` of its address, the only part of it that may be shown."""
        return origin_of(self.url).authority

    @property
    def address(self) -> str:
        """Its address, to be sent to and nothing else."""
        return self.url.reveal()

    def signature(self, sign: Callable[[str], str]) -> str:
        """Return what `sign` makes of the key for signatures; "" without one."""
        return sign(self.secret.reveal()) if self.secret else ""

    @property
    def about_hosts(self) -> bool:
        """Whether hosts, which belong to no mirror, are reported to it."""
        return "*" in self.mirrors

    def about(self, mirror: str, globs: Sequence[str] = ()) -> bool:
        """Return whether a mirror is reported to it: whether one of its globs, or of `globs`, matches the name."""
        return any(fnmatchcase(mirror, glob) for glob in globs or self.mirrors)
