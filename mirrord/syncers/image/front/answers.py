"""Answers of a registry: errors and lists in the format of the distribution specification, and stored content."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final
from urllib.parse import quote, urlencode

from mirrord.blobs.store import BlobStore, own
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.model.objects import BucketAwayError
from mirrord.syncer.serving import Response
from mirrord.syncers.image.front.path import BadRequestError
from mirrord.wire.oci.manifest import LIMIT

VERSION: Final = {"Docker-Distribution-Api-Version": "registry/2.0"}
BLOB: Final = "application/octet-stream"
_NUMBER = re.compile(r"[0-9]{1,9}")
_PAGE = 1000  # default names on a page
_FULL = LIMIT - 64 * 1024  # bytes of entries in an index: clients reject manifests of more than 4 MiB


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in the format of the distribution specification."""
    return answer(status, {"errors": [{"code": code, "message": message, "detail": None}]}, headers or {})


def unreadable(error: StorageError) -> Response:
    """Say that `local` cannot be read: it will be when its bucket is there again, or somebody has to look."""
    if isinstance(error, BucketAwayError):
        return refusal(503, "UNAVAILABLE", "the bucket with what is kept here does not answer", {"Retry-After": "10"})
    return refusal(500, "UNKNOWN", "the store cannot be read; see the log")


def answer(status: int, document: object, headers: Mapping[str, str]) -> Response:
    """Return a JSON document."""
    return Response(
        status, {"Content-Type": "application/json", **VERSION, **headers}, body=json.dumps(document).encode()
    )


def content_headers(digest: Digest, media_type: str) -> dict[str, str]:
    """Return the headers of a manifest or a blob; the bytes of a digest never change, so it is the entity tag, too."""
    return {"Content-Type": media_type, "Docker-Content-Digest": digest, "ETag": f'"{digest}"', **VERSION}


async def manifest_in(digest: Digest, media_type: str, store: BlobStore) -> Response:
    """Return a manifest of the store, never by a redirect: it needs its headers, and not every client follows one."""
    stored = await store.find(digest)
    return (
        _missing("MANIFEST", digest)
        if stored is None
        else Response(200, content_headers(digest, media_type), own(stored))
    )


async def blob_in(digest: Digest, store: BlobStore) -> Response:
    """Return a blob of the store."""
    stored = await store.find(digest)
    return _missing("BLOB", digest) if stored is None else Response(200, content_headers(digest, BLOB), stored)


def _missing(kind: str, digest: Digest) -> Response:
    return refusal(404, f"{kind}_UNKNOWN", f"{digest} is missing from the store; the next run copies it again")


def page(
    names: Sequence[str], path: str, query: Mapping[str, str], sizes: Mapping[str, int] | None = None
) -> tuple[Sequence[str], Mapping[str, str]]:
    """Return `n` of the sorted names after `last`, or as many as fit by their `sizes`; the header links to the rest.

    Raises:
        BadRequestError: `n` is no number.
    """
    wanted = query.get("n", str(_PAGE))
    if not _NUMBER.fullmatch(wanted):
        raise BadRequestError(400, "PAGINATION_NUMBER_INVALID", "n must be a number")
    start = bisect_right(names, query["last"]) if "last" in query else 0
    part = names[start : start + int(wanted)]
    if sizes:
        ends = list(accumulate(sizes[name] for name in part))
        part = part[: max(1, bisect_right(ends, _FULL))]
    if not part or start + len(part) == len(names):
        return part, {}
    following = urlencode({**query, "n": wanted, "last": part[-1]}, quote_via=quote)
    return part, {"Link": f'<{path}?{following}>; rel="next"'}
