"""Which tags the lines of each form of list take, from a registry that has many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mirrord.model.origin import ConfigOrigin
from mirrord.model.run import Result
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry, build_image, push
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from tests.support.dated import DatedRegistry
from tests.support.world import World

TAGS = (
    *("1.23.9", "1.24.0", "1.24.4", "1.24.4-alpine", "1.25", "1.25.3", "1.25.3-alpine", "1.25.4", "1.26.0-rc.1"),
    *("2.0.0-beta1", "latest", "nightly", "1.25.4-nanoserver", "stable"),
)


async def mirrored(
    world: World, file: str, line: str, *, result: Result = Result.SUCCESS, **keys: Any
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the tags that are mirrored for one line (`HOST` stands for the registry), and the problems."""
    source: Registry = await world.registry("source")
    for tag in TAGS:
        await push(build_image(["linux/amd64"], index=False, layers=1, seed=tag), source, "app", [tag])
    (world.folder / file).write_text(line.replace("HOST", source.host))
    mirror = replace(world.mirror({"list": file, **keys}, LOCAL), origin=ConfigOrigin(str(world.folder / "a.yaml"), 1))
    run = await world.run(mirror)
    assert run.result is result, run.error
    return sorted(world.local_tags(f"{source.host.replace(':', '_')}/app")), run.problems


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("mirror.txt", r"HOST/app:^1\.25", ["1.25", "1.25.3", "1.25.3-alpine", "1.25.4", "1.25.4-nanoserver"]),
        ("mirror.txt", "HOST/app:alpine$\nHOST/app:^stable", ["1.24.4-alpine", "1.25.3-alpine", "stable"]),
        ("x-weekly.txt", "HOST/app", ["1.24.4", "1.24.4-alpine", "1.25.3-alpine", "1.25.4"]),
        ("x.txt", "HOST/app:1.25\nHOST/app:stable", ["1.25", "stable"]),
    ],
)
async def test_forms(world: World, file: str, line: str, expected: list[str]) -> None:
    """The name of a file says its form, and lines of one repository come together."""
    assert await mirrored(world, file, line) == (expected, ())


async def test_releases_where_a_line_has_no_pattern(world: World) -> None:
    """Of form `patterns` a name alone means releases: numbers in front, no pre-releases."""
    tags, _ = await mirrored(world, "mirror.txt", "HOST/app")
    early = {"1.26.0-rc.1", "2.0.0-beta1"}
    assert tags == sorted(tag for tag in TAGS if tag[0].isdigit() and tag not in early)


async def test_daily_leaves_out_early_ones_and_windows(world: World) -> None:
    """Of form `daily` all tags but alpha, beta and Windows."""
    tags, _ = await mirrored(world, "x-daily.txt", "HOST/app")
    assert tags == sorted({*TAGS} - {"2.0.0-beta1", "1.25.4-nanoserver"})


async def test_form_overrides_the_name(world: World) -> None:
    """`form:` says what the lines are, whatever the file is called."""
    tags, _ = await mirrored(world, "images.txt", "HOST/app:^nightly$", form="patterns")
    assert tags == ["nightly"]


async def test_tags_of_the_mirror_for_lines_without_any(world: World) -> None:
    """The mirror's `tags` are for lines without a tag or a pattern; those that have one keep theirs."""
    tags, _ = await mirrored(world, "images.txt", "HOST/app\nHOST/app:stable", tags={"versions": ">=1.25", "newest": 1})
    assert tags == ["1.25.3-alpine", "1.25.4", "1.25.4-nanoserver", "stable"]


async def test_a_pattern_that_is_none_is_a_problem(world: World) -> None:
    """A regular expression that cannot be compiled is reported with its line, and the others are mirrored."""
    tags, problems = await mirrored(world, "mirror.txt", "HOST/app:(\nHOST/app:^stable$")
    assert tags == ["stable"]
    (problem,) = problems
    assert problem.startswith(f"{world.folder}/mirror.txt:1: ")


async def test_rules_that_differ_are_a_problem(world: World) -> None:
    """A name alone and a pattern of the same repository have different rules: the second line is reported."""
    tags, problems = await mirrored(world, "mirror.txt", "HOST/app:^stable$\nHOST/app")
    assert tags == ["stable"]
    assert len(problems) == 1
    assert problems[0].startswith(f"{world.folder}/mirror.txt:2: ")
    assert "has other rules at line 1; join the two lines" in problems[0]


async def test_a_tag_with_a_digest_and_without_is_a_problem(world: World) -> None:
    """One tag cannot be two things: beside a line without a digest, and beside one with another, it is left out."""
    one, two = (f"sha256:{digit * 64}" for digit in "12")
    lines = f"HOST/app:stable@{one}\nHOST/app:stable\nHOST/app:pin@{one}\nHOST/app:pin@{two}\n"
    tags, problems = await mirrored(world, "x.txt", lines, result=Result.PARTIAL)  # `pin` is nowhere
    assert tags == ["stable"]
    assert [problem.split(": ", 1)[0].rpartition(":")[2] for problem in problems] == ["4", "1"]
    assert "app:pin has another digest at line 3; remove one of them" in problems[0]
    assert "app:stable is also listed without a digest; remove one of them" in problems[1]


async def test_daily_asks_no_more_for_what_is_settled(world: World) -> None:
    """A tag that the registry says was pushed over 10 days ago costs no HEAD once it is mirrored; others cost one."""
    source = await world.stack.enter_async_context(DatedRegistry(name="source", wire=world.wire))
    source.pushed = pushed = {
        "1.0": "2024-01-01T00:00:00Z",
        "1.1": "2024-05-06T00:00:00Z",
        "latest": "2024-05-16T00:00:00Z",
    }
    for tag in (*pushed, "undated"):
        await push(build_image(["linux/amd64"], index=False, layers=1, seed=tag), source, "team/app", [tag])
    (world.folder / "x-daily.txt").write_text(f"{source.host}/team/app")
    mirror = world.mirror({"list": "x-daily.txt"}, LOCAL)
    mirror = replace(mirror, origin=ConfigOrigin(str(world.folder / "a.yaml"), 1))
    book = HostBook({source.host: HostPolicy(source.host, profile="harbor")})
    async with Http(book, jitter=lambda: 0.0) as http:
        world.services = replace(world.services, http=http)
        asked = []
        for _ in range(2):
            source.forget()
            assert (await world.run(mirror)).result in (Result.SUCCESS, Result.NOOP)
            asked.append(sorted(one.path.rpartition("/")[2] for one in source.log if one.method == "HEAD"))
        assert asked == [["1.0", "1.1", "latest", "undated"], ["latest", "undated"]]
        moved = build_image(["linux/amd64"], index=False, layers=1, seed="moved")
        await push(moved, source, "team/app", ["1.0"])
        pushed["1.0"] = (world.now - timedelta(days=1)).isoformat()
        assert (await world.run(mirror)).result is Result.SUCCESS
        name = f"{source.host.replace(':', '_')}/team/app"
        assert world.local_tags(name)["1.0"] == source.tags["team/app"]["1.0"]
        pushed["1.1"] = (world.now + timedelta(days=1)).isoformat()
        await push(moved, source, "team/app", ["1.1"])
        world.later(days=20)
        assert (await world.run(mirror)).result is Result.SUCCESS, "what was pushed in a pause of 20 days is missed"
        assert world.local_tags(name)["1.1"] == source.tags["team/app"]["1.1"]
