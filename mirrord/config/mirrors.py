"""`targets:` and `mirrors:`: the envelope is validated here, the rest by the syncer of the kind.

And what mirrors are to one another: no place is written by two, and none feeds itself, not even through others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from mirrord.config.check import Strict, check
from mirrord.config.lines import Problems, Trail, Value, nearest
from mirrord.config.schedules import Timing
from mirrord.config.settings import Settings
from mirrord.config.units import Deadline, Trust
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL, Mirror, Target

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9-]+")
E = TypeVar("E", bound=BaseModel)
Targets = Mapping[str, Target | None]
"""By name; None for one that was written and is wrong, so that nobody is told that it is unknown."""


@dataclass(frozen=True, slots=True)
class _Flow:
    """One mirror's way from its origin to one target; places are comparable within a kind only."""

    mirror: str
    called: str  # at its targets: `as:`, or the name
    trail: Trail
    target: str
    source: tuple[str, str]
    place: tuple[str, str]


def check_crossings(mirrors: Sequence[tuple[Trail, Mirror]], syncers: Mapping[str, Syncer], problems: Problems) -> None:
    """Note places that are written twice, and loops, each loop once with its whole chain."""
    flows = [flow for trail, mirror in mirrors for flow in _flows(trail, mirror, syncers[mirror.kind], problems)]
    writers: dict[tuple[str, str], _Flow] = {}
    for flow in flows:
        first = writers.setdefault(flow.place, flow)
        if first is not flow:
            there = f"mirror {first.mirror!r} ({first.target!r}) at {problems.origin(first.trail)}"
            what = f"target {flow.target!r} is {flow.place[1]}, written by {there} too"
            problems.add((*flow.trail, "to"), f"{what}; {_apart(first, flow)}")
    _check_loops(flows, problems)


def _apart(one: _Flow, other: _Flow) -> str:
    """Say how two mirrors that write one place get a place each."""
    if one.target != other.target:
        return f"change `to` of target {one.target!r} or {other.target!r}"
    if one.called == other.called:
        return "give one of the mirrors another `as:`"
    return f"write {{mirror}} in `to` of target {one.target!r}"


def _flows(trail: Trail, mirror: Mirror, syncer: Syncer, problems: Problems) -> Iterable[_Flow]:
    try:
        source, places = syncer.places(mirror)
    except ConfigError:
        for one in mirror.targets:  # one by one, so that every wrong one is named
            _note_wrong(trail, mirror, one, syncer, problems)
        return
    for target, place in places.items():
        yield _Flow(mirror.name, _called(mirror), trail, target, (mirror.kind, source), (mirror.kind, place))


def _called(mirror: Mirror) -> str:
    """Return what a mirror says with `as:`, or its name."""
    own = (getattr(mirror.spec, name) for name, key in type(mirror.spec).model_fields.items() if key.alias == "as")
    return next(own, None) or mirror.name


def _note_wrong(trail: Trail, mirror: Mirror, target: Target, syncer: Syncer, problems: Problems) -> None:
    """Note what a kind says about one of a mirror's ways, at the line of the key that it means."""
    try:
        syncer.places(replace(mirror, targets=(target,)))
    except ConfigError as error:
        for what in error.problems:
            for section, origin in (("targets", target.origin), ("mirrors", mirror.origin)):
                bare = what.removeprefix(f"{origin}: ")
                if bare.startswith(f"{section}."):
                    problems.add_at(origin, bare)
                    break
            else:
                problems.add(trail, what.removeprefix(f"{mirror.origin}: "))


def _check_loops(flows: Sequence[_Flow], problems: Problems) -> None:
    edges = {(flow.source, flow.place): flow for flow in flows}
    # Each round names one loop and cuts it, so there are at most as many rounds as edges.
    while loop := _loop(edges):
        chain = [edges[edge] for edge in loop]
        last = max(chain, key=lambda flow: flow.trail)
        steps = ", ".join(f"{flow.mirror!r} copies {flow.source[1]} to {flow.place[1]}" for flow in chain)
        problems.add(last.trail, f"mirrors itself: {steps}; take one of these targets away")
        for edge in loop:
            del edges[edge]


