"""A site as one page of HTML that needs nothing else, and reads well without its style. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from mirrord.printable import plain
from mirrord.report.site import Cell, KindPart, MirrorPart, Site, Table
from mirrord.report.words import LANGUAGES

_CODES: Final = {"zh": "zh-Hans"}
_STYLE: Final = """
:root { color-scheme: light dark; --line: #d0d7de; --soft: #f6f8fa; --link: #0550ae; }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --soft: #161b22; --link: #79b8ff; } }
body { font: 16px/1.6 system-ui, "PingFang SC", "Noto Sans CJK SC", sans-serif; max-width: 72rem;
  margin: 0 auto; padding: 1rem; }
a { color: var(--link); }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.table { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
code { font: .875em/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { margin: 0; padding: .6rem .8rem; overflow-x: auto; background: var(--soft); border-radius: 6px; }
pre code { overflow-wrap: normal; }
.tip { padding: .3rem .8rem; border-left: 4px solid var(--link); background: var(--soft); }
dt { margin-top: .6rem; font-weight: 600; }
dd { margin: .2rem 0 0; }
"""


def html(site: Site) -> str:
    """Write a site."""
    language = _CODES.get(site.language, site.language)
    return "\n".join(
        (
            "<!DOCTYPE html>",
            f'<html lang="{language}">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="description" content="{_text(site.description)}">',
            f"<title>{_text(site.title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            "<main>",
            *_others(site),
            f"<h1>{_text(site.title)}</h1>",
            *(f"<p>{_text(text)}</p>" for text in site.about),
            *(line for kind in site.kinds for line in _kind(kind, site.tip)),
            "</main>",
            "</body>",
            "</html>\n",
        )
    )


def _others(site: Site) -> Iterator[str]:
    for language, file in site.others.items():
        code = _CODES.get(language, language)
        link = f'<a href="{_text(file)}" rel="alternate" hreflang="{code}" lang="{code}">{LANGUAGES[language]}</a>'
        yield f"<p>{link}</p>"


def _kind(kind: KindPart, tip: str) -> Iterator[str]:
    yield f"<h2>{_text(kind.title)}</h2>"
    if kind.tip:
        yield f'<p class="tip"><strong>{_text(tip)}</strong> {_text(kind.tip)}</p>'
    for group in kind.groups:
        yield f"<h3>{_text(group.title)}</h3>"
        yield from _table(group.table)
    if kind.mirrors:
        yield f"<h3>{_text(kind.use)}</h3>"
    for mirror in kind.mirrors:
        yield from _mirror(mirror)


def _mirror(mirror: MirrorPart) -> Iterator[str]:
    yield f"<h4>{_text(mirror.name)}</h4>"
    if mirror.tabs:
        yield "<dl>"
        for tab in mirror.tabs:
            lines = "\n".join(map(_text, tab.commands))
            yield f"<dt>{_text(tab.title)}</dt>"
            yield f"<dd><pre><code>{lines}</code></pre></dd>"
        yield "</dl>"
    if mirror.items:
        yield from _table(mirror.items)


def _table(table: Table) -> Iterator[str]:
    yield '<div class="table">'
    yield "<table>"
    head = "".join(f'<th scope="col">{_text(text)}</th>' for text in table.head)
    yield f"<thead><tr>{head}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        yield f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>"
    yield "</tbody>"
    yield "</table>"
    yield "</div>"
    if table.below:
        yield f"<p>{_text(table.below)}</p>"


def _cell(cell: Cell) -> str:
    text = f"<code>{_text(cell.text)}</code>" if cell.code and cell.text else _text(cell.text)
    return f'<a href="{_text(cell.link)}">{text}</a>' if cell.link else text


def _text(text: str) -> str:
    return escape(plain(text))
