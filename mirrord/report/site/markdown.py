"""A site as Markdown, as MkDocs reads it: admonitions and tabs, tables, and code that nothing can leave. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from mirrord.printable import plain
from mirrord.report.site import Cell, KindPart, MirrorPart, Site, Table
from mirrord.report.words import LANGUAGES

_PLAIN_CODE: Final = re.compile(r"[A-Za-z0-9._:/@+~%=?&,-]+")
_MARKUP: Final = re.compile(
    r"[!\"#$&*+<=>@\[\\\]^_`{|}~]"
    r"|(?<![A-Za-z0-9])-|-(?![A-Za-z0-9])"  # lists, rules and dashes; not of a word
    r"|:(?![0-9 /]|$)"  # emoji; not of a time or a URL
    r"|^[0-9](?=[0-9]{0,8}[.)](?: |$))"  # a numbered list
)
_NOT_OF_A_LINK: Final = re.compile(r"[^A-Za-z0-9._~:/?#@!$&+,;=%-]")
_INDENT: Final = "    "


def markdown(site: Site) -> str:
    """Write a site."""
    return "\n".join(_document(site)) + "\n"


def _document(site: Site) -> Iterator[str]:
    yield from ("---", f"title: {_quoted(site.title)}", f"description: {_quoted(site.description)}", "---")
    if site.others:
        yield from ("", " · ".join(f"[{LANGUAGES[one]}]({_target(file)})" for one, file in site.others.items()))
    for text in site.about:
        yield from ("", _text(text))
    for kind in site.kinds:
        yield from ("", f"## {_text(kind.title)}")
        yield from _kind(kind, site.tip)
    if site.disclaimer or site.takedown:
        yield from ("", "---")
    for line in site.disclaimer.splitlines():
        yield from ("", _text(line.strip())) if line.strip() else ()
    if site.takedown:
        yield from ("", f"{_text(site.takedown[0])} {_cell(site.takedown[1])}")


def _kind(kind: KindPart, tip: str) -> Iterator[str]:
    if kind.tip:
        yield from ("", f'!!! tip "{_text(tip)}"', f"{_INDENT}{_text(kind.tip)}")
    for group in kind.groups:
        yield from ("", f"### {_text(group.title)}", "", *_table(group.table))
    if kind.mirrors:
        yield from ("", f"### {_text(kind.use)}")
    for mirror in kind.mirrors:
        yield from _mirror(mirror)


def _mirror(mirror: MirrorPart) -> Iterator[str]:
    yield from ("", f"#### {_text(mirror.name)}")
    for tab in mirror.tabs:
        title = _text(tab.title).replace('"', "&quot;")
        code = (f"{_INDENT}{line}" for line in ("```bash", *map(plain, tab.commands), "```"))
        yield from ("", f'=== "{title}"', "", *code)
    if mirror.items:
        yield from ("", *_table(mirror.items))


def _table(table: Table) -> Iterator[str]:
    yield _row(map(_text, table.head))
    yield _row("---" for _ in table.head)
    for row in table.rows:
        yield _row(map(_cell, row))
    if table.below:
        yield from ("", _text(table.below))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = _code(cell.text) if cell.code else _text(cell.text)
    return f"[{text}]({_target(cell.link)})" if cell.link else text


def _code(text: str) -> str:
    """Write what a machine reads; a code span ends differently in each dialect, so only plain texts get one."""
    if not text or _PLAIN_CODE.fullmatch(text):
        return f"`{text}`" if text else ""
    return f"<code>{_text(text)}</code>"


def _text(text: str) -> str:
    """Write a text that means nothing to any dialect: as characters of HTML where it could."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", plain(text))


def _target(link: str) -> str:
    """Write the address of a link, which ends at no space, parenthesis or other markup."""
    return _NOT_OF_A_LINK.sub(lambda found: _percent(found[0]), link)


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))


def _quoted(text: str) -> str:
    """Quote a text for YAML, which reads strings of JSON."""
    return json.dumps(text, ensure_ascii=False)
