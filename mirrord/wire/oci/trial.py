"""Pushes that find out what a registry takes; whatever was pushed is deleted in the end, also after Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.wire.http.message import MIB, HttpResponse
from mirrord.wire.number import whole
from mirrord.wire.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from mirrord.wire.oci.endpoint import DELETE, PUSH
from mirrord.wire.oci.probe import ACCEPTED, DONE, GONE, UPLOAD, Probe
from mirrord.wire.oci.upload import finish

PATIENCE: Final = 60.0  # seconds for cleaning up
LONGEST: Final = 16 * MIB  # of a chunk that is tried
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_TYPE: Final = {"Content-Type": "application/octet-stream"}


@dataclass(slots=True)
class Trial:
    """Pushes two small blobs and manifests of them, under names that nothing else has.

    Attributes:
        probe: asks, and holds what was found out.
        made: what has to be deleted, in the order in which it was begun: paths below the repository, URLs of uploads.
    """

    probe: Probe
    made: list[str] = field(default_factory=list)
    _failed: dict[str, str] = field(default_factory=dict)  # of `made`, what was not deleted, and why

    async def run(self) -> Sequence[str]:
        """Push, and delete all of it; return what stays.

        Raises:
            MirrordError: the registry cannot be reached any more; what stays is in `left` of the probe.
        """
        try:
            await self._push()
        finally:
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        await self._clean()
            finally:  # what there was no time for, or a second Ctrl-C
                unsure = {**self._failed, **dict.fromkeys(self.made, "no time to delete it")}
                self.probe.left += [f"{_named(one)}: {why}" for one, why in unsure.items()]
        return self.probe.left

    async def _push(self) -> None:
        """Try one thing after the other; tags come last, and only where what they stand for can be deleted."""
        size = max(1024, whole(self.probe.found["minimum"].answer) or 0) if "minimum" in self.probe.found else 0
        layer = self.probe.mark.encode().ljust(2 * min(size, LONGEST), b".")
        whole_layer = not 0 < size <= LONGEST or not await self._in_chunks(layer, size)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "author": self.probe.mark,
                "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer)]},
            }
        ).encode()  # fmt: skip - one key a line
        there = await self._in_one(config) and (not whole_layer or await self._in_one(layer))
        if not there:
            return
        await self._mount(Digest.of(config))
        first = await self._manifest(_image(config, layer))
        if first is None or not await self._erased(first):
            return
        first = await self._manifest(_image(config, layer))
        if first is not None:
            await self._about(first, config, layer)
            await self._sparse()
            await self._tags(_image(config, layer), first)

    async def _in_chunks(self, data: bytes, size: int) -> bool:
        """Push a blob by PATCH and PUT with Content-Range, half in each; whether it is there."""
        url = begun = await self._begin()
        digest = Digest.of(data)
        ranges = [f"{start}-{start + size - 1}" for start in (0, size)]
        answer = await self._send("PATCH", url, data[:size], **{"Content-Range": ranges[0]})
        if answer.status not in (201, 202):
            self.probe.note("chunks", answer=False, detail=f"status {answer.status} to a PATCH of {size} bytes")
            return False
        url = self.probe.endpoint.location(answer)
        self.made.append(f"blobs/{digest}")
        answer = await self._send("PUT", finish(url, digest), data[size:], **{"Content-Range": ranges[1]})
        self.probe.note("chunks", answer.status == 201, f"status {answer.status} to PATCH and PUT with Content-Range")
        return self._ended(begun, answer)

    async def _in_one(self, data: bytes) -> bool:
        """Push a blob with one PUT; whether it is there."""
        url = await self._begin()
        digest = Digest.of(data)
        self.made.append(f"blobs/{digest}")
        answer = await self._send("PUT", finish(url, digest), data)
        self.probe.note("put", answer.status == 201, f"status {answer.status} to one PUT")
        return self._ended(url, answer)

    async def _begin(self) -> str:
        answer = await self.probe.ask("POST", "blobs/uploads/", PUSH, body=b"")
        url = self.probe.endpoint.location(answer)
        self.made.append(url)
        return url

    def _ended(self, begun: str, answer: HttpResponse) -> bool:
        """Whether an upload became a blob; then there is none to cancel."""
        if answer.status == 201:
            self.made.remove(begun)
        return answer.status == 201

    async def _send(self, method: str, url: str, data: bytes, **headers: str) -> HttpResponse:
        return await self.probe.ask(method, url, PUSH, headers={**_TYPE, **headers}, body=data)

    async def _mount(self, digest: Digest) -> None:
        """Mount a blob into the repository that has it, which needs no second one."""
        path = self.probe.reference.path
        for what, source in (("mount", f"&from={path}"), ("anonymous", "")):
            answer = await self.probe.ask("POST", f"blobs/uploads/?mount={digest}{source}", PUSH, body=b"")
            self.probe.note(what, answer.status == 201, f"status {answer.status}")
            if answer.status == 202:
                self.made.append(self.probe.endpoint.location(answer))

    async def _manifest(self, body: bytes, kind: str = OCI_MANIFEST, query: str = "") -> Digest | None:
        """PUT a manifest by its digest; return it, or None when it was refused."""
        digest = Digest.of(body)
        self.made.append(f"manifests/{digest}")
        answer = await self.probe.ask(
            "PUT", f"manifests/{digest}{query}", PUSH, headers={"Content-Type": kind}, body=body
        )
        what = {OCI_INDEX: "sparse"}.get(kind, "subject" if b'"subject"' in body else "tag_query" if query else "push")
        good = answer.status == 201
        if what == "subject":
            good, detail = "oci-subject" in answer.headers, f"status {answer.status}, OCI-Subject"
        elif what == "tag_query":
            good, detail = "oci-tag" in answer.headers, f"status {answer.status}, OCI-Tag"
        else:
            detail = f"status {answer.status}"
        self.probe.note(what, good, detail)
        return digest if answer.status == 201 else None

    async def _erased(self, digest: Digest) -> bool:
        answer = await self.probe.ask("DELETE", f"manifests/{digest}", DELETE)
        done = answer.status in DONE
        self.probe.note("delete", done, f"status {answer.status} to DELETE of a manifest by digest")
        return done

    async def _about(self, subject: Digest, config: bytes, layer: bytes) -> None:
        """Push something about a manifest, and look whether it is listed."""
        about = await self._manifest(_image(config, layer, subject))
        if about is None:
            return
        answer = await self.probe.ask("GET", f"referrers/{subject}", headers={"Accept": OCI_INDEX})
        listed = answer.status == 200 and about.encode() in answer.body
        self.probe.note("referrers", listed, f"status {answer.status}" + ("" if listed else ", not listed"))

    async def _sparse(self) -> None:
        """Push an index of something that is not there."""
        absent = {"mediaType": OCI_MANIFEST, "digest": Digest.of(self.probe.mark.encode()), "size": 2}
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [absent]}
        await self._manifest(json.dumps(index).encode(), OCI_INDEX)

    async def _tags(self, body: bytes, digest: Digest) -> None:
        """Push a tag, look at it by HEAD, and delete it alone; then push one by `?tag=`."""
        tag = f"manifests/{self.probe.mark}"
        self.made.append(tag)
        answer = await self.probe.ask("PUT", tag, PUSH, headers={"Content-Type": OCI_MANIFEST}, body=body)
        if answer.status == 201:
            self.probe.note_head(await self.probe.ask("HEAD", tag, headers=ACCEPTED))
            answer = await self.probe.ask("DELETE", tag, DELETE)
            kept = await self.probe.ask("HEAD", f"manifests/{digest}", headers=ACCEPTED)
            alone = answer.status in DONE and kept.status == 200
            self.probe.note("delete_tag", alone, f"status {answer.status} to DELETE of a tag")
        self.made.append(f"{tag}-2")
        await self._manifest(body, query=f"?tag={self.probe.mark}-2")

    async def _clean(self) -> None:
        """Delete what was made, the last first; what is refused and still there stays."""
        while self.made:
            rest = self.made[-1]
            try:
                answer = await self.probe.ask("DELETE", rest, PUSH if "://" in rest else DELETE)
            except MirrordError as error:
                self._failed[rest] = str(error)
            else:
                if answer.status not in GONE:
                    self._failed[rest] = f"status {answer.status} to DELETE"
            self.made.pop()
        while self._failed:
            rest, why = next(iter(self._failed.items()))
            if "://" in rest or await self._there("HEAD", rest):
                self.probe.left.append(f"{_named(rest)}: {why}")
            del self._failed[rest]
        if self.probe.found["repository"].answer == "no" and await self._there("GET", "tags/list"):
            self.probe.left.append("the repository, which is new and empty: the protocol has no way to delete one")

    async def _there(self, method: str, rest: str) -> bool:
        try:
            return (await self.probe.ask(method, rest, headers=ACCEPTED)).status == 200
        except MirrordError:
            return True


def _named(rest: str) -> str:
    return UPLOAD if "://" in rest else rest


def _image(config: bytes, layer: bytes, subject: Digest | None = None) -> bytes:
    parts = ((_CONFIG, config), (_LAYER, layer))
    entries = [{"mediaType": kind, "digest": Digest.of(data), "size": len(data)} for kind, data in parts]
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entries[0], "layers": entries[1:]}
    if subject is not None:
        size = len(_image(config, layer))
        document["artifactType"] = "application/vnd.mirrord.probe"
        document["subject"] = {"mediaType": OCI_MANIFEST, "digest": subject, "size": size}
    return json.dumps(document).encode()
