"""aiohttp, imported without the two TLS contexts with all authorities of the system that its import builds (90 ms).

`mirrord copy` between loopback registries needs neither, and has to start within 0.35 s. `mirrord.wire` takes aiohttp
from here.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["aiohttp"]


def _bare_context(*_: Any, **__: Any) -> ssl.SSLContext:
    """Return a context that trusts nobody: should aiohttp ever use it, the handshake fails."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextmanager
def _without_authorities() -> Iterator[None]:
    create, inherited = ssl.create_default_context, "set_default_verify_paths" not in vars(ssl.SSLContext)
    ssl.create_default_context = _bare_context
    if inherited:  # a method of the C class: shadowed for a moment, then visible again
        setattr(ssl.SSLContext, "set_default_verify_paths", lambda _: None)  # noqa: B010 - mypy forbids it otherwise
    try:
        yield
    finally:
        ssl.create_default_context = create
        if inherited:
            del ssl.SSLContext.set_default_verify_paths


with _without_authorities():
    import aiohttp
