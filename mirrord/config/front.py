"""`front:`: what clients may pull through, by kind; the keys of a kind are validated by its own model."""

from __future__ import annotations

from collections.abc import Mapping

from mirrord.config.check import check
from mirrord.config.lines import Problems, Value, nearest
from mirrord.errors import ConfigError
from mirrord.names.book import NameBook
from mirrord.syncer.port import Syncer
from mirrord.syncer.through import CheckedFront
from mirrord.syncer.values import FrontRules


def read_fronts(
    value: Value, syncers: Mapping[str, Syncer], names: NameBook, problems: Problems
) -> Mapping[str, FrontRules]:
    """Validate `front:`; each problem is noted, and its kind left out. Upstreams are those behind aliases."""
    found: dict[str, FrontRules] = {}
    able = {kind: syncer.through for kind, syncer in syncers.items() if syncer.through}
    for kind, entry in (value if isinstance(value, dict) else {}).items():
        trail = ("front", kind)
        through = able.get(kind)
        if through is None:
            what = "cannot be pulled through" if kind in syncers else "is not a kind"
            known = nearest(kind, set(able)) if able else "remove it"
            problems.add(trail, f"{kind[:60]!r} {what}; {known}")
        elif (keys := check(through.model(), {} if entry is None else entry, trail, problems)) is not None:
            upstreams = _behind_aliases(through.upstreams(keys), names)
            found[kind] = FrontRules(keys, upstreams, problems.origin(trail), problems.places(trail))
    return found


def _behind_aliases(listed: Mapping[str, bool], names: NameBook) -> Mapping[str, bool]:
    """Return the hosts that aliases give; one that is listed by its own name is read as that entry says."""
    found: dict[str, bool] = {}
    for host, ours in listed.items():
        meant = names.registry(host)
        if meant == host or meant not in listed:
            found[meant] = found.get(meant, False) or ours
    return found


def check_fronts(
    fronts: Mapping[str, FrontRules], syncers: Mapping[str, Syncer], names: NameBook
) -> Mapping[str, CheckedFront]:
    """Read the files that `front:` names; return what was found, by kind.

    Raises:
        ConfigError: there are problems; holds a line for each.
    """
    found = {kind: t.check(rules, names) for kind, rules in fronts.items() if (t := syncers[kind].through)}
    if problems := [problem for one in found.values() for problem in one.problems]:
        raise ConfigError(*problems)
    return found
