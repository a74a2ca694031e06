"""Upload sessions of a registry double (OCI distribution-spec, pushing blobs: end-4a to end-6, end-11)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from mirrord.testing.content import Content
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply, refusal

_UNKNOWN = refusal(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")


@dataclass(slots=True, eq=False)
class Upload:
    """One open session; `state` must come back in the query, as real registries demand."""

    number: int
    repository: str
    data: bytearray = field(default_factory=bytearray)
    hashes: dict[str, hashlib._Hash] = field(default_factory=dict)
    version: int = 0

    def location(self) -> str:
        """Where to go on, relative to the host; changes with each request."""
        return f"/v2/{self.repository}/blobs/uploads/{self.number:08d}?_state=s{self.number}.{self.version}"


@dataclass(slots=True, eq=False)
class Uploads:
    """All open sessions.

    Attributes:
        prefix: put before each Location: "" makes them relative.
        mount: whether blobs may be taken over from other repositories.
        algorithms: digest algorithms that are computed while bytes come in.
        open: sessions by number.
    """

    content: Content
    prefix: str = ""
    mount: bool = True
    open: dict[int, Upload] = field(default_factory=dict)
    _count: int = 0

    async def start(self, repository: str, query: Mapping[str, str], intake: Intake) -> Reply:
        """POST: mount, take a whole blob, or open a session."""
        digest = query.get("mount", "")
        if self.mount and digest and self.content.blob(query.get("from", ""), digest) is not None:
            self.content.links.setdefault(repository, set()).add(digest)
            return self._created(repository, digest)
        self._count += 1
        upload = Upload(self._count, repository)
        self.open[upload.number] = upload
        if "digest" in query:
            await self._take(upload, intake, query["digest"])
            return self._commit(upload, query["digest"])
        return self._accepted(upload)

    async def go_on(self, method: str, repository: str, tail: str, query: Mapping[str, str], intake: Intake) -> Reply:
        """GET, PATCH, PUT or DELETE of an open session."""
        upload = self.open.get(int(tail)) if tail.isdigit() else None
        if upload is None or upload.repository != repository:
            return _UNKNOWN
        if method == "GET":
            return self._accepted(upload, 204)
        if method == "DELETE":
            del self.open[upload.number]
            return Reply(204)
        if query.get("_state") != f"s{upload.number}.{upload.version}":
            return refusal(400, "BLOB_UPLOAD_INVALID", "the query of the Location was not kept")
        return await (self._patch(upload, query, intake) if method == "PATCH" else self._put(upload, query, intake))

    async def _patch(self, upload: Upload, query: Mapping[str, str], intake: Intake) -> Reply:
        start = re.fullmatch(r"([0-9]+)-[0-9]+", query.get("content-range", ""))
        if "content-range" in query and (start is None or int(start[1]) != len(upload.data)):
            accepted = self._accepted(upload)
            return refusal(416, "BLOB_UPLOAD_INVALID", "chunk out of order", accepted.headers)
        await self._take(upload, intake, "sha256:")
        return self._accepted(upload)

    async def _put(self, upload: Upload, query: Mapping[str, str], intake: Intake) -> Reply:
        digest = unquote(query.get("digest", ""))
        if not re.fullmatch(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", digest):
            return refusal(400, "DIGEST_INVALID", "provided digest is not valid")
        await self._take(upload, intake, digest)
        return self._commit(upload, digest)

    async def _take(self, upload: Upload, intake: Intake, digest: str) -> None:
        """Append the request's body, hashing as it comes; another algorithm than before starts over."""
        algorithm = digest.partition(":")[0]
        if algorithm not in upload.hashes:
            upload.hashes = {algorithm: hashlib.new(algorithm, upload.data)}
        hasher, data = upload.hashes[algorithm], upload.data
        upload.version += 1
        async for chunk in intake.chunks():
            data += chunk
            hasher.update(chunk)

    def _commit(self, upload: Upload, digest: str) -> Reply:
        del self.open[upload.number]
        if f"{digest.partition(':')[0]}:{upload.hashes[digest.partition(':')[0]].hexdigest()}" != digest:
            return refusal(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.content.blobs.setdefault(digest, upload.data)
        self.content.links.setdefault(upload.repository, set()).add(digest)
        return self._created(upload.repository, digest)

    def _created(self, repository: str, digest: str) -> Reply:
        headers = {"Location": f"{self.prefix}/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest}
        return Reply(201, headers)

    def _accepted(self, upload: Upload, status: int = 202) -> Reply:
        headers = {
            "Location": self.prefix + upload.location(),
            "Range": f"0-{max(0, len(upload.data) - 1)}",
            "Docker-Upload-UUID": f"{upload.number:08d}",
        }
        return Reply(status, headers)
