"""Tags over time: what is asked upstream, and what a client gets when upstream does not answer. Counts on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mirrord.testing import Image, Registry, build_image, push
from tests.support.pulling import Pulls, pulling

OLD = build_image(["linux/amd64"], seed="old")
NEW = build_image(["linux/amd64"], seed="new")
APP = "up.test/team/app/manifests/v1"


class Scene(NamedTuple):
    """A front and its upstream, which has `team/app:v1`."""

    pulls: Pulls
    upstream: Registry

    def asked(self) -> list[str]:
        """Return what upstream was asked since the last call: `HEAD v1`."""
        found = [f"{one.method} {one.path.rpartition('/')[2]}" for one in self.upstream.wire.exchanges]
        self.upstream.wire.exchanges.clear()
        return found


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Registry() as upstream, pulling(tmp_path, upstream.host) as pulls:
        await push(OLD, upstream, "team/app", ["v1"])
        upstream.wire.exchanges.clear()
        yield Scene(pulls, upstream)


async def moved(scene: Scene, image: Image = NEW) -> None:
    await push(image, scene.upstream, "team/app", ["v1"])
    scene.asked()


async def test_a_fresh_tag_costs_nothing(scene: Scene) -> None:
    """The first pull is one GET; within `fresh` there is no request, and its bytes and headers are upstream's."""
    first = await scene.pulls.ask(APP)
    assert (first.status, first.body) == (200, OLD.body)
    assert first.headers["docker-content-digest"] == OLD.digest
    assert first.headers["content-type"] == OLD.media_type
    assert first.headers["docker-distribution-api-version"] == "registry/2.0"
    assert scene.asked() == ["GET v1"]
    scene.pulls.now += 3599
    for path in (APP, f"up.test/team/app/manifests/{OLD.digest}"):
        again = await scene.pulls.ask(path)
        assert (again.status, again.body, again.headers["etag"]) == (200, OLD.body, f'"{OLD.digest}"')
    assert scene.asked() == []
    assert scene.pulls.outcomes() == [("manifest", "miss"), ("manifest", "hit"), ("manifest", "hit")]


async def test_a_tag_after_its_time_costs_one_head(scene: Scene) -> None:
    """T22: the same digest renews the time; a moved tag is read by its digest, and by nothing else."""
    await scene.pulls.ask(APP)
    scene.asked()
    scene.pulls.now += 3601
    assert (await scene.pulls.ask(APP)).body == OLD.body
    assert scene.asked() == ["HEAD v1"]
    assert (await scene.pulls.ask(APP)).body == OLD.body
    assert scene.asked() == []
    await moved(scene)
    scene.pulls.now += 3601
    assert (await scene.pulls.ask(APP)).body == NEW.body
    assert scene.asked() == ["HEAD v1", f"GET {NEW.digest}"]
    assert [outcome for _, outcome in scene.pulls.outcomes()] == ["miss", "revalidated", "hit", "miss"]


async def test_a_tag_that_moves_while_it_is_read(scene: Scene) -> None:
    """The digest that HEAD said is gone, but the tag is not: the client gets what it points to, and no 404."""
    await scene.pulls.ask(APP)
    await moved(scene)
    scene.pulls.now += 3601
    scene.upstream.faults.on("GET", f"/v2/team/app/manifests/{NEW.digest}").status(404)
    assert (await scene.pulls.ask(APP)).body == NEW.body
    assert scene.asked() == ["HEAD v1", f"GET {NEW.digest}", "GET v1"]
    assert (await scene.pulls.ask(APP)).body == NEW.body
    assert scene.asked() == []


async def test_head_equals_get(scene: Scene) -> None:
    """T3: HEAD has the headers of GET, asks upstream by HEAD alone, and the GET after it is one more, by digest."""
    head = await scene.pulls.ask(APP, "HEAD")
    assert scene.asked() == ["HEAD v1"]
    get = await scene.pulls.ask(APP)
    assert scene.asked() == [f"GET {OLD.digest}"]
    later = await scene.pulls.ask(APP, "HEAD")
    for one in (head, later):
        same = ("content-type", "content-length", "docker-content-digest", "etag")
        assert [one.headers[name] for name in same] == [get.headers[name] for name in same]
        assert (one.status, one.body) == (200, b"")
    assert scene.asked() == []


async def test_a_get_after_head(scene: Scene) -> None:
    """Within `fresh` a client gets what HEAD showed, though the tag has moved; the time counts from that HEAD."""
    await scene.pulls.ask(APP, "HEAD")
    await moved(scene)
    scene.pulls.now += 3599
    assert (await scene.pulls.ask(APP)).body == OLD.body
    assert scene.asked() == [f"GET {OLD.digest}"]
    scene.pulls.now += 2
    assert (await scene.pulls.ask(APP)).body == NEW.body
    assert scene.asked() == ["HEAD v1", f"GET {NEW.digest}"]


