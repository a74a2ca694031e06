"""One repository at one registry (OCI distribution-spec v1.1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

from mirrord import failpoints
from mirrord.errors import ContentError, DigestError, ImmutableError, RefusedError, ServerError, UsageError, about
from mirrord.model.digest import Digest
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest, HttpResponse
from mirrord.wire.http.resume import from_offset
from mirrord.wire.oci import upload
from mirrord.wire.oci.descriptor import MANIFESTS, SCHEMA1, Descriptor
from mirrord.wire.oci.endpoint import DELETE, PULL, PUSH, UNSURE, Create, Endpoint, header_digest, header_size
from mirrord.wire.oci.manifest import ACCEPT, LIMIT, Manifest
from mirrord.wire.oci.paging import LeftOut
from mirrord.wire.oci.profiles import means_immutable
from mirrord.wire.oci.reference import Reference, valid_tag
from mirrord.wire.oci.referrers import add_referrers, list_referrers
from mirrord.wire.offload import offload

_ACCEPTED = {"Accept": ACCEPT}
_KNOWN = (200, *UNSURE)
PAUSES = (0.1, 0.5)  # seconds until a manifest is sent again to a registry that does not see all of its content


class Repository:
    """One repository at one registry.

    `push` says that content will be written to it: then every request asks for the right to push, so that one
    token serves them all, and the registry's ways to say "not there yet" are taken as that. `create` is called when the
    registry says to a push that nobody created the repository.

    All methods raise `TransportError` when the registry cannot be reached, fails or asks for patience,
    `UntrustedError` when `mirrord.wire.trust` refuses to go on, and `DeniedError` when credentials do not suffice.
    """

    naming_writes = True
    keeps: Literal[False] = False

    def __init__(self, http: Http, reference: Reference, *, push: bool = False, create: Create | None = None) -> None:
        self.http, self.reference = http, reference
        self.host, self.repository = reference.domain, reference.path
        self._endpoint = Endpoint.at(http, reference, PUSH if push else PULL, create)
        self._listed: set[Digest] = set()
        self._written: dict[Digest, list[Manifest]] = {}  # into lists of referrers, by subject
        self._begun: dict[Digest, HttpResponse] = {}  # uploads that a mount opened instead

    async def head_manifest(self, ref: str, deadline: float | None = None) -> Descriptor | None:
        """Return what a tag or digest points to, or None when it is not there.

        One HEAD, which costs no quota at Docker Hub. A registry that refuses it, leaves out digest, type or size, or
        answers nonsense (`Profile.head`), is asked by GET, and its bytes are hashed. Schema 1 is described, not
        refused: a target may have one under our tag. `deadline` is that of `HttpRequest`, for each request.

        Raises:
            UsageError: `ref` is neither tag nor digest.
            RefusedError: GET was refused too.
            DigestError: asked for a digest, the registry answers with another one.
            ContentError: what it points to is not a manifest.
        """
        described = None
        if self._endpoint.profile.head:
            call = self._manifest("HEAD", ref, headers=_ACCEPTED, ok=_KNOWN, deadline=deadline)
            answer = await self._endpoint.http.fetch(call)
            if answer.status == 200:
                described = _described(answer, ref, self.reference.name)
            elif self._endpoint.actions == PUSH and answer.status in self._endpoint.missing:
                return None  # before a push that is what is expected, and a GET costs as much as the PUT
        try:
            return described or (await self.get_manifest(ref, deadline)).descriptor
        except RefusedError as error:
            pushing, profile = self._endpoint.actions == PUSH, self._endpoint.profile
            if error.status in self._endpoint.missing or (pushing and profile.lacks(str(error))):
                return None
            raise

    async def get_manifest(self, ref: str, deadline: float | None = None) -> Manifest:
        """Return the manifest of a tag or digest, its bytes checked against every digest that was named.

        Bytes that do not fit are asked for once more: a cache on the way may heal.

        Raises:
            UsageError: `ref` is neither tag nor digest.
            MissingError: it is not there.
            DigestError: the bytes are not those of `ref` or of `Docker-Content-Digest`, twice.
            UnsupportedError: Docker schema 1.
            ContentError: no manifest, or an ambiguous one, or one with a Content-Encoding.
            TooLargeError: more than 4 MiB, 1000 blobs or 10 000 entries.
        """
        call = self._manifest("GET", ref, headers=_ACCEPTED, cap=LIMIT, deadline=deadline)
        try:
            return await self._read(call, ref)
        except DigestError:
            return await self._read(call, ref)

    async def has_manifest(self, digest: Digest) -> bool:
        """Whether a manifest is there (one HEAD), and so its content: registries take none whose content they lack.

        A registry that refuses to say is asked whether we may push, so that nothing is read for it in vain; its answers
        to the uploads decide then (Artifactory behind a proxy denies every HEAD: google/go-containerregistry#1691).
        """
        try:
            return await self.head_manifest(digest) is not None
        except RefusedError:
            await upload.may_push(self._endpoint.pushing())
            return False

    async def has_blob(self, blob: Descriptor) -> bool:
        """Whether a blob is there with its size (one HEAD); False where the registry does not announce one."""
        return await upload.blob_size(self._endpoint, blob.digest) == blob.size

    @asynccontextmanager
    async def open_blob(
        self, descriptor: Descriptor, offset: int = 0, first: float | None = None
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Give a blob's size, and stream it from byte `offset` on; the bytes are not hashed here.

        A registry that ignores Range sends everything: the first `offset` bytes are then read and dropped.
        `first` is that of `HttpRequest`.

        Raises:
            MissingError: it is not there.
            DigestError: the length that the registry announces is not the descriptor's.
            ContentError: encoded, or another part than was asked for.
        """
        what = f"{self.reference.name}: blob {descriptor.digest}"
        call = self._endpoint.call("GET", f"blobs/{descriptor.digest}", first=first)
        async with from_offset(self._endpoint.http, call, offset, what) as (size, chunks):
            if size not in (None, descriptor.size):
                raise DigestError(f"{what}: has {size} bytes, but {descriptor.size} are in its descriptor")
            yield descriptor.size, chunks

    async def get_blob(self, descriptor: Descriptor) -> bytes:
        """Return a small blob, its bytes checked; its descriptor says how long it is at most. Raises as `open_blob`."""
        data = bytearray()
        async with self.open_blob(descriptor) as (_, chunks):
            async for chunk in chunks:
                data += chunk
                if len(data) > descriptor.size:
                    break
        if Digest.of(bytes(data), descriptor.digest.algorithm) != descriptor.digest:
            raise DigestError(f"{self.reference.name}: the bytes received are not those of {descriptor.digest}")
        return bytes(data)

    async def put_manifest(self, manifest: Manifest, ref: str | None = None) -> None:
        """Push a manifest's bytes under a tag or, without one, its digest; all that it refers to must be there.

        What is about another manifest is listed under that one's tag where the registry does not list it itself.

        A tag of a manifest with a sha512 digest is pushed by digest with `?tag=`, else the registry would
        compute a sha256; where that is not known (no `OCI-Tag` in the answer), by tag as well.

        Raises:
            UsageError: `ref` is neither tag nor this manifest's digest.
            ImmutableError: the tag exists and the registry does not let it move.
            RefusedError: the registry does not take it.
            DigestError: the registry stored something else than was meant.
        """
        ref = manifest.digest if ref is None else ref
        is_tag = valid_tag(ref)
        if not is_tag and ref != manifest.digest:
            raise UsageError(f"{ref[:140]!a}: neither a tag nor the digest of the manifest to push")
        by_digest = is_tag and manifest.digest.algorithm != "sha256"
        answer = await self._put(manifest, f"{manifest.digest}?tag={ref}" if by_digest else ref, ref)
        if by_digest and ref not in (tag.strip() for tag in answer.headers.get("oci-tag", "").split(",")):
            answer = await self._put(manifest, ref, ref)
        if manifest.subject and manifest.digest not in self._listed:
            subject = manifest.subject.digest
            if "oci-subject" not in answer.headers and await add_referrers(self, subject, [manifest]):
                self._written.setdefault(subject, []).append(manifest)
            self._listed.add(manifest.digest)

    async def relist(self, subject: Digest) -> None:
        """Look once more whether the list of what is about `subject` has what was written there; raises as that."""
        if written := self._written.pop(subject, None):
            await add_referrers(self, subject, written)

    async def publish(self, manifest: Manifest, names: Sequence[str]) -> None:
        """Let all of `names`, in this order, stand for a manifest whose content is there.

        What is about another manifest and was there already is first PUT by digest once more: the attempt that brought
        it may have ended before it was listed, and only the answer to a PUT says who has to list it.
        """
        if manifest.subject and manifest.digest not in self._listed:
            await self.put_manifest(manifest)
        for name in names:
            await self.put_manifest(manifest, name)
            failpoints.hit("push.tag")

    async def put_blob(self, descriptor: Descriptor, open: Callable[[], AsyncIterator[bytes]]) -> None:  # noqa: A002 - the port's name
        """Upload a blob; `open` is called once for each attempt. Raises as `mirrord.wire.oci.upload.put_blob`."""
        await upload.put_blob(self._endpoint.pushing(), descriptor, open, self._begun.pop(descriptor.digest, None))

    async def delete(self, ref: str) -> None:
        """Delete a tag, or a manifest by digest. Raises as `mirrord.wire.oci.tags.delete`."""
        from mirrord.wire.oci.tags import delete  # noqa: PLC0415 - as below

        await delete(replace(self._endpoint, actions=DELETE), ref)

    async def mount(self, digest: Digest, source: str) -> bool:
        """Take over a blob from repository `source` of the same registry; see `mirrord.wire.oci.upload.mount`."""
        there, begun = await upload.mount(self._endpoint.pushing(), digest, source)
        if begun is not None:
            self._begun[digest] = begun
        return there

    def tags(self, left_out: LeftOut | None = None) -> AsyncIterator[str]:
        """Yield all tags; see `mirrord.wire.oci.tags.list_tags`."""
        from mirrord.wire.oci.tags import list_tags  # noqa: PLC0415 - a copy of one image starts without it

        return list_tags(self._endpoint, left_out)

    async def referrers(self, subject: Digest) -> Sequence[object] | None:
        """Return what the registry lists about a manifest; see `mirrord.wire.oci.referrers.list_referrers`."""
        return await list_referrers(self._endpoint, subject) if self._endpoint.profile.referrers else None

    def _manifest(self, method: str, ref: str, **more: Any) -> HttpRequest:
        if ":" in ref:
            Digest.parse(ref)
        elif not valid_tag(ref):
            raise UsageError(f"{ref[:140]!a}: neither a tag nor a digest")
        return self._endpoint.call(method, f"manifests/{ref}", **more)

    async def _put(self, manifest: Manifest, rest: str, ref: str) -> HttpResponse:
        headers = {"Content-Type": manifest.media_type}
        call = self._endpoint.pushing().call("PUT", f"manifests/{rest}", headers=headers, body=manifest.body, ok=(201,))
        try:
            answer = await self._fetch_settled(call)
        except (RefusedError, ServerError) as error:
            if manifest.foreign:  # docker-registry 2.8 answers 500 to those (google/go-containerregistry#709)
                hint = "whose URLs this registry must be set to allow"
                error.args = (f"{error} (foreign layers in it: {len(manifest.foreign)}, {hint})",)
            if advice := self._endpoint.profile.advice(str(error)):
                error.args = (f"{error}; {advice}", *error.args[1:])
            if isinstance(error, RefusedError) and valid_tag(ref) and means_immutable(error):
                raise ImmutableError(
                    f"{self.reference.name}:{ref} may not be overwritten: {error}", error.status
                ) from error
            raise
        stored = header_digest(answer)
        if stored is not None and stored != Digest.of(manifest.body, stored.algorithm):
            raise DigestError(f"{self.reference.name}: was sent {manifest.digest} and says it stored {stored}")
        return answer

    async def _fetch_settled(self, call: HttpRequest) -> HttpResponse:
        """PUT a manifest, again after each of `PAUSES` while the registry does not see something that is there.

        docker-registry 2.8 does not see a manifest for the moment in which it gets one more name, because the file that
        links it is written anew; where several machines or an object store stand behind one name, what was written at
        one of them comes to another a moment later.
        """
        for pause in PAUSES:
            try:
                return await self._endpoint.http.fetch(call)
            except RefusedError as error:
                if not lacks_content(error):
                    raise
                await asyncio.sleep(pause)
        return await self._endpoint.http.fetch(call)

    async def _read(self, call: HttpRequest, ref: str) -> Manifest:
        answer = await self._endpoint.http.fetch(call)
        return await offload(len(answer.body), self._parsed, answer, ref)

    def _parsed(self, answer: HttpResponse, ref: str) -> Manifest:
        promised = header_digest(answer)
        wanted = Digest(ref) if ":" in ref else promised
        try:
            manifest = Manifest.parse(answer.body, answer.headers.get("content-type", ""), wanted)
        except ContentError as error:
            about(error, f"{self.reference.name}: {ref}")
            raise
        if promised is not None and promised != Digest.of(answer.body, promised.algorithm):
            raise DigestError(f"{self.reference.name}: {ref}: Docker-Content-Digest says {promised}, which it is not")
        return manifest


def lacks_content(error: RefusedError) -> bool:
    """Whether a registry refuses a manifest because what it refers to is not there (`MANIFEST_BLOB_UNKNOWN`)."""
    return "BLOB_UNKNOWN" in str(error)


def _described(answer: HttpResponse, ref: str, name: str) -> Descriptor | None:
    """Return what the headers of a HEAD say, or None when they do not say enough."""
    digest, size = header_digest(answer), header_size(answer)
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if digest is not None and ":" in ref and digest.algorithm == Digest(ref).algorithm and digest != ref:
        raise DigestError(f"{name}: asked for {ref}, answers with {digest}")
    if ":" in ref:
        digest = Digest(ref)
    if digest is None or size is None or (media_type not in MANIFESTS and media_type not in SCHEMA1):
        return None
    return Descriptor(media_type, digest, size)
