"""Joins the files: `settings` key by key, `hosts` and `targets` name by name, `mirrors` one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mirrord.config.lines import Problems, Trail, Value, nearest
from mirrord.model.origin import ConfigOrigin

SECTIONS = ("settings", "hosts", "targets", "mirrors")


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """One file: its sections, and where each value stands in it."""

    sections: Mapping[str, Value] = field(default_factory=dict)
    origins: Mapping[Trail, ConfigOrigin] = field(default_factory=dict)


def document(value: Value, origins: Mapping[Trail, ConfigOrigin], problems: Problems) -> ConfigDocument:
    """Check the outermost shape of a file; what does not fit is noted and left out."""
    if value is None:
        return ConfigDocument()
    if not isinstance(value, dict):
        problems.add_at(origins[()], f"is no mapping; write sections: {', '.join(SECTIONS)}")
        return ConfigDocument()
    kept: dict[str, Value] = {}
    for name, section in value.items():
        wanted, spelt = (list, "a list") if name == "mirrors" else (dict, "a mapping")
        if name not in SECTIONS:
            shown = problems.spell((name[:60],))
            problems.add_at(origins[name,], f"{shown}: unknown section; {nearest(name, SECTIONS)}")
        elif section is not None and not isinstance(section, wanted):
            problems.add_at(origins[name,], f"{name}: is not {spelt}; write {spelt}")
        elif section is not None:
            kept[name] = section
    return ConfigDocument(kept, origins)


def join(documents: Iterable[ConfigDocument], problems: Problems) -> Mapping[str, Value]:
    """Join all files to one value, and tell `problems` where everything stands in it."""
    whole: dict[str, Value] = {}
    for each in documents:
        shift = 0
        for name, section in each.sections.items():
            if isinstance(section, list):
                mirrors = whole.setdefault(name, [])
                assert isinstance(mirrors, list)
                shift = len(mirrors)
                mirrors.extend(section)
            elif isinstance(section, dict):
                into = whole.setdefault(name, {})
                assert isinstance(into, dict)
                _merge(into, section, (name,), each, problems, deep=name == "settings")
        for trail, origin in each.origins.items():
            if trail[:1] == ("mirrors",) and len(trail) > 1 and isinstance(trail[1], int):
                trail = ("mirrors", trail[1] + shift, *trail[2:])  # noqa: PLW2901 - behind those of the files before
            problems.origins.setdefault(trail, origin)
    return whole


def _merge(
    into: dict[str, Value],
    more: dict[str, Value],
    trail: Trail,
    source: ConfigDocument,
    problems: Problems,
    *,
    deep: bool,
) -> None:
    for key, value in more.items():
        here = (*trail, key)
        there = into.get(key)
        if key not in into:
            into[key] = value
        elif deep and isinstance(there, dict) and isinstance(value, dict):
            _merge(there, value, here, source, problems, deep=True)
        else:
            what = f"{problems.spell(here)}: is also written at {problems.origin(here)}; keep one of them"
            problems.add_at(source.origins[here], what)
