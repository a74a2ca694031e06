"""A delivery counts if its sender knows the secret, and says nothing but which issue to look at."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.wire.forges.hooks import FRESH, is_genuine, issue_of
from mirrord.wire.secret import Secret

# docs.github.com, "Validating webhook deliveries": its own example.
GITHUB = Secret("It's a Secret to Everybody")
HELLO = b"Hello, World!"
SIGNED = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
# Gitee's manual on signatures, as others compute it, too.
GITEE = Secret("123654")
SENT = 1672135206524
GITEE_SIGNED = "AbEvusCKxqRkBtTr4fD47SGVP/mRwlt48iuUYMFRloI="


def test_github_signs_the_body() -> None:
    """The signature of its documentation is good; of another body, secret, form or none, it is not."""
    good = {"x-hub-signature-256": f"sha256={SIGNED}"}
    assert is_genuine("github", GITHUB, good, HELLO, 0)
    assert not is_genuine("github", GITHUB, good, HELLO + b" ", 0)
    assert not is_genuine("github", Secret("another"), good, HELLO, 0)
    for odd in ("", SIGNED, f"sha1={SIGNED}", f"sha256={SIGNED.upper()}", f"sha256={SIGNED[:-1]}", "sha256=é"):
        assert not is_genuine("github", GITHUB, {"x-hub-signature-256": odd}, HELLO, 0)
    assert not is_genuine("github", GITHUB, {}, HELLO, 0)


def test_gitea_signs_the_body() -> None:
    """As GitHub does, without the prefix; the headers of one are none for the other."""
    signed = hmac.new(b"key", HELLO, hashlib.sha256).hexdigest()
    assert is_genuine("gitea", Secret("key"), {"x-gitea-signature": signed}, HELLO, 0)
    assert not is_genuine("gitea", Secret("key"), {"x-hub-signature-256": f"sha256={signed}"}, HELLO, 0)
    assert not is_genuine("gitea", Secret("key"), {"x-gitea-signature": f"sha256={signed}"}, HELLO, 0)


@pytest.mark.parametrize("token", [GITEE_SIGNED, "123654"])
def test_gitee_signs_the_time_alone(token: str) -> None:
    """Signature and password are good for an hour around the time that they name, with any body."""
    headers = {"x-gitee-token": token, "x-gitee-timestamp": str(SENT)}
    for away, good in ((0.0, True), (FRESH - 1, True), (1 - FRESH, True), (FRESH + 1, False), (-FRESH - 1, False)):
        assert is_genuine("gitee", GITEE, headers, b"", SENT / 1000 + away) is good
    for time in ("", "x", "-1", "9" * 400, str(SENT + 1)):
        changed = {**headers, "x-gitee-timestamp": time}
        assert is_genuine("gitee", GITEE, changed, b"", SENT / 1000) is (time == str(SENT + 1) and token == "123654")
    assert not is_genuine("gitee", GITEE, {**headers, "x-gitee-token": ""}, b"", SENT / 1000)
    assert not is_genuine("gitee", GITEE, {**headers, "x-gitee-token": f"{token}x"}, b"", SENT / 1000)


@pytest.mark.parametrize(
    ("document", "number"),
    [
        ({"action": "opened", "issue": {"number": 12}, "repository": {"full_name": "Acme/Mirror"}}, "12"),
        ({"issue": {"number": "I6ABCD"}, "repository": {"full_name": "acme/mirror"}}, "I6ABCD"),
        ({"issue": {"number": 12}, "repository": {"full_name": "acme/other"}}, None),
        ({"issue": {"number": "../1"}, "repository": {"full_name": "acme/mirror"}}, None),
        ({"issue": {"number": True}, "repository": {"full_name": "acme/mirror"}}, None),
        ({"issue": [], "repository": {"full_name": "acme/mirror"}}, None),
        ({"repository": {"full_name": "acme/mirror"}}, None),
        ([], None),
        (None, None),
    ],
)
def test_a_delivery_is_about_one_issue(document: object, number: str | None) -> None:
    """Of our repository, with a number that an issue may have."""
    assert issue_of(json.dumps(document).encode(), "acme/mirror") == number


@given(st.binary(max_size=200))
def test_no_body_is_too_odd(body: bytes) -> None:
    """Anything else is about nothing."""
    assert issue_of(body, "acme/mirror") is None


def test_a_deep_body_is_about_nothing() -> None:
    """Half a megabyte of brackets is no error of ours."""
    assert issue_of(b"[" * 500_000, "acme/mirror") is None
