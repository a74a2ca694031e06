"""A cache as a Git repository that can be cloned from and not pushed to, by `git http-backend`.

Only the smart protocol's reading half gets through. The environment says what may be seen, whatever the cache's own
configuration says: `GIT_CONFIG_COUNT` outranks it. And what branches and tags do not reach is not sent, even to who
knows its id: backups, and what upstream took back, stay here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from mirrord.errors import ContentError, MirrordError, TooLargeError
from mirrord.serving import Asked, Content, Program
from mirrord.syncers.git.front.words import refusal
from mirrord.wire.git.command import Git
from mirrord.wire.git.pktline import encode
from mirrord.wire.git.wants import wanted, withheld

UPLOAD, RECEIVE = "git-upload-pack", "git-receive-pack"
_BACKEND = ("git", "http-backend")
_SECONDS: Final = 30.0


def clone(asked: Asked, git: Git, cache: Path, rest: str) -> Content:
    """Map what follows the name of a repository to content; `git` looks at what is asked for."""
    service = asked.query.get("service", "")
    if RECEIVE in (service, rest):
        return refusal(403, "this mirror is read-only; push to its upstream")
    if (rest == UPLOAD) != (asked.method == "POST"):
        return refusal(405, "only git-upload-pack can be posted to, and it can only be posted to")
    if rest == UPLOAD:
        return _backend(cache, rest, "", partial(_admit, git, cache))
    if rest == "info/refs":
        old = refusal(403, "only Git's smart protocol is spoken here; git speaks it since 1.6.6")
        return _backend(cache, rest, f"service={UPLOAD}") if service == UPLOAD else old
    if rest == "HEAD":
        return Content(200, {"Content-Type": "text/plain; charset=utf-8"}, file=cache / "HEAD")
    return refusal(404, "no page; `git clone` this address")


async def _admit(git: Git, cache: Path, body: bytes) -> Content | None:
    """Refuse what no branch or tag reaches, in git's own words, so that a client shows them."""
    try:
        async with asyncio.timeout(_SECONDS):
            oid = await withheld(git, cache, wanted(body))
    except ContentError:
        return refusal(400, "this is no request of Git's smart protocol")
    except (TimeoutError, TooLargeError):
        return _error("this repository is too large to tell whether it may show that object; ask for a branch or a tag")
    except MirrordError:
        return refusal(500, "the cache cannot be read; `mirrord status` says more")
    return None if oid is None else _error(f"upload-pack: not our ref {oid[:64]}")


def _error(text: str) -> Content:
    headers = {"Content-Type": f"application/x-{UPLOAD}-result", "Cache-Control": "no-cache"}
    return Content(200, headers, body=encode(f"ERR {text}"))  # gitprotocol-pack, error-line


def _backend(
    cache: Path, rest: str, query: str, admit: Callable[[bytes], Awaitable[Content | None]] | None = None
) -> Content:
    env = {
        "GIT_PROJECT_ROOT": str(cache.parent),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": f"/{cache.name}/{rest}",
        "QUERY_STRING": query,  # of several values of one key git would take the last, and we took the first
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
        **_settings(cache),
    }
    return Content(200, {}, program=Program(_BACKEND, env, admit))


def _settings(cache: Path) -> Mapping[str, str]:
    """Return git's settings in the form in which an environment carries them (git(1), GIT_CONFIG_COUNT)."""
    settings = {
        "safe.directory": str(cache),  # a volume may belong to another user than the one that serves it
        "transfer.hideRefs": "refs/mirrord",
        "uploadpack.allowFilter": "true",
        "uploadpack.allowAnySHA1InWant": "false",
        "uploadpack.allowReachableSHA1InWant": "true",  # after the one before, which takes this away
        "uploadpackfilter.sparse:oid.allow": "false",  # it would read a file that nobody admitted
        "http.uploadpack": "true",
        "http.receivepack": "false",
        "http.getanyfile": "false",
        "core.hooksPath": "/dev/null",
        "gc.auto": "0",
        "pack.threads": "2",
    }
    keys = {f"GIT_CONFIG_KEY_{at}": key for at, key in enumerate(settings)}
    values = {f"GIT_CONFIG_VALUE_{at}": value for at, value in enumerate(settings.values())}
    return {"GIT_CONFIG_COUNT": str(len(settings)), **keys, **values}
