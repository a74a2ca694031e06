"""Messages within the limits of a service, and without markup that somebody else wrote."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.wire.notify.known import SERVICES
from mirrord.wire.notify.message import Message
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.notify.text import cut, fitted, harmless, in_bytes, in_utf16, unmentioned
from mirrord.wire.secret import Secret

NOW = datetime(2026, 11, 27, tzinfo=UTC)
CHATS = [kind for kind in SERVICES if kind != "webhook"]
HOSTILE = (
    'x <at user_id="all">all</at> @all @everyone <!channel> <!here> <@U012AB3CD> <@all> '
    "[free](https://evil.example) ![i](http://evil.example/i.png) *bold* `code` &lt;"
)
LIMITS = {"feishu": 20_000, "dingtalk": 20_000, "wecom": 4096, "slack": 4000, "telegram": 4096}


def message(title: str, *lines: str, link: str = "") -> Message:
    return Message("id", title, lines, "and {} more".format, link)


def sent(kind: str, what: Message) -> tuple[str, Any]:
    """Return the text that a service gets, and the whole document."""
    receiver = Receiver("ops", kind, Secret("https://hook.example.com/0123456789abcdef0123"), chat="-1001")
    document = json.loads(SERVICES[kind].prepare(receiver, what, NOW).body)
    texts = {
        "feishu": lambda: document["content"]["text"],
        "dingtalk": lambda: document["markdown"]["text"],
        "wecom": lambda: document["markdown"]["content"],
    }
    return texts.get(kind, lambda: document["text"])(), document


@given(st.text(), st.integers(3, 60))
def test_texts_are_cut_between_characters(text: str, limit: int) -> None:
    """A cut text is no longer than its limit in UTF-8, begins as the whole does, and ends with a mark."""
    short = cut(text, limit)
    assert in_bytes(short) <= limit
    if short != text:
        assert short.endswith("…")
        assert text.startswith(short[:-1])


@pytest.mark.parametrize("kind", CHATS)
@pytest.mark.parametrize(
    "line", ["mirror {} fails: no connection", "同步任务 {} 失败：无法连接到主机", "🙈 {} 🙉" + "😀" * 300]
)
def test_two_hundred_failures_are_one_message(kind: str, line: str) -> None:
    """However many mirrors fail, one message within the limit says how many it left out."""
    lines = [line.format(f"m{number:03}") for number in range(200)]
    text, document = sent(kind, message("mirrord: 200 mirrors fail", *lines, link="https://m.example.org"))
    count = in_utf16(text) if kind == "telegram" else in_bytes(text)
    assert count <= LIMITS[kind]
    if kind == "feishu":
        assert len(json.dumps(document, ensure_ascii=False).encode()) <= LIMITS[kind]
    shown = [one for one in range(200) if f"m{one:03}" in text]
    assert shown == list(range(len(shown)))
    assert 1 <= len(shown) <= 20
    assert text.startswith("mirrord: 200 mirrors fail\n")
    assert text.endswith(f"and {200 - len(shown)} more\n" + "\n" * (kind == "dingtalk") + "https://m.example.org")


def test_twenty_lines_are_shown() -> None:
    """Of 200 short lines a chat gets the first 20, and the number of the others."""
    text, _ = sent("wecom", message("200 fail", *(f"line {number}" for number in range(200))))
    assert text.splitlines() == ["200 fail", *(f"line {number}" for number in range(20)), "and 180 more"]


@pytest.mark.parametrize("kind", CHATS)
def test_markup_of_others_has_no_effect(kind: str) -> None:
    """Names and errors mention nobody, link to nothing and format nothing, in any service."""
    text, document = sent(kind, message(HOSTILE, HOSTILE))
    if kind == "slack":
        assert document["mrkdwn"] is False
        assert "<" not in text
        assert ">" not in text
        assert "&amp;lt;" in text
        return
    assert "@all" not in text
    assert "@everyone" not in text
    assert "parse_mode" not in document
    if kind != "telegram":  # without parse_mode it reads no markup
        assert not set("<>[]*`") & set(text)
    if kind == "dingtalk":
        assert document["at"] == {"isAtAll": False}
        assert not set("<>[]*`") & set(document["markdown"]["title"])


def test_digests_stay_as_they_are() -> None:
    """`@` before a digest mentions nobody, and can be copied."""
    reference = "docker.io/library/nginx@sha256:0a1b"
    assert harmless(reference) == unmentioned(reference) == reference
    assert unmentioned("mail a@example.com") == "mail a＠example.com"  # noqa: RUF001 - it is meant


@pytest.mark.parametrize("kind", CHATS)
def test_control_characters_are_written_out(kind: str) -> None:
    """A line of somebody else stays one line, and 10 kB of it are cut."""
    text, _ = sent(kind, message("one\ntwo\x1b[0m\x00", "a\r\nb\u202e" + "x" * 10_000, "the next"))
    lines = [line for line in text.split("\n") if line]
    assert len(lines) == 3
    assert lines[0].startswith("one\\ntwo\\x1b")
    assert "\\x00" in lines[0]
    assert "\\r\\nb\\u202e" in lines[1]
    assert all(line.isprintable() for line in lines)
    assert lines[2] == "the next"
    assert len(lines[1]) <= 600


@given(st.lists(st.text(max_size=200), max_size=30), st.integers(400, 1500))
def test_nothing_exceeds_the_limit(lines: list[str], limit: int) -> None:
    """Whatever is said, the text fits, also where escapes make it longer."""
    what = message("a title", *lines, link="https://m.example.org")
    for measure in (in_bytes, in_utf16):
        text = fitted(what, limit, lambda one: one.replace("&", "&amp;"), measure=measure)
        assert measure(text) <= limit
        assert text.startswith("a title")
