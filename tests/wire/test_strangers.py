"""Whatever a server or a file says, what reads it ends with a value or with an error of its own."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from math import isfinite
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mirrord.errors import ConfigError, ContentError, MirrordError, UntrustedError
from mirrord.wire.dockerconfig import DockerKeyring
from mirrord.wire.host import HostBook
from mirrord.wire.http.auth import parse
from mirrord.wire.http.budget import limited, pause_of, quota_of
from mirrord.wire.http.client import Http
from mirrord.wire.http.pace import retry_after
from mirrord.wire.http.resume import _part
from mirrord.wire.http.token import parse_token
from mirrord.wire.oci.endpoint import Endpoint
from mirrord.wire.oci.paging import next_link
from mirrord.wire.oci.reference import Reference
from mirrord.wire.oci.upload import LONGEST_CHUNK, _least, _received
from mirrord.wire.origin import canonical, check_url, joined
from tests.support.counting import steps

BOUNDED = settings(deadline=None, derandomize=True, max_examples=200)  # a loaded machine is no failure
NOW = 1_790_000_000.0
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = ["Fri,", "Fri", "31", "Dec", "Feb", "9999", "2026", "1", ",", "-", "+", ":", "23:59:60", "0:0", "GMT", "+9999",
         "-2359", " ", "\t", "31-Dec-99", "1-Jan-,", "nan", "inf", "1e999", "-1", "0", "1_0", "²", "٣", ";w=", "w",
         "bytes", "/", "*", "9" * 19]  # fmt: skip
HEADER = st.lists(st.sampled_from(WORDS), max_size=8).flatmap(lambda words: st.sampled_from(["", " "]).map(
    lambda joint: joint.join(words))) | st.text(max_size=40)  # fmt: skip


LIMITS = [
    f"{prefix}{name}"
    for prefix in ("", "x-")
    for name in ("retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
]


@BOUNDED
@given(HEADER)
@example("1-Jan-, 12:00 GMT")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
def test_any_retry_after_is_a_finite_wait_or_nothing(value: str) -> None:
    """A wait is a number of seconds, never negative, never endless; what is none says nothing."""
    wait = retry_after(value, NOW)
    assert wait is None or (isfinite(wait) and wait >= 0)


@BOUNDED
@given(st.integers(0, 10**6))
def test_a_wait_reads_back_in_every_form(seconds: int) -> None:
    """Seconds, an HTTP date and a Unix time of the same moment are the same wait."""
    at = datetime.fromtimestamp(NOW + seconds, UTC)
    forms = (str(seconds), format_datetime(at, usegmt=True), str(int(NOW) + seconds))
    assert [retry_after(form, NOW) for form in forms] == [seconds] * 3


@BOUNDED
@given(
    st.dictionaries(st.sampled_from(LIMITS), HEADER),
    st.sampled_from([200, 403, 429]),
)
def test_any_headers_of_limits_are_read(headers: dict[str, str], status: int) -> None:
    """A quota is made of numbers that are none too large, a pause is a finite wait."""
    quota, pause = quota_of(headers, NOW), pause_of(headers, NOW)
    assert limited(status, headers) in (True, False)
    assert pause is None or (isfinite(pause) and pause >= 0)
    for number in quota or ():
        assert number is None or 0 <= number < 10**18


def incoming(headers: dict[str, str]) -> Any:
    """Return as much of an answer as is looked at before its body."""
    return SimpleNamespace(status=206, headers=headers)


@BOUNDED
@given(HEADER | st.from_regex(r"bytes [0-9]{1,3}-[0-9]{1,3}/([0-9]{1,3}|\*)", fullmatch=True), st.integers(0, 200))
def test_only_the_part_that_was_asked_for_is_taken(value: str, offset: int) -> None:
    """Any Content-Range but that of the bytes from the offset on is refused (F18)."""
    try:
        start, size = _part(incoming({"content-range": value}), offset, "x")
    except ContentError:
        return
    assert value.startswith(f"bytes {offset}-") or int(value.split(" ")[1].partition("-")[0]) == offset
    assert start == offset
    assert size is None or size > offset


@BOUNDED
@given(HEADER)
def test_any_place_in_an_upload_is_read(value: str) -> None:
    """The `Range` and the `OCI-Chunk-Min-Length` of an upload are numbers or nothing, whatever stands in them."""
    headers = {"range": value, "oci-chunk-min-length": value}
    with suppress(MirrordError):
        assert _received(incoming(headers)) >= -1
    endpoint = Endpoint.at(Http(HostBook()), Reference("r.example", "a"), "push")
    with suppress(MirrordError):
        assert 0 <= _least(endpoint, incoming(headers)) <= LONGEST_CHUNK


TOKEN = JSON | st.fixed_dictionaries({}, optional={"token": JSON, "access_token": JSON, "expires_in": JSON})


@BOUNDED
@given(st.binary(max_size=60) | TOKEN.map(lambda value: json.dumps(value).encode()))
@example(b'{"token": "t", "expires_in": 1e999}')
@example(b'{"token": "t", "expires_in": ' + b"9" * 5000 + b"}")
@example(b"[" * 100_000)
def test_any_answer_of_a_token_server_is_a_token_or_none(body: bytes) -> None:
    """What comes out can be sent in a header, and lives for a time between now and a day."""
    try:
        token = parse_token(body, "auth.example", 0.0)
    except ContentError:
        return
    assert token.secret.reveal().isascii()
    assert not token.expired(0.0)


ENTRY = JSON | st.fixed_dictionaries(
    {},
    optional={
        "auth": JSON | st.text(max_size=9).map(lambda text: base64.b64encode(text.encode("utf-8", "replace")).decode()),
        "username": JSON,
        "password": JSON,
        "identitytoken": JSON,
    },
)
KEY = st.sampled_from(["r.example", "https://r.example/v2/", "r.example/team", "://", "R.EXAMPLE", "r.example:"])
CONFIG = st.fixed_dictionaries(
    {}, optional={"auths": JSON | st.dictionaries(KEY, ENTRY, max_size=3), "credHelpers": JSON}
)


@BOUNDED
@given(st.text(max_size=30).filter(lambda text: "\0" not in text) | CONFIG.map(json.dumps) | JSON.map(json.dumps))
@example("[" * 100_000)
@example(json.dumps({"auths": {"r.example": {"auth": base64.b64encode(b"a:b\nc").decode()}}}))
def test_any_docker_configuration_is_logins_or_a_mistake_in_it(text: str) -> None:
    """A login that is found is one that can be sent."""
    keyring = DockerKeyring({"DOCKER_AUTH_CONFIG": text.encode("utf-8", "replace").decode(), "PATH": "/nowhere"})
    try:
        logins = asyncio.run(keyring.find("r.example"))
    except ConfigError:
        return
    login = logins.of("team/app")
    assert login is None or login.credential.basic.isascii()


URLISH = st.text(max_size=30) | st.from_regex(r"(https?:)?[/a-z0-9.:@\[\]%?#\\ -]{0,40}", fullmatch=True)


@BOUNDED
@given(URLISH, URLISH)
def test_any_reference_to_a_url_is_followed_or_refused(base: str, reference: str) -> None:
    """A Location that is followed has one origin for us and for every client; its normal form stays what it is."""
    try:
        url = canonical(joined(base, reference))
    except UntrustedError:
        return
    assert canonical(url) == url
    assert check_url(url) == check_url(joined(base, reference))


HOSTILE: dict[str, tuple[Callable[[str], object], Callable[[int], str]]] = {
    "challenges": (lambda text: parse([text]), lambda size: "Bearer " + 'a="b",' * size),
    "schemes": (lambda text: parse([text]), lambda size: "a," * size),
    "links": (lambda text: next_link(text, "x"), lambda size: '</a>; rel="prev", ' * size),
    "parameters": (lambda text: next_link(text, "x"), lambda size: "</a>" + ";a=b" * size),
    "dates": (lambda text: retry_after(text, NOW), lambda size: "Fri, " * size),
    "quotas": (lambda text: quota_of({"ratelimit-remaining": text}, NOW), lambda size: "1" * size),
    "tokens": (lambda text: parse_token(text.encode(), "x", 0.0), lambda size: '{"a":' * size),
    "urls": (check_url, lambda size: "https://" + "a." * size),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_work_grows_no_faster_than_what_is_read(name: str) -> None:
    """Twice as much of the worst costs no more than twice the steps; patterns have their own test."""
    read, made = HOSTILE[name]
    few, many = (steps(partial(read, made(size))) for size in (1000, 2000))
    assert many <= 2 * few + 100
