"""Asks registries whether what a list names is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirrord.errors import MirrordError, MissingError
from mirrord.patterns import Pattern
from mirrord.transfer.fanout import Workers
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference

_AT_ONCE = 64  # requests in all; each host has its own limit


@dataclass(frozen=True, slots=True)
class Question:
    """One line of a list: an image at a registry, or with `pattern` any tag in which it is found."""

    file: str
    line: int
    reference: Reference
    pattern: Pattern | None = None


@dataclass(frozen=True, slots=True)
class AbsentImage:
    """An image that is not there, or could not be asked for; with the error's code in that case."""

    question: Question
    what: str
    code: str = ""


async def absent_images(questions: Sequence[Question], book: HostBook) -> list[AbsentImage]:
    """Ask for each image, and return those that are not there in the order of the questions.

    A name without tag is there when it has a tag, any other when its manifest is (one HEAD). Equal ones are asked once.
    """
    answers: dict[tuple[Reference, Pattern | None], tuple[str, str] | None] = {}

    async with Http(book) as http:

        async def ask(key: tuple[Reference, Pattern | None]) -> None:
            answers[key] = await _asked(http, *key)

        await Workers(_AT_ONCE).each(dict.fromkeys((one.reference, one.pattern) for one in questions), ask)
    found = ((one, answers[one.reference, one.pattern]) for one in questions)
    return [AbsentImage(one, *answer) for one, answer in found if answer]


async def _asked(http: Http, reference: Reference, pattern: Pattern | None) -> tuple[str, str] | None:
    """Return None when it is there, else what to say and the code of the error."""
    repository = Repository(http, reference)
    try:
        if wanted := reference.digest or reference.tag:
            there = await repository.head_manifest(wanted) is not None
            return None if there else _missing(f"{reference} is not at the registry")
        tags = 0
        async for tag in repository.tags():
            tags += 1
            if pattern is None or pattern.search(tag):
                return None
    except MissingError:
        return _missing(f"{reference} is not at the registry")
    except MirrordError as error:
        return str(error), error.code
    if pattern is None or not tags:
        return _missing(f"{reference} has no tag")
    return _missing(f"{reference}: {pattern.text!a} is found in none of its tags ({tags})")


def _missing(what: str) -> tuple[str, str]:
    return f"{what}; correct the line, or remove it", ""
