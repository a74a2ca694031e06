"""How mirrors relate: no two write one place, and none copies to its own source, not even through others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from mirrord.config.lines import Problems, Trail
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror
from mirrord.syncer.writers import Writers, clashes


@dataclass(frozen=True, slots=True)
class _Flow:
    """A mirror's flow from its source to one target; places are comparable only within a kind."""

    mirror: str
    called: str  # at its targets: `as:`, or the name
    trail: Trail
    target: str
    source: tuple[str, str]
    place: tuple[str, str]
    naming: bool  # whether a naming decides what its content is called at the target


def check_crossings(mirrors: Sequence[tuple[Trail, Mirror]], syncers: Mapping[str, Syncer], problems: Problems) -> None:
    """Note places that are written twice, and each loop once with its whole chain."""
    flows = [flow for trail, mirror in mirrors for flow in _flows(trail, mirror, syncers[mirror.kind], problems)]
    writers: dict[tuple[str, str], _Flow] = {}
    for flow in flows:
        first = writers.setdefault(flow.place, flow)
        if first is not flow:
            there = f"mirror {first.mirror!r} ({first.target!r}) at {problems.origin(first.trail)}"
            what = f"target {flow.target!r} is {flow.place[1]}, written by {there} too"
            problems.add((*flow.trail, "to"), f"{what}; {_apart(first, flow)}")
    _check_loops(flows, problems)


def check_parts(mirrors: Sequence[Mirror], syncers: Mapping[str, Syncer]) -> Sequence[str]:
    """Check the parts of mirrors of many sources, beside all other mirrors; return notices, one sentence each.

    So are the files that mirrors name.

    Two sources may not have one name at a target, and none may be copied to itself. One source may be a part of several
    mirrors: then they write the same. They do not where one names a tag with a digest, and another without it.

    Raises:
        ConfigError: there are problems; holds a line for each.
    """
    problems, lines, notices = Problems(), list[str](), list[str]()
    flows: list[_Flow] = []
    writers = defaultdict[str, Writers](dict)
    for number, mirror in enumerate(mirrors):
        trail, syncer = ("mirrors", number), syncers[mirror.kind]
        problems.origins[trail], problems.names[trail] = mirror.origin, mirror.name
        parts = [mirror]
        try:
            notices += syncer.check_files(mirror) if syncer.check_files else ()
        except ConfigError as error:
            lines += error.problems
        if read := syncer.parts_of(mirror):
            those = read()
            lines += those.problems
            notices += those.notices
            parts = [*those.mirrors]
        for part in parts:
            flows += _flows_of(trail, part, syncer)
            if found := [*clashes(writers[mirror.kind], part.origin, syncer.written_by(part))]:
                problems.add_at(part.origin, found[0])  # who mends that mends the others
    _check_loops(flows, problems)
    try:
        problems.settle()
    except ConfigError as error:
        lines += error.problems
    if lines:
        raise ConfigError(*dict.fromkeys(lines))
    return notices


def _apart(one: _Flow, other: _Flow) -> str:
    """Say how two mirrors that write one place get a place each."""
    if one.naming and other.naming and one.source == other.source:
        return "join the two mirrors, or give one of them an `as:`"
    if one.naming or other.naming:
        return "give one of the mirrors an `as:`, or write a `naming:` that has {host} and {path}, such as path"
    if one.target != other.target:
        return f"change `to` of target {one.target!r} or {other.target!r}"
    if one.called == other.called:
        return "give one of the mirrors another `as:`"
    return f"write {{mirror}} in `to` of target {one.target!r}"


def _flows(trail: Trail, mirror: Mirror, syncer: Syncer, problems: Problems) -> Iterable[_Flow]:
    try:
        flows = [*_flows_of(trail, mirror, syncer)]
    except ConfigError:
        check_places(trail, mirror, syncer, problems)
        return ()
    return () if syncer.parts_of(mirror) else flows  # where parts write is checked by `check_parts`


def _flows_of(trail: Trail, mirror: Mirror, syncer: Syncer) -> Iterable[_Flow]:
    source, places = syncer.places(mirror)
    own = _own_name(mirror)
    options = {target.name: target.options for target in mirror.targets}
    for name, place in places.items():
        namings = hasattr(options[name], "naming") and (options[name].naming or mirror.names.naming)
        naming = bool(namings) and not own
        called = own or mirror.name
        yield _Flow(mirror.name, called, trail, name, (mirror.kind, source), (mirror.kind, place), naming)


def _own_name(mirror: Mirror) -> str | None:
    """Return the value of `as:`."""
    fields = getattr(type(mirror.spec), "model_fields", {})  # a part of a mirror has none
    own = (getattr(mirror.spec, name) for name, key in fields.items() if key.alias == "as")
    return next(own, None)


def check_places(trail: Trail, mirror: Mirror, syncer: Syncer, problems: Problems) -> None:
    """Note what is wrong with the origin and with each target of a mirror, one by one, so that all are reported."""
    origin = wrong_places(replace(mirror, targets=()), syncer)
    found = list(origin)
    for target in mirror.targets:
        one = replace(mirror, targets=(target,))
        wrong = wrong_places(one, syncer)
        if origin and wrong == origin and syncer.sample:  # the wrong origin hides what is wrong with the target
            wrong = wrong_places(replace(one, spec=syncer.spec.model_validate(syncer.sample)), syncer)
        found += wrong
    for what in dict.fromkeys(found):
        add_place(trail, mirror, what, problems)


def add_place(trail: Trail, mirror: Mirror, what: str, problems: Problems) -> None:
    """Note what a syncer says about a mirror, at the key of the target or of the mirror that it names."""
    for target in mirror.targets:
        if what.startswith(f"{target.origin}: targets.{target.name}."):
            problems.add_below(("targets", target.name), target.name, what)
            return
    problems.add_below(trail, mirror.name, what)


def wrong_places(mirror: Mirror, syncer: Syncer) -> tuple[str, ...]:
    """Return what is wrong with the origin or a target of a mirror; the first thing hides others."""
    try:
        syncer.places(mirror)
    except ConfigError as error:
        return error.problems
    return ()


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
