"""The only door to YAML: text becomes values, and the lines where they were written.

Scalars are kept as the text that was written; the model that wants a number or a flag reads it as one. So `no`, `on`,
`1.20` and `12:30:45` stay what they look like wherever text is wanted, as in YAML 1.2 and unlike YAML 1.1. Aliases,
tags, second documents and more than 64 levels are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml  # noqa: TID251 - this is the door

from mirrord.config.files import UnreadableError
from mirrord.config.lines import Problems, Trail, Value, how_to_mend
from mirrord.model.origin import ConfigOrigin

MAX_DEPTH = 64
_NULLS = ("", "~", "null", "Null", "NULL")
_BLANK = "\t\r\n"
_NO_TEMPLATE = "variables and templates are not replaced; write {env: NAME} for a secret"
_CITED = re.compile(r"'[^']{2,}'")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_text(text: str, file: str, problems: Problems) -> tuple[Value, dict[Trail, ConfigOrigin]]:
    """Return a YAML document and where its values are; when it cannot be read that is noted, and it counts as empty."""
    try:
        return _parse(text, file, problems)
    except UnreadableError as refused:
        problems.add_at(ConfigOrigin(file, refused.line), f"{refused}; more may follow once this is mended")
        problems.partial = True
        return None, {}


def _parse(text: str, file: str, problems: Problems) -> tuple[Value, dict[Trail, ConfigOrigin]]:
    lines = text.splitlines()
    try:
        return _Parser(text, file, problems).document()
    except UnreadableError as refused:
        if "{{" in lines[refused.line - 1]:
            raise UnreadableError(refused.line, f"is not YAML; {_NO_TEMPLATE}") from refused
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line + 1, len(lines)) if mark else 0  # the end of the text has no line
        template = line and ("${" in lines[line - 1] or "{{" in lines[line - 1])
        nested = mark is not None and mark.line < line and "flow" not in (error.context or "")
        spot = (lines[line - 1] if line else "", mark.column if mark else 0)
        hint = _NO_TEMPLATE if template else how_to_mend(*spot, nested=nested)
        problem = _CITED.sub("…", error.problem or "")  # the parser may quote a part of a password
        raise UnreadableError(line, f"is not YAML ({problem}); {hint}") from error
    except yaml.YAMLError as error:
        bad = next((position for position, char in enumerate(text) if not char.isprintable() and char not in _BLANK), 0)
        hint = "contains a character that YAML does not allow; write it as an escape inside double quotes"
        raise UnreadableError(text.count("\n", 0, bad) + 1, hint) from error


class _Parser:
    """Builds values from libyaml's events: each event is checked before an object is made of it."""

    def __init__(self, text: str, file: str, problems: Problems) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self._file = file
        self._problems = problems
        self._origins: dict[Trail, ConfigOrigin] = {(): ConfigOrigin(file, 1)}

    def document(self) -> tuple[Value, dict[Trail, ConfigOrigin]]:
        """Return the only document and the lines of its values.

        Raises:
            UnreadableError: an alias, a tag, a second document, more than 64 levels, a key that is not text.
            yaml.YAMLError: not YAML at all.
        """
        value: Value = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise UnreadableError(
                        _line(event), "a second document starts here; write it into a file of its own"
                    )
                value = self._value(next(self._events), ())
        return value, self._origins

    def _value(self, event: yaml.Event, trail: Trail) -> Value:
        self._allowed(event, trail)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(trail)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(trail)
        scalar = _scalar(event)
        return None if not scalar.style and scalar.value in _NULLS else str(scalar.value)

    def _mapping(self, trail: Trail) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            self._allowed(event, trail)
            if not isinstance(event, yaml.ScalarEvent):
                raise UnreadableError(_line(event), "a key is a list or a mapping; put quotes around it if it is text")
            key = str(_scalar(event).value)
            here = (*trail, key)
            if key in found:
                first = self._origins[here].line
                what = f"{self._problems.spell(here)}: is written twice, first at line {first}; keep one of them"
                self._problems.add_at(ConfigOrigin(self._file, _line(event)), what)
                self._value(next(self._events), (*here, "again"))
            else:
                self._origins[here] = ConfigOrigin(self._file, _line(event))
                found[key] = self._value(next(self._events), here)
        return found

    def _list(self, trail: Trail) -> list[Value]:
        found: list[Value] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            here = (*trail, len(found))
            self._origins[here] = ConfigOrigin(self._file, _line(event))
            found.append(self._value(event, here))
        return found

    def _allowed(self, event: yaml.Event, trail: Trail) -> None:
        """Refuse what turns small files into large or surprising values (PyYAML #235, kubernetes #83253).

        No name is shown: `password: *hunter2` and `password: !hunter2` are passwords without quotes.
        """
        if isinstance(event, yaml.AliasEvent):
            what = "aliases (*name) are not supported; write the value out, in quotes if it begins with *"
            raise UnreadableError(_line(event), what)
        if getattr(event, "tag", None):
            what = "tags (!name) are not supported; remove it, or write the value in quotes if it begins with !"
            raise UnreadableError(_line(event), what)
        if len(trail) >= MAX_DEPTH:
            raise UnreadableError(_line(event), f"is nested more than {MAX_DEPTH} levels deep; write it flatter")


def _scalar(event: yaml.Event) -> yaml.ScalarEvent:
    assert isinstance(event, yaml.ScalarEvent)  # libyaml's grammar leaves nothing else
    return event


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return int(event.start_mark.line) + 1
