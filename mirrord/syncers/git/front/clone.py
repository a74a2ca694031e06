"""A cache as a Git repository that can be cloned from and not pushed to, by `git http-backend`.

Only the smart protocol's reading half gets through. The environment says what may be seen, whatever the cache's own
configuration says: `GIT_CONFIG_COUNT` outranks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mirrord.serving import Asked, Content, Program
from mirrord.syncers.git.front.words import refusal

UPLOAD, RECEIVE = "git-upload-pack", "git-receive-pack"
_BACKEND = ("git", "http-backend")


def clone(asked: Asked, cache: Path, rest: str) -> Content:
    """Map what follows the name of a repository to content."""
    service = asked.query.get("service", "")
    if RECEIVE in (service, rest):
        return refusal(403, "this mirror is read-only; push to its upstream")
    if (rest == UPLOAD) != (asked.method == "POST"):
        return refusal(405, "only git-upload-pack can be posted to, and it can only be posted to")
    if rest == UPLOAD:
        return _backend(cache, rest, "")
    if rest == "info/refs":
        old = refusal(403, "only Git's smart protocol is spoken here; git speaks it since 1.6.6")
        return _backend(cache, rest, f"service={UPLOAD}") if service == UPLOAD else old
    if rest == "HEAD":
        return Content(200, {"Content-Type": "text/plain; charset=utf-8"}, file=cache / "HEAD")
    return refusal(404, "no page; `git clone` this address")


def _backend(cache: Path, rest: str, query: str) -> Content:
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
    return Content(200, {}, program=Program(_BACKEND, env))


def _settings(cache: Path) -> Mapping[str, str]:
    """Return git's settings in the form in which an environment carries them (git(1), GIT_CONFIG_COUNT)."""
    settings = {
        "safe.directory": str(cache),  # a volume may belong to another user than the one that serves it
        "transfer.hideRefs": "refs/mirrord",
        "uploadpack.allowFilter": "true",
        "uploadpack.allowAnySHA1InWant": "false",
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
