"""Tag lists: pages, links, and lists that never end."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrord.errors import ContentError, MirrordError, MissingError, TooLargeError, UntrustedError
from mirrord.testing import Registry, build_image, push
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci import paging as module
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.paging import names_of, next_link
from mirrord.wire.oci.reference import Reference, valid_tag


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry() as registry:
        yield registry


async def tags_of(registry: Registry) -> list[str]:
    async with Http(HostBook()) as http:
        return [tag async for tag in Repository(http, Reference(registry.host, "a/b")).tags()]


async def fill(registry: Registry, tags: Iterable[str]) -> list[str]:
    names = sorted(tags)
    await push(build_image(["linux/amd64"], layer_size=16), registry, "a/b", names)
    return names


@pytest.mark.parametrize("page_size", [None, 1, 7, 1000])
async def test_all_pages(registry: Registry, page_size: int | None) -> None:
    """Every tag comes once, in order, however the registry cuts its pages; a short list costs one request."""
    names = await fill(registry, (f"v{number}" for number in range(20)))
    registry.protocol.page_size = page_size
    assert await tags_of(registry) == names
    assert registry.count("GET", "tags/list") == {None: 1, 1: 20, 7: 3, 1000: 1}[page_size]


async def test_unknown_repository(registry: Registry) -> None:
    """A repository that was never made is missing, not empty."""
    with pytest.raises(MissingError):
        await tags_of(registry)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param(None, [], id="42-null"),
        pytest.param([], [], id="empty"),
        pytest.param(["a", 1, None, {"x": 1}, "b"], ["a", "b"], id="42-non-string"),
        pytest.param(["../x", "a/b", "", ".a", "a" * 129, "ok"], ["ok"], id="42-bad-tags"),
        pytest.param(["b", "a", "b"], ["b", "a"], id="twice"),
    ],
)
async def test_odd_pages(registry: Registry, tags: Any, expected: list[str]) -> None:
    """`null` is an empty list, and what is no tag is left out."""
    await fill(registry, ["v1"])
    registry.faults.on("GET", "tags").answer(json.dumps({"name": "a/b", "tags": tags}).encode())
    assert await tags_of(registry) == expected


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"tags":"a"}', b'{"tags":{}}', b'{"tags":[],"tags":["a"]}', b"\xff"]
)
async def test_what_is_no_list(registry: Registry, body: bytes) -> None:
    """26: a page that is no tag list is an error, never an empty list."""
    await fill(registry, ["v1"])
    registry.faults.on("GET", "tags").answer(body)
    with pytest.raises(ContentError, match="a/b: tag list"):
        await tags_of(registry)


@pytest.mark.parametrize("front", ["https://evil.test", "//registry.internal:5000", "http://127.0.0.1:1"])
async def test_next_page_on_another_host(registry: Registry, front: str) -> None:
    """42: of a Link to another host, port or scheme path and query count: the page is asked for where the first was."""
    await fill(registry, ["v1", "v2", "v3"])
    registry.protocol.page_size = 2
    registry.faults.on("GET", "tags").header("Link", f'<{front}/v2/a/b/tags/list?n=1000&last=v2>; rel="next"')
    assert await tags_of(registry) == ["v1", "v2", "v3"]
    assert registry.count("GET", "tags") == 2


@pytest.mark.parametrize("target", ["ftp://x/", "http://[", "https://u:p@evil.test/x", "http://2130706433/", "/a\\b"])
async def test_next_page_nowhere(registry: Registry, target: str) -> None:
    """42: a Link that is no URL, or one that readers disagree about, is refused."""
    await fill(registry, ["v1"])
    registry.faults.on("GET", "tags").header("Link", f'<{target}>; rel="next"')
    with pytest.raises(UntrustedError):
        await tags_of(registry)
    assert registry.count("GET", "tags") == 1


async def test_pages_in_a_circle(registry: Registry) -> None:
    """42: a Link to a page that was seen, or to ever new addresses of one page, ends in an error."""
    await fill(registry, ["v1", "v2"])
    loop = registry.faults.on("GET", "tags", times=None).header("Link", '</v2/a/b/tags/list?n=1000>; rel="next"')
    with pytest.raises(ContentError, match="loop"):
        await tags_of(registry)
    loop.header("Link", '</v2/a/b/tags/list?page=2>; rel="next"')
    registry.forget()
    with pytest.raises(ContentError, match="loop"):
        await tags_of(registry)
    assert registry.count("GET", "tags") == 2


async def test_pages_without_end(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """42: the number of pages is bounded."""
    monkeypatch.setattr(module, "PAGES", 5)
    await fill(registry, (f"v{number}" for number in range(20)))
    registry.protocol.page_size = 1
    with pytest.raises(TooLargeError, match="more than 5 pages"):
        await tags_of(registry)
    assert registry.count("GET", "tags") == 5


async def test_page_without_end(registry: Registry) -> None:
    """42: a registry that ignores `n` may send a long page, but not an endless one."""
    await fill(registry, ["v1"])
    many = {"tags": [f"v{number}" for number in range(100_000)]}
    registry.faults.on("GET", "tags").answer(json.dumps(many).encode())
    assert len(await tags_of(registry)) == 100_000
    registry.faults.on("GET", "tags").answer(b" " * (module.PAGE_LIMIT + 1))
    with pytest.raises(TooLargeError):
        await tags_of(registry)


async def test_tags_without_end(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A4: the number of tags is bounded, over all pages and in one, and stands in the error."""
    monkeypatch.setattr(module, "MOST", 5)
    await fill(registry, (f"v{number}" for number in range(20)))
    for size, pages in ((2, 3), (20, 1)):
        registry.protocol.page_size = size
        registry.forget()
        with pytest.raises(TooLargeError, match="more than 5 tags"):
            await tags_of(registry)
        assert registry.count("GET", "tags") == pages


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ("", None),
        ('</v2/x>; rel="next"', "/v2/x"),
        ("</v2/x>;rel=next", "/v2/x"),
        ('</v2/x>; REL="Next"', "/v2/x"),
        ('</v2/x>; rel="prev next"', "/v2/x"),
        ('</p>; rel="prev", </n>; title="a,b;c"; rel="next"', "/n"),
        ('<https://h/x?a=1,2>; rel="next"', "https://h/x?a=1,2"),
        ('</p>; rel="prev"', None),
        ('</p>; rel="first", </p>; rel="last"', None),
        # Whatever other clients follow: no `rel`, or one of the registry's own.
        ("</p>", "/p"),
        ("</p>;rel=more", "/p"),
        ('</p>; rel="nextish", </n>; rel=next', "/n"),
        ('</p>; rel="prev", </n>', "/n"),
        ('</n>; title="x; rel=prev"', "/n"),
        ("</n>; crossorigin; rel=next", "/n"),
        # Took three times longer with every empty value once.
        ("</n>" + ";a=  " * 40, "/n"),
        ("</n>" + ";a=  " * 8000 + ";rel=next", "/n"),
    ],
)
def test_links(header: str, target: str | None) -> None:
    """42: the target of the next page is found among parameters and other links (RFC 8288), and never missed."""
    assert next_link(header, "list") == target


@pytest.mark.parametrize(
    "header",
    ["x", "</x", '/x; rel="next"', '</x>; rel="next', '</x> rel="next"', "<x>; ;", "</x>" + ";a=  " * 40 + '"'],
)
def test_malformed_links(header: str) -> None:
    """42: a malformed Link is an error: taken for the last page, it would make a part of a list the whole."""
    with pytest.raises(ContentError, match="malformed"):
        next_link(header, "list")


@settings(deadline=None)  # a loaded machine is no failure
@given(st.text() | st.from_regex(r"[<>;, \"=a-z/]{0,60}", fullmatch=True), st.binary())
def test_reading_is_total(header: str, body: bytes) -> None:
    """Any header and any page is read, or refused by an error of ours."""
    for read in (lambda: next_link(header, "list"), lambda: names_of(body, "tags", "list", valid_tag)):
        with contextlib.suppress(MirrordError):
            read()