async def test_what_head_showed_is_gone(scene: Scene) -> None:
    """A digest that upstream has no longer is asked for once, and then the tag; after `fresh` the tag alone."""
    await scene.pulls.ask(APP, "HEAD")
    await moved(scene)
    scene.upstream.faults.on("GET", f"/v2/team/app/manifests/{OLD.digest}").status(404)
    assert (await scene.pulls.ask(APP)).body == NEW.body
    assert scene.asked() == [f"GET {OLD.digest}", "GET v1"]
    await scene.pulls.ask("up.test/team/app/manifests/v2", "HEAD")
    await push(OLD, scene.upstream, "team/app", ["v2"])
    scene.pulls.now += 61
    await scene.pulls.ask("up.test/team/app/manifests/v2", "HEAD")
    scene.pulls.now += 3601
    scene.asked()
    assert (await scene.pulls.ask("up.test/team/app/manifests/v2")).body == OLD.body


async def test_after_a_restart_a_tag_costs_one_head(tmp_path: Path) -> None:
    """What a tag pointed to is on the disk; when that was checked is not."""
    async with Registry() as upstream:
        await push(OLD, upstream, "team/app", ["v1"])
        for asked in ("GET", "HEAD"):
            upstream.wire.exchanges.clear()
            async with pulling(tmp_path, upstream.host) as pulls:
                assert (await pulls.ask(APP)).body == OLD.body
            assert [one.method for one in upstream.wire.exchanges] == [asked]


REASONS = {
    "gone": "unreachable",
    "429": "throttled",
    "500": "server",
    "503": "server",
    "401": "denied",
    "403": "denied",
    "html": "content",
    "closed": "broken",
}


