"""A mirror of many repositories is made of mirrors of one repository each, which share a record and a plan. Pure.

Its items have the name of their repository in front: `docker.io/library/nginx:1.25`. So does what it writes to the
ledger. The mirrors of one repository know nothing of that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, groupby, zip_longest
from typing import Any

from mirrord.errors import GuardError
from mirrord.model.memory import LastSeen, Memory
from mirrord.model.origin import ConfigOrigin
from mirrord.model.plan import Action, Plan, Step, TagVerdict
from mirrord.names.naming import BUILT_IN
from mirrord.syncer.values import Mirror
from mirrord.syncer.writers import Writers, clashes
from mirrord.syncers.image.names import Images, Source, places, source_reference, spec_of
from mirrord.syncers.image.plan.steps import ImageSurvey, plan
from mirrord.wire.oci.reference import Reference, valid_tag

LISTED = "repositories"
"""Name of the facts: the repositories that a mirror wanted of the last accepted list of the registry."""


@dataclass(frozen=True, slots=True)
class RepositoryPart:
    """One repository of a mirror of many.

    Attributes:
        mirror: the mirror of that repository alone.
        reference: the repository; with a digest it is one image.
    """

    mirror: Mirror
    reference: Reference

    @property
    def key(self) -> str:
        """What the names of its items begin with; unique in its mirror."""
        return self.reference.name if self.reference.digest is None else str(self.reference)


@dataclass(frozen=True, slots=True)
class ManySurvey:
    """The state of all repositories.

    Attributes:
        surveyed: each repository that could be read, with its state.
        problems: repositories that were left out, one sentence each.
        missing: repositories that could not be read, one sentence each.
        code: error code of what is missing where it is the same for all, else "".
        lost: why the registry's list looks like an accident, one sentence, or "".
        remarks: what is no failure.
        listed: what the registry listed, to be recorded after the run; None to keep what is recorded.
        pinned: by repository, the tags that are listed with a digest: globs and rules of other lines leave them alone.
    """

    surveyed: Sequence[tuple[RepositoryPart, ImageSurvey]]
    problems: Sequence[str] = ()
    missing: Sequence[str] = ()
    remarks: Sequence[str] = ()
    listed: Sequence[str] | None = None
    lost: str = ""
    code: str = ""
    pinned: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ManyDecisions:
    """What `open` needs of a plan.

    Attributes:
        parts: by key, the mirror of a repository, the decisions for it, and the number of its images to copy.
        listed: as in `ManySurvey`.
    """

    parts: Mapping[str, tuple[Mirror, Any, int]] = field(default_factory=dict)
    listed: Sequence[str] | None = None


def derived(mirror: Mirror, source: Source, origin: ConfigOrigin | None = None) -> RepositoryPart:
    """Return the mirror of one repository of a mirror of many; `origin` is where that is named.

    Raises:
        MirrordError: the repository is none, or cannot have that name at a target.
    """
    own, reference = spec_of(mirror), Reference.parse(source.repository or "")
    names = mirror.names if mirror.names.naming else replace(mirror.names, naming=BUILT_IN["path"])
    kept = own.publish, own.together_wait, own.immutable, own.signatures, own.platforms
    spec = Images(source, None, *kept)
    part = RepositoryPart(replace(mirror, spec=spec, names=names, origin=origin or mirror.origin), reference)
    places(part.mirror)  # raises where it cannot have that name
    return part


def chosen(mirror: Mirror, listed: Iterable[str]) -> Iterator[tuple[Source, ConfigOrigin]]:
    """Yield the repositories of a registry that a mirror names, and those of `listed` that it wants."""
    source = spec_of(mirror).source
    for path in source.repositories.select(listed) if source.repositories else ():
        yield Source(repository=f"{source.registry}/{path}", tags=source.tags, choice=source.choice), mirror.origin


def apart(parts: Iterable[RepositoryPart], others: Iterable[Mirror]) -> tuple[Sequence[RepositoryPart], Sequence[str]]:
    """Return the parts that have their places for themselves, and a sentence for each other one.

    Args:
        parts: of one mirror; of two that write one place the first has it.
        others: mirrors of one source, which have their places first.
    """
    writers: Writers = {}
    for mirror in others:
        writers |= {place: (source, mirror.origin) for place, source in _fixed(mirror)}
    kept: list[RepositoryPart] = []
    problems: list[str] = []
    for part in parts:
        origin = part.mirror.origin
        if clash := next(clashes(writers, origin, _fixed(part.mirror)), ""):
            problems.append(f"{origin}: {clash}")
        else:
            kept.append(part)
    return kept, problems


def written(mirror: Mirror) -> Iterator[tuple[str, str]]:
    """Yield what a mirror of one source writes; see `Syncer.written`. Globs and rules are left out: registries decide.

    So is what gets `names` of its own.
    """
    yield from _fixed(mirror)
    own = spec_of(mirror).source
    if not own.repository or own.names or (own.choice and own.choice.exclude):
        return
    reference = source_reference(mirror)
    named = own.choice.match if own.choice else own.tags or (reference.tag or "latest",)
    literal = [tag for tag in named if valid_tag(tag)]
    for place in places(mirror)[1].values() if reference.digest is None else ():
        yield from ((f"{place}:{tag}", f"{reference.name}:{tag}") for tag in literal)


def _fixed(mirror: Mirror) -> Iterator[tuple[str, str]]:
    """Yield each place that a mirror of one source writes, and each tag there that it names with a digest, with what.

    Several mirrors may write one place from one repository, but not one tag with two digests.
    """
    source, found = places(mirror)
    pin = source_reference(mirror) if spec_of(mirror).source.repository else None
    for place in found.values():
        yield place, source
        if pin and pin.tag and pin.digest and not spec_of(mirror).source.names:
            yield f"{place}:{pin.tag}", str(pin)


def pinned(parts: Iterable[RepositoryPart]) -> Mapping[str, Collection[str]]:
    """Return by repository the tags that are listed with a digest."""
    found: dict[str, set[str]] = {}
    for part in parts:
        if part.reference.digest and part.reference.tag:
            found.setdefault(part.reference.name, set()).add(part.reference.tag)
    return found


def prefix(part: RepositoryPart) -> str:
    """Return what the ledger has in front of the tags of a part."""
    return with_key(part.reference.name, "")


def key_of(item: str) -> str:
    """Return the key of the part that an item belongs to."""
    return item if "@" in item else item.rpartition(":")[0]


def with_key(key: str, name: str) -> str:
    """Return what an item, or a name at a target, of one part is called in the mirror of many."""
    return key if "@" in key else f"{key}:{name}"


def without_key(item: str) -> str:
    """Return what the mirror of one repository calls an item: its tag, or its digest."""
    return item.partition("@")[2] or item.rpartition(":")[2]


def by_part(memory: Memory) -> Mapping[str, Memory]:
    """Divide a record by the keys of its parts."""
    found: dict[str, dict[tuple[str, str], LastSeen]] = {}
    for (target, item), seen in memory.items():
        found.setdefault(key_of(item), {})[target, without_key(item)] = seen
    return {key: Memory(known) for key, known in found.items()}


def about(key: str, text: str) -> str:
    """Return a sentence about a repository, or about one of its items (`v1: …`), with its name in front once."""
    bare = text.partition(": ")[2] or text
    return bare if bare.startswith(key) else text if text.startswith(key) else f"{key}: {text}"


def plan_many(mirror: Mirror, survey: ManySurvey, now: datetime) -> Plan:
    """Plan each repository, and join the plans: registries take turns, and short tags come first."""
    problems, missing, remarks = [*survey.problems], [*survey.missing], [*survey.remarks]
    codes = {survey.code} if survey.missing else set[str]()
    if survey.lost:
        missing.insert(0, survey.lost)
    verdicts: list[TagVerdict] = []
    queues: dict[str, list[Sequence[Step]]] = {}
    parts: dict[str, tuple[Mirror, Any, int]] = {}
    for part, surveyed in survey.surveyed:
        key, one = part.key, plan(part.mirror, surveyed, now)
        for into, texts in ((problems, one.problems), (missing, one.missing), (remarks, one.remarks)):
            into.extend(about(key, text) for text in texts)
        codes |= {one.code} if one.missing else set()
        taken = () if part.reference.digest else survey.pinned.get(part.reference.name, ())
        for verdict in one.verdicts:
            left = TagVerdict(verdict.tag, chosen=False, why="left out: it is listed with a digest")
            verdicts.append(replace(left if verdict.tag in taken else verdict, tag=with_key(key, verdict.tag)))
        sources, kept, unreachable, unseen = one.decisions
        named = {with_key(key, item): source for item, source in sources.items()}
        unseen = frozenset((target, with_key(key, item)) for target, item in unseen)
        batches = [*_batches(part, [step for step in one.steps if step.item not in taken])]
        active = sum(any(step.active for step in batch) for batch in batches)
        parts[key] = part.mirror, (named, kept, unreachable, unseen), active
        queues.setdefault(part.reference.domain, []).extend(batches)
    turns = chain.from_iterable(zip_longest(*queues.values(), fillvalue=()))
    steps = tuple(step for batch in turns for step in batch)
    decisions = ManyDecisions(parts, survey.listed)
    denied = any(one.source.denied for _, one in survey.surveyed)
    beside = tuple(problems), tuple(missing), tuple(remarks), tuple(verdicts), denied
    code = GuardError.code if survey.lost else codes.pop() if len(codes) == 1 else ""
    return Plan(mirror.name, mirror.kind, now, steps, *beside, code=code, decisions=decisions)


def _batches(part: RepositoryPart, steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """Yield the steps of each item, short tags first: `1` and `1.25` before `1.25.3-alpine`."""
    away = [step for step in steps if step.action is Action.DELETE]
    if away:
        yield [replace(step, item=with_key(part.key, step.item), group=f"-{part.key}") for step in away]
    ordered = sorted(
        (step for step in steps if step.action is not Action.DELETE), key=lambda step: (len(step.item), step.item)
    )
    for item, same in groupby(ordered, key=lambda step: step.item):
        name, host = with_key(part.key, item), part.reference.domain
        yield [replace(step, item=name, group=f"{name}@{step.digest}", source=host) for step in same]
