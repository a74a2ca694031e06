"""Who gets what: `local` before all, then the rules, and what a client that is refused is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mirrord.errors import UsageError
from mirrord.names.book import NameBook
from mirrord.names.naming import named, parse_naming
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry, build_image, push
from tests.support.pulling import Pulls, pulling

IMAGE = build_image(["linux/amd64"], seed="mirrored")
OTHER = build_image(["linux/amd64"], seed="other")
MESSAGE = 'see "https://wiki.example/list"'


class Scene(NamedTuple):
    """A front, and its upstream with `team/app:v1`, `team/app:v2` and `bad/app:v1`."""

    pulls: Pulls
    upstream: Registry


def called(name: str) -> dict[str, Any]:
    """Return the key of a mirror that calls its repository so."""
    return {"as": name}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with Registry() as upstream:
        for repository in ("team/app", "bad/app", "more/app"):
            await push(IMAGE, upstream, repository, ["v1"])
            await push(OTHER, upstream, repository, ["v2"])
        rules: dict[str, Any] = {
            "allow": ["up.test/team/*", "up.test/bad/**"],
            "deny": ["up.test/bad/**"],
            "message": MESSAGE,
        }
        async with pulling(tmp_path, upstream.host, **rules) as pulls:
            upstream.forget()
            yield Scene(pulls, upstream)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "word", "said"),
    [
        ("up.test/bad/app/manifests/v1", "denied", "up.test/bad/app may not be pulled here"),
        ("up.test/more/app/manifests/v1", "not_allowed", "up.test/more/app is not on the list"),
        ("up.test/more/app/tags/list", "not_allowed", "/more/app is not on the list"),
        (f"up.test/more/app/blobs/{next(iter(IMAGE.blobs))}", "not_allowed", "/more/app is not on the list"),
        ("evil.test/foo/manifests/v1", "not_listed", "evil.test is not pulled through here"),
        ("127.0.0.1/foo/manifests/v1", "not_listed", "127.0.0.1 is not pulled through here"),
        ("metadata.google.internal/foo/manifests/v1", "not_listed", "is not pulled through here"),
        ("foo/manifests/v1?ns=evil.test", "not_listed", "evil.test is not pulled through here"),
    ],
)
async def test_what_may_not_be_pulled(scene: Scene, path: str, word: str, said: str, method: str) -> None:
    """Bad inputs 17, 18, 20: nothing is asked upstream; the reason is in the body, and in a header for HEAD."""
    status = 404 if word == "not_listed" else 403
    answer = await scene.pulls.ask(path, method)
    assert answer.status == status
    if method == "GET":
        assert said in answer.message
        assert (MESSAGE in answer.message) is (status == 403)
        assert answer.code == ("DENIED" if status == 403 else "NAME_UNKNOWN")
    if status == 403:
        assert answer.headers["warning"].startswith('299 - "up.test/')
        assert r"see \"https://wiki.example/list\"" in answer.headers["warning"]
    assert scene.upstream.count("*") == 0
    assert [one.reason for one in scene.pulls.events if type(one).__name__ == "FrontRefused"] == [word]


async def test_local_before_upstream(scene: Scene) -> None:
    """What a mirror to `local` has of a repository is served from it, by tag too; other tags come from upstream."""
    world = scene.pulls.world
    mirror = world.mirror({"repository": f"{scene.upstream.host}/more/app", "tags": ["v1"]}, LOCAL, name="apps")
    await world.run(mirror)
    world.services = replace(world.services, mirrors={"image": (mirror,)})
    scene.upstream.forget()
    scene.pulls.events.clear()
    for path in ("manifests/v1", f"manifests/{IMAGE.digest}", *(f"blobs/{digest}" for digest in IMAGE.blobs)):
        for name in ("up.test/more/app", "apps"):
            assert (await scene.pulls.ask(f"{name}/{path}")).status == 200
    assert {outcome for _, outcome in scene.pulls.outcomes()} == {"local"}
    assert scene.upstream.count("*") == 0
    answer = await scene.pulls.ask("up.test/more/app/manifests/v2")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")  # mirrored here, and not to be pulled through
    scene.pulls.configure(allow=["up.test/more/*"])
    world.services = replace(world.services, mirrors={"image": (mirror,)})
    scene.upstream.faults.on("GET", "/tags/list", times=None).status(503)
    tags = await scene.pulls.ask("up.test/more/app/tags/list")
    assert json.loads(tags.body) == {"name": "up.test/more/app", "tags": ["v1"]}
    assert "fails" in tags.headers["warning"]
    assert (await scene.pulls.ask("up.test/more/app/manifests/v2")).body == OTHER.body
    assert (await scene.pulls.ask("apps/manifests/v2")).status == 404
    scene.pulls.configure(allow=["up.test/more/*"], deny=["up.test/more/app"])
    assert (await scene.pulls.ask("up.test/more/app/manifests/v1")).status == 403


async def test_deny_comes_before_everything(scene: Scene) -> None:
    """What `deny` has is not served from `local` either: 403, also where its registry is no upstream."""
    world = scene.pulls.world
    mirror = world.mirror({"repository": f"{scene.upstream.host}/more/app", "tags": ["v1"]}, LOCAL, name="apps")
    await world.run(mirror)
    world.services = replace(world.services, mirrors={"image": (mirror,)})
    scene.upstream.forget()
    quay: dict[str, Any] = {"upstreams": ["quay.io"], "allow": ["quay.io/**"]}
    scene.pulls.configure(**quay)
    assert (await scene.pulls.ask("up.test/more/app/manifests/v1")).body == IMAGE.body
    assert (await scene.pulls.front.look("up.test/more/app:v1")).comes_from == "local"
    scene.pulls.configure(**quay, deny=["up.test/more/app"])
    denied = await scene.pulls.ask("up.test/more/app/manifests/v1")
    assert (denied.status, denied.message) == (403, "up.test/more/app may not be pulled here")
    look = await scene.pulls.front.look("up.test/more/app:v1")
    assert (look.comes_from, look.line) == ("refused", "front.image.deny[0]")
    assert scene.upstream.count("*") == 0


async def test_renamed_tags_are_not_those_of_the_source(scene: Scene) -> None:
    """A mirror that gives an image another tag does not answer for that tag of the source; for its digest it does."""
    world = scene.pulls.world
    mirror = world.mirror({"repository": f"{scene.upstream.host}/team/app:v1", "names": ["v2"]}, LOCAL, name="apps")
    await world.run(mirror)
    world.services = replace(world.services, mirrors={"image": (mirror,)})
    scene.upstream.forget()
    assert (await scene.pulls.ask("up.test/team/app/manifests/v2")).body == OTHER.body
    assert scene.upstream.count("GET", "/manifests/v2") == 1
    assert (await scene.pulls.ask(f"up.test/team/app/manifests/{IMAGE.digest}")).body == IMAGE.body
    assert scene.upstream.count("*") == 1


async def test_the_forms_of_a_name(scene: Scene) -> None:
    """T23: host form, alias and namespace are one repository with one copy; the namespace is sent back."""
    book = NameBook({"up.test": scene.upstream.host}, {"apps.m.example": f"{scene.upstream.host}/team"})
    scene.pulls.configure(names=book)
    assert (await scene.pulls.ask("up.test/team/app/manifests/v1")).body == IMAGE.body
    assert (await scene.pulls.ask("app/manifests/v1", Host="apps.m.example")).body == IMAGE.body
    answer = await scene.pulls.ask(f"team/app/manifests/v1?ns={scene.upstream.host}")
    assert (answer.body, answer.headers["oci-namespace"]) == (IMAGE.body, scene.upstream.host)
    assert scene.upstream.count("*") == 1
    conflict = await scene.pulls.ask(f"quay.io/team/app/manifests/v1?ns={scene.upstream.host}")
    assert (conflict.status, conflict.code) == (400, "NAME_INVALID")
    for verb in ("manifests/v1", f"blobs/{next(iter(IMAGE.blobs))}", "tags/list"):
        conflict = await scene.pulls.ask(f"team/app/{verb}?ns={scene.upstream.host}&ns=quay.io")
        assert (conflict.status, conflict.code) == (400, "NAME_INVALID")
    same = await scene.pulls.ask(f"team/app/manifests/v1?ns={scene.upstream.host}&ns={scene.upstream.host}")
    assert (same.status, same.body) == (200, IMAGE.body)
    conflict = await scene.pulls.ask("app/manifests/v1?ns=quay.io", Host="apps.m.example")
    assert (conflict.status, scene.upstream.host in conflict.message) == (400, False)
    conflict = await scene.pulls.ask("quay.io/app/manifests/v1", Host="apps.m.example")
    assert (conflict.status, scene.upstream.host in conflict.message) == (400, False)


FORMS = {
    "alias": ("up.test/team/app", "m.example", "", "up.test"),
    "namespace": ("team/app", "m.example", "?ns=up.test", "up.test"),
    "host": ("app", "apps.m.example", "", "the registry behind apps.m.example"),
    "both": ("team/app", "up.m.example", "?ns=up.test", "up.test"),
    "twice": ("up.test/team/app", "up.m.example", "", "the registry behind up.m.example"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("trouble", ["401", "403", "404", "429", "500", "rules", "schema1"])
async def test_no_client_sees_the_registry_behind_an_alias(scene: Scene, form: str, trouble: str) -> None:
    """Bodies and headers name the image as the client does, in each form of a name; warnings of stale answers, too."""
    name, host, ns, registry = FORMS[form]
    hosts = {"apps.m.example": f"{scene.upstream.host}/team", "up.m.example": scene.upstream.host}
    book = NameBook({"up.test": scene.upstream.host}, hosts)
    scene.pulls.configure(names=book)
    digest = next(iter(IMAGE.blobs))
    assert (await scene.pulls.ask(f"{name}/manifests/v1{ns}", Host=host)).status == 200
    scene.pulls.now += 3601
    fault = scene.upstream.faults.on("*", "/v2/", times=None)
    schema1 = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
    if trouble == "rules":
        scene.pulls.configure(names=book, deny=["up.test/team/app"])
    elif trouble == "schema1":
        fault.status(200, b'{"schemaVersion": 1, "fsLayers": []}', schema1)
    else:
        fault.status(int(trouble), b'{"errors":[{"code":"X","message":"no"}]}')
    paths = ["manifests/v1", "manifests/v2", f"blobs/{digest}", "tags/list", f"referrers/{IMAGE.digest}"]
    answers = [await scene.pulls.ask(f"{name}/{path}{ns}", Host=host) for path in paths]
    for answer in answers:
        assert scene.upstream.host not in f"{answer.body!r} {answer.headers.get('warning')}"
    called = f"{host}/{name}" if registry.startswith("the") else "up.test/team/app"
    assert called in answers[1].message
    if trouble in ("429", "500"):
        assert answers[0].headers["warning"].startswith(f'299 - "{registry} ')
        assert answers[1].message.startswith(f"{registry} ")


async def test_limits_refuse_manifests_only(scene: Scene) -> None:
    """A client over its limit gets 429 with a reason for the next image; blobs of the one it has are served."""
    scene.pulls.configure(limits={"pulls_a_minute": 1})
    assert (await scene.pulls.ask("up.test/team/app/manifests/v1")).status == 200
    refused = await scene.pulls.ask("up.test/more/app/manifests/v1")
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "TOOMANYREQUESTS", "60")
    assert "1 pull a minute" in refused.message
    for digest in IMAGE.blobs:
        assert (await scene.pulls.ask(f"up.test/team/app/blobs/{digest}")).status == 200
    scene.pulls.now += 60
    assert (await scene.pulls.ask("up.test/more/app/manifests/v1")).status == 200
    sent = sum(
        one.size for one in scene.pulls.events if type(one).__name__ == "FrontBytes" and one.direction == "to_clients"
    )
    assert sent == sum(len(data) for data in IMAGE.blobs.values())


async def test_what_would_be_done(scene: Scene) -> None:
    """`mirrord front REF` says where content would come from, by which line, and until when it is fresh."""
    front, upstream = scene.pulls.front, scene.upstream
    app = f"{upstream.host}/team/app"
    cold = await front.look("up.test/team/app:v1")
    assert (cold.reference, cold.comes_from, cold.line) == (f"{app}:v1", "upstream", "front.image.allow[0]")
    await scene.pulls.ask("up.test/team/app/manifests/v1")
    upstream.forget()
    warm = await front.look(f"{app}:v1")
    assert (warm.comes_from, warm.digest, warm.size) == ("cache", IMAGE.digest, len(IMAGE.body))
    assert warm.fresh_until is not None
    pinned = await front.look(f"up.test/team/app@{IMAGE.digest}")
    assert (pinned.comes_from, pinned.fresh_until) == ("cache", None)
    scene.pulls.now += 3601
    assert (await front.look(f"{app}:v1")).comes_from == "upstream"
    denied = await front.look("up.test/bad/app:v1")
    assert (denied.comes_from, denied.line) == ("refused", "front.image.deny[0]")
    assert MESSAGE in denied.reason
    unlisted = await front.look("quay.io/a/b")
    assert (unlisted.comes_from, unlisted.line) == ("refused", "")
    assert scene.pulls.front.standing().cache_limit == 20 << 30
    assert (await front.look("nginx")).comes_from == "refused"
    assert upstream.count("*") == 0


async def test_without_front_nothing_is_pulled(scene: Scene) -> None:
    """Without `front:` the registry has `local` alone, whatever a client sends."""
    scene.pulls.world.services = replace(scene.pulls.services(), fronts={})
    answer = await scene.pulls.ask("up.test/team/app/manifests/v1")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
    assert scene.upstream.count("*") == 0


@pytest.mark.parametrize("naming", ["flat", "path", "nwcd", "my.team_x/{path}", "{host}", "localhost/{name}"])
async def test_names_in_local_go_on(scene: Scene, naming: str) -> None:
    """Whatever a repository of `local` is called without `front:`, it is called with it: by tag, digest, and in lists.

    `127.0.0.1_5000__more__app` and `127.0.0.1_5000/more/app` look like registries and are none.
    """
    world, host = scene.pulls.world, scene.upstream.host
    name = host.replace(":", "_") if naming == "{host}" else parse_naming(naming).name(named(f"{host}/more/app"))
    mirror = world.mirror({"repository": f"{host}/more/app", "tags": ["v1"]}, LOCAL, **called(name))
    await world.run(mirror)
    world.services = replace(world.services, mirrors={"image": (mirror,)})
    scene.pulls.configure(names=NameBook({"up.test": host}, {"hub.m.example": "docker.io"}))
    scene.upstream.forget()
    blob = next(iter(IMAGE.blobs))
    for path in ("manifests/v1", f"manifests/{IMAGE.digest}", f"blobs/{blob}", "tags/list"):
        assert (await scene.pulls.ask(f"{name}/{path}")).status == 200
        if "." in name.partition("/")[0]:
            assert (await scene.pulls.ask(f"{name}/{path}", Host="hub.m.example")).status == 200
    assert (await scene.pulls.ask(f"{name}/manifests/v2")).code == "MANIFEST_UNKNOWN"
    look = await scene.pulls.front.look(f"{name}:v1")
    assert (look.comes_from, look.digest) == ("local", IMAGE.digest)
    assert scene.upstream.count("*") == 0


async def test_a_name_that_nothing_has(scene: Scene) -> None:
    """A name that no registry can have, and that `local` does not have, is an error with the reason."""
    for name, said in (("docker.io__a__b", "without a repository"), ("my.team_x/app", "not a registry host")):
        answer = await scene.pulls.ask(f"{name}/manifests/v1")
        assert (answer.status, answer.code, said in answer.message) == (404, "NAME_INVALID", True)
        with pytest.raises(UsageError, match=said):
            await scene.pulls.front.look(f"{name}:v1")


async def test_a_prefix_before_the_names_of_a_registry(scene: Scene) -> None:
    """A client may put a prefix before names, as containerd's `override_path` does: `as: up/more/app` means its source.

    So what is denied stays denied, and what is missing comes from the source's registry, where that is allowed.
    """
    world, host = scene.pulls.world, scene.upstream.host
    mirror = world.mirror({"repository": f"{host}/more/app", "tags": ["v1"]}, LOCAL, **called("up/more/app"))
    other = world.mirror({"repository": f"{host}/team/app", "tags": ["v1"]}, LOCAL, name="two", **called("bad/app"))
    for one in (mirror, other):
        await world.run(one)
    world.services = replace(world.services, mirrors={"image": (mirror, other)})
    scene.upstream.forget()
    assert (await scene.pulls.ask(f"up/more/app/manifests/v1?ns={host}")).body == IMAGE.body
    assert (await scene.pulls.ask("up/more/app/manifests/v1?ns=quay.io")).status == 404
    assert (await scene.pulls.ask(f"bad/app/manifests/v1?ns={host}")).status == 403  # not the source of `as: bad/app`
    assert scene.upstream.count("*") == 0
    scene.pulls.configure(allow=["up.test/more/*"])
    assert (await scene.pulls.ask(f"up/more/app/manifests/v2?ns={host}")).body == OTHER.body
    scene.pulls.configure(allow=["up.test/more/*"], deny=["up.test/more/app"])
    assert (await scene.pulls.ask(f"up/more/app/manifests/v1?ns={host}")).status == 403
    assert (await scene.pulls.ask("up/more/app/manifests/v1")).body == IMAGE.body


async def test_tags_of_local_where_upstream_has_none(scene: Scene) -> None:
    """A list of tags that upstream does not give, or no longer has, is the one of `local`."""
    world, host = scene.pulls.world, scene.upstream.host
    mirror = world.mirror({"repository": f"{host}/team/app", "tags": ["v1"]}, LOCAL, name="apps")
    await world.run(mirror)
    world.services = replace(world.services, mirrors={"image": (mirror,)})
    scene.upstream.faults.on("GET", "/v2/team/app/tags/list", times=None).status(404)
    for tags in (True, False):
        scene.pulls.configure(tags=tags)
        assert json.loads((await scene.pulls.ask("up.test/team/app/tags/list")).body)["tags"] == ["v1"]


async def test_what_upstream_does_not_have(scene: Scene) -> None:
    """A 404 names what is missing as people say it: a tag, a digest, a list."""
    digest = f"sha256:{'a' * 64}"
    for path, said in (
        ("none/manifests/1", "up.test/team/none has no tag 1"),
        (f"none/manifests/{digest}", f"up.test/team/none has no {digest}"),
        (f"app/blobs/{digest}", f"up.test/team/app has no {digest}"),
        ("none/tags/list", "up.test/team/none has no list of tags"),
    ):
        answer = await scene.pulls.ask(f"up.test/team/{path}")
        assert (answer.status, answer.message) == (404, said)