def _loop(edges: Iterable[tuple[tuple[str, str], tuple[str, str]]]) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Return the edges of some loop in order, or nothing."""
    order: TopologicalSorter[tuple[str, str]] = TopologicalSorter()
    for source, place in edges:
        order.add(place, source)
    try:
        order.prepare()
    except CycleError as error:
        nodes = error.args[1]
        return list(pairwise(nodes))
    return []


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        # No dots: in URLs a first segment with a dot is an upstream host (pull-through).
        like = _NOT_IN_A_NAME.sub("-", text.lower()).strip("-")[:63]
        # Before an `@` stands a password, as often as not.
        hint = f", such as {like}" if like and "@" not in text else ""
        raise ValueError(f"{text[:80]!r} is no name; write a-z, 0-9 and -, at most 63 characters{hint}")
    return text


Name = Annotated[str, AfterValidator(_name), Field(examples=["craned"])]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(min_length=1, examples=["[ghcr, local]"]),
]


class Envelope(Timing):
    """The keys that mirrors of every kind have; `from` and everything else belong to the kind."""

    hints: ClassVar[Mapping[str, str]] = {
        "interval": "write every: 6h, or cron:",
        "schedule": "write every: 6h, or cron: '17 3 * * *'",
        "source": "write from:",
        "target": "write to:",
        "targets": "write to: and the names of targets",
        "type": "write kind:",
    }

    name: Name
    kind: Annotated[str, Field(examples=["image"])]
    to: Names
    deadline: Deadline | None = None
    trust: Trust | None = None


class TargetEnvelope(Strict):
    """The keys that targets of every kind have."""

    kind: Annotated[str, Field(examples=["image"])]
    to: Annotated[str, Field(min_length=1, examples=["ghcr.io/gocrane/crane"])]


def read_targets(value: Value, syncers: Mapping[str, Syncer], problems: Problems) -> Targets:
    """Validate `targets:`; one that is wrong is noted and stays as None."""
    entries = value if isinstance(value, dict) else {}
    return {name: _target(name, entry, syncers, problems) for name, entry in entries.items()}


def _target(name: str, entry: Value, syncers: Mapping[str, Syncer], problems: Problems) -> Target | None:
    trail = ("targets", name)
    before = problems.count()
    try:
        _name(name)
    except ValueError as error:
        problems.add(trail, str(error))
    if name == LOCAL:
        problems.add(trail, f"{LOCAL!r} is built in for every kind; give this target another name")
    syncer = _syncer(entry, trail, syncers, problems)
    envelope, options = _split(entry, trail, TargetEnvelope, syncer.target_spec if syncer else None, problems)
    if problems.count() > before or envelope is None or options is None:
        return None
    return Target(name, envelope.kind, envelope.to, options, problems.origin(trail))


def read_mirrors(
    value: Value, targets: Targets, syncers: Mapping[str, Syncer], settings: Settings, problems: Problems
) -> tuple[Mirror, ...]:
    """Validate `mirrors:` and what they are to one another; whatever is wrong is noted, and the mirror left out."""
    entries = value if isinstance(value, list) else []
    reader = _Reader(targets, syncers, settings, problems)
    found: dict[str, Trail] = {}
    mirrors: list[tuple[Trail, Mirror]] = []
    for number, entry in enumerate(entries):
        trail: Trail = ("mirrors", number)
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and _NAME.fullmatch(name):
            problems.names[trail] = name
            first = found.setdefault(name, trail)
            if first != trail:
                there = f"the mirror at {problems.origin(first)}"
                problems.add((*trail, "name"), f"{name!r} is also the name of {there}; rename one of them")
        if mirror := reader.mirror(entry, trail):
            mirrors.append((trail, mirror))
    check_crossings([(trail, mirror) for trail, mirror in mirrors if found[mirror.name] == trail], syncers, problems)
    return tuple(mirror for _, mirror in mirrors)


@dataclass(frozen=True, slots=True)
class _Reader:
    """What every mirror is read with."""

    targets: Targets
    syncers: Mapping[str, Syncer]
    settings: Settings
    problems: Problems

    def mirror(self, entry: Value, trail: Trail) -> Mirror | None:
        """Return the mirror, or note what is wrong with it."""
        before = self.problems.count()
        syncer = _syncer(entry, trail, self.syncers, self.problems)
        fitting = self._fitting(syncer.kind if syncer else None)
        examples = {"to": f"[{', '.join(fitting)}]"}
        envelope, spec = _split(
            entry, trail, Envelope, syncer.spec if syncer else None, self.problems, examples=examples
        )
        targets = self._targets(envelope, trail, syncer) if envelope and syncer else ()
        if envelope is None or spec is None or self.problems.count() > before:
            return None
        return Mirror(
            name=envelope.name,
            kind=envelope.kind,
            spec=spec,
            targets=targets,
            schedule=envelope.schedule,
            deadline=self.settings.deadline if envelope.deadline is None else envelope.deadline,
            trust=self.settings.trust if envelope.trust is None else envelope.trust,
            origin=self.problems.origin(trail),
        )

    def _fitting(self, kind: str | None) -> list[str]:
        """Return the targets that a mirror of this kind may name, or of any kind."""
        fits = [name for name, target in self.targets.items() if target and kind in (target.kind, None)]
        return [*fits, LOCAL]

    def _targets(self, envelope: Envelope, trail: Trail, syncer: Syncer) -> tuple[Target, ...]:
        found: dict[str, Target] = {}
        for number, name in enumerate(envelope.to):
            here: Trail = (*trail, "to", number)
            built_in = Target(LOCAL, syncer.kind, LOCAL, syncer.target_spec())
            target = built_in if name == LOCAL else self.targets.get(name)
            if name in envelope.to[:number]:
                self.problems.add(here, f"{name!r} stands there twice; keep one of them")
            elif target is not None and target.kind != envelope.kind:
                kinds = f"is of kind {target.kind}, the mirror of kind {envelope.kind}"
                self.problems.add(here, f"{name!r} {kinds}; name a target of the mirror's kind")
            elif target is not None:
                found[name] = target
            elif name not in self.targets and not self.problems.partial:
                known = nearest(
                    name, {*self._fitting(envelope.kind), *(name for name, one in self.targets.items() if not one)}
                )
                hint = "write it as `to` of a target below `targets:`, and the name of that target here"
                self.problems.add(here, f"{name[:60]!r} is no target; {hint if '/' in name else known}")
        return tuple(found.values())


def _syncer(entry: Value, trail: Trail, syncers: Mapping[str, Syncer], problems: Problems) -> Syncer | None:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if isinstance(kind, str) and kind not in syncers:
        problems.add((*trail, "kind"), f"{kind[:60]!r} is no kind; {nearest(kind, set(syncers))}")
    return syncers.get(kind) if isinstance(kind, str) else None


def _split(
    entry: Value,
    trail: Trail,
    envelope: type[E],
    spec: type[BaseModel] | None,
    problems: Problems,
    *,
    examples: Mapping[str, str] = MappingProxyType({}),
) -> tuple[E | None, BaseModel | None]:
    """Validate the keys of the envelope, and all others as the syncer's own."""
    if not isinstance(entry, dict):
        example = ", ".join(f"{key}: …" for key in ("kind", "to"))
        problems.add(trail, f"is no mapping; write {{{example}}}")
        return None, None
    own = {key: value for key, value in entry.items() if key in envelope.model_fields}
    rest: dict[str, Value] = {key: value for key, value in entry.items() if key not in own}
    outer = check(envelope, own, trail, problems, examples=examples)
    return outer, check(spec, rest, trail, problems, beside=envelope) if spec else None
