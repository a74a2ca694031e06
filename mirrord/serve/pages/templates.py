"""The only door to Jinja2. Nothing from outside becomes markup, and no control character reaches a page.

Every value that a template prints is escaped, also in attributes; a name that does not exist is an error.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mirrord.printable import plain
from mirrord.report.moments import rfc3339
from mirrord.serve.pages.static import asset

FOLDER: Final = Path(__file__).parent / "templates"


class Html(str):
    """Markup that a template inserts as it is: what another template made."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return it; Jinja2 asks for this."""
        return self


def render(name: str, **values: object) -> str:
    """Render a template of the folder; blocks for milliseconds, since the first use compiles it."""
    return _environment().get_template(name).render(values)


def clipped(text: str, most: int) -> str:
    """Return at most `most` characters of a text, which ends with `…` when something is left out."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=_printable,
    )
    made.filters |= {"clipped": clipped, "rfc3339": rfc3339}
    made.globals["asset"] = asset
    return made


def _printable(value: object) -> object:
    return plain(value) if isinstance(value, str) and not hasattr(value, "__html__") else value  # it is markup of ours
