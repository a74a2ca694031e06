"""What aiohttp and OpenSSL raise, as errors of ours: each says what failed at which host, and what to do.

The texts of their errors may hold URLs, and are not repeated.
"""

from __future__ import annotations

import os
import re
import ssl
from datetime import UTC, datetime
from typing import Any, Final

from mirrord.errors import BrokenError, MirrordError, RefusedError, StalledError, UnreachableError
from mirrord.wire import advice
from mirrord.wire.http.lean import aiohttp
from mirrord.wire.http.message import PLAIN_SPOKEN, WireRequest, permanent
from mirrord.wire.proxy import Proxy

NOT_YET: Final = frozenset({9})  # X509_V_ERR_*, see `man X509_STORE_CTX_get_error`
EXPIRED: Final = frozenset({10})
OTHER_NAME: Final = frozenset({62, 64})
SHOWN: Final = NOT_YET | EXPIRED | OTHER_NAME
_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)  # X509_V_FLAG_NO_CHECK_TIME, which Python has no name for
_MOST_NAMES: Final = 5
_LONGEST_NAME: Final = 100

_MEANINGS: Final[tuple[tuple[tuple[type[Exception], ...], type[MirrordError], str], ...]] = (
    ((aiohttp.ConnectionTimeoutError,), UnreachableError, "no connection in time"),
    ((aiohttp.ServerTimeoutError, TimeoutError), StalledError, "no bytes in time"),
    ((aiohttp.ClientConnectorDNSError,), UnreachableError, "the name cannot be resolved"),
    ((aiohttp.ClientConnectorError,), UnreachableError, "no connection"),
    ((aiohttp.ClientResponseError, aiohttp.http.HttpProcessingError), BrokenError, "an answer that is not HTTP"),
    ((aiohttp.InvalidURL, ValueError), RefusedError, "the URL cannot be requested"),
    ((aiohttp.ClientError, OSError), BrokenError, "the connection ended in the middle"),
)

_CERTIFICATES: Final[tuple[tuple[frozenset[int], str], ...]] = (  # {} is what the certificate says
    (NOT_YET, "its certificate is not valid yet{}; check the clock of this machine"),
    (EXPIRED, "its certificate has expired{}; it must be renewed, unless the clock of this machine is wrong"),
    (frozenset({18}), f"its certificate is self-signed; to trust it {advice.CA}"),
    (
        frozenset({2, 19, 20, 21}),
        f"its certificate is from an authority that is not known here; to trust it {advice.CA}",
    ),
    (OTHER_NAME, "its certificate is for another name{}; write the host as its certificate names it"),
)
_TLS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (  # OpenSSL's reasons
    (
        re.compile("WRONG_VERSION_NUMBER|HTTP_REQUEST|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG|UNKNOWN_PROTOCOL"),
        f"the host does not speak TLS; if plain HTTP is meant, {advice.INSECURE}",
    ),
    (
        re.compile("PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|NO_PROTOCOLS|VERSION_TOO_LOW|INSUFFICIENT_SECURITY"),
        "the host and mirrord have no version of TLS in common; mirrord speaks TLS 1.2 and 1.3",
    ),
    (
        re.compile("HANDSHAKE_FAILURE"),
        f"the host refuses the handshake: no cipher in common, or it wants a client certificate ({advice.CERTIFICATE})",
    ),
    (re.compile("CERTIFICATE_REQUIRED"), f"the host wants a client certificate; {advice.CERTIFICATE}"),
    (
        re.compile("ALERT_(?:UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)"),
        f"the host refuses our client certificate; {advice.CERTIFICATE}",
    ),
    (re.compile("UNRECOGNIZED_NAME"), "the host does not know itself under this name; check the name"),
)
_HUNG_UP: Final = (
    "the host hung up during the TLS handshake; it may refuse our version of TLS, our ciphers or our certificate, or"
    " not speak TLS"
)


def no_answer(error: Exception, request: WireRequest, proxy: Proxy | None, certificate: str = "") -> MirrordError:
    """Return what an error means that came in place of an answer to `request`, sent through `proxy` if there is one.

    `certificate` is what the certificate of the host says, in brackets, or "".
    """
    host = request.authority
    if isinstance(error, aiohttp.ClientProxyConnectionError) and proxy:
        return UnreachableError(
            f"{host}: the proxy {proxy.url} cannot be reached: {_system(error.os_error)}; {advice.PROXY}"
        )
    if isinstance(error, aiohttp.ClientHttpProxyError) and proxy:
        return proxy_refusal(host, error.status, proxy)
    meaning = failure(error, request, certificate)
    plain = request.url.startswith("http:") and request.body is None and not request.reused
    if isinstance(meaning, BrokenError) and plain:
        meaning.args = (f"{meaning}; {PLAIN_SPOKEN}",)
        if isinstance(error, aiohttp.http.HttpProcessingError):
            return permanent(meaning)  # it speaks something else, and will next time
    return meaning


def failure(error: Exception, request: WireRequest, certificate: str = "") -> MirrordError:
    """Return what an error means that `request`, or the answer to it, ended with."""
    host = request.authority
    if tls := _tls(error, certificate):
        return permanent(UnreachableError(f"{host}: TLS: {tls}"))
    found, text = next((new, text) for kinds, new, text in _MEANINGS if isinstance(error, kinds))
    if isinstance(error, aiohttp.ClientConnectorError):
        hung_up = request.url.startswith("https:") and isinstance(error.os_error, ConnectionResetError)
        text = f"{text}: {_HUNG_UP if hung_up else _system(error.os_error)}"
    return found(f"{host}: {text}")


def lenient(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let `context` accept certificates for other names and times, for a look at what OpenSSL's error does not tell.

    Nothing is sent on such a connection. The authority counts, so that strangers put no words into our messages.
    """
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


def proxy_refusal(host: str, status: int, proxy: Proxy) -> MirrordError:
    """Return what it means that a proxy does not lead to a host."""
    if status == 407:
        problem = "wants other credentials than it got" if proxy.login else "wants credentials"
        fix = advice.PROXY_LOGIN if proxy.login else advice.PROXY_AUTH
        return permanent(UnreachableError(f"{host}: the proxy {proxy.url} {problem} (status 407); {fix}"))
    if status < 500:
        text = f"{host}: the proxy {proxy.url} does not let us through (status {status})"
        return permanent(UnreachableError(f"{text}; ask who runs it, or {advice.PROXY}"))
    return UnreachableError(f"{host}: the proxy {proxy.url} does not reach it (status {status})")


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """Return the error of TLS that an error is, or comes from."""
    cause: BaseException | None = error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__
    return cause


def _tls(error: BaseException, certificate: str) -> str:
    """Return what is wrong with TLS, and what to do; "" when that is not it."""
    cause = tls_error(error)
    if cause is None:
        return ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        known = next((text for codes, text in _CERTIFICATES if cause.verify_code in codes), "")
        return known.replace("{}", certificate) or f"its certificate is refused: {cause.verify_message}"
    reason = str(cause.reason or "")
    known = next((text for pattern, text in _TLS if pattern.search(reason)), "")
    return known or f"the connection failed ({reason.lower().replace('_', ' ') or 'no reason given'})"


def _system(error: OSError) -> str:
    """Return the system's words: asyncio and uvloop put their own, and the address again, in their place."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or "no reason given"
