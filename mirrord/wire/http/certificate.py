"""What an operator needs to know of a certificate that is refused for its time or its names: those, in words.

OpenSSL's error has neither. A second connection has them, on which nothing is sent: its context lets any name and time
pass, but no other authority than those that are trusted, so that strangers put no words into our messages.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Any, Final

NOT_YET: Final = frozenset({9})  # X509_V_ERR_*, see `man X509_STORE_CTX_get_error`
EXPIRED: Final = frozenset({10})
OTHER_NAME: Final = frozenset({62, 64})
SHOWN: Final = NOT_YET | EXPIRED | OTHER_NAME
_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME, which Python has no name for
_MOST_NAMES: Final = 5
_LONGEST_NAME: Final = 100


def lenient(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let `context` accept certificates for other names and times; of nothing but a look."""
    context.check_hostname = False
    context.verify_flags |= _NO_CHECK_TIME
    return context


def shown(code: int, certificate: dict[str, Any]) -> str:
    """Return what `certificate` (as `getpeercert` gives it) says about the error `code`, in brackets, or ""."""
    if code in OTHER_NAME:
        names = [str(name) for _, name in certificate.get("subjectAltName", ())]
        words = [name[:_LONGEST_NAME] for name in names[:_MOST_NAMES] if name.isprintable()]
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        return f" ({', '.join(words)}{more})" if words else ""
    word, key = ("valid until", "notAfter") if code in EXPIRED else ("valid from", "notBefore")
    try:
        at = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate[key]), UTC)
    except (KeyError, ValueError, OverflowError):
        return ""
    return f" ({word} {at:%Y-%m-%d %H:%M} UTC)"
