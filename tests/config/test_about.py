"""`settings.about`: where rights holders write to, and a disclaimer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mirrord.config.load import Configuration
from mirrord.errors import ConfigError
from mirrord.model.about import Imprint

Load = Callable[..., Configuration]


@pytest.mark.parametrize(
    ("text", "shown", "link"),
    [
        ("a.b+c@corp.example", "a.b+c@corp.example", "mailto:a.b+c@corp.example"),
        ("mailto:a@corp.example", "a@corp.example", "mailto:a@corp.example"),
        ("https://corp.example/takedown?x=1", "https://corp.example/takedown?x=1", "https://corp.example/takedown?x=1"),
    ],
)
def test_addresses(load: Load, text: str, shown: str, link: str) -> None:
    """A mail address or a page; readers get a link."""
    about = load(f"settings: {{about: {{takedown: '{text}'}}}}").settings.about.about
    assert (about.takedown, about.link) == (shown, link)


@pytest.mark.parametrize(
    "text", ["", "corp.example", "javascript:alert(1)", "a@b", "a b@c.example", "https://u:p@x.example"]
)
def test_what_is_no_address(load: Load, text: str) -> None:
    """It is one error that says what to write, and never shows a password."""
    with pytest.raises(ConfigError) as caught:
        load(f"settings: {{about: {{takedown: '{text}'}}}}")
    assert "settings.about.takedown: " in str(caught.value)
    assert "takedown@example.org" in str(caught.value)
    assert "u:p@" not in str(caught.value)


def test_disclaimers(load: Load) -> None:
    """One text is for every reader; one of some languages is shown to the others, too; without any there is none."""
    one = load("settings: {about: {disclaimer: As it is.}}").settings.about.about
    assert [one.said("en"), one.said("zh")] == ["As it is."] * 2
    both = load("settings: {about: {disclaimer: {en: As it is., zh: 按原样提供。}}}").settings.about.about
    assert [both.said("en"), both.said("zh")] == ["As it is.", "按原样提供。"]
    chinese = load("settings: {about: {disclaimer: {zh: 按原样提供。}}}").settings.about.about
    assert chinese.said("en") == "按原样提供。"
    assert load("settings: {}").settings.about.about == Imprint()
    for wrong in ("''", "{fr: x}", "[a]", "x" * 4001):
        with pytest.raises(ConfigError, match=r"settings\.about\.disclaimer"):
            load(f"settings: {{about: {{disclaimer: {wrong}}}}}")
