"""Certificates in PEM files: what a server shows with one, and when it expires."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

_FIRST: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]{1,65536}-----END CERTIFICATE-----")
_VERSION: Final = 0xA0  # tag of the optional version, before the serial number (RFC 5280 §4.1)
_VALIDITY: Final = 3  # index after the version: serial number, signature, issuer, validity
_SOON: Final = timedelta(days=14)
_LARGEST: Final = 4 << 20  # bytes of a file that are read
_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")  # Debian's, Red Hat's
_FORMS: Final = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}  # UTCTime and GeneralizedTime


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return what a server needs to speak TLS 1.2 or later with this certificate (chain) and its key, PEM files.

    Raises:
        ValueError: they cannot be read, or do not belong together; the message is a clause about the files.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # The empty password keeps OpenSSL from asking on the terminal for the one of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError("do not belong together; give the key for which the certificate was issued") from error
        raise ValueError("do not contain a PEM certificate and its unencrypted key") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return context


def system_authorities() -> str:
    """Return the PEM file with the authorities that this machine trusts, for programs that look for it elsewhere."""
    paths = (ssl.get_default_verify_paths().cafile, *_BUNDLES)
    return next((path for path in paths if path and Path(path).is_file()), "system")


def expiry(pem: bytes) -> datetime | None:
    """Return when the first certificate in a PEM file expires, or None if there is none or it is malformed."""
    found = _FIRST.search(pem)
    try:
        der = ssl.PEM_cert_to_DER_cert(found[0].decode()) if found else b""
        _, whole = next(_values(der))
        _, signed = next(_values(whole))
        fields = [content for tag, content in _values(signed) if tag != _VERSION]
        tag, end = list(_values(fields[_VALIDITY]))[1]
        return datetime.strptime(end.decode("ascii"), _FORMS[tag]).replace(tzinfo=UTC)
    except (ValueError, KeyError, IndexError, StopIteration):
        return None


def expiry_notice(file: str, expires: datetime | None, now: datetime) -> str:
    """Return a sentence if the certificate in `file` expires within 14 days, or has expired; else ""."""
    if expires is None or expires - now > _SOON:
        return ""
    verb = "expires on" if expires > now else "expired on"
    return f"{file}: the certificate {verb} {expires:%Y-%m-%d %H:%M} UTC; renew it"


def expiry_of(file: str) -> datetime | None:
    """Return when the certificate in a PEM file expires, or None if that cannot be read. Blocks."""
    try:
        with Path(file).open("rb") as opened:
            return expiry(opened.read(_LARGEST))
    except OSError:
        return None


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each value of a sequence in DER (X.690 §8.1)."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            more = length & 0x7F
            length, at = int.from_bytes(data[at : at + more], "big"), at + more
        if at + length > len(data):
            raise ValueError("truncated")
        yield tag, data[at : at + length]
        at += length
