"""The OCI distribution protocol over a `Content`: what a registry double answers.

Names, tags and digests are checked by the grammar of the distribution-spec (spec.md#pulling-manifests).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mirrord.errors import ContentError
from mirrord.model.digest import Digest
from mirrord.testing.content import Content
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply, refusal
from mirrord.testing.uploads import Uploads

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_ROUTE = re.compile(
    rf"/v2/(?P<name>{_NAME})/(?P<kind>manifests|blobs/uploads|blobs|tags(?=/list\b)|referrers)/(?P<tail>[^/]*)"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST_LIMIT = 4 * 1024 * 1024
_UNSUPPORTED = refusal(405, "UNSUPPORTED", "the operation is unsupported")


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as a value: decoded path, first value of each query key, lower-case headers."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Immutable:
    """Tags that match `pattern` are never overwritten with other content; the refusal is `status` and `body`.

    With `same` the content that is there is refused as well, as ECR and Harbor do (moby/buildkit#3776).
    """

    pattern: str = ".*"
    status: int = 400
    body: bytes = b'{"errors":[{"code":"TAG_INVALID","message":"tag is immutable and cannot be overwritten"}]}'
    same: bool = False


@dataclass(slots=True, eq=False)
class Distribution:
    """Answers requests.

    Attributes:
        content: what is held.
        uploads: open sessions.
        strict: refuse manifests that refer to what is not there.
        lacking_status: with this status: 404 by the specification (end-7a), 400 in Debian's docker-registry.
        digest_header: send Docker-Content-Digest.
        ranges: honour Range on blobs.
        page_size: most tags in one answer, None for all.
        redirect_blobs_to: base URL whose `/storage/<digest>` blob GETs are sent to.
        immutable: which tags are frozen.
        referrers: have the API that lists what is about a manifest.
    """

    content: Content
    uploads: Uploads
    strict: bool = True
    lacking_status: int = 404
    digest_header: bool = True
    ranges: bool = True
    page_size: int | None = None
    redirect_blobs_to: str | None = None
    immutable: Immutable | None = None
    referrers: bool = True

    async def answer(self, ask: Ask, intake: Intake) -> Reply:
        """Answer any request."""
        route = _ROUTE.fullmatch(ask.path)
        if route is None:
            return self._outside(ask)
        name, kind, tail = route["name"], route["kind"], route["tail"]
        if kind == "manifests":
            return await self._manifests(ask, name, tail, intake)
        if kind == "blobs/uploads":
            return await self._uploads(ask, name, tail, intake)
        if kind == "blobs":
            return self._blob(ask, name, tail)
        if ask.method not in ("GET", "HEAD"):
            return _UNSUPPORTED
        return self._referrers(name, tail) if kind == "referrers" else self._tags(ask, name)

    def _outside(self, ask: Ask) -> Reply:
        """Answer what belongs to no repository."""
        if ask.path in ("/v2/", "/v2"):
            return _json(200, {})
        if ask.path == "/v2/_catalog":
            names = {*self.content.manifests, *self.content.links}
            page, headers = self._page(ask, names, "/v2/_catalog")
            return _json(200, {"repositories": page}, headers)
        if ask.path.startswith("/storage/"):
            return self._storage(ask)
        return refusal(404, "NAME_INVALID", "no such path")

    async def _uploads(self, ask: Ask, name: str, tail: str, intake: Intake) -> Reply:
        if ask.method == "POST" and not tail:
            return await self.uploads.start(name, ask.query, intake)
        if ask.method in ("GET", "PATCH", "PUT", "DELETE") and tail:
            query = dict(ask.query)
            if "content-range" in ask.headers:
                query["content-range"] = ask.headers["content-range"]
            return await self.uploads.go_on(ask.method, name, tail, query, intake)
        return _UNSUPPORTED

    async def _manifests(self, ask: Ask, name: str, reference: str, intake: Intake) -> Reply:
        if not (_is_digest(reference) or _TAG.fullmatch(reference)):
            return refusal(404, "MANIFEST_INVALID", "neither a tag nor a digest")
        if ask.method == "PUT":
            return await self._put_manifest(ask, name, reference, intake)
        found = self.content.resolve(name, reference)
        if found is None:
            code = "MANIFEST_UNKNOWN" if self.content.knows(name) else "NAME_UNKNOWN"
            return refusal(404, code, "manifest unknown")
        digest, media_type, body = found
        if ask.method == "DELETE":
            return self._delete_manifest(name, reference)
        if ask.method not in ("GET", "HEAD"):
            return _UNSUPPORTED
        return Reply(200, {"Content-Type": media_type, **self._digest(digest), "ETag": f'"{digest}"'}, body)

    async def _put_manifest(self, ask: Ask, name: str, reference: str, intake: Intake) -> Reply:
        body = await intake.read(MANIFEST_LIMIT)
        if body is None:
            return refusal(413, "SIZE_INVALID", "manifest too large")
        digest = Digest.of(body, reference.partition(":")[0] if ":" in reference else "sha256")
        if ":" in reference and digest != reference:
            return refusal(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        try:
            document = json.loads(body)
            lacking = self.content.lacking(name, document) if self.strict else []
        except (ValueError, KeyError, TypeError, AttributeError):
            return refusal(400, "MANIFEST_INVALID", "manifest invalid")
        if lacking:
            return refusal(self.lacking_status, "MANIFEST_BLOB_UNKNOWN", f"blob unknown to registry: {lacking[0]}")
        frozen = self._frozen(name, reference, digest)
        if frozen is not None:
            return frozen
        self.content.put_manifest(name, ask.headers.get("content-type", ""), body, digest=digest)
        if ":" not in reference:
            self.content.tags.setdefault(name, {})[reference] = digest
        subject = document.get("subject")
        headers = {"OCI-Subject": subject["digest"]} if self.referrers and isinstance(subject, dict) else {}
        location = f"{self.uploads.prefix}/v2/{name}/manifests/{digest}"
        return Reply(201, {"Location": location, **self._digest(digest), **headers})

    def _frozen(self, name: str, tag: str, digest: str) -> Reply | None:
        now = self.content.tags.get(name, {}).get(tag)
        rule = self.immutable
        if rule is None or now is None or not re.fullmatch(rule.pattern, tag):
            return None
        if now == digest and not rule.same:
            return None
        return Reply(rule.status, {"Content-Type": "application/json"}, rule.body)

    def _delete_manifest(self, name: str, reference: str) -> Reply:
        tags = self.content.tags.get(name, {})
        if ":" not in reference:
            del tags[reference]
            return Reply(202)
        del self.content.manifests[name][reference]
        self.content.tags[name] = {tag: digest for tag, digest in tags.items() if digest != reference}
        return Reply(202)

    def _blob(self, ask: Ask, name: str, digest: str) -> Reply:
        if not _is_digest(digest):
            return refusal(400, "DIGEST_INVALID", "provided digest is not valid")
        data = self.content.blob(name, digest)
        if data is None:
            return refusal(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if ask.method == "DELETE":
            self.content.links[name].discard(digest)
            return Reply(202)
        if ask.method not in ("GET", "HEAD"):
            return _UNSUPPORTED
        if self.redirect_blobs_to is not None and ask.method == "GET":
            location = f"{self.redirect_blobs_to}/storage/{digest}?X-Amz-Signature=presigned"
            return Reply(307, {"Location": location})
        return self._slice(ask, data, self._digest(digest))

    def _storage(self, ask: Ask) -> Reply:
        """Answer as object storage does behind a redirect: a second set of credentials is an error."""
        if "authorization" in ask.headers:
            return Reply(400, {}, b"Only one auth mechanism allowed")
        data = self.content.blobs.get(ask.path.removeprefix("/storage/"))
        return Reply(404) if data is None else self._slice(ask, data, {})

    def _slice(self, ask: Ask, data: bytes | bytearray, extra: Mapping[str, str]) -> Reply:
        headers = {"Content-Type": "application/octet-stream", **extra}
        if not self.ranges:
            return Reply(200, headers, data)
        headers["Accept-Ranges"] = "bytes"
        wanted = _RANGE.fullmatch(ask.headers.get("range", ""))
        if wanted is None or not any(wanted.groups()):
            return Reply(200, headers, data)
        size = len(data)
        first, last = wanted.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        if start >= stop:
            return Reply(416, {"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return Reply(206, headers, memoryview(data)[start:stop])

    def _tags(self, ask: Ask, name: str) -> Reply:
        if not self.content.knows(name):
            return refusal(404, "NAME_UNKNOWN", "repository name not known to registry")
        page, headers = self._page(ask, self.content.tags.get(name, {}), f"/v2/{name}/tags/list")
        return _json(200, {"name": name, "tags": page}, headers)

    def _page(self, ask: Ask, names: Collection[str], path: str) -> tuple[list[str], dict[str, str]]:
        """Return the names of the page that was asked for, and a link to the next one."""
        asked = int(ask.query["n"]) if ask.query.get("n", "").isdigit() else None
        size = min((n for n in (asked, self.page_size) if n is not None), default=None)
        later = [name for name in sorted(names) if name > ask.query.get("last", "")]
        page = later[:size]
        more = page and len(page) < len(later)
        return page, {"Link": f'<{path}?n={size}&last={page[-1]}>; rel="next"'} if more else {}

    def _referrers(self, name: str, digest: str) -> Reply:
        entries = []
        if not self.referrers:
            return refusal(404, "NOT_FOUND", "no such path")
        for own, (media_type, body) in self.content.manifests.get(name, {}).items():
            if digest.encode() not in body:
                continue
            document = json.loads(body)
            if (document.get("subject") or {}).get("digest") == digest:
                kind = document.get("artifactType") or (document.get("config") or {}).get("mediaType", "")
                entry = {"mediaType": media_type, "digest": own, "size": len(body), "artifactType": kind}
                entries.append(entry | {"annotations": document.get("annotations", {})})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        return _json(200, index, {"Content-Type": INDEX})

    def _digest(self, digest: str) -> dict[str, str]:
        return {"Docker-Content-Digest": digest} if self.digest_header else {}


def _is_digest(text: str) -> bool:
    try:
        return bool(Digest.parse(text))
    except ContentError:
        return False


def _json(status: int, document: object, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(document).encode())
