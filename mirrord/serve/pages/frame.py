"""What all pages share: language and theme of the reader, the headers of an answer, and the values of `base.html`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from mirrord.model.about import Imprint
from mirrord.report.words import LANGUAGES, TEXTS, Words, negotiated, words

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of every page."""
HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": POLICY,
        "Referrer-Policy": "same-origin",
        "Vary": "Accept-Language, Cookie",
    }
)
"""Headers of every page."""
THEMES: Final = ("auto", "light", "dark")
_YEAR: Final = 31_536_000


@dataclass(frozen=True, slots=True)
class Look:
    """How a reader wants a page: a language of `LANGUAGES`, a theme of `THEMES`."""

    language: str = "en"
    theme: str = "auto"

    @classmethod
    def of(cls, request: web.Request) -> Look:
        """Return what `?lang=` and `?theme=` ask for, else the cookies of an earlier choice, else what fits."""
        query, cookies = request.query, request.cookies
        asked = query.get("lang") or cookies.get("lang", "")
        theme = next((one for one in (query.get("theme"), cookies.get("theme")) if one in THEMES), THEMES[0])
        return cls(negotiated(request.headers.get("Accept-Language", ""), asked), theme or THEMES[0])

    def remember(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Let the other pages follow a choice that this request made."""
        for name, value in (("lang", self.language), ("theme", self.theme)):
            if name in request.query:
                answer.set_cookie(name, value, max_age=_YEAR, path="/", samesite="Lax", httponly=True)


@dataclass(frozen=True, slots=True)
class Frame:
    """The values that `base.html` needs; a template sees it as `frame`.

    Attributes:
        look: of the reader.
        now: when the page was made.
        version: of mirrord.
        path: of the page, `/` for the overview.
        query: of the page, without language and theme.
        front: whether there is something to see at `/front`.
        about: what the operator says of the mirror.
    """

    look: Look
    now: datetime
    version: str
    path: str = "/"
    query: Mapping[str, str] = field(default_factory=dict)
    front: bool = False
    about: Imprint = field(default_factory=Imprint)

    @property
    def words(self) -> Words:
        """The words of the reader's language."""
        return words(self.look.language)

    @property
    def languages(self) -> Mapping[str, str]:
        """The languages to choose from."""
        return LANGUAGES

    @property
    def themes(self) -> tuple[str, ...]:
        """The themes to choose from."""
        return THEMES

    @property
    def texts(self) -> str:
        """What the script needs to say times, as JSON."""
        texts = TEXTS[self.look.language]
        return json.dumps({key: text for key, text in texts.items() if key.startswith(("time.", "span."))})

    def link(self, **changes: str) -> str:
        """Return the address of this page with another query; "" leaves a key out."""
        query = {key: value for key, value in {**self.query, **changes}.items() if value}
        return f"{self.path}?{urlencode(query, errors='surrogateescape')}" if query else self.path
