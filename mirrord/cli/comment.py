"""`mirrord comment`: says in a pull request where the images of its build can be pulled."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mirrord.asking.built import book_of, built_images, look_for
from mirrord.asking.pull_comment import BOT, comment_once
from mirrord.cli.console import note, say
from mirrord.cli.folders import configuration
from mirrord.cli.publish import build_name
from mirrord.config.load import Configuration
from mirrord.config.pull_requests import FORGES, built_mirror, check_helm
from mirrord.daemon.loop import run
from mirrord.errors import UsageError
from mirrord.events import Events
from mirrord.plan.naming import pull_request_tags
from mirrord.pointing.image_mirrors import KIND
from mirrord.report.build import MARK, BuiltImage
from mirrord.report.build import comment as text_of
from mirrord.report.words import words
from mirrord.syncer.port import load_syncers
from mirrord.wire.forges.known import forge_of
from mirrord.wire.forges.notes import pull_comments_of
from mirrord.wire.git.address import Address
from mirrord.wire.secret import Secret

TOKEN: Final = "FORGE_TOKEN"  # noqa: S105 - the name of the variable
"""Which variable of the environment has the token of the forge."""


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
    try:
        check_helm(helm or "")
    except ValueError as error:
        raise UsageError(f"--helm {error}") from error
    where = _forge(to, forge) if to else None
    syncers = load_syncers()
    read = configuration(config, syncers)
    try:
        built = [built_mirror(name, read.mirrors) for name in names]
    except ValueError as error:
        raise UsageError(str(error)) from error
    images = list(built_images(read, syncers[KIND], built, tag))
    found = run(_looked(read, images))
    if not any(one.there for one in found):
        note(f"no target has {tag}; nothing was built yet, or it could not be asked")
    said = words(language or ("zh" if where and where.name == "gitee" else "en"))
    text = text_of(found, build, datetime.now(UTC), said, helm or "")
    if where:
        fresh = run(_commented(read, where, str(pr), text))
        say(f"{where.address}: the comment in pull request {pr} is {'new' if fresh else 'written anew'}")
    else:
        sys.stdout.write(text)
    return 0 if all(one.there for one in found) else 2 if any(one.there for one in found) else 1


def _forge(to: str, forge: str | None) -> _Forge:
    """Read where to comment, and find the token.

    Raises:
        UsageError: it is no repository at a known forge, or there is no token.
    """
    try:
        address = Address.parse(to)
    except UsageError as error:
        raise UsageError(f"--to {error}; write such as https://github.com/OWNER/NAME") from error
    name = forge_of(address, forge).name
    if name not in FORGES:
        raise UsageError(f"--to {to[:80]}: what kind of host is that? Add --forge github, gitee, gitea or gitlab")
    if not (token := os.environ.get(TOKEN)):
        raise UsageError(f"--to needs a token that may comment there; set {TOKEN}")
    return _Forge(name, address, Secret(token))


async def _commented(read: Configuration, where: _Forge, number: str, text: str) -> bool:
    from mirrord.daemon.runtime import open_http  # noqa: PLC0415 - without --to, nothing is written

    bot = BOT if where.name == "github" else ""
    async with open_http(book_of(read), Events()) as http:
        pulls = pull_comments_of(http, where.name, where.address, where.token)
        return await comment_once(pulls, number, MARK, text, bot)


async def _looked(read: Configuration, images: Sequence[BuiltImage]) -> Sequence[BuiltImage]:
    """Ask the targets which of the images they have."""
    from mirrord.daemon.runtime import open_http  # noqa: PLC0415 - wrong usage needs no client

    async with open_http(book_of(read), Events()) as http:
        return await look_for(http, images, note)
