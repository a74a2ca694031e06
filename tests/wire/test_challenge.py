"""The parser of `WWW-Authenticate`: bad input 6 of the research."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.wire.http.auth import LONGEST, MOST, Challenge, parse


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"'],
         [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"})]),
        (['Basic realm="x", Bearer realm="y"'], [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        (['Basic realm="x"', "BEARER Realm=y"], [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ([r'Bearer realm="a\"b,\\c" , service = s'], [("bearer", {"realm": 'a"b,\\c', "service": "s"})]),
        (["Negotiate abc==, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["Negotiate"], [("negotiate", {})]),
        (["Negotiate, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        ([', ,Bearer realm="x",,service="s",'], [("bearer", {"realm": "x", "service": "s"})]),
        (['Bearer realm="x",realm="y"'], [("bearer", {"realm": "x"})]),
        (["Bearer realm=https://a/t?x=1"], [("bearer", {"realm": "https://a/t?x=1"})]),
        (['Bearer realm="unterminated'], [("bearer", {})]),
        ([""], []), ([], []), (['="'], []),
    ],
)  # fmt: skip
def test_what_servers_send(headers: Any, expected: Any) -> None:
    """Several challenges, quoted commas, escapes, token68 and syntax errors (RFC 9110 section 11.6.1)."""
    found = [(challenge.scheme, dict(challenge.params)) for challenge in parse(headers)]
    assert found == expected


@pytest.mark.parametrize(
    "header",
    [
        'Bearer realm="' + "a" * 100_000,
        "Bearer " + 'a="\\' * 30_000,
        "a, " * 40_000,
        'B r="' + "\\" * 100_000,
        "," * 99_999,
    ],
    ids=["unterminated", "escapes", "many", "backslashes", "commas"],
)
def test_a_huge_header_is_dropped(header: Any) -> None:
    """100 kB of anything is no challenge (bad input 6)."""
    assert parse([header]) == ()
    assert len(parse([header[:LONGEST]] * 3)) <= MOST


@given(st.lists(st.text(alphabet=st.sampled_from('ab=", \\\t\x00:/é'), max_size=60), max_size=4))
def test_nothing_breaks_it(headers: Any) -> None:
    """Any text gives challenges or none, never an exception."""
    for challenge in parse(headers):
        assert challenge.scheme == challenge.scheme.lower()


_WORD = st.text(alphabet="abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)
_VALUE = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)


@given(st.lists(st.tuples(_WORD, st.dictionaries(_WORD, _VALUE, min_size=1, max_size=4)), max_size=4))
def test_what_is_written_is_read(challenges: Any) -> None:
    """Whatever a server quotes properly comes back exactly."""
    header = ", ".join(
        scheme + " " + ",".join(f"{name}={_quoted(value)}" for name, value in params.items())
        for scheme, params in challenges
    )
    assert parse([header]) == tuple(Challenge(scheme, params) for scheme, params in challenges)


def _quoted(value: Any) -> Any:
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
