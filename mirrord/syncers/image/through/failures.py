"""What a client is answered when it gets no content: errors in the specification's format, and warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from mirrord import errors
from mirrord.syncer.serving import Response
from mirrord.syncers.image.front.answers import refusal
from mirrord.wire.oci.reference import Reference

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


def why(error: errors.MirrordError, reference: Reference) -> str:
    """Return a clause about a failure that names the upstream and nothing of our network."""
    if _foreign(error):
        return f"{reference.domain} refuses access with something that is no answer of a registry"
    found = next((text for kind, text in _WHY.items() if isinstance(error, kind)), "fails")
    return f"{reference.domain} {found}"


def failed(error: errors.MirrordError, reference: Reference, what: str, kind: str) -> Response:
    """Return the answer for an error of an upstream.

    Many clients show the text of an error only if its status is below 500, and HEAD has none: a header has it, too.

    Args:
        error: why nothing can be served.
        reference: the repository at the upstream.
        what: the tag or digest.
        kind: `MANIFEST` or `BLOB`.
    """
    if isinstance(error, errors.StorageError):
        return refusal(500, "UNKNOWN", "the cache cannot be read or written; see the log")
    if isinstance(error, errors.UnsupportedError | errors.RefusedError) and not _foreign(error):
        return _not_there(error, reference, what, kind)
    text = f"{why(error, reference)}, and {what} of {reference.path} is not in the cache"
    headers = {**_later(error.after if isinstance(error, errors.TransportError) else None), **warning(text)}
    if isinstance(error, errors.ThrottledError):
        return refusal(429, "TOOMANYREQUESTS", text, headers)
    return refusal(504 if isinstance(error, errors.StalledError) else 502, "UNAVAILABLE", text, headers)


def _not_there(error: errors.MirrordError, reference: Reference, what: str, kind: str) -> Response:
    if isinstance(error, errors.UnsupportedError):
        return refusal(404, f"{kind}_UNKNOWN", str(error))
    if isinstance(error, errors.MissingError):
        return refusal(404, f"{kind}_UNKNOWN", f"{reference.domain} has no {what} in {reference.path}")
    if isinstance(error, errors.RefusedError) and error.status == 401:
        where = f"{reference.domain} does not show it without a login"
        return refusal(404, "NAME_UNKNOWN", f"{reference.name} does not exist, or {where}")
    text = f"{reference.domain} refuses access to {reference.path}"
    return refusal(403, "DENIED", text, warning(text))


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


def _later(after: float | None) -> dict[str, str]:
    return {"Retry-After": str(SOON if after is None else max(1, math.ceil(after)))}
