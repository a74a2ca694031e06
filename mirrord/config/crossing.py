"""What mirrors are to one another: no place is written by two, and none feeds itself, not even through others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from mirrord.config.lines import Problems, Trail
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import Mirror


@dataclass(frozen=True, slots=True)
class _Flow:
    """One mirror's way from its origin to one target; places are comparable within a kind only."""

    mirror: str
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
            what = f"target {flow.target!r} is {flow.place[1]}, written by {there} too; give one another place"
            problems.add((*flow.trail, "to"), what)
    _check_loops(flows, problems)


def _flows(trail: Trail, mirror: Mirror, syncer: Syncer, problems: Problems) -> Iterable[_Flow]:
    try:
        source, places = syncer.places(mirror)
    except ConfigError as error:
        for what in error.problems:
            bare = what.removeprefix(f"{mirror.origin}: ")
            # A syncer may know which of its keys is meant, and then spells the whole trail.
            if bare.startswith("mirrors."):
                problems.add_at(mirror.origin, bare)
            else:
                problems.add(trail, bare)
        return
    for target, place in places.items():
        yield _Flow(mirror.name, trail, target, (mirror.kind, source), (mirror.kind, place))


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
