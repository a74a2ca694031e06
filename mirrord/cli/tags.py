"""`mirrord tags`: the tags of a repository, and which of them a choice takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Unpack

from mirrord.cli.console import say, say_json
from mirrord.cli.hosts import HostOptions, copy_hosts
from mirrord.cli.results import Show, say_verdicts
from mirrord.config.check import check
from mirrord.config.lines import Problems
from mirrord.config.yaml_text import parse_text
from mirrord.daemon import loop
from mirrord.errors import ConfigError, UsageError
from mirrord.model.choice import Choice
from mirrord.model.origin import ConfigOrigin
from mirrord.syncers.image.spec.tags import TagChoice
from mirrord.syncers.image.upstream.choosing import ChosenTags, TagDates, choose_tags
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference, parse_repository

_KEY = ("tags",)


def tags(
    reference: str,
    *,
    choose: str | None,
    verbose: bool,
    json: bool,
    **options: Unpack[HostOptions],
) -> int:
    """Run the command and return its exit code."""
    named = parse_repository(reference)
    if named.tag or named.digest:
        raise UsageError(f"{reference} has a tag or digest; write {named.name}")
    choice = None if choose is None else _choice(choose)
    book = copy_hosts([named.domain], os.environ, **options)
    found = loop.run(_found(named, choice, book), plain=True)
    if isinstance(found, ChosenTags):
        if json:
            verdicts = [{"tag": one.tag, "chosen": one.chosen, "why": one.why} for one in found.verdicts]
            say_json({"repository": named.name, "tags": verdicts, "remarks": found.remarks})
        else:
            say_verdicts(found.verdicts, Show.of(verbose=verbose))
            for remark in found.remarks:
                say(f"remark: {remark}")
        return 0 if found.tags else 1
    if json:
        say_json({"repository": named.name, "tags": [{"tag": tag} for tag in found], "remarks": []})
    else:
        for tag in found:
            say(tag)
    return 0 if found else 1


def _choice(text: str) -> Choice:
    """Read rules as `tags:` of a configuration has them."""
    problems = Problems({_KEY: ConfigOrigin("--choose")})
    value = parse_text(text, "--choose", problems)[0]
    if isinstance(value, list):
        raise UsageError("--choose: is a list; write a mapping, such as '{match: [v1.*], newest: 3}'")
    keys = None if problems.count() else check(TagChoice, value, _KEY, problems)
    try:
        problems.settle()
    except ConfigError as error:
        raise UsageError(str(error)) from error
    assert keys is not None  # else there was a problem
    return keys.choice


async def _found(reference: Reference, choice: Choice | None, book: HostBook) -> ChosenTags | Sequence[str]:
    async with Http(book) as http:
        repository = Repository(http, reference)
        if choice is None:
            return [tag async for tag in repository.tags()]
        return await choose_tags(repository, choice, TagDates(repository), datetime.now(UTC))
