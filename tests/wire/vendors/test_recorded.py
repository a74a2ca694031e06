"""What APIs really answered: recorded from Harbor v2.15.2 and Quay (master at ffba0c70e) on 2026-11-28, names ours.

Both were built from their sources and run with their databases. Harbor's core stood before a docker-registry 2.8 and
answered without its portal and job service; Quay answered from the database that its own tests are filled with.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mirrord.errors import DeniedError, MirrordError, MissingError, RefusedError
from mirrord.model.digest import Digest
from mirrord.wire.http.client import Http
from mirrord.wire.oci.reference import Reference
from mirrord.wire.vendors.deleting import tag_deleter
from mirrord.wire.vendors.known import signed_in, vendor_of
from mirrord.wire.vendors.pages import FIRST
from tests.wire.vendors.conftest import Api

JSON, HTML, TEXT = "application/json", "text/html; charset=utf-8", "application/json; charset=utf-8"
DIGEST = Digest("sha256:6ecc4478405b9c22e540204b137e31674300b9b78c7dd0740a88e559a9fa5d7d")
OTHER = "sha256:0a1d3316f11dc208a9f8e0f3debbcff30f57f2fbec42659d8177485109aadeba"
USERS = {"harbor": "robot$team+del", "quay": "$oauthtoken"}
REPOSITORY = "/api/v2.0/projects/team/repositories/lib%2Fapp"
QUAY = "/api/v1/repository/team/lib/app"
ERRORS = "https://quay.example/api/v1/error/"


def harbor(code: str, message: str) -> str:
    return json.dumps({"errors": [{"code": code, "message": message}]}, separators=(",", ":"))


def quay(kind: str, said: str, status: int) -> str:
    told = {"detail": said, "error_message": said, "error_type": kind, "title": kind}
    return json.dumps({**told, "type": f"{ERRORS}{kind}", "status": status})


DELETED: dict[str, tuple[str, tuple[int, str, str], type[MirrordError] | None, str]] = {
    "harbor: deleted": ("harbor", (200, "", ""), None, ""),
    "harbor: moved": (
        "harbor",
        (404, TEXT, harbor("NOT_FOUND", "tag v1 attached to artifact 2 not found")),
        MissingError,
        "NOT_FOUND: tag v1 attached to artifact 2 not found",
    ),
    "harbor: no artifact": (
        "harbor",
        (404, TEXT, harbor("NOT_FOUND", f"artifact team/lib/app@{DIGEST} not found")),
        MissingError,
        f"artifact team/lib/app@{DIGEST} not found",
    ),
    "harbor: immutable": (
        "harbor",
        (412, TEXT, harbor("PRECONDITION", "the tag v1 configured as immutable, cannot be deleted")),
        RefusedError,
        "PRECONDITION: the tag v1 configured as immutable, cannot be deleted; let the account",
    ),
    "harbor: a developer, or a robot that only pushes": (
        "harbor",
        (403, TEXT, harbor("FORBIDDEN", "forbidden")),
        DeniedError,
        "maintainer of the project, or the robot account delete tags (`tag: delete`)",
    ),
    "harbor: wrong password": (
        "harbor",
        (401, TEXT, harbor("UNAUTHORIZED", "unauthorized")),
        DeniedError,
        "UNAUTHORIZED: unauthorized",
    ),
    "quay: deleted": ("quay", (204, JSON, ""), None, ""),
    "quay: no tag, or no repository": (
        "quay",
        (404, JSON, quay("not_found", "Not Found", 404)),
        MissingError,
        "status 404: Not Found",
    ),
    "quay: immutable": (
        "quay",
        (409, JSON, quay("tag_immutable", "Cannot delete immutable tag 'v1'", 409)),
        RefusedError,
        "status 409: Cannot delete immutable tag 'v1'; its API wants",
    ),
    "quay: may not write": (
        "quay",
        (403, JSON, quay("insufficient_scope", "Unauthorized", 403)),
        DeniedError,
        "status 403: Unauthorized",
    ),
    "quay: wrong token": (
        "quay",
        (403, HTML, '{"error": "CSRF token was invalid or missing."}'),
        DeniedError,
        "its API wants `username: $oauthtoken`",
    ),
}


@pytest.mark.parametrize(("api", "reply", "error", "said"), DELETED.values(), ids=DELETED, indirect=["api"])
async def test_deletions(api: Api, reply: tuple[int, str, str], error: type[MirrordError] | None, said: str) -> None:
    """Each real answer is what it means, in the words of the API, and names the right that is missing."""
    api.login(USERS[api.kind])
    place = f"{REPOSITORY}/artifacts/{DIGEST}/tags/v1" if api.kind == "harbor" else f"{QUAY}/tag/v1"
    status, media_type, body = reply
    headers = {"Content-Type": media_type} if media_type else {}
    api.server.expect_request(place, "DELETE").respond_with_data(body, status, headers)
    async with Http(api.book, jitter=lambda: 0.0) as http:
        deleter = await tag_deleter(http, Reference.parse(f"{api.domain}/team/lib/app"))
        assert deleter
        end = (await deleter.delete({"v1": DIGEST}))["v1"]
    assert type(end) is (error or type(None)), end
    assert said in str(end)


def artifact(digest: str, pushed: str, *tags: tuple[str, str]) -> dict[str, Any]:
    """Return an artifact as Harbor lists it."""
    here = {"absolute": False, "href": f"/api/v2.0/projects/team/repositories/lib%252Fapp/artifacts/{digest}/additions"}
    listed = [
        {"artifact_id": 3, "id": 3, "immutable": False, "name": name, "repository_id": 1}
        | {"pull_time": "0001-01-01T00:00:00.000Z", "push_time": at}
        for name, at in tags
    ]
    return {
        "accessories": None,
        "addition_links": {"build_history": here},
        "artifact_type": "application/vnd.docker.container.image.v1+json",
        "digest": digest,
        "extra_attrs": {"architecture": "", "author": "", "config": {}, "created": "0001-01-01T00:00:00Z", "os": ""},
        "labels": None,
        "manifest_media_type": "application/vnd.docker.distribution.manifest.v2+json",
        "pull_time": "0001-01-01T00:00:00.000Z",
        "push_time": pushed,
        "references": None,
        "repository_name": "team/lib/app",
        "size": 775,
        "tags": listed or None,
    }


@pytest.mark.parametrize("api", ["harbor"], indirect=True)
async def test_pages_of_harbor(api: Api) -> None:
    """`Link` leads on, with our own parameters in it; an artifact without tags has null for them."""
    api.login("robot$team+del")
    wanted = {"with_tag": "true", "sort": "-push_time", "page_size": "100"}
    following = (
        "/api/v2.0/projects/team/repositories/lib%252Fapp/artifacts?page=2&page_size=100&sort=-push_time&with_tag=true"
    )
    pages = [
        (
            [artifact(OTHER, "2026-11-28T13:13:31.615Z", ("v3", "2026-11-28T13:13:31.726Z"))],
            f'<{following}>; rel="next"',
        ),
        ([artifact(DIGEST, "2026-11-28T13:13:29.108Z")], f'<{following.replace("page=2", "page=1")}>; rel="prev"'),
    ]
    for number, (entries, link) in enumerate(pages, 1):
        asked = api.server.expect_request(f"{REPOSITORY}/artifacts", query_string={**wanted, "page": str(number)})
        asked.respond_with_json(entries, headers={"Link": link, "X-Total-Count": "101"})
    first = await listed(api, FIRST)
    assert first.found == [("v3", datetime(2026, 11, 28, 13, 13, 31, 726000, UTC))]
    assert first.following == "2"
    last = await listed(api, first.following)
    assert (last.found, last.following) == ([], "")


@pytest.mark.parametrize("api", ["quay"], indirect=True)
async def test_tags_of_quay(api: Api) -> None:
    """`start_ts` is when a tag was set, and `has_additional` says whether there are more."""
    api.login("$oauthtoken")
    tag = {
        "name": "v1",
        "reversion": False,
        "immutable": False,
        "start_ts": 1795871959,
        "manifest_digest": str(DIGEST),
        "is_manifest_list": False,
        "size": 92,
        "last_modified": "Sat, 28 Nov 2026 13:19:19 -0000",
    }
    asked = api.server.expect_request(f"{QUAY}/tag/")
    asked.respond_with_json({"tags": [tag], "page": 1, "has_additional": True})
    page = await listed(api, FIRST)
    assert page.found == [("v1", datetime(2026, 11, 28, 13, 19, 19, tzinfo=UTC))]
    assert page.following == "2"


async def listed(api: Api, cursor: str) -> Any:
    """List the dates of tags."""
    async with Http(api.book, jitter=lambda: 0.0) as http:
        vendor = vendor_of(api.domain, api.book.policy(api.domain).profile)
        assert vendor
        signed = await signed_in(http, vendor, Reference.parse(f"{api.domain}/team/lib/app"))
        return await vendor.times(signed, "team/lib/app", cursor)
