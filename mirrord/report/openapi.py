"""The OpenAPI 3.1 document of `/status` and `/api/v1/`, made from the values that are written."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mirrord import __version__
from mirrord.report.rows import LISTS, MOST, NUMBERED
from mirrord.report.schemas import STATUS_PATH, Schema, schemas_of
from mirrord.report.status import MirrorStatus, Status

OPENAPI_PATH: Final = "/api/v1/openapi.json"
"""Where the document is served."""
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})
_DOCUMENT = {"type": "object"}
_ABOUT: Final[Mapping[str, str]] = {
    "runs": "The last runs of a mirror, the newest first; at most 1000 are kept.",
    "items": "What is known to be at its targets, by name, v0.9.0 before v0.10.0: tags, chart versions, or refs.",
    "behind": (
        "What its targets should have and had not at the end of the last run, by target and name; of each target at "
        "most the 1000 oldest are named. `behind` of the mirror and of its targets counts all."
    ),
    "ledger": "Moves of names at its targets, the newest first.",
    "days": "Its runs of each of the last 90 days, the oldest first.",
}
_HEADERS: Final[Schema] = {
    "ETag": {"description": "Tag of these bytes, for If-None-Match.", "schema": {"type": "string"}},
    "Link": {
        "description": 'The next part, as `<...>; rel="next"`; missing in the last one.',
        "schema": {"type": "string"},
    },
}
_PROBLEM: Final[Schema] = {
    "description": "An error (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "The name of the status."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "reason": {"type": "string", "description": "A word for programs, where the answers of a path have one."},
    },
    "required": ["type", "title", "status", "detail"],
}


def openapi(kinds: Mapping[str, Any] = _NONE, paths: Mapping[str, Schema] = _NONE) -> Schema:
    """Return the document, with these further `paths`, and `kinds` by name to which they refer."""
    kinds = {
        "Status": Status,
        "MirrorStatus": MirrorStatus,
        **{kind.__name__: kind for kind in LISTS.values()},
        **kinds,
    }
    _, shared = schemas_of(kinds, "#/components/schemas/{model}")
    lists = {
        f"/api/v1/mirrors/{{name}}/{what}": _get(
            f"{what}OfMirror", _ABOUT[what], _list(what, kind.__name__), (_NAME, *_paging(what), *_more(what))
        )
        for what, kind in LISTS.items()
    }
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "mirrord",
            "version": __version__,
            "summary": "How mirrors stand, what they have where, and what they did.",
            "description": "Further keys may be added to every object. Times are RFC 3339 in UTC.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/status": _get("status", "All mirrors, and the daemon itself.", _ref("Status")),
            "/api/v1/mirrors": _get(
                "mirrors", "All mirrors by name.", _list("mirrors", "MirrorStatus"), _paging("mirrors")
            ),
            "/api/v1/mirrors/{name}": _get("mirror", "One mirror.", _ref("MirrorStatus"), (_NAME,)),
            **lists,
            **paths,
            STATUS_PATH: _get("statusSchema", "The JSON Schema of `/status`.", _DOCUMENT),
            OPENAPI_PATH: _get("openapi", "This document.", _DOCUMENT),
        },
        "components": {
            "schemas": {**shared, "Problem": _PROBLEM},
            "responses": {
                "Problem": {
                    "description": "Why not.",
                    "content": {"application/problem+json": {"schema": _ref("Problem")}},
                }
            },
        },
    }


_NAME: Final[Schema] = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "Name of the mirror.",
    "schema": {"type": "string"},
}


_OF_NAME: Final[Schema] = {
    "name": "name",
    "in": "query",
    "description": "Only moves of this name: its history.",
    "schema": {"type": "string"},
}


def _more(what: str) -> tuple[Schema, ...]:
    return (_OF_NAME,) if what == "ledger" else ()


def _paging(what: str) -> tuple[Schema, ...]:
    after = "the `id` of" if what in NUMBERED else "that of"
    return (
        {
            "name": "limit",
            "in": "query",
            "description": "The most rows.",
            "schema": {"type": "integer", "minimum": 1, "maximum": MOST, "default": 100},
        },
        {
            "name": "after",
            "in": "query",
            "description": f"Only what follows a row: {after} `Link`. Rows that are added meanwhile move nothing.",
            "schema": {"type": "string"},
        },
    )


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(what: str, kind: str) -> Schema:
    rows = {"type": "array", "maxItems": MOST, "items": _ref(kind)}
    return {"type": "object", "properties": {what: rows}, "required": [what]}


def _get(name: str, summary: str, schema: Schema, parameters: tuple[Schema, ...] = ()) -> Schema:
    paged = any(one["name"] == "limit" for one in parameters)
    headers = _HEADERS if paged else {"ETag": _HEADERS["ETag"]}
    answers: dict[str, Any] = {
        "200": {"description": "It.", "headers": headers, "content": {"application/json": {"schema": schema}}},
        "304": {"description": "Nothing has changed since the answer with the ETag of If-None-Match."},
    }
    if parameters:
        answers |= {status: {"$ref": "#/components/responses/Problem"} for status in ("400", "404", "503")}
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            **({"parameters": list(parameters)} if parameters else {}),
            "responses": answers,
        }
    }
