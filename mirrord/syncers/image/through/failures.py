"""What a client is answered when it gets no content: errors in the specification's format, and warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from mirrord import errors
from mirrord.syncer.serving import Response
from mirrord.syncers.image.front.answers import refusal
from mirrord.syncers.image.through.asked import AskedName

LONGEST_WARNING: Final = 4096  # bytes; distribution-spec, "Warnings"
SOON: Final = 10
"""Seconds after which a client is asked to come back where upstream did not say when."""

_WHY: Final[Mapping[type[errors.MirrordError], str]] = {
    errors.UnreachableError: "cannot be reached",
    errors.StalledError: "does not answer in time",
    errors.ThrottledError: "limits the rate",
    errors.ServerError: "fails",
    errors.BrokenError: "breaks off",
    errors.UntrustedError: "leads to a place that may not be asked",
    errors.DigestError: "sends other content than its digest says",
    errors.TooLargeError: "sends more than a manifest may have",
    errors.ContentError: "sends something that is no answer of a registry",
}


def why(error: errors.MirrordError) -> str:
    """Return what an upstream does, as a clause without its subject; it has nothing of our network."""
    if _foreign(error):
        return "refuses access with something that is no answer of a registry"
    return next((text for kind, text in _WHY.items() if isinstance(error, kind)), "fails")


def failed(error: errors.MirrordError, called: AskedName, what: str, kind: str) -> Response:
    """Return the answer for an error of an upstream.

    Many clients show the text of an error only if its status is below 500, and HEAD has none: a header has it, too.

    Args:
        error: why nothing can be served.
        called: the repository, as the client names it.
        what: `tag v1`, a digest, or `list of tags`.
        kind: `MANIFEST` or `BLOB`.
    """
    if isinstance(error, errors.StorageError):
        return refusal(500, "UNKNOWN", "the cache cannot be read or written; see the log")
    if isinstance(error, errors.TakenDownError):
        text = f"{what} of {called.name} was taken down: {error}"
        return refusal(451, "DENIED", text, warning(text))
    if isinstance(error, errors.UnsupportedError | errors.RefusedError) and not _foreign(error):
        return _not_there(error, called, what, kind)
    text = f"{called.registry} {why(error)}, and the cache has no {what} of {called.name}"
    headers = {**_later(error.after if isinstance(error, errors.TransportError) else None), **warning(text)}
    if isinstance(error, errors.ThrottledError):
        return refusal(429, "TOOMANYREQUESTS", text, headers)
    return refusal(504 if isinstance(error, errors.StalledError) else 502, "UNAVAILABLE", text, headers)


def _not_there(error: errors.MirrordError, called: AskedName, what: str, kind: str) -> Response:
    if isinstance(error, errors.UnsupportedError):
        return refusal(
            404, f"{kind}_UNKNOWN", f"{what} of {called.name} is Docker schema 1, which clients have stopped to take"
        )
    if isinstance(error, errors.MissingError):
        return refusal(404, f"{kind}_UNKNOWN", f"{called.name} has no {what}")
    if isinstance(error, errors.RefusedError) and error.status == 401:
        where = f"{called.registry} does not show it without a login"
        return refusal(404, "NAME_UNKNOWN", f"{called.name} does not exist, or {where}")
    text = f"{called.registry} refuses access to {called.name}"
    return refusal(403, "DENIED", text, warning(text))


def upstream_failed(error: errors.MirrordError) -> bool:
    """Whether the operator should hear of it: upstream gave no answer, a wrong one, or refuses us."""
    if isinstance(error, errors.MissingError | errors.UnsupportedError):
        return False
    return serves_old(error) or isinstance(error, errors.RefusedError)


def serves_old(error: errors.MirrordError) -> bool:
    """Whether what is in the cache is served after this error: upstream gave no answer, or none of a registry."""
    passing = isinstance(error, errors.TransportError | errors.UntrustedError | errors.ContentError)
    return (passing or _foreign(error)) and not isinstance(error, errors.UnsupportedError)


def _foreign(error: errors.MirrordError) -> bool:
    """Whether somebody on the way, such as a firewall or a CDN that bans our address, refuses and not the registry."""
    return isinstance(error, errors.DeniedError) and not error.formal


def warning(text: str) -> dict[str, str]:
    """Return the header that clients show beside an answer, also to HEAD."""
    plain = "".join(c if c.isprintable() else " " for c in text).replace("\\", "\\\\").replace('"', '\\"')
    room = LONGEST_WARNING - len('299 - ""')
    cut = plain.encode()[:room].decode(errors="ignore")
    return {"Warning": f'299 - "{cut.rstrip(chr(92))}"'}


def out_of_date(called: AskedName, why_so: str) -> dict[str, str]:
    """Return the header beside what is served though upstream did not renew it: `why_so`, as `why`; none for ""."""
    return warning(f"{called.registry} {why_so}; this may be out of date") if why_so else {}


def _later(after: float | None) -> dict[str, str]:
    return {"Retry-After": str(SOON if after is None else max(1, math.ceil(after)))}
