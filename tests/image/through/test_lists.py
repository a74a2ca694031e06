"""Lists of an upstream through the front: tags in pages, and what refers to an image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mirrord.testing import Registry, build_image, push
from mirrord.wire.oci.descriptor import OCI_INDEX, index_of
from tests.support.artifacts import build_artifact
from tests.support.pulling import Pulls, pulling

IMAGE = build_image(["linux/amd64"])
ABOUT = build_artifact(IMAGE, data=b"signed")
TAGS = [f"v{number:02}" for number in range(25)]
APP = "up.test/team/app"


async def pages(pulls: Pulls, path: str, **headers: str) -> list[str]:
    """Follow links through all pages, and return their tags."""
    found: list[str] = []
    while path:
        answer = await pulls.ask(path, **headers)
        found += json.loads(answer.body)["tags"]
        assert json.loads(answer.body)["name"] == path.partition("/tags/")[0]
        link = answer.headers.get("link", "")
        assert link == "" or link.startswith("</v2/")
        path = link.partition(">")[0].removeprefix("</v2/")
    return found


async def test_pages_of_tags_lead_through_us(tmp_path: Path) -> None:
    """T25: links to further pages are ours, in the order of upstream, and keep the namespace that was asked for."""
    async with Registry(page_size=10) as upstream, pulling(tmp_path, upstream.host) as pulls:
        await push(IMAGE, upstream, "team/app", TAGS)
        upstream.forget()
        assert await pages(pulls, f"{APP}/tags/list") == TAGS
        assert await pages(pulls, f"{APP}/tags/list?n=7") == TAGS
        assert await pages(pulls, f"{APP}/tags/list?n=5&last=v20") == TAGS[21:]
        assert await pages(pulls, f"team/app/tags/list?ns={upstream.host}") == TAGS
        assert upstream.count("GET", "tags/list") == 3 + 4 + 1 + 3
        assert not upstream.select("GET", "ns=")
        assert json.loads((await pulls.ask(f"{APP}/tags/list?n=0")).body)["tags"] == []
        answer = await pulls.ask(f"{APP}/tags/list?n=x")
        assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")
        assert (await pulls.ask("up.test/team/none/tags/list")).code == "NAME_UNKNOWN"


async def test_tags_without_upstream_and_without_leave(tmp_path: Path) -> None:
    """Where upstream does not answer the tags of the cache are listed, and said to be; lists can be switched off."""
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as pulls:
        await push(IMAGE, upstream, "team/app", TAGS)
        await pulls.ask(f"{APP}/manifests/v03")
        await upstream.stop()
        answer = await pulls.ask(f"{APP}/tags/list")
        assert json.loads(answer.body)["tags"] == ["v03"]
        assert "tags in the cache" in answer.headers["warning"]
        pulls.configure(tags=False)
        answer = await pulls.ask(f"{APP}/tags/list")
        assert (answer.status, answer.code) == (404, "UNSUPPORTED")
        await upstream.start()


async def test_catalog_is_ours_alone(tmp_path: Path) -> None:
    """No list of the upstream's repositories is passed through, and what is cached is not listed."""
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as pulls:
        await push(IMAGE, upstream, "team/app", ["v1"])
        await pulls.ask(f"{APP}/manifests/v1")
        upstream.forget()
        assert json.loads((await pulls.ask("_catalog")).body) == {"repositories": []}
        assert upstream.count("*") == 0


async def test_referrers_pass_through(tmp_path: Path) -> None:
    """T24: what refers to an image is upstream's list, asked for once while it is fresh, and served when it is gone."""
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as pulls:
        await push(IMAGE, upstream, "team/app", ["v1"])
        upstream.content.put_manifest("team/app", ABOUT.media_type, ABOUT.body)
        path = f"{APP}/referrers/{IMAGE.digest}"
        for _ in range(3):
            answer = await pulls.ask(path)
            assert (answer.status, answer.headers["content-type"]) == (200, OCI_INDEX)
            assert [one["digest"] for one in json.loads(answer.body)["manifests"]] == [ABOUT.digest]
        assert upstream.count("GET", "/referrers/") == 1
        none = await pulls.ask(f"{APP}/referrers/{ABOUT.digest}")
        assert json.loads(none.body)["manifests"] == []
        upstream.faults.on("GET", "/referrers/", times=None).status(
            503
        )  # no word about a list, and there is no fallback tag
        other = f"{APP}/referrers/sha256:{'c' * 64}"
        assert (await pulls.ask(other)).status == 502
        upstream.faults.clear()
        assert (await pulls.ask(other)).status == 200
        pulls.now += 3601
        await upstream.stop()
        stale = await pulls.ask(path)
        assert (stale.status, "warning" in stale.headers) == (200, True)
        unknown = await pulls.ask(f"{APP}/referrers/sha256:{'a' * 64}")
        assert (unknown.status, unknown.code) == (502, "UNAVAILABLE")
        await upstream.start()


async def test_links_of_referrers_lead_where_their_client_asked(tmp_path: Path) -> None:
    """A list is remembered for those who name the repository in the same way: its link names it as they do."""
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as pulls:
        link = {"Link": f'</v2/team/app/referrers/{IMAGE.digest}?last=x>; rel="next"', "Content-Type": OCI_INDEX}
        upstream.faults.on("GET", "/referrers/", times=None).status(200, index_of([]), link)
        for _ in range(2):
            answer = await pulls.ask(f"team/app/referrers/{IMAGE.digest}?ns={upstream.host}")
            assert answer.headers["link"].startswith(f"</v2/team/app/referrers/{IMAGE.digest}?last=x&ns=")
            answer = await pulls.ask(f"{APP}/referrers/{IMAGE.digest}")
            assert answer.headers["link"] == f'</v2/{APP}/referrers/{IMAGE.digest}?last=x>; rel="next"'
        assert upstream.count("GET", "/referrers/") == 2


@pytest.mark.parametrize("listed", [True, False])
async def test_referrers_of_a_registry_without_the_api(tmp_path: Path, listed: bool) -> None:
    """T24: the list under the fallback tag is served, and an empty one only when upstream has no such tag."""
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as pulls:
        await push(IMAGE, upstream, "team/app", ["v1"])
        body = index_of([{"mediaType": ABOUT.media_type, "digest": ABOUT.digest, "size": len(ABOUT.body)}])
        if listed:
            upstream.content.put_manifest("team/app", OCI_INDEX, body, IMAGE.digest.replace(":", "-"))
        upstream.faults.on("GET", "/referrers/", times=None).status(404)
        answer = await pulls.ask(f"{APP}/referrers/{IMAGE.digest}")
        assert (answer.status, answer.headers["content-type"]) == (200, OCI_INDEX)
        assert answer.body == (body if listed else index_of([]))
        upstream.faults.on("GET", "/manifests/sha256-", times=None).status(500)
        other = await pulls.ask(f"{APP}/referrers/sha256:{'b' * 64}")
        assert other.status == 502
