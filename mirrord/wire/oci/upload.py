"""Blobs into a repository: mount, one streaming PUT, or chunks where nothing else passes.

POST and one PUT are two requests a blob (distribution-spec, "POST then PUT"). A session may vanish
while we pause (regclient/regclient#323) and does not survive half a body, so whatever goes wrong after the
POST is answered by a new session and the whole body again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from urllib.parse import quote

from mirrord import errors
from mirrord.model.digest import Digest
from mirrord.wire.http.asker import asker
from mirrord.wire.http.message import MIB, HttpResponse, Upload
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.endpoint import PULL, PUSH, UNSURE, Endpoint, header_digest, header_size, scope
from mirrord.wire.oci.reference import valid_repository
from mirrord.wire.origin import check_url

ATTEMPTS = 3
LONGEST_CHUNK = 64 * MIB  # what one upload may hold in memory
_KNOWN = (200, *UNSURE)
_TYPE = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-(?P<last>[0-9]{1,18})")
_DAMAGED = ("DIGEST_INVALID", "SIZE_INVALID", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN")

Source = Callable[[], AsyncIterator[bytes]]
_Body = Callable[[], AsyncGenerator[bytes, None]]


async def blob_size(endpoint: Endpoint, digest: Digest) -> int | None:
    """Return the size of a blob (one HEAD), or None when it is not there or the registry does not announce it.

    Raises:
        RefusedError: at a source; before a push a refusal says nothing, and the upload decides.
    """
    call = endpoint.call("HEAD", f"blobs/{digest}", ok=_KNOWN if endpoint.actions == PUSH else (200,))
    try:
        answer = await endpoint.http.fetch(call)
    except errors.MissingError:
        return None
    if answer.status != 200:
        return None
    found = header_digest(answer)
    foreign = found is not None and found.algorithm == digest.algorithm and found != digest
    return None if foreign else header_size(answer)


async def put_blob(
    endpoint: Endpoint, descriptor: Descriptor, source: Source, begun: HttpResponse | None = None
) -> None:
    """Upload a blob; `source` is called once for each attempt and yields exactly `descriptor.size` bytes.

    `begun` is the answer to a `mount` that opened a session, which is used first.

    Raises:
        DigestError: the registry stored something else than was meant.
        RefusedError: it does not take the blob.
        TransportError: it failed `ATTEMPTS` times, or asks for patience.
    """
    broken: list[BaseException] = []
    body = partial(_noted, source, descriptor, broken)
    limit = endpoint.profile.put_limit
    chunked = limit is not None and descriptor.size > limit
    for attempt in range(1, ATTEMPTS + 1):
        session, begun = begun or await _open(endpoint, descriptor.digest), None
        try:
            if chunked:
                done = await _put_chunks(endpoint, session, descriptor, body)
            else:
                content = Upload(descriptor.size, body) if descriptor.size else b""  # a plain `Content-Length: 0`
                url = finish(endpoint.location(session), descriptor.digest)
                call = endpoint.call_url("PUT", url, headers=_TYPE, body=content, ok=(201,))
                done = await endpoint.http.fetch(call)
        except errors.UnreachableError as error:
            led = check_url(endpoint.location(session))
            if led == check_url(endpoint.base):
                raise
            # A registry behind a proxy that does not know its own address (distribution/distribution#2225, #2572).
            why = f"{endpoint.reference.name}: sends uploads to {led} (Location), which cannot be reached: {error}"
            raise errors.UnreachableError(f"{why}; configure the registry with the address that clients use") from error
        except errors.MirrordError as error:
            too_large = isinstance(error, errors.RefusedError) and error.status == 413
            hopeful = _vanished(error) or (too_large and not chunked and endpoint.profile.chunk)
            if attempt == ATTEMPTS or broken or not hopeful:
                raise
            chunked = chunked or too_large
        else:
            stored = header_digest(done)
            if stored is not None and stored.algorithm == descriptor.digest.algorithm and stored != descriptor.digest:
                who = endpoint.reference.name
                raise errors.DigestError(f"{who}: was sent {descriptor.digest} and says it stored {stored}")
            return
        if not too_large and await blob_size(endpoint, descriptor.digest) == descriptor.size:
            return  # only the answer was lost


async def mount(endpoint: Endpoint, digest: Digest, source: str) -> tuple[bool, HttpResponse | None]:
    """Take over a blob from another repository of the same registry, without sending a byte; whether it did.

    A registry that does not mount opens an upload session instead (distribution-spec, "Mounting a blob from
    another repository"), which is returned for `put_blob`. One that would not compute the digest is cancelled.

    Raises:
        UsageError: `source` is not a repository's path. A host in it would make registries answer nonsense
            (google/go-containerregistry#1393).
    """
    if not valid_repository(source):
        raise errors.UsageError(f"{source!a}: not a repository to mount from; write its path without a host")
    if source == endpoint.reference.path:
        return False, None
    query = f"mount={quote(digest, safe='')}&from={quote(source, safe='')}"
    # The scope for pushing comes first: a few registries look at the first one only.
    scopes = f"{scope(endpoint.reference.path, endpoint.actions)} {scope(source, PULL)}"
    call = endpoint.call("POST", f"blobs/uploads/?{query}", scope=scopes, body=b"", ok=(201, 202), attempts=1)
    try:
        answer = await endpoint.http.fetch(call)
    except errors.MirrordError:
        return False, None
    if answer.status == 201:
        return header_digest(answer) in (digest, None), None
    if digest.algorithm == "sha256":
        return False, answer
    await _cancel(endpoint, answer)  # other algorithms have to be announced
    return False, None


async def may_push(endpoint: Endpoint) -> None:
    """Find out whether an upload may begin, by beginning one and cancelling it; RefusedError says no."""
    await _cancel(endpoint, await _open(endpoint, Digest.of(b"")))


async def _cancel(endpoint: Endpoint, session: HttpResponse) -> None:
    with contextlib.suppress(errors.MirrordError):  # many registries want the right to delete for this
        await endpoint.http.fetch(
            endpoint.call_url("DELETE", endpoint.location(session), ok=(200, 202, 204), attempts=1)
        )


async def _open(endpoint: Endpoint, digest: Digest) -> HttpResponse:
    """Open a session; another algorithm than sha256 has to be announced (distribution-spec, end-4c).

    Here a push begins, so here a registry says that nobody created the repository.
    """
    query = "" if digest.algorithm == "sha256" else f"?digest-algorithm={digest.algorithm}"
    call = endpoint.call("POST", f"blobs/uploads/{query}", body=b"", ok=(202,))
    try:
        return await endpoint.http.fetch(call)
    except errors.RefusedError as error:
        if not endpoint.profile.lacks(str(error)):
            raise
        if endpoint.create is None:
            how = "create it there, or write `create: {}` at the target, so that mirrord does"
            error.args = (f"{error}; {how}", *error.args[1:])
            raise
        await endpoint.create()
        if run := asker():
            run.forgive(call)  # Harbor denies what is not there
    return await endpoint.http.fetch(call)


async def _put_chunks(endpoint: Endpoint, session: HttpResponse, descriptor: Descriptor, body: _Body) -> HttpResponse:
    """Send PATCHes, and the last chunk with the PUT: ECR fails on an empty one (cirruslabs/tart#159)."""
    url = endpoint.location(session)
    size = max(endpoint.profile.chunk or descriptor.size, _least(endpoint, session))
    offset = 0
    async with contextlib.aclosing(body()) as parts, contextlib.aclosing(_cut(parts, size)) as chunks:
        async for chunk in chunks:
            end = offset + len(chunk)
            if end >= descriptor.size:
                return await _send(endpoint, "PUT", finish(url, descriptor.digest), chunk, offset)
            url = await _patch(endpoint, url, chunk, offset)
            offset = end
    raise errors.DigestError(
        f"{descriptor.digest}: nothing to send"
    )  # the last chunk returns, and nothing is sent whole


async def _patch(endpoint: Endpoint, url: str, chunk: bytes, offset: int) -> str:
    """Send a chunk that is not the last; return where to go on.

    After a failure the registry is asked once how far it came ("Pushing a blob in chunks"), and gets the rest of the
    chunk. One that has less than before, such as Aliyun's, which counts within the chunk (regclient/regclient#627), or
    more than was sent, is not believed: then all begins anew.
    """
    try:
        return endpoint.location(await _send(endpoint, "PATCH", url, chunk, offset))
    except errors.MirrordError as error:
        if not _vanished(error):
            raise
        try:
            call = endpoint.call_url("GET", url, ok=(200, 202, 204), attempts=1)
            answer = await endpoint.http.fetch(call)
            sent, url = _received(answer) - offset, endpoint.location(answer)
        except errors.MirrordError:
            raise error from None
        if not 0 <= sent <= len(chunk):
            raise
    if sent == len(chunk):
        return url
    return endpoint.location(await _send(endpoint, "PATCH", url, chunk[sent:], offset + sent))


async def _send(endpoint: Endpoint, method: str, url: str, chunk: bytes, offset: int) -> HttpResponse:
    # Without `bytes ` in front: the registries' own form (distribution-spec, "Pushing a blob in chunks").
    headers = {**_TYPE, "Content-Range": f"{offset}-{offset + len(chunk) - 1}"}
    content = Upload(len(chunk), partial(_once, chunk))  # not bytes: those are small, and have a deadline
    ok = (201,) if method == "PUT" else (201, 202)
    return await endpoint.http.fetch(endpoint.call_url(method, url, headers=headers, body=content, ok=ok, attempts=1))


def _received(answer: HttpResponse) -> int:
    """Return how many bytes of an upload are there, by its `Range`; -1 for none. `0-0` stands for no byte, too."""
    found = _RANGE.fullmatch(answer.headers.get("range", ""))
    last = int(found["last"]) if found else -2
    return last + 1 if last else 0


async def _noted(source: Source, descriptor: Descriptor, broken: list[BaseException]) -> AsyncGenerator[bytes, None]:
    """Pass the bytes on; note when it was our own source that failed: a new session does not heal that."""
    parts, left = source(), descriptor.size
    try:
        async for part in parts:
            left -= len(part)
            if left < 0:
                break
            yield part
    except Exception as error:
        broken.append(error)
        raise
    finally:
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()
    if left:
        why = f"{descriptor.digest}: the source does not have the {descriptor.size} bytes of the descriptor"
        broken.append(errors.DigestError(why))
        raise broken[-1]


async def _cut(parts: AsyncIterator[bytes], size: int) -> AsyncGenerator[bytes, None]:
    """Regroup into chunks of `size` bytes; the last one may be shorter."""
    held = bytearray()
    async for part in parts:
        held += part
        while len(held) > size:  # never equal: the last chunk of all must not be handed out too early
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def _least(endpoint: Endpoint, session: HttpResponse) -> int:
    """Return the shortest chunk that the registry takes (distribution-spec, "Pushing a blob in chunks")."""
    text = session.headers.get("oci-chunk-min-length", "")
    digits = text.lstrip("0") if text.isascii() and text.isdigit() else ""
    if len(digits) > 9 or int(digits or 0) > LONGEST_CHUNK:
        raise errors.UnsupportedError(
            f"{endpoint.reference.name}: wants chunks of at least {digits[:20]} bytes; {LONGEST_CHUNK} are the most"
        )
    return int(digits or 0)


async def _once(chunk: bytes) -> AsyncGenerator[bytes, None]:
    yield chunk


def finish(url: str, digest: Digest) -> str:
    """Append the digest; everything else in a Location is the registry's and stays as it is."""
    return f"{url}{'&' if '?' in url else '?'}digest={quote(digest, safe='')}"


def _vanished(error: errors.MirrordError) -> bool:
    """Whether a new session may help."""
    match error:
        case errors.ServerError():
            return error.retry
        case errors.BrokenError() | errors.MissingError():
            return True
        case errors.RefusedError():
            return error.status == 416 or (error.status == 400 and any(code in str(error) for code in _DAMAGED))
    return False
