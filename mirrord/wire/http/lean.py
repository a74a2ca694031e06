"""aiohttp, imported without the authorities of the system.

Its import makes two TLS contexts, and reads a few hundred certificates for each: 30 ms and 2 MB that a copy between
machines of ours would pay for nothing, since every connection gets a context of `transport.Tls`. OpenSSL looks for its
file where `SSL_CERT_FILE` says, so for that moment it is an empty one: a context that were used all the same would
trust nobody by it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["aiohttp"]

_FILE: Final = "SSL_CERT_FILE"


@contextmanager
def _without_authorities() -> Iterator[None]:
    given = os.environ.get(_FILE)
    os.environ[_FILE] = os.devnull
    try:
        yield
    finally:
        del os.environ[_FILE]
        if given is not None:
            os.environ[_FILE] = given


with _without_authorities():
    import aiohttp
