"""How clients use the repository of a target: commands, and its page in a browser. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mirrord.plan.naming import page_text
from mirrord.syncer.values import LOCAL, Mirror, Target, Usage
from mirrord.syncers.git.names import address, forge_at, raw_address, repository_name, source_address, target_address
from mirrord.wire.forges.page import Page
from mirrord.wire.forges.port import joined, repository_of, short, web_host
from mirrord.wire.git.refs import HEADS, TAGS
from mirrord.wire.host import HostBook
from mirrord.wire.trust import scheme_of

_FILE: Final = "README.md"
"""Stands for the file that somebody wants: most repositories have this one."""
_HEAD_IN_RAW: Final = ("github", "gitlab")
"""Hosts at which `HEAD` is the default branch in the URL of a raw file."""


def uses(mirror: Mirror, target: Target, url: str, book: HostBook, item: str) -> Sequence[Usage]:
    """Return how to clone a branch or tag, or the repository, and how to get one file. See `Syncer.uses`."""
    branch = short(item) if item.startswith((HEADS, TAGS)) else ""
    place = address(mirror, url) if target.name == LOCAL else _clone_url(mirror, target, book)
    clone = Usage.of("git", "clone", *(["--branch", branch] if branch else []), place)
    raw = _raw_url(mirror, target, url, item if branch else "")
    return (clone, Usage.of("curl", "-fL", raw)) if raw else (clone,)


def link(mirror: Mirror, target: Target) -> str:
    """Return the page of the repository; see `Syncer.link`."""
    if target.page:
        return page_text(mirror, target, repository_name(mirror))
    found, forge = target_address(mirror, target), forge_at(mirror, target)
    words = repository_of(found)
    host = web_host(found)
    if forge.name == "coding" and host.startswith("e."):
        team, project, name = words
        return f"https://{team}.{host.removeprefix('e.')}/{joined('public', project, name, 'git/files')}"
    if forge.name == "plain":
        return "" if found.scheme == "ssh" else found.url
    return f"{'http' if found.scheme == 'http' else 'https'}://{host}/{joined(*words)}"


def _clone_url(mirror: Mirror, target: Target, book: HostBook) -> str:
    """Return what people clone: over HTTP as the host has it, also when mirrord pushes over ssh."""
    found = target_address(mirror, target)
    if found.scheme != "ssh" or forge_at(mirror, target).name == "plain":
        return found.url
    host = web_host(found)
    return f"{scheme_of(book.policy(host))}://{host}/{joined(*repository_of(found))}.git"


def _raw_url(mirror: Mirror, target: Target, url: str, ref: str) -> str | None:
    words = (*(short(ref) or "HEAD").split("/"), _FILE)
    kind = "branch" if ref.startswith(HEADS) else "tag" if ref else ""
    file = Page(source_address(mirror), words, kind)
    if target.name == LOCAL:
        return raw_address(mirror, file, url)
    forge = forge_at(mirror, target)
    known = ref or forge.name in _HEAD_IN_RAW
    return forge.raw_url(target_address(mirror, target), file) if known else None
