"""What a chart mirror notes for its next look: losing it costs requests, and deletions wait a run; never the truth."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from mirrord.blobs.named import NamedFiles
from mirrord.model.plan import Action, Plan
from mirrord.plan.restored import NOTHING, Restored
from mirrord.syncer.restoring import FACTS
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.helm.names import INDEX, instant, place_of, places, repository_of, spec_of
from mirrord.syncers.helm.plan.choice import ripe
from mirrord.syncers.helm.plan.steps import INDEX_ITEM, LACKING, is_blind
from mirrord.syncers.helm.plan.survey import HelmSurvey, TargetContent
from mirrord.syncers.helm.plan.trouble import Trouble, Troubles, provenance_of
from mirrord.syncers.helm.spec import HelmSpec

MOST: Final = 1000
"""Sentences of a kind that are noted."""
FORM: Final = 1
"""Raised when the same index would be published in another form: then all of them are rewritten."""
PLACE: Final = ".place"
"""Names, among the facts about a target, where it was: what was seen elsewhere says nothing."""
_SETUP = ""  # among the troubles: with which configuration they were met


def files_of(services: Services, repository: str) -> NamedFiles | None:
    """Return the files of a repository of the local store; None where there is no state."""
    if services.blobs is None or services.repositories is None:
        return None
    return NamedFiles(services.blobs, services.repositories, repository)


class RunNotes:
    """What is noted of one mirror from run to run."""

    def __init__(self, mirror: Mirror, services: Services) -> None:
        """Know nothing yet; where there is no state, nothing is ever known."""
        self._mirror, self._services = mirror, services
        setup = repr((FORM, spec_of(mirror), places(mirror)))
        self.shape = hashlib.sha256(setup.encode()).hexdigest()  # of all that decides how an index is written
        # a fingerprint of all that decides what a run makes of the same index
        denied = services.denied.about(mirror.name) if services.denied else ()
        also = f"{mirror.keep or ''}{[(one.what, one.digests) for one in denied] if denied else ''}"
        self.setup = hashlib.sha256(f"{setup}{also}".encode()).hexdigest() if also else self.shape
        # of the last run after which nothing was left to do; empty when something was, or `read` was not called
        self.facts: Mapping[str, str] = {}
        self.troubles: Troubles = {}  # what could not be had with this configuration
        self.restored = NOTHING  # what overrides upstream
        self.restored_as = ""  # a fingerprint of that

    async def read(self) -> None:
        """Read what every look needs."""
        self.facts = await self._recall("")
        troubles = await self._recall(".troubles")
        if troubles.get(_SETUP) == self.setup:
            self.troubles = await asyncio.to_thread(_read, troubles)
        if self._services.facts and (facts := await self._services.facts.recall(self._mirror.name, FACTS)):
            self.restored, self.restored_as = await asyncio.to_thread(_restored, facts)

    async def fresh(self, now: datetime) -> bool:
        """Whether what is known can still be trusted.

        That is: noted with the same configuration, nothing restored or released since, recent, no withheld version
        ripe by now, nothing to be asked for again, our own copy there.
        """
        mirror, known = self._mirror, self.facts
        if known.get("setup") != self.setup or (mirror.allow and self.troubles):
            return False
        if known.get("restored", "") != self.restored_as:
            return False
        try:
            until = [datetime.fromisoformat(known["at"]) + timedelta(seconds=mirror.trust)]
            until += [datetime.fromisoformat(known["ripe"])] if "ripe" in known else []
        except (KeyError, ValueError):
            return False
        if now >= min([*until, *[trouble.until for trouble in self.troubles.values()]]):
            return False
        if all(target.name != LOCAL for target in mirror.targets):
            return True
        files = files_of(self._services, repository_of(mirror))
        index = await files.find(INDEX) if files else None
        return bool(files and index and not await files.lost({INDEX: index.digest}))

    async def previous(self) -> frozenset[str] | None:
        """Return what upstream listed at the last run that was accepted; None when unknown."""
        return frozenset(await self._recall(".items")) or None

    async def sentences(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the problems and the remarks of the last full look."""
        noted = await self._recall(".told")
        return _sentences(noted.get("problems", "")), _sentences(noted.get("remarks", ""))

    async def outdated(self, targets: Mapping[str, TargetContent], form: str) -> frozenset[str]:
        """Return the targets whose index we write, and which do not have it in this form yet."""
        if self._services.facts is None:
            return frozenset()
        forms = await self._recall(".forms")
        return frozenset(name for name, found in targets.items() if found.own is not None and forms.get(name) != form)

    async def of_target(self, target: Target) -> dict[str, str]:
        """Return what was noted of a target, as far as it is still the same place."""
        facts = dict(await self._recall(f".at.{target.name}"))
        return facts if facts.pop(PLACE, None) == place_of(self._mirror, target) else {}

    async def note_target(self, target: Target, facts: Mapping[str, str]) -> None:
        """Note what the next run should know of a target.

        Raises:
            StorageError: the disk said no.
        """
        if facts or await self.of_target(target):
            await self._note(f".at.{target.name}", {**facts, PLACE: place_of(self._mirror, target)})

    async def forget(self, target: Target, items: Collection[str] = ()) -> None:
        """Forget that all was done, and what was noted of some versions at a target.

        Raises:
            StorageError: the disk said no.
        """
        await self._note("", {})
        facts = await self.of_target(target)
        if not facts.keys().isdisjoint(items):
            await self.note_target(target, {item: fact for item, fact in facts.items() if item not in items})

    async def note(self, plan: Plan, finished: Collection[str], troubles: Troubles, *, whole: bool) -> None:
        """Note what upstream lists, what was wrong there, and that all was done that could be.

        Args:
            plan: what was decided.
            finished: the targets whose index was written.
            troubles: what could not be had.
            whole: everything was done that can be done before something changes.

        Raises:
            StorageError: the disk said no.
        """
        survey: HelmSurvey = plan.decisions.survey
        if survey.unchanged:
            await self._note("", survey.facts)  # the same bytes may have another ETag
        elif self._services.facts is not None:
            names = {target.name for target in self._mirror.targets}
            forms = {name: form for name, form in (await self._recall(".forms")).items() if name in names}
            forms |= dict.fromkeys(survey.rewrite.intersection(finished), survey.facts["form"])  # each by itself
            notes = await asyncio.to_thread(self._written, plan, troubles, whole=whole)
            for what, facts in {".forms": forms, **notes}.items():
                await self._note(what, facts)

    def _written(self, plan: Plan, troubles: Troubles, *, whole: bool) -> Mapping[str, Mapping[str, str]]:
        """Return what is to be noted under which name; by what is under "" the next look knows that nothing is left."""
        survey, spec = plan.decisions.survey, spec_of(self._mirror)
        refused = {step.item for step in plan.steps if step.action is Action.REFUSE}
        current: dict[str, Trouble] = {}
        for item, choice in survey.choices.items():  # not what upstream changed, nor what came by another way
            for key in (item, provenance_of(item)):
                trouble = troubles.get(key)
                if trouble and trouble.meant(choice) and (key != item or survey.lacks(item)):
                    current[key] = trouble
        noted = {key: trouble.written() for key, trouble in current.items()}
        notes: dict[str, Mapping[str, str]] = {".troubles": {**noted, _SETUP: self.setup} if noted else {}}
        if INDEX_ITEM not in refused:
            notes[".items"] = {entry.item: "" for entry in survey.entries}
        if refused - current.keys() or survey.missing or not whole or is_blind(survey, spec):
            return {**notes, "": {}}
        found = {"problems": plan.decisions.problems, "remarks": plan.remarks}
        notes[".told"] = {what: json.dumps(sentences[:MOST]) for what, sentences in found.items()}
        versions = str(len({step.item for step in plan.steps} - {INDEX_ITEM}))
        undecided = "\n".join(_undecided(spec, survey, current))
        ripe = _ripe(spec, survey, plan.at)
        return {**notes, "": {**survey.facts, "versions": versions, LACKING: undecided, **ripe}}

    async def _recall(self, what: str) -> Mapping[str, str]:
        facts = self._services.facts
        return await facts.recall(self._mirror.name, f"helm{what}") if facts else {}

    async def _note(self, what: str, facts: Mapping[str, str]) -> None:
        if self._services.facts:
            await self._services.facts.note(self._mirror.name, f"helm{what}", facts)


def _restored(facts: Mapping[str, str]) -> tuple[Restored, str]:
    return Restored.read(facts), hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()


def _read(texts: Mapping[str, str]) -> Troubles:
    found = {key: Trouble.read(text) for key, text in texts.items()}
    return {key: trouble for key, trouble in found.items() if trouble}


def _undecided(spec: HelmSpec, survey: HelmSurvey, troubles: Troubles) -> Iterator[str]:
    """Yield target and version where the operator has to decide, and the target does not keep what it has."""
    for item, choice in survey.choices.items():
        if item in troubles and troubles[item].open:
            for target, found in survey.targets.items():
                held = found.held.get(item)
                if held is None or not (spec.changed == "keep" or choice.fits(held)):
                    yield f"{target} {item}"


def _ripe(spec: HelmSpec, survey: HelmSurvey, at: datetime) -> Mapping[str, str]:
    """Return when the first of the versions that are too young will be old enough."""
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