@pytest.mark.parametrize("trouble", REASONS)
async def test_an_upstream_in_trouble(scene: Scene, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad inputs 26 and 28: what is here is served and said; without a copy it is an error in the registry's format.

    A 401 or 403 without an error of a registry in it is such an outage, too: a CDN or a firewall bans our address.
    """
    monkeypatch.setattr("mirrord.wire.http.quotas.monotonic", lambda: scene.pulls.now)
    await scene.pulls.ask(APP)
    scene.pulls.now += 3601
    scene.pulls.events.clear()
    fault = scene.upstream.faults.on("*", "/v2/", times=None)
    if trouble == "gone":
        await scene.upstream.stop()
    elif trouble == "html":
        fault.status(200, b"<html>log in</html>", {"Content-Type": "text/html", "Docker-Content-Digest": ""})
    elif trouble == "closed":
        fault.close()
    else:
        page = b"<html>banned</html>" if trouble.startswith("4") else b""
        fault.status(int(trouble), page, {"Retry-After": "30", "Content-Type": "text/html"})
    stale = await scene.pulls.ask(APP)
    assert (stale.status, stale.body) == (200, OLD.body)
    assert stale.headers["warning"].startswith('299 - "up.test ')
    asked = len(scene.upstream.wire.exchanges)
    again = await scene.pulls.ask(APP)
    assert (again.body, "warning" in again.headers) == (OLD.body, True)
    assert len(scene.upstream.wire.exchanges) == asked  # it is not asked again at once
    other = await scene.pulls.ask("up.test/team/app/manifests/v2")
    assert other.status == (429 if trouble == "429" else 502)
    assert other.code == ("TOOMANYREQUESTS" if trouble == "429" else "UNAVAILABLE")
    assert other.message.startswith("up.test ")
    assert other.message.endswith(", and the cache has no tag v2 of up.test/team/app")
    assert other.headers["warning"] == f'299 - "{other.message}"'
    assert other.headers["retry-after"] == ("30" if trouble in ("429", "500", "503") else "10")
    assert other.headers["content-type"] == "application/json"
    failures = scene.pulls.failures()
    asked_of = f"{scene.upstream.host}/team/app"
    assert [(one.upstream, one.reference) for one in failures] == [
        (scene.upstream.host, f"{asked_of}:{tag}") for tag in ("v1", "v2")
    ]
    assert {(one.called, one.reason) for one in failures} == {("up.test/team/app", REASONS[trouble])}
    assert [outcome for _, outcome in scene.pulls.outcomes()] == ["stale", "stale"]
    scene.upstream.faults.clear()
    if trouble == "gone":
        await scene.upstream.start()
    scene.pulls.now += 31
    healed = await scene.pulls.ask(APP)
    assert (healed.body, "warning" in healed.headers) == (OLD.body, False)


async def test_what_upstream_does_not_have(scene: Scene) -> None:
    """T21, bad input 27: a 404 is remembered for a minute, then a new tag is seen; the content of a lost one stays."""
    for _ in range(3):
        answer = await scene.pulls.ask("up.test/team/app/manifests/v2")
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    assert scene.asked() == ["GET v2"]
    await push(NEW, scene.upstream, "team/app", ["v2"])
    scene.asked()
    scene.pulls.now += 61
    assert (await scene.pulls.ask("up.test/team/app/manifests/v2")).body == NEW.body
    await scene.pulls.ask(APP)
    del scene.upstream.tags["team/app"]["v1"]
    scene.pulls.now += 3601
    assert (await scene.pulls.ask(APP)).status == 404
    assert (await scene.pulls.ask(f"up.test/team/app/manifests/{OLD.digest}")).body == OLD.body


@pytest.mark.parametrize(("status", "seen", "code"), [(401, 404, "NAME_UNKNOWN"), (403, 403, "DENIED")])
async def test_what_upstream_denies(scene: Scene, status: int, seen: int, code: str) -> None:
    """T5, T21: a refusal never becomes content and is never remembered, and what was public is not shown any longer."""
    await scene.pulls.ask(APP)
    scene.pulls.now += 3601
    body = json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "no"}]}).encode()
    scene.upstream.faults.on("*", "/v2/", times=None).status(status, body, {"Content-Type": OLD.media_type})
    for path in (APP, "up.test/team/app/manifests/v2"):
        for method in ("GET", "HEAD"):
            answer = await scene.pulls.ask(path, method)
            assert answer.status == seen
            assert method == "HEAD" or answer.code == code
            said = '299 - "up.test refuses access to up.test/team/app"'
            assert answer.headers.get("warning", "") == (said if seen == 403 else "")
            assert [one.reason for one in scene.pulls.failures()] == ["denied"]
            scene.pulls.events.clear()
    scene.upstream.faults.clear()
    assert (await scene.pulls.ask(APP)).body == OLD.body
    assert scene.pulls.front.standing().cache_entries == 1


async def test_one_request_for_many_clients(scene: Scene) -> None:
    """Fifty clients that ask for one cold tag at the same moment are one GET upstream; one that leaves hurts nobody."""
    fault = scene.upstream.faults.on("GET", "/manifests/").hold()
    asking = [asyncio.create_task(scene.pulls.ask(APP)) for _ in range(50)]
    await fault.reached.wait()
    asking[0].cancel()
    fault.release()
    answers = await asyncio.gather(*asking[1:])
    assert {answer.body for answer in answers} == {OLD.body}
    assert scene.asked() == ["GET v1"]


async def test_manifests_that_nobody_should_get(scene: Scene) -> None:
    """T6, T32, bad input 35: schema 1 says what it is, wrong bytes are no answer, and no manifest is converted."""
    schema1 = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
    scene.upstream.faults.on("GET", "/old$", times=None).status(200, b'{"schemaVersion": 1, "fsLayers": []}', schema1)
    answer = await scene.pulls.ask("up.test/team/app/manifests/old")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    assert "schema 1" in answer.message
    scene.upstream.faults.on("GET", "/manifests/", times=None).corrupt(30)
    answer = await scene.pulls.ask(f"up.test/team/app/manifests/{OLD.digest}")
    assert (answer.status, answer.code) == (502, "UNAVAILABLE")
    scene.upstream.faults.clear()
    only = "application/vnd.docker.distribution.manifest.v1+json"
    answer = await scene.pulls.ask(APP, Accept=only)
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    assert OLD.media_type in answer.message
    sent = {one.headers["accept"] for one in scene.upstream.wire.exchanges if "/manifests/" in one.path}
    assert len(sent) == 1
    assert only in sent.pop()
    assert (await scene.pulls.ask(APP, Accept=f"text/html;q=0.9, {OLD.media_type};q=0.1")).body == OLD.body


async def test_a_client_that_has_it_gets_nothing(scene: Scene) -> None:
    """T33: with the entity tag a chained mirror revalidates for a 304."""
    assert (await scene.pulls.ask(APP, If_None_Match=f'"{OLD.digest}"')).status == 304
    assert (await scene.pulls.ask(APP, "HEAD", If_None_Match=f'W/"{OLD.digest}"')).status == 304


async def test_credentials_of_clients_stay_here(scene: Scene) -> None:
    """T34: what a client sends to log in, or to say who it is, never goes upstream."""
    secret = "Basic Y2FuYXJ5OmNhbmFyeQ=="
    blob = f"up.test/team/app/blobs/{next(iter(OLD.blobs))}"
    for path in (APP, blob, "up.test/team/app/tags/list", f"up.test/team/app/referrers/{OLD.digest}"):
        await scene.pulls.ask(path, Authorization=secret, Cookie="canary=1", X_Forwarded_For="192.0.2.1")
    sent = str([one.headers for one in scene.upstream.wire.exchanges])
    assert len(scene.upstream.wire.exchanges) >= 4
    assert "canary" not in sent
    assert secret not in sent
    assert "192.0.2.1" not in sent
