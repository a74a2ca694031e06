"""Which form of the same content to send (RFC 9110 §12). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
_MOST = 32  # entries of the header that are read; browsers send five


def wants_gzip(accept_encoding: str | None) -> bool:
    """Say whether a client would rather have gzip than the plain form (§12.5.3).

    Nothing is compressed for a client that does not ask. A weight that cannot be read makes its entry worth nothing.
    """
    weights = _weights(accept_encoding or "")
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _weights(header: str) -> Mapping[str, float]:
    weights = {}
    for entry in header.split(",", _MOST)[:_MOST]:
        coding, _, weight = entry.partition(";")
        found = _WEIGHT.fullmatch(weight.strip())
        weights[coding.strip().lower()] = float(found[1]) if found else 0.0 if weight else 1.0
    return weights


def etag_of(headers: Mapping[str, str]) -> str | None:
    """Return the entity tag among headers."""
    return next((value for key, value in headers.items() if key.lower() == "etag"), None)


def packed(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the form in gzip: its bytes differ, so its tag must (§8.8.3.3)."""

    def tag(etag: str) -> str:
        return f'{etag[:-1]}-gzip"' if etag.endswith('"') else etag

    forms = {key: tag(value) if key.lower() == "etag" else value for key, value in headers.items()}
    return {**forms, "Content-Encoding": "gzip"}


def with_vary(headers: Mapping[str, str], field: str) -> dict[str, str]:
    """Return headers that say that the answer depends on a field of the request (§12.5.5)."""
    told = next((value for key, value in headers.items() if key.lower() == "vary"), "")
    rest = {key: value for key, value in headers.items() if key.lower() != "vary"}
    return {**rest, "Vary": f"{told}, {field}" if told else field}
