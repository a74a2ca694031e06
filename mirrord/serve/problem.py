"""Errors of the API for machines (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

API: Final = "/api/"
"""Errors below it are problems."""
TYPE: Final = "application/problem+json"


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, *, reason: str = "") -> web.Response:
    """Return an error of the API; `detail` says what is wrong and what to do, and `reason` is a word for programs."""
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    document |= {"reason": reason} if reason else {}
    fields = {"Content-Type": TYPE, "Cache-Control": "no-store", **(headers or {})}
    return web.Response(status=status, body=json.dumps(document).encode() + b"\n", headers=fields)
