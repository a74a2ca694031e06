"""A site as one page of HTML that needs nothing else, and reads well without its style. Pure.

Tabs are radio buttons: a keyboard reaches and moves them as any others, and no script is needed.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Final

from mirrord.printable import plain
from mirrord.report.site import Cell, KindPart, MirrorPart, Site, Table
from mirrord.report.words import LANGUAGES

_CODES: Final = {"zh": "zh-Hans"}
_STYLE: Final = """
:root { color-scheme: light dark; --line: #d0d7de; --soft: #f6f8fa; --link: #0550ae; --ground: #fff; }
@media (prefers-color-scheme: dark) { :root { --line: #3d444d; --soft: #161b22; --link: #79b8ff; --ground: #0d1117; } }
html { background: var(--ground); }
body { font: 16px/1.6 system-ui, "PingFang SC", "Noto Sans CJK SC", sans-serif; max-width: 72rem;
  margin: 0 auto; padding: 1rem; }
a { color: var(--link); }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); font-size: .875em; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.table { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
code { font: .875em/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { margin: 0; padding: .6rem .8rem; overflow-x: auto; background: var(--soft); border-radius: 6px; }
pre code { overflow-wrap: normal; }
.tip { padding: .3rem .8rem; border-left: 4px solid var(--link); background: var(--soft); }
.tabs { display: flex; flex-wrap: wrap; gap: 0 1.2rem; margin: 1rem 0; }
.tabs input { position: absolute; opacity: 0; }
.tabs label { padding: .2rem 0; border-bottom: 3px solid transparent; cursor: pointer; }
.tabs pre { order: 1; width: 100%; box-sizing: border-box; display: none; }
.tabs :checked + label { border-color: var(--link); font-weight: 600; }
.tabs :checked + label + pre { display: block; }
.tabs :focus-visible + label { outline: 2px solid var(--link); outline-offset: 2px; }
@media print { .tabs { display: block; } .tabs label { display: block; } .tabs pre { display: block; } }
"""
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"


def html(site: Site) -> str:
    """Write a site."""
    language = _CODES.get(site.language, site.language)
    return "\n".join(
        (
            "<!DOCTYPE html>",
            f'<html lang="{language}">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
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
            *_operator(site),
            "</body>",
            "</html>\n",
        )
    )


def _others(site: Site) -> Iterator[str]:
    for language, file in site.others.items():
        code = _CODES.get(language, language)
        link = f'<a href="{_text(file)}" rel="alternate" hreflang="{code}" lang="{code}">{LANGUAGES[language]}</a>'
        yield f"<p>{link}</p>"


def _operator(site: Site) -> Iterator[str]:
    if site.disclaimer or site.takedown:
        yield "<footer>"
        yield from (f"<p>{_text(line)}</p>" for line in site.disclaimer.splitlines() if line.strip())
        if site.takedown:
            yield f"<p>{_text(site.takedown[0])} {_cell(site.takedown[1])}</p>"
        yield "</footer>"


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
    name = _text(mirror.name)
    yield f"<h4>{name}</h4>"
    if mirror.tabs:
        yield f'<div class="tabs" role="radiogroup" aria-label="{name}">'
    for number, tab in enumerate(mirror.tabs):
        key, title, lines = f"{name}-{number}", _text(tab.title), "\n".join(map(_text, tab.commands))
        chosen = "" if number else ' checked=""'
        yield f'<input type="radio" name="{name}" id="{key}"{chosen}>'
        yield f'<label for="{key}">{title}</label>'
        yield f'<pre tabindex="0" aria-label="{name}: {title}"><code>{lines}</code></pre>'
    if mirror.tabs:
        yield "</div>"
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
