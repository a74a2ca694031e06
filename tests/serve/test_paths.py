"""Pure decisions of the faces: request targets, ranges, conditions."""

from __future__ import annotations

import pytest

from mirrord.serve.app import refusal
from mirrord.serve.negotiation import (
    Span,
    UnsatisfiableError,
    applies,
    packed,
    parse_range,
    unchanged,
    wants_gzip,
    with_vary,
)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/v2/../../etc/passwd", 400, id="21-dots"),
        pytest.param("/v2/%2e%2e/%2E%2e/etc/passwd", 400, id="21-escaped-dots"),
        pytest.param("/v2/.%2e/x", 400, id="21-half-escaped-dots"),
        pytest.param("/v2/%2e%2e%2fetc", 400, id="21-escaped-slash"),
        pytest.param("/v2/a%2Fb/manifests/x", 400, id="21-escaped-slash-upper"),
        pytest.param("/v2//etc/passwd", 400, id="21-double-slash"),
        pytest.param("//evil.test/v2/", 400, id="21-authority"),
        pytest.param("/v2/a\\b", 400, id="21-backslash"),
        pytest.param("/v2/a%5cb", 400, id="21-escaped-backslash"),
        pytest.param("/v2/a%00b", 400, id="21-nul"),
        pytest.param("/v2/a%0d%0ab", 400, id="21-line-break"),
        pytest.param("/v2/a%zz", 400, id="21-broken-escape"),
        pytest.param("/v2/" + "a" * 10_000, 414, id="21-10kB"),
        pytest.param("/v2/" + "a/" * 256, 400, id="21-256-components"),
        pytest.param("http://h/v2/", 400, id="21-absolute"),
        pytest.param("/v2/./x", 400, id="21-dot"),
    ],
)
def test_strange_targets(path: str, status: int) -> None:
    """A target that could mean something else further in is refused before it gets there."""
    found = refusal(path)
    assert found is not None
    assert found[0] == status


@pytest.mark.parametrize("path", ["/", "/v2/", "/v2/a/b/manifests/v1.0..x", "/v2/a/blobs/sha256:00", "/x%20y", "/a/"])
def test_ordinary_targets(path: str) -> None:
    """What clients send passes."""
    assert refusal(path) is None


@pytest.mark.parametrize(
    ("header", "span"),
    [
        pytest.param(None, None, id="29-none"),
        pytest.param("bytes=0-", Span(0, 100), id="29-whole"),
        pytest.param("bytes=0-0", Span(0, 1), id="29-first-byte"),
        pytest.param("bytes=10-19", Span(10, 10), id="29-middle"),
        pytest.param("bytes=90-500", Span(90, 10), id="29-beyond"),
        pytest.param("bytes=-10", Span(90, 10), id="29-suffix"),
        pytest.param("bytes=-500", Span(0, 100), id="29-long-suffix"),
        pytest.param("BYTES=1-2", Span(1, 2), id="29-case"),
        pytest.param("bytes=0-1,5-6", None, id="29-multi"),
        pytest.param("bytes=" + ",".join(["0-"] * 1000), None, id="29-overlapping-x1000"),
        pytest.param("bytes=a-b", None, id="29-not-numeric"),
        pytest.param("bytes=-", None, id="29-empty"),
        pytest.param("lines=1-2", None, id="29-other-unit"),
        pytest.param("bytes=" + "9" * 5000 + "-", None, id="29-endless-number"),
        pytest.param("bytes=\u0661-", None, id="29-arabic-digit"),
    ],
)
def test_ranges(header: str | None, span: Span | None) -> None:
    """One range is honoured, anything else means the whole file, and none of it costs anything."""
    assert parse_range(header, 100) == span


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0), ("bytes=5-4", 100)]
)
def test_unsatisfiable_ranges(header: str, size: int) -> None:
    """A range outside the file, or one that ends before it begins (29), is an error of its own (416)."""
    with pytest.raises(UnsatisfiableError):
        parse_range(header, size)


def test_conditions() -> None:
    """If-Range wants exactly this entity, If-None-Match any of a list."""
    assert applies(None, '"a"')
    assert applies('"a"', '"a"')
    assert not applies('"b"', '"a"')
    assert not applies('W/"a"', 'W/"a"')
    assert not applies("Sat, 21 Nov 2026 00:00:00 GMT", '"a"')
    assert unchanged('"x", W/"a"', '"a"')
    assert unchanged("*", '"a"')
    assert not unchanged('"b"', '"a"')
    assert not unchanged(None, '"a"')


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.5, br", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip; q=0.001", True),
        ("gzip;Q=1.000", True),
        ("gzip;q=1.5", False),
        ("gzip;q=x", False),
        ("gzip;level=9", False),
        ("identity", False),
        ("identity, gzip", True),
        ("identity;q=1, gzip;q=0.5", False),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("*", True),
        ("*;q=0", False),
        ("*, gzip;q=0", False),
        ("identity, *;q=0.1", False),
        ("br", False),
        (",".join(["br"] * 5000) + ",gzip", False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_accepted_codings(header: str | None, wanted: bool) -> None:
    """Gzip is for who accepts it and does not prefer the plain form (RFC 9110 §12.5.3)."""
    assert wants_gzip(header) is wanted


def test_tags_and_fields_of_forms() -> None:
    """Each form has a tag of its own, weak ones too, and `Vary` grows."""
    assert packed({"ETag": '"a"'})["ETag"] == '"a-gzip"'
    assert packed({"etag": 'W/"a"'})["etag"] == 'W/"a-gzip"'
    assert with_vary({}, "Accept-Encoding") == {"Vary": "Accept-Encoding"}
    assert with_vary({"vary": "Origin", "A": "b"}, "Accept-Encoding") == {"A": "b", "Vary": "Origin, Accept-Encoding"}
