"""Tags deleted by the APIs of registries: one request each, with the credential that the API takes."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from mirrord.errors import DeniedError, MirrordError, MissingError, RefusedError, ServerError
from mirrord.model.digest import Digest
from mirrord.wire.http.client import Http
from mirrord.wire.oci.reference import Reference
from mirrord.wire.vendors.deleting import tag_deleter
from tests.wire.vendors.conftest import TOKEN, Api

BASIC = "Basic " + base64.b64encode(f"robot:{TOKEN}".encode()).decode()
JWT = "eyJhbGciOiJ.for-the-test.0123456789"
DIGEST = Digest.of(b"an image")
PLACES = {
    "hub": "/v2/repositories/team/app/tags/{}/",
    "quay": "/api/v1/repository/team/app/tag/{}",
    "harbor": f"/api/v2.0/projects/team/repositories/app/artifacts/{DIGEST}/tags/{{}}",
}
USERS = {"hub": "robot", "quay": "$oauthtoken", "harbor": "robot"}
SENT = {"hub": f"Bearer {JWT}", "quay": f"Bearer {TOKEN}", "harbor": BASIC}
ALL = pytest.mark.parametrize("api", list(PLACES), indirect=True)


async def delete(api: Api, *tags: str, path: str = "team/app") -> dict[str, MirrordError | None] | None:
    """Delete tags; None where the registry's protocol has to do."""
    async with Http(api.book, jitter=lambda: 0.0) as http:
        deleter = await tag_deleter(http, Reference.parse(f"{api.domain}/{path}"))
        return dict(await deleter.delete(dict.fromkeys(tags, DIGEST))) if deleter else None


def ready(api: Api) -> None:
    """Log in, and at Docker Hub answer that."""
    api.login(USERS[api.kind])
    if api.kind == "hub":
        api.server.expect_request("/v2/auth/token", "POST").respond_with_json({"access_token": JWT})


def answers(api: Api, tag: str, status: int, document: Any = None) -> None:
    headers = {"Authorization": SENT[api.kind]}
    asked = api.server.expect_request(PLACES[api.kind].format(tag), "DELETE", headers=headers)
    asked.respond_with_json(document or {}, status) if document else asked.respond_with_data("", status)


@ALL
async def test_a_tag_is_deleted(api: Api) -> None:
    """The documented request and nothing more; of what is not found the caller has to see whether it is gone."""
    ready(api)
    answers(api, "v1", 200 if api.kind == "harbor" else 204)
    answers(api, "v2", 404, {"message": "not found"})
    ends = await delete(api, "v1", "v2")
    assert ends
    assert ends["v1"] is None
    assert isinstance(ends["v2"], MissingError)
    deletes = [line for line in api.asked if line.startswith("DELETE")]
    assert deletes == [f"DELETE {PLACES[api.kind].format(tag)}" for tag in ("v1", "v2")]
    assert len(api.asked) == 2 + (api.kind == "hub")


@ALL
async def test_what_is_refused(api: Api) -> None:
    """One tag that is refused does not keep the others, and the error says what the credential needs."""
    ready(api)
    answers(api, "v1", 403, {"detail": "access denied: insufficient scope"})
    answers(api, "v2", 204)
    ends = await delete(api, "v1", "v2")
    assert ends
    assert ends["v2"] is None
    assert isinstance(ends["v1"], DeniedError)
    needs = {"hub": "read, write and delete", "quay": "$oauthtoken", "harbor": "the robot account delete tags"}
    assert needs[api.kind] in str(ends["v1"])
    assert TOKEN not in str(ends["v1"])


@pytest.mark.parametrize("api", ["harbor"], indirect=True)
async def test_an_immutable_tag(api: Api) -> None:
    """Harbor answers 412 to the deletion of a tag that a rule of the project makes immutable."""
    ready(api)
    answers(api, "v1", 412, {"errors": [{"code": "PRECONDITION", "message": "the tag is immutable"}]})
    ends = await delete(api, "v1")
    assert ends
    assert isinstance(ends["v1"], RefusedError)
    assert "immutable" in str(ends["v1"])


@ALL
async def test_a_failure_is_no_deletion(api: Api) -> None:
    """An API that fails leaves it unknown: an error that another try may heal, not a refusal."""
    ready(api)
    answers(api, "v1", 500, {"message": "oops"})
    ends = await delete(api, "v1")
    assert ends
    assert isinstance(ends["v1"], ServerError)


@pytest.mark.parametrize("api", ["harbor"], indirect=True)
async def test_a_repository_with_slashes(api: Api) -> None:
    """Harbor wants the name of a repository with slashes encoded twice."""
    ready(api)
    api.server.expect_request(
        f"/api/v2.0/projects/team/repositories/web%2Fapp/artifacts/{DIGEST}/tags/v1", "DELETE"
    ).respond_with_data("", 200)
    assert await delete(api, "v1", path="team/web/app") == {"v1": None}
    assert api.asked == [f"DELETE /api/v2.0/projects/team/repositories/web%252Fapp/artifacts/{DIGEST}/tags/v1"]


@pytest.mark.parametrize("api", ["quay", "hub", "harbor", "gitlab"], indirect=True)
async def test_without_a_credential_the_protocol_has_to_do(api: Api) -> None:
    """A robot account of Quay, or no credential at all, is nothing for the API: it is not asked."""
    if api.kind == "quay":
        api.login("team+robot")
    assert await delete(api, "v1") is None
    assert api.asked == []
