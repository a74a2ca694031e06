"""A cache as a Git repository that can be cloned from and not pushed to, by `git upload-pack`.

Only the smart protocol's reading half is spoken (gitprotocol-http). The environment says what may be seen, whatever the
cache's own configuration says: `GIT_CONFIG_COUNT` overrides it. And what branches and tags do not reach is not sent,
even to who knows its id: backups, and what upstream took back, stay here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from mirrord.errors import BusyError, ContentError, MirrordError, TooLargeError
from mirrord.files import LocalFile
from mirrord.syncer.serving import Process, Request, Response, refusal
from mirrord.syncers.git.front.state import GitFront
from mirrord.wire.git.pktline import FLUSH, encode
from mirrord.wire.git.wants import untold, wanted, withheld

UPLOAD, RECEIVE = "git-upload-pack", "git-receive-pack"
LONGEST: Final = 16 << 20
"""Bytes of a request; 300 000 wanted objects."""
_LONG_WORK: Final = 256 << 10  # bytes of which the event loop had to stand still for too long
_VERSION: Final = re.compile(r"(?:^|:)version=([0-9])(?=:|$)")
_LISTING: Final = encode("command=ls-refs")
_TOO_LARGE: Final = "this repository is too large to tell whether it may show that object; ask for a branch or a tag"

_SETTINGS: Final = {
    "transfer.hideRefs": "refs/mirrord",
    "uploadpack.allowFilter": "true",
    "uploadpack.allowAnySHA1InWant": "false",
    "uploadpack.allowReachableSHA1InWant": "true",  # after the one before, which takes this away
    "uploadpackfilter.sparse:oid.allow": "false",  # it would read any file by its object id
    "pack.threads": "2",
}


async def clone(request: Request, front: GitFront, cache: Path, rest: str) -> Response:
    """Map what follows the name of a repository to content."""
    service = request.query.get("service", "")
    if RECEIVE in (service, rest):
        return refusal(403, "this mirror is read-only; push to its upstream")
    if (rest == UPLOAD) != (request.method == "POST"):
        return refusal(405, "only git-upload-pack can be posted to, and it can only be posted to")
    asked = _VERSION.finditer(request.headers.get("git-protocol", "")[:256])
    version = max((int(found[1]) for found in asked if found[1] in "12"), default=0)  # the highest (gitprotocol-v2)
    if rest == UPLOAD:
        return Response(200, {}, posted=partial(_answer, front, cache, version), longest=LONGEST)
    if rest == "info/refs":
        return _listing(front, cache, service, version)
    if rest == "HEAD":
        head = await asyncio.to_thread(LocalFile.whole, cache / "HEAD")
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        return Response(200, headers, head) if head else refusal(404, "no such repository is served here")
    return refusal(404, "no page; `git clone` this address")


def _listing(front: GitFront, cache: Path, service: str, version: int) -> Response:
    if service != UPLOAD:
        return refusal(403, "only Git's smart protocol is spoken here; git speaks it since 1.6.6")
    begin = b"" if version == 2 else encode(f"# service={UPLOAD}") + FLUSH
    argv = _upload_pack(cache, "--http-backend-info-refs")
    process = Process(argv, _environ(front, version), begin=begin, quick=True)
    return Response(200, _headers("advertisement"), process)


async def _answer(front: GitFront, cache: Path, version: int, body: bytes) -> Response:
    """Let git answer a request, unless it asks for what no branch or tag reaches: that is refused in git's words."""
    try:
        oids = await asyncio.to_thread(wanted, body) if len(body) > _LONG_WORK else wanted(body)
        suspects, oid = await untold(front.git, cache, oids), None
        if suspects:  # who asks for tips, as every clone does, never waits for that
            async with front.walk():
                oid = await withheld(front.git, cache, suspects)
    except ContentError:
        return refusal(400, "this is no request of Git's smart protocol")
    except (TimeoutError, TooLargeError):
        return _error(_TOO_LARGE)
    except BusyError as error:
        return refusal(503, str(error))
    except MirrordError:
        return refusal(500, "the cache cannot be read; `mirrord status` says more")
    if oid is not None:
        return _error(f"upload-pack: not our ref {oid[:64]}")
    quick = version == 2 and body.startswith(_LISTING)
    process = Process(_upload_pack(cache, "--stateless-rpc"), _environ(front, version), body, quick=quick)
    return Response(200, _headers("result"), process)


def _headers(what: str) -> Mapping[str, str]:
    return {"Content-Type": f"application/x-{UPLOAD}-{what}", "Cache-Control": "no-cache, max-age=0, must-revalidate"}


def _error(text: str) -> Response:
    return Response(200, _headers("result"), encode(f"ERR {text}"))  # gitprotocol-pack, error-line


def _upload_pack(cache: Path, option: str) -> tuple[str, ...]:
    return ("git", "upload-pack", "--strict", option, "--", str(cache))


def _environ(front: GitFront, version: int) -> Mapping[str, str]:
    protocol = {"GIT_PROTOCOL": f"version={version}"} if version else {}
    return {**front.git.environment(_SETTINGS), **protocol}
