"""Describes how images are asked for, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mirrord.asking.asked import AskedImage, AskRefusal
from mirrord.report.openapi import openapi
from mirrord.report.schemas import Schema
from mirrord.serve.asking import EVENTS, JSON, LARGEST, LINES, STATUS, SYNC_PATH

_TOKEN: Final[Schema] = {"type": "http", "scheme": "bearer", "description": "Made by `mirrord token add NAME --ask`."}
_ASKED: Final[Schema] = {"$ref": "#/components/schemas/AskedImage"}
_QUESTION: Final[Schema] = {
    "type": "object",
    "properties": {
        "image": {
            "type": "string",
            "description": "As people write it; `latest` without a tag or digest.",
            "examples": ["docker.io/library/nginx:1.25"],
        },
        "platforms": {
            "type": ["array", "null"],
            "items": {"type": "string"},
            "description": "Those that are wanted of it. Default: all that are configured.",
            "examples": [["linux/amd64"]],
        },
    },
    "required": ["image"],
    "additionalProperties": False,
}
_PLACE: Final[Schema] = {
    "Location": {"description": "Where to look later how far it is.", "schema": {"type": "string"}},
}
_LATER: Final[Schema] = {
    "Retry-After": {"description": "Seconds after which to ask again.", "schema": {"type": "integer"}},
}
_PREFER: Final[Schema] = {
    "name": "Prefer",
    "in": "header",
    "description": "`respond-async` is answered at once with 202.",
    "schema": {"type": "string"},
}
_ID: Final[Schema] = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "`id` of an answer.",
    "schema": {"type": "string"},
}
_OTHER: Final[Mapping[int, str]] = {
    400: "The body is no question.",
    401: "There is no token, or an unknown one.",
    403: "`scope`: the token is not for asking.",
    404: "Nobody may ask here, or nothing of this id was asked for.",
    408: "The body came too slowly.",
    413: f"The body has more than {LARGEST} bytes.",
    415: "The body has an encoding that is not read.",
    503: "The record cannot be read or written.",
}
_REFUSED: Final[Mapping[AskRefusal, str]] = {
    AskRefusal.OFF: "nobody may ask here",
    AskRefusal.NOT_AN_IMAGE: "it is no reference of an image",
    AskRefusal.PLATFORM: "is none, or is not copied here",
    AskRefusal.NOT_ALLOWED: "it is not among the images that may be asked for",
    AskRefusal.TAKEN_DOWN: "it was taken down here",
    AskRefusal.MISSING: "its registry has no such image, or not for everybody",
    AskRefusal.RATE: "this token, or this address, has asked for too many",
    AskRefusal.FULL: "too many images wait",
    AskRefusal.STOPPING: "mirrord is shutting down",
}
_OF_IDS: Final = (401, 403, 404, 503)


def description() -> Schema:
    """Return the OpenAPI document of all that this server answers to programs."""
    asked = {SYNC_PATH: {"post": _post()}, f"{SYNC_PATH}/{{id}}": {"get": _get()}}
    made = openapi({"AskedImage": AskedImage}, asked)
    made["components"] |= {"securitySchemes": {"token": _TOKEN}}
    return made


def _post() -> Schema:
    answers = {status: [text] for status, text in _OTHER.items()}
    for reason, status in STATUS.items():
        answers.setdefault(status, []).append(f"`{reason.value}`: {_REFUSED[reason]}.")
    return {
        "operationId": "sync",
        "summary": "Ask for an image, and follow it until it is there. Who leaves stops nothing.",
        "security": [{"token": []}],
        "parameters": [_PREFER],
        "requestBody": {"required": True, "content": {JSON: {"schema": _QUESTION}}},
        "responses": {
            "200": _followed("What it is now, and again after each change; the last one is `done` or `failed`."),
            "202": _whole("It is queued, and not followed: as was preferred, or since this token follows too many."),
            **{str(status): _problem(status, texts) for status, texts in sorted(answers.items())},
        },
    }


def _get() -> Schema:
    followed = _followed("How far it is; with `Accept` as one of the streams it is followed.")
    followed["content"] = {JSON: {"schema": _ASKED}, **followed["content"]}
    return {
        "operationId": "asked",
        "summary": "How far an image is that was asked for.",
        "security": [{"token": []}],
        "parameters": [_ID],
        "responses": {
            "200": followed,
            "202": _whole("What it is now; this token follows too many."),
            **{str(status): _problem(status, [_OTHER[status]]) for status in _OF_IDS},
        },
    }


def _followed(text: str) -> Schema:
    events = {"type": "string", "description": "Events called after `state`, each with such a document as data."}
    return {"description": text, "headers": _PLACE, "content": {LINES: {"schema": _ASKED}, EVENTS: {"schema": events}}}


def _whole(text: str) -> Schema:
    return {"description": text, "headers": _PLACE, "content": {JSON: {"schema": _ASKED}}}


def _problem(status: int, texts: list[str]) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    headers = {"headers": _LATER} if status in (429, 503) else {}
    return {"description": " ".join(texts), **headers, "content": content}
