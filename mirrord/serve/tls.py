"""TLS of our own: the certificate of the public address, loaded again when its files change.

A new pair is loaded into a context of its own, and takes effect when it is good: connections that begin then get it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from mirrord.wire.certificate import expiry_notice, expiry_of, server_context

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the files."""
_DAILY: Final = timedelta(days=1)

_Stamp = tuple[object, ...]


class ServedCertificate:
    """The certificate in use.

    Attributes:
        name: where the configuration has it.
        context: for a listener; it stays the same.
        error: why a changed pair is not in use, or "".
        expires: when the certificate in use expires, or None if it does not say.
    """

    def __init__(
        self,
        certificate: str,
        key: str,
        warn: Callable[[str, str], None],
        now: Callable[[], datetime],
        *,
        name: str = "settings.tls",
    ) -> None:
        """Load the pair; ValueError says what is wrong. `warn` gets the level and message of what a log should say."""
        self.name = name
        self._files = certificate, key
        self._warn, self._now = warn, now
        self._stamp = self._look()
        self.context = self._current = server_context(*self._files)
        self.context.sni_callback = self._choose
        self.error = ""
        self.expires = expiry_of(self._files[0])
        self._warned: datetime | None = None

    def check_expiry(self) -> None:
        """Warn once a day when the certificate expires within 14 days, or has expired."""
        now = self._now()
        text = expiry_notice(self._files[0], self.expires, now)
        if text and (self._warned is None or now - self._warned >= _DAILY):
            self._warned = now
            self._warn("warning", text)

    async def follow(self, every: float = LOOK_EVERY) -> None:
        """Look at the files again and again, and use a new pair when it is good."""
        while True:
            self.check_expiry()
            await asyncio.sleep(every)
            if found := await asyncio.to_thread(self.refresh):
                self._warn(*found)

    def refresh(self) -> tuple[str, str] | None:
        """Load the pair again if a file has changed, and return what a log should say. A bad one changes nothing."""
        stamp = self._look()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            fresh = server_context(*self._files)
        except ValueError as error:
            self.error = f"{' and '.join(dict.fromkeys(self._files))} {error}"
            return "error", f"{self.name}: {self.error}; the certificate before stays in use"
        self._current, self.error = fresh, ""
        self.expires, self._warned = expiry_of(self._files[0]), None
        until = f" until {self.expires:%Y-%m-%d}" if self.expires else ""
        return "info", f"{self.name}: a new certificate is in use{until}"

    def _choose(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        """Give a new connection the current certificate; OpenSSL asks for each, also without a server name."""
        connection.context = self._current

    def _look(self) -> _Stamp:
        found = list[object]()
        for file in self._files:
            with suppress(OSError):
                status = Path(file).stat()  # through links, as certificate managers and Kubernetes make them
                found += [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        return tuple(found)
