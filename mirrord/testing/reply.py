"""An answer as a value: what a double wants to send, before faults are laid upon it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

Body = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers and body; Content-Length is added when it is sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = b""


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    """Answer with the error document of the OCI distribution-spec (spec.md#error-codes)."""
    document = {"errors": [{"code": code, "message": message, "detail": {}}]}
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(document).encode())
