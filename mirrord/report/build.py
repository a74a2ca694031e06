"""What a pull request is told about its build: one comment, which is written anew for each build. Pure.

It is Markdown as GitHub, GitLab, Gitea and Gitee read it. Everything in it comes from the configuration and from names
that were checked, so that nobody who opens a pull request can write into it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final

from mirrord.report.words import Words
from mirrord.wire.oci.reference import Reference

MARK: Final = "<!-- mirrord: images of this pull request -->"
"""The first line of the comment: of what the same account has written, this is the one to write anew."""


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """One image of a build at one target.

    Attributes:
        mirror: name of its mirror.
        key: what its values begin with in the chart, such as `craned`; `--set KEY.image.tag=…`.
        registry: title of the target.
        page: URL of a page about it for people, or "".
        reference: what clients pull.
        there: whether the target has it.
    """

    mirror: str
    key: str
    registry: str
    page: str
    reference: Reference
    there: bool


def comment(images: Sequence[BuiltImage], build: str, now: datetime, words: Words, helm: str = "") -> str:
    """Write the comment.

    Args:
        images: of all mirrors and targets, those of one target together.
        build: what was built: a shortened commit, or a description.
        now: when this is written.
        words: those of the language.
        helm: what installs the chart, such as `helm install crane crane/crane`; "" leaves that out.
    """
    lines = [MARK, f"### {words.text('build.title')}", "", words.text("build.about", build=build, time=words.time(now))]
    for registry, found in groupby(images, key=lambda one: one.registry):
        lines += _registry(registry, list(found), words, helm)
    return "\n".join(lines) + "\n"


def _registry(title: str, images: Sequence[BuiltImage], words: Words, helm: str) -> Iterator[str]:
    head = words.text("build.image"), words.text("build.pull")
    yield from ("", f"#### {title}", "", f"| {head[0]} | {head[1]} |", "| --- | --- |")
    for one in images:
        name = f"[{one.mirror}]({one.page})" if one.page else one.mirror
        pull = f"`docker pull {one.reference}`" if one.there else words.text("build.lacking")
        yield f"| {name} | {pull} |"
    if helm and all(one.there for one in images):
        yield from ("", words.text("build.install"), "", "```sh", " \\\n".join([helm, *_values(images)]), "```")


def _values(images: Iterable[BuiltImage]) -> Iterator[str]:
    for one in images:
        prefix = f"{one.key}." if one.key else ""
        for key, value in (("repository", one.reference.name), ("tag", one.reference.tag or "")):
            yield f"  --set {shlex.quote(f'{prefix}image.{key}={value}')}"
