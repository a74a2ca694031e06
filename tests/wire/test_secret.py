"""Secrets do not show: bad inputs 13 and 14 of the research."""

import base64
import copy
import gc
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from mirrord.errors import ConfigError
from mirrord.wire.secret import Credential, Secret, bug, redact, unnamed

CANARY = "c4nary/%+ü=secret"


def test_printing_shows_stars() -> None:
    """Neither str, repr, format nor a dataclass around it shows the value."""
    secret = Secret(CANARY)
    shown = f"{secret} {secret!r} {secret!s:>10} {[secret]} {Credential('crane', secret)}"
    assert "c4nary" not in shown
    assert secret.reveal() == CANARY
    assert secret == Secret(CANARY)
    assert copy.copy(secret) == secret


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        quote(CANARY),
        quote(CANARY, safe=""),
        base64.b64encode(CANARY.encode()).decode(),
        base64.b64encode(f"crane:{CANARY}".encode()).decode(),
    ],
)
def test_redact_knows_every_form(form: Any) -> None:
    """The value, its base64, its Basic form and its percent-encoded forms are removed (bad input 14)."""
    credential = Credential("crane", Secret(CANARY))
    text = redact(f"before {form} after")
    assert text == "before *** after"
    assert credential.basic.removeprefix("Basic ") not in redact(credential.basic)


@pytest.mark.parametrize("write", [repr, json.dumps, lambda text: json.dumps(text, ensure_ascii=False)])
@pytest.mark.parametrize("letters", ["'", '"', "\\", "'\"\\é"])
def test_redact_knows_what_errors_and_documents_make_of_it(write: Callable[[str], str], letters: str) -> None:
    """Quotes, backslashes and umlauts do not hide a secret in the repr of an error or in JSON."""
    secret = Secret(f"canary{letters}9f2d1c")
    assert "canary" not in redact(write(f"wrong: {secret.reveal()}; see '{secret.reveal()}'"))
    assert redact(write(secret.reveal()))[1:-1] == "***"
    assert "canary" not in redact(repr(UnicodeEncodeError("ascii", secret.reveal(), 0, 1, "no")))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("GET https://user:pa55@host/x", "GET https://***@host/x"),
        ("http://tok@h", "http://***@h"),
        ("https://h/x?X-Amz-Signature=abc&b=1", "https://h/x?X-Amz-Signature=***&b=1"),
        ("https://h/x?a=1&sig=ab%2Fc", "https://h/x?a=1&sig=***"),
        ("https://h/x?token=abc#f", "https://h/x?token=***#f"),
        ("GET https://user:pa/5@5/x@host/x", "GET https://***@host/x"),
        ("https:/user:pa55@host/x: no such file", "https:/***@host/x: no such file"),
        ("https://h:5000/a@sha256:ab", "https://h:5000/a@sha256:ab"),
        ("https://[::1]:5000/a@sha256:ab", "https://[::1]:5000/a@sha256:ab"),
        ("https://h/a@b https://h:1", "https://h/a@b https://h:1"),
        ("Authorization: Bearer eyJhbGciOi.J9eyJzdWI.abc123", "Authorization: Bearer ***"),
        ("basic authentication is required", "basic authentication is required"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_redact_knows_shapes(text: Any, clean: Any) -> None:
    """Userinfo and signatures go even when nobody told us that they are secrets."""
    assert redact(text) == clean


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\x7f", "a\tb"])
def test_control_characters_are_refused(value: Any) -> None:
    """They would start a new header or a new question to a helper (bad input 13)."""
    with pytest.raises(ConfigError):
        Secret(value)
    with pytest.raises(ConfigError):
        Credential(value, Secret("x"))


@pytest.mark.parametrize("value", ["pa55\ud800", "\udcff", "a\udfffb"])
def test_lone_surrogates_are_refused(value: Any) -> None:
    """They cannot be sent, and one of them kept would break every later `redact` (bad input 13)."""
    with pytest.raises(ConfigError, match="UTF-8"):
        Secret(value)
    with pytest.raises(ConfigError, match="UTF-8"):
        Credential(value, Secret("x"))
    assert redact("still at work") == "still at work"


def test_equal_secrets_are_known_until_the_last_one_goes() -> None:
    """A secret that lives stays known when an equal one goes, however many came after."""
    first, second = Secret(CANARY), Secret(CANARY)
    del first
    others = [Secret(f"other-secret-{number}") for number in range(300)]
    gc.collect()
    assert redact(second.reveal()) == "***"
    assert redact(others[0].reveal()) == "***"


def test_forms_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of a log costs no encoding of secrets that were there before it."""
    secrets = [Secret(f"token-{number}-" + "x" * 2000) for number in range(50)]
    redact("a first line")
    encoded: list[bytes] = []
    plain = base64.b64encode

    def encode(raw: bytes, *more: Any) -> bytes:
        encoded.append(raw)
        return plain(raw, *more)

    monkeypatch.setattr(base64, "b64encode", encode)
    new = Secret("the newest one")
    assert redact(f"{new.reveal()} {secrets[7].reveal()}") == "*** ***"
    monkeypatch.setattr(Secret, "forms", lambda _: pytest.fail("nothing is new"))
    assert redact("a third line") == "a third line"
    assert set(encoded) == {b"the newest one"}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://user:hun/ter@2@reg/a", "https://***@reg/a"),
        ("docker-daemon:user:hunter2@reg/a", "***@reg/a"),
        ("https://user:12/34@reg/a@sha256:" + "0" * 64, "https://***@reg/a@sha256:" + "0" * 64),
        ("https://reg/a@sha256:" + "0" * 64, "https://reg/a@sha256:" + "0" * 64),
        ("https://reg/a:v1", "https://reg/a:v1"),
    ],
)
def test_what_stands_for_a_reference_is_shown_without_userinfo(text: Any, clean: Any) -> None:
    """Up to the last `@` everything may be a password; a digest is none."""
    assert unnamed(text) == clean


def test_odd_secrets_arrive_exactly() -> None:
    """Percent signs, unicode and 8 kB go through unharmed (bad input 13)."""
    value = "%41ü€" + "x" * 8192
    basic = Credential("u", Secret(value)).basic.removeprefix("Basic ")
    assert base64.b64decode(basic).decode() == f"u:{value}"


def test_a_short_secret_does_not_blank_out_texts() -> None:
    """Three characters protect nothing and would make every message unreadable."""
    secret = Secret("the")
    assert redact("the end") == "the end"
    assert secret.reveal() == "the"


def test_basic_cannot_carry_a_colon_in_the_name() -> None:
    """RFC 7617 section 2."""
    with pytest.raises(ConfigError):
        Credential("a:b", Secret("x"))


def test_a_bug_is_told_in_one_short_line() -> None:
    """A group of 1 337 errors was 109 KB of report: its first one is told, cut and without secrets, and the number."""
    secret = Secret("hunter2-hunter2")
    many = ExceptionGroup("unhandled", [ValueError(f"{secret.reveal()} " + "x" * 900), *[KeyError("a")] * 1336])
    text = bug(ExceptionGroup("outer", [many]))
    assert text.startswith("a bug: ValueError('*** xxx")
    assert text.endswith("… and 1336 more")
    assert len(text) < 550
    assert bug(ValueError("no")) == "a bug: ValueError('no')"
