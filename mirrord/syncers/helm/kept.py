"""What a chart mirror notes for its next look: losing it costs requests, and deletions wait a run; never the truth."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mirrord.model.plan import Action
from mirrord.syncer.values import LOCAL, Mirror, Services
from mirrord.syncers.helm.names import INDEX, instant, places, repository_of, spec_of
from mirrord.syncers.helm.plan.choice import VersionChoice, choose, ripe
from mirrord.syncers.helm.plan.notices import lacking, problems, remarks
from mirrord.syncers.helm.plan.steps import INDEX_ITEM, LACKING, plan
from mirrord.syncers.helm.plan.survey import HelmSurvey
from mirrord.syncers.helm.plan.trouble import Trouble, Troubles, provenance_of

MOST: Final = 1000
"""Sentences of a kind that are noted."""
FORM: Final = 1
"""Raised when the same index would be published in another form: then all of them are written anew."""
_SETUP = ""  # among the troubles: with which configuration they were met


async def recall(mirror: Mirror, services: Services, what: str) -> Mapping[str, str]:
    """Return what was noted; where there is no state, nothing is."""
    return await services.facts.recall(mirror.name, f"helm{what}") if services.facts else {}


async def note(mirror: Mirror, services: Services, what: str, facts: Mapping[str, str]) -> None:
    """Note something.

    Raises:
        StorageError: the disk said no.
    """
    if services.facts:
        await services.facts.note(mirror.name, f"helm{what}", facts)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What a run leaves to be noted.

    Attributes:
        at: when it began.
        whole: everything was done that can be done before something changes.
        finished: the targets whose index was written.
        troubles: what could not be had.
    """

    at: datetime
    whole: bool
    finished: Collection[str]
    troubles: Troubles


