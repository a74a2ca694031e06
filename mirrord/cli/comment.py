"""`mirrord comment`: says in a pull request where the images of its build can be pulled."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirrord.cli.console import note, say
from mirrord.cli.folders import configuration
from mirrord.cli.publish import build_name
from mirrord.config.lines import nearest
from mirrord.config.load import Configuration
from mirrord.daemon.loop import run
from mirrord.errors import UsageError
from mirrord.events import Events
from mirrord.plan.naming import pull_request_tags
from mirrord.pointing.image_mirrors import KIND, place_at
from mirrord.pointing.places import MirrorPlace, own_host
from mirrord.pointing.present import AskedMirror, Present, asking_book
from mirrord.pointing.told import BOT, tell
from mirrord.report.build import MARK, BuiltImage
from mirrord.report.build import comment as text_of
from mirrord.report.site.describing import host_title
from mirrord.report.words import words
from mirrord.syncer.port import Syncer, load_syncers
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.wire.forges.issues import issues_of
from mirrord.wire.forges.known import forge_of
from mirrord.wire.git.address import Address
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import Secret

TOKEN: Final = "FORGE_TOKEN"  # noqa: S105 - the name of the variable
"""Which variable of the environment has the token of the forge."""
FORGES: Final = ("github", "gitee", "gitea")

_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A mirror, and what its values begin with in the chart."""

    mirror: Mirror
    key: str


@dataclass(frozen=True, slots=True)
class _Forge:
    """A repository to comment in."""

    name: str
    address: Address
    token: Secret


def comment(
    names: tuple[str, ...],
    *,
    pr: int,
    commit: str | None,
    describe: str | None,
    helm: str | None,
    language: str | None,
    to: str | None,
    forge: str | None,
    config: Path | None,
) -> int:
    """Run the command and return its exit code."""
    build = build_name(commit, describe)
    tag, _ = pull_request_tags(pr, build)
    if helm and (not helm.isprintable() or "```" in helm):
        raise UsageError("--helm is one line, such as 'helm install crane crane/crane'")
    where = _forge(to, forge) if to else None
    syncers = load_syncers()
    read = configuration(config, syncers)
    images = list(_images(read, syncers[KIND], [_wanted(name, read) for name in names], tag))
    found = run(_looked(read, images))
    if not any(one.there for one in found):
        note(f"no target has {tag}; nothing was built yet, or it could not be asked")
    said = words(language or ("zh" if where and where.name == "gitee" else "en"))
    text = text_of(found, build, datetime.now(UTC), said, helm or "")
    if where:
        fresh = run(_told(read, where, str(pr), text))
        say(f"{where.address}: the comment in pull request {pr} is {'new' if fresh else 'written anew'}")
    else:
        sys.stdout.write(text)
    return 0 if all(one.there for one in found) else 2 if any(one.there for one in found) else 1


def _forge(to: str, forge: str | None) -> _Forge:
    """Read where to comment, and find the token.

    Raises:
        UsageError: it is no repository at a known forge, or there is no token.
    """
    address = Address.parse(to)
    name = forge_of(address, forge).name
    if name not in FORGES:
        raise UsageError(f"--to {to[:80]}: what kind of host is that? Add --forge github, gitee or gitea")
    if not (token := os.environ.get(TOKEN)):
        raise UsageError(f"--to needs a token that may comment there; set {TOKEN}")
    return _Forge(name, address, Secret(token))


async def _told(read: Configuration, where: _Forge, number: str, text: str) -> bool:
    from mirrord.daemon.runtime import open_http  # noqa: PLC0415 - as below

    bot = BOT if where.name == "github" else ""
    async with open_http(read.book, Events()) as http:
        return await tell(issues_of(http, where.name, where.address, where.token), number, MARK, text, bot)


def _wanted(text: str, read: Configuration) -> _Wanted:
    """Read `NAME` or `NAME=KEY`; without a key the name is one, and an empty key means that there is none."""
    name, given, key = text.partition("=")
    known = {one.name: one for one in read.mirrors if one.kind == KIND}
    if name not in known:
        raise UsageError(f"{name[:60]!r} is no mirror of an image; {nearest(name, known)}")
    key = key if given else name
    if key and not _KEY.fullmatch(key):
        raise UsageError(f"{key[:60]!r} is no key of values; write {name}=KEY, such as {name}=craned")
    return _Wanted(known[name], key)


def _images(read: Configuration, syncer: Syncer, wanted: Sequence[_Wanted], tag: str) -> Iterator[BuiltImage]:
    """Yield the image of each mirror at each target that others can reach, target by target; nobody was asked yet."""
    own = own_host(read) if read.settings.reaches_others() else ""
    targets = dict.fromkeys(target.name for one in wanted for target in one.mirror.targets)
    titles: dict[str, str] = {}
    for name in targets:
        for one in wanted:
            for target in one.mirror.targets:
                reference = _reference(one.mirror, target, own, tag) if target.name == name else None
                if reference is None:
                    continue
                title = host_title(reference.domain)
                if titles.setdefault(title, name) != name:
                    title = f"{title} ({name})"
                page = syncer.link_of(one.mirror, target)
                yield BuiltImage(one.mirror.name, one.key, title, page, reference, there=False)


def _reference(mirror: Mirror, target: Target, own: str, tag: str) -> Reference | None:
    """Return what clients pull; None for a folder, and for what only this machine reaches."""
    if target.to.strip().startswith("oci:") or (target.name == LOCAL and not own):
        return None
    return Reference.parse(place_at(mirror, target, own)).with_tag(tag)


async def _looked(read: Configuration, images: Sequence[BuiltImage]) -> Sequence[BuiltImage]:
    """Ask the targets which of the images they have."""
    from mirrord.daemon.runtime import open_http  # noqa: PLC0415 - wrong usage needs no client

    places = [LOCAL] if read.settings.reaches_others() else []
    async with open_http(asking_book(read, places), Events()) as http:
        mirror = AskedMirror(http)
        return await asyncio.gather(*(_look(mirror, one) for one in images))


async def _look(mirror: Present, image: BuiltImage) -> BuiltImage:
    there = await mirror.present(MirrorPlace(image.reference, image.registry, image.mirror, listed=True))
    if isinstance(there, str):
        note(f"{image.reference} could not be looked for: {there}")
    return replace(image, there=there is True)
