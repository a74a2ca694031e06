"""Whether an image is at the mirror: the policy `present`."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final, Protocol

from mirrord.config.load import Configuration
from mirrord.errors import MirrordError, MissingError
from mirrord.pointing.places import Direct, Left, MirrorPlace, Places, own_registry
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


class AskedMirror:
    """Asks the mirror itself, by a HEAD as a client sends it. Equal questions at one time are asked once.

    The front answers for what it has, and for what upstream has where it may be pulled through.
    """

    def __init__(self, http: Http, *, clock: Callable[[], float] = monotonic) -> None:
        """Ask by `http`; `clock` gives seconds."""
        self._http, self._clock = http, clock
        self._known: OrderedDict[Reference, tuple[float, asyncio.Future[bool | str]]] = OrderedDict()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def present(self, place: MirrorPlace) -> bool | str:
        """See `Present`."""
        reference = place.reference
        known = self._known.get(reference)
        if known and self._clock() < known[0]:
            return await asyncio.shield(known[1])
        task = asyncio.ensure_future(self._ask(reference))
        self._known[reference] = self._clock() + LASTS, task
        self._known.move_to_end(reference)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        found = await asyncio.shield(task)
        if isinstance(found, str) and self._known.get(reference, (0.0, None))[1] is task:
            del self._known[reference]  # what is not known is asked again
        return found

    async def _ask(self, reference: Reference) -> bool | str:
        async with self._turns:
            try:
                ref = reference.digest or reference.tag or "latest"
                return await Repository(self._http, reference).head_manifest(ref) is not None
            except MissingError:
                return False
            except MirrordError as error:
                return str(error)


async def point(text: str, places: Places, present: Present | None) -> MirrorPlace | Direct | Left:
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


def asking_book(read: Configuration, to: Sequence[str]) -> HostBook:
    """Return how to talk to the mirror: as `hosts:` says, and to our own address as `settings.url` does."""
    if not {"front", "local"} & {*to}:
        return read.book
    own, policies = own_registry(read), dict(read.book.policies)
    plain = read.settings.address().startswith("http:")
    ours = read.book.policy(own)
    policies[own] = replace(ours, insecure=plain if ours.insecure is None else ours.insecure, allow_private=True)
    return replace(read.book, policies=policies)
