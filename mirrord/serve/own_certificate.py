"""The certificate of the webhook where the configuration names none: an authority of our own, kept in the state."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from mirrord.errors import MissingError, StorageError
from mirrord.files import beside, link_durably, storage_errors, write_durably
from mirrord.wire.authority import check_authority, is_current, new_authority, new_certificate

_LARGEST: Final = 64 << 10
_STRAY: Final = 3600.0  # seconds after which nobody is at work on a file


class OwnCertificate:
    """An authority and a certificate in `<state>/webhook`. Everything blocks; several processes may use it at a time.

    Attributes:
        file: the certificate with its key, as PEM.
    """

    def __init__(self, state: Path) -> None:
        """Use the state; nothing is written yet."""
        self._authority = state / "webhook" / "authority.pem"
        self.file = state / "webhook" / "certificate.pem"

    def authority(self, now: datetime) -> bytes:
        """Return the certificate of the authority as PEM; a new one when there is none.

        Raises:
            StorageError: it cannot be read or written.
        """
        return self._both(now)[1]

    def renew(self, names: Sequence[str], now: datetime) -> bool:
        """Write a new certificate if the one that is there is not good for a while; return whether it did.

        Raises:
            StorageError: the authority or the certificate cannot be read or written.
        """
        self._sweep(now)
        authority, _ = self._both(now)
        if is_current(_read(self.file), authority, names, now):
            return False
        write_durably(self.file, new_certificate(authority, names, now))
        return True

    def _sweep(self, now: datetime) -> None:
        """Remove what processes that were killed have left, which has keys; one that is at work takes no hour."""
        folder = self.file.parent
        with storage_errors(folder):
            for stray in folder.glob(".*.tmp"):
                with suppress(FileNotFoundError):  # a process that was at work, or swept, too
                    if now.timestamp() - stray.stat().st_mtime > _STRAY:
                        stray.unlink()

    def _both(self, now: datetime) -> tuple[bytes, bytes]:
        """Return a good authority with and without its key. Of two processes that make one, both get the first."""
        authority = self._found(now)
        try:
            return authority, check_authority(authority, now)
        except ValueError as error:  # the cluster would not trust another one, so that none is made unasked
            renew = "else move it away, start again, and give the new caBundle to the cluster"
            raise StorageError(f"{self._authority}: {error}; restore it from a backup, {renew}") from error

    def _found(self, now: datetime) -> bytes:
        """Return what is in the file, which is made if there is none."""
        if found := _read(self._authority):
            return found
        fresh = beside(self._authority)
        with storage_errors(self._authority):
            try:
                write_durably(fresh, new_authority(now))
                link_durably(fresh, self._authority)
            finally:
                fresh.unlink(missing_ok=True)
        return _read(self._authority)


def _read(file: Path) -> bytes:
    """Return what is in a file, nothing where there is none."""
    try:
        with storage_errors(file, missing=True), file.open("rb") as opened:
            return opened.read(_LARGEST)
    except MissingError:
        return b""
