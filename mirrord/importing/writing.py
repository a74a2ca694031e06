"""Writes a draft as YAML: the same draft is the same text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from mirrord.importing.draft import Arranged, Draft, arrange
from mirrord.importing.report import one_line
from mirrord.wire.secret import redact

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*(?::[A-Za-z0-9_./@-]+)*")
_DURATION = re.compile(r"(?:[0-9]+[smhd])+")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_PAGE = "docs/how-to/move-from-{}.md"
_PLACES = 4  # of a mirror, in its comment
_PAGES = {"mapping": "oc-mirror", "list": "lists"}


def write(draft: Draft, files: Iterable[tuple[str, str]]) -> str:
    """Return the text of a file for the configuration folder.

    Args:
        draft: what was found.
        files: names of the files, each with its format.
    """
    arranged = arrange(draft)
    return "\n".join([*_head(draft, files, arranged), *_body(draft, arranged)]) + "\n"


def _head(draft: Draft, files: Iterable[tuple[str, str]], arranged: Arranged) -> Iterator[str]:
    for file, form in files:
        yield _comment(f"Imported from {file} ({form}); what maps to what: {_PAGE.format(_PAGES.get(form, form))}")
    yield "# Next: mirrord check, then mirrord plan. Hosts at private addresses need allow_private: true in hosts:."
    if any(not {"every", "cron"} & mirror.keys.keys() for mirror in arranged.mirrors):
        yield "# Mirrors without every: and cron: run only by mirrord sync NAME; write every: 6h for a schedule."
    lost, notices = draft.report.lines()
    for title, lines in (("Not converted:", lost), ("Converted, but look at it:", notices)):
        if lines:
            yield "#"
            yield f"# {title}"
            yield from (_comment(f"  {line}") for line in lines)
    if draft.report.secrets:
        yield "#"
        yield "# Environment variables to set:"
        yield from (_comment(f"  {name}: {what}") for name, what in draft.report.secrets.items())


def _body(draft: Draft, arranged: Arranged) -> Iterator[str]:
    if draft.hosts:
        yield "\nhosts:"
        for name, host in draft.hosts.items():
            yield f"  {_text(name)}: {_flow(host.keys)}  {_comment(str(host.origin))}"
    if arranged.targets:
        yield "\ntargets:"
        for name, (origin, keys) in arranged.targets.items():
            yield f"  {_text(name)}: {_flow(keys)}  {_comment(str(origin))}"
    if arranged.mirrors:
        yield "\nmirrors:"
    for mirror in arranged.mirrors:
        places = list(dict.fromkeys(map(str, mirror.origins)))
        more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
        yield "  " + _comment(", ".join(places[:_PLACES]) + more)
        for number, (key, value) in enumerate(mirror.keys.items()):
            yield f"  {'  ' if number else '- '}{key}: {_flow(value)}"


def _comment(text: str) -> str:
    """Return a line of comment, whatever is in the text; blanks at its begin stay."""
    indent = text[: len(text) - len(text.lstrip())]
    return f"# {indent}{one_line(text)}"


def _flow(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(str(key))}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _text(str(value))


def _text(text: str) -> str:
    """Return a text as YAML: without quotes where no reader takes it for something else, and never with userinfo."""
    text = redact(text)
    if _DURATION.fullmatch(text) or (_PLAIN.fullmatch(text) and text.lower() not in _WORDS):
        return text
    if text.isascii() and text.isprintable() and "'" not in text:
        return f"'{text}'"
    return json.dumps(text)
