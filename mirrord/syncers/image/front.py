"""The `local` store as a read-only registry (distribution-spec: pull and content discovery).

Only local files are looked at. Every name, tag and digest passes its grammar before it becomes
part of a path; a blob is served only in a repository that links it (CVE-2024-39897).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from urllib.parse import quote, unquote

from mirrord.blobs.links import Linked
from mirrord.errors import ContentError, StorageError
from mirrord.model import Digest
from mirrord.serving import Asked, Content
from mirrord.syncer import Services
from mirrord.wire.oci.reference import valid_repository, valid_tag

_ROUTE = re.compile(r"(?P<name>.+)/(?P<verb>manifests|blobs|tags)/(?P<reference>[^/]+)")
_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
_LONGEST = 1024  # characters of a path; a name has at most 255, a reference at most 135
_PAGE = 1000  # tags on a page when the client does not say


def content(asked: Asked, services: Services) -> Content:
    """Map what follows `/v2/` to content."""
    if asked.method == "POST":
        return refusal(405, "UNSUPPORTED", "this registry is read-only")
    if not asked.path:
        return _answer(200, {}, {})
    route = _ROUTE.fullmatch(unquote(asked.path)) if len(asked.path) <= _LONGEST else None
    if not route or not valid_repository(route["name"]):
        return refusal(404, "NAME_INVALID", "not a repository name by the grammar of the distribution specification")
    try:
        linked = services.links.get(route["name"]) if services.links else None
        if linked is None:
            return refusal(404, "NAME_UNKNOWN", f"{route['name']} is not mirrored here")
        return _VERBS[route["verb"]](route, linked, asked.query, services)
    except StorageError:
        return refusal(500, "UNKNOWN", "the store cannot be read; the log says why")


def refusal(status: int, code: str, message: str) -> Content:
    """Return an error in the form of the distribution specification."""
    return _answer(status, {"errors": [{"code": code, "message": message, "detail": None}]}, {})


def _answer(status: int, document: object, headers: Mapping[str, str]) -> Content:
    return Content(
        status, {"Content-Type": "application/json", **_VERSION, **headers}, body=json.dumps(document).encode()
    )


def _manifest(route: re.Match[str], linked: Linked, query: Mapping[str, str], services: Services) -> Content:  # noqa: ARG001 - same shape as `_tags`
    reference = route["reference"]
    try:
        digest = Digest.parse(reference) if ":" in reference else linked.tags.get(reference)
    except ContentError as error:
        return refusal(400, "DIGEST_INVALID", str(error))
    if digest is None and not valid_tag(reference):
        return refusal(404, "MANIFEST_UNKNOWN", "not a tag by the grammar of the distribution specification")
    link = linked.manifests.get(digest) if digest else None
    if digest is None or link is None:
        return refusal(404, "MANIFEST_UNKNOWN", f"{reference} is not here")
    return _file(digest, link.media_type, services, "MANIFEST_UNKNOWN")


def _blob(route: re.Match[str], linked: Linked, query: Mapping[str, str], services: Services) -> Content:  # noqa: ARG001 - same shape as `_tags`
    try:
        digest = Digest.parse(route["reference"])
    except ContentError as error:
        return refusal(400, "DIGEST_INVALID", str(error))
    if digest not in linked.content:
        return refusal(404, "BLOB_UNKNOWN", f"{digest} is not in this repository")
    return _file(digest, "application/octet-stream", services, "BLOB_UNKNOWN")


def _file(digest: Digest, media_type: str, services: Services, missing: str) -> Content:
    file = services.blobs.path(digest) if services.blobs else None
    if file is None:
        return refusal(404, missing, f"{digest} is linked but not in the store; the next run brings it back")
    headers = {"Content-Type": media_type, "Docker-Content-Digest": digest, "ETag": f'"{digest}"', **_VERSION}
    return Content(200, headers, file=file)


def _tags(route: re.Match[str], linked: Linked, query: Mapping[str, str], services: Services) -> Content:  # noqa: ARG001 - same shape as `_blob`
    """List tags in lexical order, `n` of them after `last` (distribution-spec, Listing Tags)."""
    name = route["name"]
    if route["reference"] != "list":
        return refusal(404, "UNSUPPORTED", "only tags/list is known")
    wanted = query.get("n", str(_PAGE))
    if not re.fullmatch(r"[0-9]{1,9}", wanted):
        return refusal(400, "PAGINATION_NUMBER_INVALID", "n must be a number")
    tags = sorted(linked.tags)
    start = bisect_right(tags, query["last"]) if "last" in query else 0
    page = tags[start : start + int(wanted)]
    more = start + len(page) < len(tags) and page
    link = {"Link": f'</v2/{name}/tags/list?n={wanted}&last={quote(page[-1])}>; rel="next"'} if more else {}
    return _answer(200, {"name": name, "tags": page}, link)


_VERBS = {"tags": _tags, "blobs": _blob, "manifests": _manifest}