class RunNotes:
    """The notes of one mirror.

    Attributes:
        setup: a fingerprint of all that decides what a run makes of the same index.
        facts: of the last run after which nothing was left to do; empty when something was.
        troubles: what could not be had with this configuration.
    """

    def __init__(self, mirror: Mirror, services: Services) -> None:
        """Know nothing yet."""
        self._mirror, self._services = mirror, services
        self.setup = hashlib.sha256(repr((FORM, spec_of(mirror), places(mirror))).encode()).hexdigest()
        self.facts: Mapping[str, str] = {}
        self.troubles: Troubles = {}

    @classmethod
    async def read(cls, mirror: Mirror, services: Services) -> RunNotes:
        """Read what every look needs; where there is no state, nothing is known and nothing noted."""
        notes = cls(mirror, services)
        notes.facts = await recall(mirror, services, "")
        troubles = await recall(mirror, services, ".troubles")
        if troubles.get(_SETUP) == notes.setup:
            found = {key: Trouble.read(text) for key, text in troubles.items()}
            notes.troubles = {key: trouble for key, trouble in found.items() if trouble}
        return notes

    async def fresh(self, now: datetime) -> bool:
        """Whether what is known can still be trusted.

        That is: noted with the same configuration, recent, no withheld version ripe by now, nothing to be asked for
        again, our own copy there.
        """
        mirror, known = self._mirror, self.facts
        if known.get("setup") != self.setup or (mirror.allow and self.troubles):
            return False
        try:
            until = [datetime.fromisoformat(known["at"]) + timedelta(seconds=mirror.trust)]
            until += [datetime.fromisoformat(known["ripe"])] if "ripe" in known else []
        except (KeyError, ValueError):
            return False
        if now >= min([*until, *(trouble.until for trouble in self.troubles.values())]):
            return False
        if all(target.name != LOCAL for target in mirror.targets):
            return True
        repositories, store = self._services.repositories, self._services.blobs
        index = await repositories.tag(repository_of(mirror), INDEX) if repositories else None
        return bool(index and store and not await store.missing([index]))

    async def previous(self) -> frozenset[str] | None:
        """Return what upstream listed at the last run that was accepted; None when nobody knows."""
        return frozenset(await recall(self._mirror, self._services, ".items")) or None

    async def told(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the problems and the remarks of the last full look."""
        told = await recall(self._mirror, self._services, ".told")
        return _sentences(told.get("problems", "")), _sentences(told.get("remarks", ""))

    async def outdated(self, survey: HelmSurvey, form: str) -> frozenset[str]:
        """Return the targets whose index we write, and which do not have it in this form yet."""
        if self._services.facts is None:
            return frozenset()
        forms = await recall(self._mirror, self._services, ".forms")
        return frozenset(
            name for name, shelf in survey.shelves.items() if shelf.own is not None and forms.get(name) != form
        )

    async def note_unchanged(self, facts: Mapping[str, str]) -> None:
        """Note what a look brought at which nothing had changed: the same bytes may have another ETag."""
        await self._write("", facts)

    async def note(self, survey: HelmSurvey, ended: RunEnd) -> None:
        """Note what upstream lists, what was wrong there, and that all was done that could be."""
        await self._note_forms(survey, ended.finished)
        if self._services.facts is None:
            return
        view = await asyncio.to_thread(_seen, self._mirror, survey, ended)
        troubles = {key: trouble.written() for key, trouble in view.troubles.items()}
        await self._write(".troubles", {**troubles, _SETUP: self.setup} if troubles else {})
        if view.accepted:
            await self._write(".items", {entry.item: "" for entry in survey.entries})
        if view.left or survey.missing or not ended.whole:
            await self._write("", {})
            return
        await self._write(".told", view.told)
        await self._write("", {**survey.facts, **view.facts})

    async def _note_forms(self, survey: HelmSurvey, finished: Collection[str]) -> None:
        """Note the form of each index by itself: a target that is down says nothing about the others."""
        names = {target.name for target in self._mirror.targets}
        forms = {
            name: form for name, form in (await recall(self._mirror, self._services, ".forms")).items() if name in names
        }
        shown = {name for name in survey.rewrite if name in finished}
        await self._write(".forms", forms | dict.fromkeys(shown, survey.facts["form"]))

    async def _write(self, what: str, facts: Mapping[str, str]) -> None:
        await note(self._mirror, self._services, what, facts)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a run looks like when it is over.

    Attributes:
        accepted: the index was no accident.
        left: something was refused that another run may do.
        troubles: those that are still about what is wanted.
        told: problems and remarks that stay until upstream changes.
        facts: by which the next look will know more.
    """

    accepted: bool
    left: bool
    troubles: Troubles
    told: Mapping[str, str]
    facts: Mapping[str, str]


def _seen(mirror: Mirror, survey: HelmSurvey, ended: RunEnd) -> _Seen:
    steps = plan(mirror, survey, ended.at).steps
    refused = {step.item for step in steps if step.action is Action.REFUSE}
    choices = choose(survey.entries, spec_of(mirror), ended.at)
    troubles = _current(ended.troubles, choices, survey)
    told = {"problems": problems(mirror, survey, choices), "remarks": remarks(mirror, survey, choices)}
    return _Seen(
        INDEX_ITEM not in refused,
        bool(refused - troubles.keys()),
        troubles,
        {what: json.dumps([*some][:MOST]) for what, some in told.items()},
        {
            "versions": str(len({step.item for step in steps}) - 1),
            LACKING: "\n".join(_undecided(mirror, survey, choices, troubles)),
            **_ripe(mirror, survey, ended.at),
        },
    )


def _undecided(
    mirror: Mirror, survey: HelmSurvey, choices: Mapping[str, VersionChoice], troubles: Troubles
) -> Iterator[str]:
    """Yield target and version where the operator has to decide, and the target does not keep what it has."""
    keeps = spec_of(mirror).changed == "keep"
    for item, choice in choices.items():
        if item in troubles and troubles[item].open:
            for target, shelf in survey.shelves.items():
                if item not in shelf.held or not (keeps or choice.fits(shelf.held[item])):
                    yield f"{target} {item}"


def _current(troubles: Troubles, choices: Mapping[str, VersionChoice], survey: HelmSurvey) -> Troubles:
    """Leave out what is not wanted any more, what upstream changed, and what came by another way."""
    kept = {}
    for item, choice in choices.items():
        for key in (item, provenance_of(item)):
            trouble = troubles.get(key)
            if trouble and trouble.meant(choice) and (key != item or lacking(item, choice, survey)):
                kept[key] = trouble
    return kept


def _ripe(mirror: Mirror, survey: HelmSurvey, at: datetime) -> Mapping[str, str]:
    """Return when the first of the versions that are too young will be old enough."""
    spec = spec_of(mirror)
    unripe = [instant(one.created or "") for one in survey.entries if not ripe(one, spec, at)]
    made = [when[0] for when in unripe if when]
    try:
        return {"ripe": (min(made) + timedelta(seconds=spec.min_age)).isoformat()} if made else {}
    except OverflowError:  # in the year 9999
        return {}


def _sentences(text: str) -> tuple[str, ...]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return ()
    return tuple(map(str, found)) if isinstance(found, Sequence) else ()
