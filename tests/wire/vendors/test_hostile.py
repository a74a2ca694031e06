"""APIs that answer something else than they document: no list ends early, goes on for ever, or is empty by mistake."""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from mirrord.errors import ContentError, DeniedError, MissingError, ServerError, ThrottledError, TooLargeError
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci import paging
from mirrord.wire.vendors import known
from mirrord.wire.vendors.known import repositories_for
from tests.wire.vendors.conftest import Api

ALL = pytest.mark.parametrize("api", ["hub", "quay", "gitlab", "harbor"], indirect=True)
DATED = pytest.mark.parametrize("api", ["hub", "quay", "harbor"], indirect=True)


def serve(api: Api, answer: Any, *, link: str = "", status: int = 200) -> None:
    """Answer every request with the same thing."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    headers = {"Link": link} if link else {}
    asked = api.server.expect_request(re.compile(".*"))
    asked.respond_with_data(body, status, headers, content_type="application/json")


def document(api: Api, entries: list[Any], cursor: str) -> tuple[Any, str]:
    """Return a page that says that there is another one, and its `Link`."""
    if api.kind == "hub":
        return {"results": entries, "next": f"http://{api.domain}/?page=2"}, ""
    if api.kind == "quay":
        return {"repositories": entries, "tags": entries, "next_page": cursor, "has_additional": True}, ""
    return entries, '</next>; rel="next"'


@ALL
@pytest.mark.parametrize(
    "answer",
    [
        b"<html>log in</html>",
        b"",
        b"null",
        b'"x"',
        b"{}",
        b"7",
        b"[" * 100_000,
        b'{"results": {}, "repositories": "x", "tags": 1}',
        b'{"results": null, "repositories": null, "tags": null}',
    ],
)
async def test_what_is_no_list_is_an_error(api: Api, answer: bytes) -> None:
    """An answer without a list, whatever else it is, is an error that names the host."""
    serve(api, answer)
    with pytest.raises(ContentError, match=f"^{api.domain}: "):
        await api.repositories("team/*")
    assert len(api.asked) == 1


@ALL
async def test_entries_of_wrong_types_are_left_out(api: Api) -> None:
    """Entries that are no repositories are left out; the others are listed."""
    key = "path" if api.kind == "gitlab" else "name"
    whole = "" if api.kind in ("hub", "quay") else "team/"
    names = [f"{whole}web", 7, None, ["x"], {"a": 1}, "../../v2", "UPPER", f"{whole}a b", "", "x" * 300]
    entries = [*({key: name} for name in names), "web", 7, None, {}]
    serve(api, {"hub": {"results": entries}, "quay": {"repositories": entries}}.get(api.kind, entries))
    assert await api.repositories("team/*") == ["team/web"]


@ALL
async def test_pages_that_form_a_loop(api: Api) -> None:
    """The same page again is a loop: two requests, and no list."""
    key = "path" if api.kind == "gitlab" else "name"
    page, link = document(api, [{key: "web"}], "next")
    serve(api, page, link=link)
    with pytest.raises(ContentError, match="pages form a loop"):
        await api.repositories("team/*")
    assert len(api.asked) == 2


@ALL
async def test_pages_without_an_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new pages end at the limit, with an error and not with what came so far."""
    monkeypatch.setattr(paging, "PAGES", 5)
    key = "path" if api.kind == "gitlab" else "name"
    numbers = count()

    def answer(_: Request) -> Response:
        number = next(numbers)
        page, link = document(api, [{key: f"web{number}"}], f"t{number}")
        return Response(json.dumps(page), 200, {"Link": link} if link else {}, content_type="application/json")

    api.server.expect_request(re.compile(".*")).respond_with_handler(answer)
    with pytest.raises(TooLargeError, match="more than 5 pages"):
        await api.repositories("team/*")
    assert len(api.asked) == 5


@ALL
async def test_a_page_that_is_too_large(api: Api) -> None:
    """A page has 8 MiB at most."""
    serve(api, b" " * (8 * 1024 * 1024 + 1))
    with pytest.raises(TooLargeError):
        await api.repositories("team/*")


@ALL
async def test_a_page_of_too_many_values(api: Api) -> None:
    """What would take hundreds of megabytes of memory is refused before it is parsed."""
    serve(api, b"[" + b"{}," * 1_100_000 + b"{}]")
    with pytest.raises(TooLargeError, match="more than 1000000 values"):
        await api.repositories("team/*")


