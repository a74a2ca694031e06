"""Putting an image into a registry without the code under test."""

from __future__ import annotations

import io
from collections.abc import Iterable
from urllib.parse import urljoin

import aiohttp

from mirrord.errors import RefusedError
from mirrord.testing.images import Image
from mirrord.testing.registry import Registry


async def push(image: Image, to: Registry | str, repository: str, tags: Iterable[str] = ()) -> None:
    """Put `image` into a registry: straight into a double's dictionaries, or over HTTP to a base URL.

    Args:
        image: what to put.
        to: a `Registry`, or `http://127.0.0.1:PORT` of any registry that needs no credentials.
        repository: its path there.
        tags: set to the image's root; without any it is there by digest only.

    Raises:
        RefusedError: the registry said no.
    """
    if isinstance(to, Registry):
        for digest, data in image.blobs.items():
            to.content.put_blob(repository, data, digest)
        for digest, (media_type, body) in image.manifests.items():
            to.content.put_manifest(repository, media_type, body, digest=digest)
        for tag in tags:
            to.content.tags.setdefault(repository, {})[tag] = image.digest
        return
    base = f"{to}/v2/{repository}"
    async with aiohttp.ClientSession() as session:
        for digest, data in image.blobs.items():
            answer = await _send(session, "POST", f"{base}/blobs/uploads/", b"", {})
            place = urljoin(str(answer.url), answer.headers["Location"])
            join = "&" if "?" in place else "?"
            headers = {"Content-Type": "application/octet-stream"}
            await _send(session, "PUT", f"{place}{join}digest={digest}", data, headers)
        for digest, (media_type, body) in image.manifests.items():
            await _send(session, "PUT", f"{base}/manifests/{digest}", body, {"Content-Type": media_type})
        for tag in tags:
            await _send(session, "PUT", f"{base}/manifests/{tag}", image.body, {"Content-Type": image.media_type})


async def _send(
    session: aiohttp.ClientSession, method: str, url: str, body: bytes, headers: dict[str, str]
) -> aiohttp.ClientResponse:
    payload = aiohttp.BytesIOPayload(io.BytesIO(body)) if body else b""
    async with session.request(method, url, data=payload, headers=headers) as answer:
        if answer.status not in (201, 202):
            text = (await answer.text())[:500]
            raise RefusedError(f"{method} {answer.url.path}: {answer.status} {text}", answer.status)
        return answer
