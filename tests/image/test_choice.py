"""Rules that choose the tags of a repository: what is mirrored, and what it costs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mirrord.errors import ThrottledError
from mirrord.model.choice import Choice
from mirrord.model.run import Result, Run
from mirrord.record.store import open_store
from mirrord.syncers.image.upstream.choosing import TagDates, choose_tags
from mirrord.testing import Registry, build_image, push
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference
from tests.support.world import World

UNKNOWN = "1970-01-01T00:00:00Z"


async def filled(world: World, days: Mapping[str, float | None]) -> Registry:
    """Start a source with an image for each tag, made so many days before now; None: it does not say."""
    source = await world.registry("source", page_size=4)
    for tag, age in days.items():
        created = UNKNOWN if age is None else (world.now - timedelta(days=age)).isoformat()
        image = build_image(["linux/amd64"], index=False, layers=1, shared_layers=1, seed=tag, created=created)
        await push(image, source, "team/app", [tag])
    source.forget()
    return source


async def ran(world: World, source: Registry, target: Registry, **tags: Any) -> Run:
    source.forget()
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": tags}, target)
    return await world.run(mirror)


def asked(source: Registry) -> Counter[str]:
    """Count requests to the source by kind; blobs of layers are not counted."""
    kinds = ("tags/list", "manifests", "blobs")
    found = ((one.method, next((kind for kind in kinds if kind in one.path), one.path)) for one in source.log)
    return Counter(f"{method} {kind}" for method, kind in found)


async def test_only_the_chosen_are_asked_for(world: World) -> None:
    """A choice by names costs the listing, and one HEAD for each chosen tag; nothing for the others."""
    source = await filled(world, dict.fromkeys(["v1.0.0", "v1.0.1", "v1.1.0-rc1", "v1.1.0", "v2.0.0", "latest"], 1))
    target = await world.registry("target")
    run = await ran(world, source, target, versions="<2", newest=1, of="minor")
    assert run.result is Result.SUCCESS
    assert list(target.tags["mirror/app"]) == ["v1.0.1", "v1.1.0"]
    assert (asked(source)["GET tags/list"], asked(source)["HEAD manifests"]) == (2, 2)
    assert run.plan
    assert run.plan.verdicts == ()  # nobody asked why


async def test_what_is_no_longer_chosen_stays(world: World) -> None:
    """A newer version moves the choice; what was mirrored is not touched."""
    source, target = await filled(world, {"v1.0.0": 3, "v1.0.1": 2}), await world.registry("target")
    await ran(world, source, target, newest=1)
    await push(build_image(["linux/amd64"], index=False), source, "team/app", ["v1.0.2"])
    target.forget()
    assert (await ran(world, source, target, newest=1)).result is Result.SUCCESS
    assert list(target.tags["mirror/app"]) == ["v1.0.1", "v1.0.2"]
    assert not [one for one in target.log if one.method == "DELETE" or "v1.0.1" in one.path]


async def test_dates_are_found_once(world: World) -> None:
    """By date each candidate costs a HEAD and two GETs, in the next process a HEAD; a chosen one no second HEAD."""
    source = await filled(world, {"v1.0": 1, "v1.1": 9, "v1.2": 5, "w1": 0})
    target = await world.registry("target")
    world.store = await open_store(world.folder / "record.db", world.now)  # type: ignore[assignment]  # for real
    world.services = replace(world.services, facts=world.store)
    choice = {"match": ["v*"], "newest": 2, "by": "date"}
    run = await ran(world, source, target, **choice)
    assert run.result is Result.SUCCESS
    assert list(target.tags["mirror/app"]) == ["v1.0", "v1.2"]
    assert asked(source)["HEAD manifests"] == 3
    await world.store.close()
    world.store = await open_store(world.folder / "record.db", world.now)  # type: ignore[assignment]  # for real
    world.services = replace(world.services, facts=world.store)
    assert (await ran(world, source, target, **choice)).result is Result.NOOP
    assert asked(source) == {"GET tags/list": 1, "HEAD manifests": 3}
    await world.store.close()


async def test_ages_are_looked_at_from_the_newest_on(world: World) -> None:
    """With min_age only as many dates are found as are needed; a tag without one is taken, and remarked."""
    days: dict[str, float | None] = {f"v1.{minor}": 20 - minor for minor in range(20)}
    source, target = await filled(world, days | {"v1.20": None}), await world.registry("target")
    run = await ran(world, source, target, newest=2, min_age="3d")
    assert list(target.tags["mirror/app"]) == ["v1.17", "v1.20"]
    assert asked(source)["HEAD manifests"] == 5  # v1.20 and v1.19, which is too young, then three ahead
    assert run.remarks == (
        "1 tag has no date, such as v1.20: such a tag counts as new, and as older than a higher version",
    )


async def test_a_registry_that_limits_the_rate_ends_the_run(world: World) -> None:
    """A date that could not be asked for is not unknown: nothing is chosen by chance, and what was read is noted."""
    source, target = await filled(world, {"v1": 1, "v2": 2}), await world.registry("target")
    world.store = await open_store(world.folder / "record.db", world.now)  # type: ignore[assignment]  # for real
    world.services = replace(world.services, facts=world.store)
    run = await ran(world, source, target, newest=1, by="date")
    assert run.result is Result.SUCCESS
    await push(build_image(["linux/amd64"], index=False, seed="3"), source, "team/app", ["v3"])
    digest = source.tags["team/app"]["v3"]
    source.faults.on("GET", f"/manifests/{digest}", times=None).status(429, headers={"Retry-After": "3600"})
    run = await ran(world, source, target, newest=1, by="date")
    assert run.result is Result.DEFERRED
    assert list(target.tags["mirror/app"]) == ["v1"]
    assert asked(source)["GET blobs"] == 0  # the dates of the others were known
    await world.store.close()


async def dated(world: World, source: Registry, **rules: Any) -> Sequence[str]:
    """Choose from the source as from a Quay, and return the tags."""
    policy = HostPolicy(source.host, profile="quay")
    async with Http(HostBook({source.host: policy}), jitter=lambda: 0.0) as http:
        repository = Repository(http, Reference.parse(f"{source.host}/team/app"))
        chosen = await choose_tags(repository, Choice(**rules), TagDates(repository), world.now)
    return [*chosen.tags, *chosen.remarks]


async def test_the_registrys_own_dates_come_first(world: World) -> None:
    """Where a registry has an API for dates, images are read only for the tags that it does not know."""
    source = await filled(world, {"v1": 1, "v2": 2, "v3": 3})
    pushed = [{"name": "v3", "start_ts": 1893456000}, {"name": "v2", "start_ts": 1861920000}, {"name": "v1"}]
    source.faults.on("GET", "/api/v1/repository/team/app/tag/").status(200, json.dumps({"tags": pushed}).encode())
    assert await dated(world, source, newest=2, by="date") == ["v2", "v3"]
    counts = asked(source)
    assert counts.pop("GET /api/v1/repository/team/app/tag/") == 1
    assert counts == {"GET tags/list": 1, "HEAD manifests": 1, "GET manifests": 1, "GET blobs": 1}


async def test_dates_of_images_take_over(world: World) -> None:
    """Where the API of a registry gives no dates, those of the images count, and a remark says why."""
    source = await filled(world, {"v1": 1, "v2": 2, "v3": 3})
    source.faults.on("GET", "/api/v1/", times=None).status(403)
    *tags, remark = await dated(world, source, newest=2, by="date")
    assert tags == ["v1", "v2"]
    assert remark.startswith(f"dates are those of the images, since the registry's API gave none: {source.host}: GET /")
    assert "status 403" in remark
    assert asked(source)["HEAD manifests"] == 3


async def test_a_limited_rate_defers_the_choice(world: World) -> None:
    """A 429 of the API is not answered by asking the registry for every image."""
    source = await filled(world, {"v1": 1, "v2": 2})
    source.faults.on("GET", "/api/v1/", times=None).status(429, headers={"Retry-After": "3600"})
    with pytest.raises(ThrottledError, match="ask again in 1 h"):
        await dated(world, source, newest=1, by="date")
    assert asked(source)["HEAD manifests"] == 0


@pytest.mark.parametrize(
    ("tags", "whys"),
    [
        (
            {"newest": 1},
            {"v1": "left out: older than the newest", "v2": "chosen: the newest"},
        ),
        (["v2", "w*"], {"v2": "chosen: named in tags", "v1": "left out: no pattern of tags matches it"}),
        (["v1"], {"v1": "chosen: named in tags"}),  # a list without globs costs no listing, and has no other tags
    ],
)
async def test_a_plan_explains_each_tag(world: World, tags: Any, whys: Mapping[str, str]) -> None:
    """Where that is asked for, a plan says of every listed tag why it is mirrored or not."""
    source, target = await filled(world, {"v1": 2, "v2": 1}), await world.registry("target")
    mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": tags}, target)
    plan = await world.plan(replace(mirror, explain=True))
    assert {one.tag: one.why for one in plan.verdicts} == whys
    assert (await world.plan(mirror)).verdicts == ()


async def test_the_tags_of_a_list_are_explained(world: World) -> None:
    """In a plan of many images each tag has the name of its repository in front."""
    source, target = await filled(world, {"v1": 2, "v2": 1}), await world.registry("target")
    (world.folder / "images.txt").write_text(f"{source.host}/team/app\n")
    made = world.mirror({"list": str(world.folder / "images.txt"), "tags": {"newest": 1}}, target)
    plan = await world.plan(replace(made, explain=True))
    assert {one.tag: one.chosen for one in plan.verdicts} == {
        f"{source.host}/team/app:v1": False,
        f"{source.host}/team/app:v2": True,
    }


async def test_an_image_with_many_tags_is_read_once(world: World) -> None:
    """Each tag costs its HEAD, but the date of one image is read once, whatever the number of its tags."""
    source = await filled(world, {"v0": 3})
    image = build_image(["linux/amd64"], index=False, layers=1, created="2024-05-01T00:00:00Z")
    await push(image, source, "team/app", [f"v1.{number}" for number in range(100)])
    repository = Repository(world.services.http, Reference.parse(f"{source.host}/team/app"))
    found = await TagDates(repository).find(list(source.tags["team/app"]))
    assert len(found) == 101
    assert asked(source) == {"HEAD manifests": 101, "GET manifests": 2, "GET blobs": 2}