@DATED
async def test_too_many_tags(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dates of more tags than a repository may have are refused."""
    monkeypatch.setattr(known, "MOST", 3)
    entries: list[Any] = [{"name": f"v{number}"} for number in range(4)]
    entries = [{"tags": entries}] if api.kind == "harbor" else entries
    serve(api, {"hub": {"results": entries}, "quay": {"tags": entries}}.get(api.kind, entries))
    with pytest.raises(TooLargeError, match="lists more than 3 tags"):
        await api.dates("team/web", "v9")


@ALL
async def test_an_api_that_fails(api: Api) -> None:
    """What fails is tried again, and is an error in the end; a limited rate says when to come back."""
    serve(api, {"message": "down"}, status=503)
    async with Http(api.book, jitter=lambda: 0.0) as http:
        with pytest.raises(ServerError, match="status 503: down"):
            await anext(repositories_for(http, api.domain, ["team/*"]))
    assert len(api.asked) == 4
    api.server.clear()
    asked = api.server.expect_request(re.compile(".*"))
    asked.respond_with_data("", 429, {"Retry-After": "900"})
    with pytest.raises(ThrottledError, match="ask again in 15 min"):
        await api.repositories("team/*")
    assert len(api.asked) == 1


@ALL
async def test_a_part_is_never_the_whole(api: Api) -> None:
    """A list whose second page fails is no list."""
    key = "path" if api.kind == "gitlab" else "name"
    page, link = document(api, [{key: "web"}], "next")
    first = api.server.expect_oneshot_request(re.compile(".*"))
    first.respond_with_data(json.dumps(page), 200, {"Link": link} if link else {}, content_type="application/json")
    serve(api, {"message": "no"}, status=403)
    with pytest.raises(DeniedError, match="status 403: no"):
        await api.repositories("team/*")


@pytest.mark.parametrize("api", ["quay"], indirect=True)
@pytest.mark.parametrize("token", [7, ["x"], "x" * 5000, {"a": "b"}])
async def test_a_token_for_the_next_page_that_is_none(api: Api, token: Any) -> None:
    """Quay's token for the next page is a text of some length, or an error."""
    serve(api, {"repositories": [{"name": "web"}], "next_page": token})
    with pytest.raises(ContentError, match="`next_page` of the API is no token"):
        await api.repositories("team/*")


@pytest.mark.parametrize("api", ["gitlab", "harbor"], indirect=True)
async def test_a_link_that_is_none(api: Api) -> None:
    """A malformed `Link` is an error: it might have led on."""
    serve(api, [], link="<broken")
    with pytest.raises(ContentError, match="malformed Link"):
        await api.repositories("team/*")


@DATED
async def test_dates_of_wrong_types_are_unknown(api: Api) -> None:
    """What is no date is unknown, and the others count."""
    wrong: list[Any] = [
        None,
        True,
        "soon",
        -1,
        10**40,
        1.5,
        [],
        {},
        "9999999999-01-01",
        "1970-01-01T00:00:00Z",
        "x" * 10_000,
    ]
    entries: list[Any] = [
        {"name": f"v{n}", "last_updated": one, "start_ts": one, "push_time": one} for n, one in enumerate(wrong)
    ]
    if api.kind == "harbor":
        entries = [{"push_time": one["push_time"], "tags": [{"name": one["name"]}, 7, None]} for one in entries]
        entries += [{"tags": 7}, {"tags": {"name": "x"}}]
    serve(api, {"hub": {"results": entries}, "quay": {"tags": entries}}.get(api.kind, [*entries, 7, None, "x"]))
    assert await api.dates("team/web", *(f"v{n}" for n in range(len(wrong)))) == {}


@DATED
async def test_dates_end_where_the_pages_loop(api: Api) -> None:
    """Pages of tags that form a loop are an error, after two of them."""
    page, link = document(api, [{"name": "v1"}], "2")
    serve(api, page, link=link)
    with pytest.raises(ContentError, match="pages form a loop"):
        await api.dates("team/web", "v1", "v2", "v3")
    assert len(api.asked) == 2


async def test_a_registry_of_no_known_kind_says_what_to_write(httpserver: HTTPServer) -> None:
    """Where `/v2/_catalog` is refused, the error says how else repositories are found."""
    httpserver.expect_request("/v2/_catalog").respond_with_data("", 404)
    async with Http(HostBook()) as http:
        with pytest.raises(MissingError, match=r"_catalog: status 404.*name the repositories.*`profile: harbor`"):
            await anext(repositories_for(http, f"127.0.0.1:{httpserver.port}", ["team/*"]))
