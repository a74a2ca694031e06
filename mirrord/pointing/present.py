"""Whether an image is at the mirror: the policy `present`."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from time import monotonic
from typing import Final, Protocol

from mirrord.config.load import Configuration
from mirrord.errors import MirrordError, MissingError
from mirrord.pointing.places import Decision, Left, MirrorPlace, Places, own_registry
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference

LASTS: Final = 60.0
"""Seconds for which an answer counts."""
MOST: Final = 10_000
"""Answers that are remembered; the oldest goes first."""
AT_ONCE: Final = 32
"""Requests at a time; each host has its own limit, too."""


class Present(Protocol):
    """Says whether an image is at the mirror."""

    async def present(self, place: MirrorPlace) -> bool | str:
        """Return whether it is there, or why that is not known. Never raises for what a registry answers."""


@dataclass(slots=True, eq=False)
class _Question:
    """A question under way, or its answer and until when that counts; `waiting` is how many callers wait for it."""

    task: asyncio.Future[bool | str]
    until: float = inf
    waiting: int = 0


class AskedMirror:
    """Asks the mirror itself, by a HEAD as a client sends it. Equal questions at one time are asked once.

    A question that nobody waits for any more is given up.

    The front answers for what it has, and for what upstream has where it may be pulled through.
    """

    def __init__(self, http: Http, *, clock: Callable[[], float] = monotonic) -> None:
        """Ask by `http`; `clock` gives seconds."""
        self._http, self._clock = http, clock
        self._known: OrderedDict[Reference, _Question] = OrderedDict()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def present(self, place: MirrorPlace) -> bool | str:
        """See `Present`."""
        question = self._known.get(place.reference)
        if question is None or self._clock() >= question.until:
            question = self._begin(place.reference)
        question.waiting += 1
        try:
            return await asyncio.shield(question.task)
        finally:
            question.waiting -= 1
            if not question.waiting and not question.task.done():  # nobody waits for it any more
                question.task.cancel()
                self._forget(place.reference, question)

    def _begin(self, reference: Reference) -> _Question:
        question = _Question(asyncio.ensure_future(self._ask(reference)))
        self._known[reference] = question
        self._known.move_to_end(reference)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        question.task.add_done_callback(lambda task: self._answered(reference, question, task))
        return question

    def _answered(self, reference: Reference, question: _Question, task: asyncio.Future[bool | str]) -> None:
        """Let an answer count from now on; what is not known is asked again."""
        if task.cancelled() or task.exception() or isinstance(task.result(), str):
            self._forget(reference, question)
        else:
            question.until = self._clock() + LASTS

    def _forget(self, reference: Reference, question: _Question) -> None:
        if self._known.get(reference) is question:
            del self._known[reference]

    async def _ask(self, reference: Reference) -> bool | str:
        async with self._turns:
            try:
                ref = reference.digest or reference.tag or "latest"
                return await Repository(self._http, reference).head_manifest(ref) is not None
            except MissingError:
                return False
            except MirrordError as error:
                return str(error)


async def point(text: str, places: Places, present: Present | None) -> Decision:
    """Return where the image that a text names is to come from; `present` is asked for the policy of that name.

    The first place that has it is taken. What cannot be asked never counts as there.
    """
    reference = places.read(text)
    if not isinstance(reference, Reference):
        return reference
    if places.policy != "present" or present is None:
        return places.of(reference)
    found = places.candidates(reference)
    if isinstance(found, Left):
        return found
    unknown = ""
    for place in found:
        answer = await present.present(place)
        if answer is True:
            return place
        unknown = unknown or (answer if isinstance(answer, str) else "")
    if unknown:
        return Left("unknown", f"could not be looked for: {unknown}")
    return Left("absent", f"is not at the mirror ({' or '.join(str(place.reference) for place in found)})")


async def pointed(texts: Iterable[str], places: Places, present: Present) -> Mapping[str, Decision]:
    """Return what `point` says of each text, with few tasks at a time, however many texts there are."""
    found: dict[str, Decision] = {}
    left = iter(texts)

    async def work() -> None:
        for text in left:
            found[text] = await point(text, places, present)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return found


def asking_book(read: Configuration, to: Sequence[str]) -> HostBook:
    """Return how to talk to the mirror: as `hosts:` says, and to our own address as `settings.url` does."""
    if not {"front", "local"} & {*to}:
        return read.book
    own, policies = own_registry(read), dict(read.book.policies)
    plain = read.settings.address().startswith("http:")
    ours = read.book.policy(own)
    policies[own] = replace(ours, insecure=plain if ours.insecure is None else ours.insecure, allow_private=True)
    return replace(read.book, policies=policies)
