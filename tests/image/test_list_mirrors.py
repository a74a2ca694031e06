"""One mirror of the images that a file lists; the file is read anew in each run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.events import Retrying
from mirrord.model.origin import ConfigOrigin
from mirrord.model.run import Result
from mirrord.names.book import NameBook
from mirrord.names.naming import parse_naming
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.testing import Registry, build_image, push
from mirrord.testing.images import Image
from mirrord.wire.http.message import Limits
from tests.support.world import World, open_world

Images = Mapping[str, Image]


async def filled(world: World, name: str, *references: str) -> tuple[Registry, Images]:
    source, images = await world.registry(name), {}
    for reference in references:
        repository, _, tag = reference.partition(":")
        images[reference] = build_image(["linux/amd64"], index=False, layers=1, seed=name + reference)
        await push(images[reference], source, repository, [tag])
    return source, images


def listing(world: World, *targets: Registry | str, name: str = "images.txt", **keys: Any) -> Mirror:
    """Return the mirror of a list beside the configuration of the world."""
    mirror = world.mirror({"list": name, **keys}, *targets)
    return replace(mirror, origin=ConfigOrigin(str(world.folder / "all.yaml"), 1))


def write(world: World, *lines: str, name: str = "images.txt") -> Path:
    path = world.folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def called(registry: Registry, path: str) -> str:
    return f"{registry.host.replace(':', '_')}/{path}"


async def test_images_of_many_registries(world: World) -> None:
    """Each line is mirrored under its own name: a tag, the tags of the mirror where it has none, or a digest."""
    one, images = await filled(world, "one", "team/web:v1", "team/web:v2", "team/db:v1", "team/db:latest")
    two, _ = await filled(world, "two", "tool:v9", "tool:v8")
    target = await world.registry("target")
    digest = images["team/db:v1"].digest
    write(world, "# what we run", f"{one.host}/team/web:v1", "", f"{two.host}/tool", f"{one.host}/team/db:pin@{digest}")
    run = await world.run(listing(world, target, LOCAL, tags=["v*"]))
    assert run.result is Result.SUCCESS, run
    expected = {
        called(one, "team/web"): {"v1": images["team/web:v1"].digest},
        called(one, "team/db"): {"pin": digest},
        called(two, "tool"): two.tags["tool"],
    }
    assert target.tags == {f"mirror/{name}": tags for name, tags in expected.items()}
    assert {name: world.local_tags(name) for name in expected} == expected
    assert run.plan
    assert {step.source for step in run.plan.steps} == {one.host, two.host}  # none waits for a slow other one
    assert (await world.run(listing(world, target, LOCAL, tags=["v*"]))).result is Result.NOOP


@pytest.mark.parametrize("tags", [["v*"], {"match": ["v*"]}], ids=["globs", "rules"])
async def test_a_tag_with_a_digest_is_not_for_globs(world: World, tags: Any) -> None:
    """The line with the digest decides what a tag is, also while it fails; globs and rules of others leave it alone."""
    one, images = await filled(world, "one", "web:v1", "web:v2", "web:v3")
    target = await world.registry("target")
    pins = images["web:v1"].digest
    write(world, f"{one.host}/web", f"{one.host}/web:v2@{pins}", f"{one.host}/web:v3@sha256:{'0' * 64}")
    mirror = listing(world, target, tags=tags)
    run = await world.run(mirror)
    assert run.result is Result.PARTIAL
    assert target.tags == {f"mirror/{called(one, 'web')}": {"v1": pins, "v2": pins}}
    await world.run(mirror)
    assert target.count("PUT", "/manifests/v") == 2
    plan = await world.plan(replace(mirror, explain=True))
    assert {one.tag[-2:]: one.why for one in plan.verdicts if not one.chosen} == dict.fromkeys(
        ("v2", "v3"), "left out: it is listed with a digest"
    )


async def test_without_tags_a_line_means_latest(world: World) -> None:
    """A line without a tag means `latest` where the mirror names no tags."""
    one, images = await filled(world, "one", "team/db:v1", "team/db:latest")
    target = await world.registry("target")
    write(world, f"{one.host}/team/db")
    await world.run(listing(world, target))
    assert target.tags == {f"mirror/{called(one, 'team/db')}": {"latest": images["team/db:latest"].digest}}


async def test_a_changed_list_counts_at_the_next_run(world: World) -> None:
    """Lines that come are mirrored, and lines that go remove nothing."""
    one, _ = await filled(world, "one", "team/web:v1", "team/db:v1")
    target = await world.registry("target")
    write(world, f"{one.host}/team/web:v1")
    await world.run(listing(world, target))
    write(world, f"{one.host}/team/db:v1")
    run = await world.run(listing(world, target))
    assert run.plan
    assert [step.item for step in run.plan.steps] == [f"{one.host}/team/db:v1"]
    assert {*target.tags} == {f"mirror/{called(one, path)}" for path in ("team/web", "team/db")}


async def test_bad_lines_are_problems_and_left_out(world: World) -> None:
    """A bad line is reported with file and line, and the others go on."""
    one, _ = await filled(world, "one", "team/web:v1")
    target = await world.registry("target")
    path = write(world, "Not An Image", f"{one.host}/team/web:v1", f"{one.host}/Team/DB")
    run = await world.run(listing(world, target))
    assert run.result is Result.SUCCESS
    assert [problem.partition(": ")[0] for problem in run.problems] == [f"{path}:1", f"{path}:3"]


@pytest.mark.parametrize(
    ("lines", "why"), [(None, "does not exist"), ((), "names no image"), (("# later",), "names no image")]
)
async def test_a_list_that_is_empty_or_gone_changes_nothing(
    world: World, lines: tuple[str, ...] | None, why: str
) -> None:
    """The run fails with the name of the file, and neither targets nor the record lose anything."""
    one, _ = await filled(world, "one", "team/web:v1")
    target = await world.registry("target")
    path = write(world, f"{one.host}/team/web:v1")
    await world.run(listing(world, target, LOCAL))
    before = dict(target.tags)
    if lines is None:
        path.unlink()
    else:
        write(world, *lines)
    run = await world.run(listing(world, target, LOCAL))
    assert (run.result, run.code, run.receipts) == (Result.FAILED, "config", ())
    assert run.error.startswith(f"{path}: {why}")
    write(world, f"{one.host}/team/web:v1")
    world.wire.exchanges.clear()
    assert (await world.run(listing(world, target, LOCAL))).result is Result.NOOP
    assert [(one.server, one.method) for one in world.wire.exchanges] == [("one", "HEAD")]
    assert target.tags == before


async def test_a_list_of_bad_lines_has_a_short_error(world: World) -> None:
    """Of thousands of bad lines, as of a page that was saved as a list, the first ones are in the error."""
    path = write(world, *(f"<p>line {number}</p>" for number in range(5000)))
    run = await world.run(listing(world, LOCAL))
    assert run.error.startswith(f"{path}: names no image, so nothing is changed; write one a line; {path}:1: ")
    assert [part.partition(": ")[0] for part in run.error.split("; ") if part.startswith(str(path))][1:] == [
        f"{path}:{number}" for number in range(1, 21)
    ]


async def test_registries_take_turns(world: World) -> None:
    """Images are copied from one registry after the other, however the list is sorted."""
    one, _ = await filled(world, "one", "a:v1", "b:v1", "c:v1", "d:v1")
    two, _ = await filled(world, "two", "e:v1", "f:v1")
    write(world, *(f"{one.host}/{app}:v1" for app in "abcd"), *(f"{two.host}/{app}:v1" for app in "ef"))
    plan = await world.plan(listing(world, LOCAL))
    assert [step.item.rpartition("/")[2][0] for step in plan.steps] == [*"aebfcd"]


async def test_a_registry_that_is_gone_delays_nobody(world: World) -> None:
    """The images of a registry that cannot be reached are missing; those of the others are mirrored."""
    one, _ = await filled(world, "one", "a:v1")
    two, _ = await filled(world, "two", "e:v1", "f:v1")
    target = await world.registry("target")
    write(world, f"{two.host}/e:v1", f"{two.host}/f:v1", f"{one.host}/a:v1")
    await two.stop()
    run = await world.run(listing(world, target))
    assert run.result is Result.PARTIAL
    assert {*target.tags} == {f"mirror/{called(one, 'a')}"}
    assert run.plan
    (missing,) = run.plan.missing
    assert missing.startswith(f"{two.host}: ")
    assert missing.endswith("; images that were not read: 2")


@pytest.mark.parametrize("which", ["target", "source"])
async def test_a_host_that_is_gone_is_not_tried_for_each_image(world: World, which: str) -> None:
    """A registry that cannot be reached costs the tries of a few images, not of all; the others are mirrored."""
    count, tries = 40, []
    one, _ = await filled(world, "one", *(f"app{number}:v1" for number in range(count)))
    good, gone = await world.registry("good"), await world.registry("gone")
    lost = [f"{gone.host}/app{number}:v1" for number in range(count)] if which == "source" else []
    write(world, *lost, *(f"{one.host}/app{number}:v1" for number in range(count)))
    await gone.stop()
    world.services.events.listen(lambda event: tries.append(event) if isinstance(event, Retrying) else None)
    run = await world.run(listing(world, good, *([gone] if which == "target" else [])))
    assert (run.result, len(good.tags)) == (Result.PARTIAL, count)
    assert 0 < len(tries) < count / 2
    bad = [receipt for receipt in run.receipts if receipt.bad]
    assert {(receipt.step.target, receipt.code) for receipt in bad} == (
        {("gone", "unreachable")} if not lost else set()
    )
    assert len(bad) == (0 if lost else count)


@pytest.mark.parametrize("trouble", ["silence", "throttled", "down"])
async def test_a_registry_in_trouble_is_not_asked_for_each_image(tmp_path: Path, trouble: str) -> None:
    """After a few images without an answer the rest of that registry is left for the next run; others are mirrored."""
    async with open_world(tmp_path, limits=Limits(stall=1.0, attempts=1)) as world:
        one, _ = await filled(world, "one", "a:v1")
        mute, target = await world.registry("mute"), await world.registry("target")
        fault = mute.faults.on("HEAD", "/", times=None)
        if trouble == "silence":
            fault.hold()
        else:
            fault.status(429 if trouble == "throttled" else 503)
        write(world, *(f"{mute.host}/app{number}:v1" for number in range(40)), f"{one.host}/a:v1")
        run = await world.run(listing(world, target))
        assert run.result is (Result.DEFERRED if trouble == "throttled" else Result.PARTIAL)
        assert {*target.tags} == {f"mirror/{called(one, 'a')}"}
        assert run.plan
        tried = sum(f"{mute.host}/app" in missing for missing in run.plan.missing)
        assert 4 <= tried < 8  # the other three workers may have begun another one
        assert 0 < mute.count("HEAD", "/manifests/") <= tried  # who is told to wait stops those that have not asked yet
        assert run.plan.missing[0].endswith(f"; images that were not read: {40 - tried}")


async def test_one_image_without_an_answer_costs_itself(tmp_path: Path) -> None:
    """A registry that answers for other images is read to the end."""
    async with open_world(tmp_path, limits=Limits(stall=1.0, attempts=1)) as world:
        one, _ = await filled(world, "one", *(f"app{number}:v1" for number in range(12)))
        target = await world.registry("target")
        for number in (1, 4, 7, 10):
            one.faults.on("HEAD", f"/app{number}/", times=None).hold()
        write(world, *(f"{one.host}/app{number}:v1" for number in range(12)))
        run = await world.run(listing(world, target))
        assert (run.result, len(target.tags)) == (Result.PARTIAL, 8)


async def test_a_name_that_another_mirror_writes_is_left_out(world: World) -> None:
    """An image whose name at a target belongs to a mirror of another source is a problem with both places."""
    one, _ = await filled(world, "one", "team/web:v1", "team/db:v1", "other:v1")
    target = await world.registry("target")
    path = write(world, f"{one.host}/team/web:v1", f"{one.host}/team/db:v1")
    keys: dict[str, Any] = {"as": called(one, "team/db")}
    other = world.mirror({"repository": f"{one.host}/other:v1"}, target, **keys)
    many = listing(world, target)
    world.services = replace(world.services, mirrors={"image": [other, many]})
    run = await world.run(many)
    place = f"{target.host}/mirror/{called(one, 'team/db')}"
    what = f"{one.host}/team/db is called {place}, and so is {one.host}/other (command line); remove one of them"
    assert run.problems == (f"{path}:2: {what}",)
    assert {*target.tags} == {f"mirror/{called(one, 'team/web')}"}


async def test_two_lists_do_not_write_one_name_in_turns(world: World) -> None:
    """The first list has a name or a pinned tag that a later one gives to other content, also after loading."""
    one, images = await filled(world, "one", "web:v1", "web:v2", "db:v1")
    two, _ = await filled(world, "two", "db:v1")
    target = await world.registry("target")
    old, new = (images[f"web:{tag}"].digest for tag in ("v1", "v2"))
    book = NameBook(naming=parse_naming("{path}"))
    first, later = (
        replace(listing(world, target, name=f"{name}.txt"), name=name, names=book) for name in ("first", "later")
    )
    world.services = replace(world.services, mirrors={"image": [first, later]})
    there = write(world, f"{one.host}/web:v1@{old}", f"{one.host}/db:v1", name="first.txt")
    here = write(world, f"{one.host}/web:v1@{new}", f"{two.host}/db:v1", f"{one.host}/web:v2", name="later.txt")
    assert (await world.run(first)).problems == ()
    run = await world.run(later)
    place, pinned = f"{target.host}/mirror", f"{one.host}/web:v1"
    assert sorted(run.problems) == [
        f"{here}:1: {pinned}@{new} is called {place}/web:v1, and so is {pinned}@{old} ({there}:1); remove one of them",
        f"{here}:2: {two.host}/db is called {place}/db, and so is {one.host}/db ({there}:2); remove one of them",
    ]
    assert target.tags == {"mirror/web": {"v1": old, "v2": new}, "mirror/db": one.tags["db"]}
    there.unlink()
    assert (await world.run(later)).problems == ()
