"""Answers to issues are whole in both languages, and a title of a stranger is nothing but text in them."""

from __future__ import annotations

import re
from string import Formatter

import pytest

from mirrord.asking.asked import AskRefusal
from mirrord.asking.words import TEXTS, Answers, code
from mirrord.wire.oci.reference import Reference

IMAGE = Reference.parse("ghcr.io/a/b:v1")


def placeholders(form: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(form) if name}


def test_languages_have_the_same_keys_and_placeholders() -> None:
    """No answer lacks a translation, or a value in it."""
    assert TEXTS["en"].keys() == TEXTS["zh"].keys()
    for key, form in TEXTS["en"].items():
        assert placeholders(form) == placeholders(TEXTS["zh"][key]), key


@pytest.mark.parametrize("language", ["en", "zh"])
def test_answers_name_the_image_and_the_command(language: str) -> None:
    """What was asked for is in each answer, and the last one has the command that pulls it."""
    answers = Answers(language)
    place = f"m.example.com/ghcr.io/a/b:v1@sha256:{'a' * 64}"
    assert f"docker pull {place}\n" in answers.done(IMAGE, ["x/y", place])
    texts = [answers.queued(IMAGE, ("linux/amd64",)), answers.done(IMAGE, [place]), answers.misspelt("b", IMAGE)]
    texts += [answers.refused(IMAGE, why, ("linux/arm64",)) for why in (*AskRefusal, "storage", "other")]
    assert len({*texts}) == 3 + len(("missing", "taken_down", "not_allowed", "platform", "other"))
    assert all("`ghcr.io/a/b:v1`" in text for text in texts)
    assert "`linux/amd64`" in texts[0]
    assert "5" in answers.limited(5)
    assert all("{" not in text for text in texts)


@pytest.mark.parametrize(
    "title",
    [
        "@everyone look", "<img src=x onerror=alert(1)>", "` @all `", "```\n# big", "[x](javascript:alert(1))",
        "a\r\n\n## heading", "\u202egnp.exe", "<!-- mirrord:done -->", "", " ", "x" * 5000, "镜" * 5000, "\ud800",
        "**bold** #1 http://evil.example",
    ],
)  # fmt: skip
def test_a_title_is_nothing_but_text(title: str) -> None:
    """It begins no mention, link, tag or comment, ends no code, and is cut."""
    shown = code(title)
    assert re.fullmatch(r"`[^`\n\r<>@\u202e]{1,240}`", shown), shown
    assert len(shown.encode()) < 400
    assert shown in Answers("zh").no_image(title)
