"""`targets:` and `mirrors:`: the envelope is validated here, the rest by the syncer of the kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mirrord.config.check import check
from mirrord.config.crossings import check_crossings, check_places, wrong_places
from mirrord.config.envelopes import NAME, Envelope, TargetEnvelope, check_name
from mirrord.config.lines import Problems, Trail, Value, nearest
from mirrord.config.settings import Settings
from mirrord.names.book import NameBook
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL, Mirror, Target

E = TypeVar("E", bound=BaseModel)
Targets = Mapping[str, Target | None]
"""By name; None for a target with problems, so that it is not reported as unknown."""


def read_targets(value: Value, syncers: Mapping[str, Syncer], problems: Problems) -> Targets:
    """Validate `targets:`; one that is wrong is noted and stays as None."""
    entries = value if isinstance(value, dict) else {}
    return {name: _target(name, entry, syncers, problems) for name, entry in entries.items()}


def _target(name: str, entry: Value, syncers: Mapping[str, Syncer], problems: Problems) -> Target | None:
    trail = ("targets", name)
    before = problems.count()
    try:
        check_name(name)
    except ValueError as error:
        problems.add(trail, str(error))
    if name == LOCAL:
        problems.add(trail, f"{LOCAL!r} is built in for every kind; give this target another name")
    syncer = _syncer(entry, trail, syncers, problems)
    envelope, options = _split(entry, trail, TargetEnvelope, syncer.target_spec if syncer else None, problems)
    if envelope is None or syncer is None:
        return None
    target = Target(name, envelope.kind, envelope.to, options, problems.origin(trail), envelope.page or "")
    if options is None:
        _check_address(target, syncer, problems)
    return None if problems.count() > before else target


def _check_address(target: Target, syncer: Syncer, problems: Problems) -> None:
    """Check `to` of a target whose other keys are wrong, in place of the mirrors that would do it."""
    spec, options = _valid(syncer.spec, syncer.sample), _valid(syncer.target_spec, {})
    if spec is None or options is None:
        return
    mirror = Mirror("mirror", syncer.kind, spec, (replace(target, options=options),))
    for what in wrong_places(mirror, syncer):
        if what.startswith(f"{target.origin}: targets.{target.name}.to:"):
            problems.add_below(("targets", target.name), target.name, what)


def read_mirrors(
    value: Value,
    targets: Targets,
    syncers: Mapping[str, Syncer],
    settings: Settings,
    problems: Problems,
    *,
    names: NameBook,
) -> tuple[Mirror, ...]:
    """Validate `mirrors:` and what they are to one another; each problem is noted, and its mirror left out."""
    entries = value if isinstance(value, list) else []
    reader = _Reader(targets, syncers, settings, names, problems)
    found: dict[str, Trail] = {}
    mirrors: list[tuple[Trail, Mirror]] = []
    for number, entry in enumerate(entries):
        trail: Trail = ("mirrors", number)
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and NAME.fullmatch(name):
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
    names: NameBook
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
        names = envelope.to if envelope else _named(entry)
        targets = self._targets(names, trail, syncer)
        if envelope and envelope.keep:
            self._check_keep(names, trail, syncer)
        if envelope is None or spec is None or self.problems.count() > before:
            self._check_places(entry, trail)
            return None
        return Mirror(
            name=envelope.name,
            kind=envelope.kind,
            spec=spec,
            targets=targets,
            schedule=envelope.schedule,
            deadline=self.settings.deadline if envelope.deadline is None else envelope.deadline,
            trust=self.settings.trust if envelope.trust is None else envelope.trust,
            interval=envelope.interval,
            stale=envelope.stale_after(self.settings.stale),
            verifying=(envelope.verify or self.settings.verify).rules,
            keep=None if envelope.keep == "all" else (envelope.keep or self.settings.local.keep).rules,
            names=self.names,
            origin=self.problems.origin(trail),
        )

    def _check_keep(self, names: Sequence[str], trail: Trail, syncer: Syncer | None) -> None:
        """Check that `keep` means something for the mirror."""
        if LOCAL not in names:
            self.problems.add((*trail, "keep"), f"is about {LOCAL}, which `to` does not name; remove it")
        elif syncer and syncer.kept is None:
            self.problems.add((*trail, "keep"), f"has no effect on mirrors of kind {syncer.kind}; remove it")

    def _check_places(self, entry: Value, trail: Trail) -> None:
        """Check the origin and the targets of a mirror that has other problems, so that one pass reports all."""
        if not isinstance(entry, dict):
            return
        found = [target for name in dict.fromkeys(_named(entry)) if (target := self.targets.get(name))]
        kind = entry.get("kind")
        own = kind if isinstance(kind, str) else ""
        for one in dict.fromkeys((own, *(target.kind for target in found))):
            if syncer := self.syncers.get(one):
                keys = {"from": entry.get("from")} if one == own else syncer.sample
                spec = _valid(syncer.spec, keys) or _valid(syncer.spec, syncer.sample)
                fitting = tuple(target for target in found if target.kind == one)
                name = self.problems.names.get(trail, "name")
                origin = self.problems.origin(trail)
                mirror = Mirror(name, syncer.kind, spec, fitting, names=self.names, origin=origin)
                if spec is not None:
                    check_places(trail, mirror, syncer, self.problems)

    def _fitting(self, kind: str | None) -> list[str]:
        """Return the targets that a mirror of this kind may name, or of any kind."""
        fits = [name for name, target in self.targets.items() if target and kind in (target.kind, None)]
        return [*fits, LOCAL]

    def _targets(self, names: Sequence[str], trail: Trail, syncer: Syncer | None) -> tuple[Target, ...]:
        """Return the targets of a mirror; without a known kind it is only checked that there are such targets."""
        kind = syncer.kind if syncer else None
        found: dict[str, Target] = {}
        for number, name in enumerate(names):
            here: Trail = (*trail, "to", number)
            built_in = Target(LOCAL, syncer.kind, LOCAL, syncer.target_spec()) if syncer else None
            target = built_in if name == LOCAL else self.targets.get(name)
            if name in names[:number]:
                self.problems.add(here, f"{name!r} is listed twice; keep one of them")
            elif target is not None and kind not in (target.kind, None):
                kinds = f"is of kind {target.kind}, the mirror of kind {kind}"
                self.problems.add(here, f"{name!r} {kinds}; name a target of the mirror's kind")
            elif target is not None:
                found[name] = target
            elif name not in (LOCAL, *self.targets) and not self.problems.partial:
                known = nearest(name, {*self._fitting(kind), *(name for name, one in self.targets.items() if not one)})
                hint = "write it as `to` of a target below `targets:`, and the name of that target here"
                self.problems.add(here, f"{name[:60]!r} is not a target; {hint if '/' in name else known}")
        return tuple(found.values())


def _named(entry: Value) -> tuple[str, ...]:
    """Return the names of targets in `to:` of a mirror that is wrong."""
    written = entry.get("to") if isinstance(entry, dict) else None
    return tuple(name for name in (written if isinstance(written, list) else [written]) if isinstance(name, str))


def _valid(model: type[BaseModel], keys: Mapping[str, object]) -> BaseModel | None:
    try:
        return model.model_validate(keys)
    except ValidationError:
        return None


def _syncer(entry: Value, trail: Trail, syncers: Mapping[str, Syncer], problems: Problems) -> Syncer | None:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if isinstance(kind, str) and kind not in syncers:
        problems.add((*trail, "kind"), f"{kind[:60]!r} is not a kind; {nearest(kind, set(syncers))}")
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
        problems.add(trail, f"is not a mapping; write {{{example}}}")
        return None, None
    own = {key: value for key, value in entry.items() if key in envelope.model_fields}
    rest: dict[str, Value] = {key: value for key, value in entry.items() if key not in own}
    outer = check(envelope, own, trail, problems, examples=examples)
    return outer, check(spec, rest, trail, problems, beside=envelope) if spec else None
