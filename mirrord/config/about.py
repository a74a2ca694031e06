"""`settings.about`: what whoever runs a mirror says of it to others."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from mirrord.config.check import Strict
from mirrord.errors import UntrustedError
from mirrord.model.about import Imprint
from mirrord.wire.origin import check_url

_MAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")
_LONGEST: Final = 4000  # characters of a disclaimer
_Text = Annotated[str, Field(min_length=1, max_length=_LONGEST)]
_LANGUAGES: Final = {"en": "In English.", "zh": "In Chinese."}


def _address(text: str) -> str:
    """Return a mail address without `mailto:`, or an URL."""
    mail = text.removeprefix("mailto:")
    if _MAIL.fullmatch(mail):
        return mail
    try:
        check_url(text)
    except UntrustedError as error:
        raise ValueError(
            f"{text[:60]!r} is no address; write takedown@example.org, or https:// and the address of a page"
        ) from error
    return text


def _by_language(value: object) -> object:
    return {"en": value, "zh": value} if isinstance(value, str) else value


class DisclaimerKeys(Strict):
    """`settings.about.disclaimer`: a text in each language; a reader of another one gets what there is."""

    en: _Text | None = Field(default=None, description=_LANGUAGES["en"])
    zh: _Text | None = Field(default=None, description=_LANGUAGES["zh"])


_TEXTS = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": _LONGEST},
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                language: {"type": "string", "minLength": 1, "maxLength": _LONGEST, "description": text}
                for language, text in _LANGUAGES.items()
            },
        },
    ]
}


class AboutKeys(Strict):
    """`settings.about`: shown on every page, in documents of `mirrord docs`, and where something was taken down."""

    takedown: Annotated[str, AfterValidator(_address)] | None = Field(
        default=None,
        description="Where rights holders write to: a mail address, or the URL of a page. Default: none is shown.",
        examples=["takedown@example.org"],
    )
    disclaimer: Annotated[DisclaimerKeys, BeforeValidator(_by_language), WithJsonSchema(_TEXTS)] = Field(
        default=DisclaimerKeys(),
        description=(
            "What the mirror does not promise: a text, or `{en: …, zh: …}`. Each has at most 4000 characters. Default:"
            " none is shown."
        ),
        examples=["Copies are provided as they are, without any warranty."],
    )

    @property
    def about(self) -> Imprint:
        """What is said, as the rest of the program knows it."""
        texts = {"en": self.disclaimer.en, "zh": self.disclaimer.zh}
        return Imprint(self.takedown or "", {language: text for language, text in texts.items() if text})
