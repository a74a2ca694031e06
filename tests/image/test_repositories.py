"""One mirror of many repositories of a registry: named, or matched by globs in the registry's list."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mirrord.model.ledger import Settled
from mirrord.model.plan import Action
from mirrord.model.run import Result
from mirrord.record.store import open_store
from mirrord.record.summary import RunSummary
from mirrord.syncer.values import LOCAL
from mirrord.testing import Registry, build_image, push
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from tests.support.store import MemoryStore
from tests.support.world import World

APPS = ("team/web", "team/db", "team/tools/lint", "other/app")


async def filled(world: World, *repositories: str, tags: tuple[str, ...] = ("v1", "v2")) -> Registry:
    source = await world.registry("source")
    for repository in repositories:
        for tag in tags:
            image = build_image(["linux/amd64"], index=False, layers=1, seed=f"{repository}:{tag}")
            await push(image, source, repository, [tag])
    return source


def called(registry: Registry) -> str:
    return registry.host.replace(":", "_")


async def test_named_repositories_are_mirrored_under_their_names(world: World) -> None:
    """Each repository has its own name at the targets, and nothing lists the registry for what is named."""
    source, target = await filled(world, *APPS), await world.registry("target")
    keys = {"registry": source.host, "repositories": ["team/web", "other/app"], "tags": ["v*"]}
    run = await world.run(world.mirror(keys, target, LOCAL))
    assert run.result is Result.SUCCESS, run
    assert source.count("GET", "_catalog") == 0
    assert target.tags == {f"mirror/{called(source)}/{path}": source.tags[path] for path in ("team/web", "other/app")}
    assert world.local_tags(f"{called(source)}/team/web") == source.tags["team/web"]
    assert run.plan
    assert {step.item for step in run.plan.steps} == {
        f"{source.host}/{path}:{tag}" for path in ("team/web", "other/app") for tag in ("v1", "v2")
    }


async def test_globs_select_from_the_list_of_the_registry(world: World) -> None:
    """A glob takes every repository that the registry lists and it matches, page by page."""
    source, target = await filled(world, *APPS), await world.registry("target")
    source.protocol.page_size = 2
    run = await world.run(world.mirror({"registry": source.host, "repositories": ["team/*"], "tags": ["v1"]}, target))
    assert run.result is Result.SUCCESS, run
    assert source.count("GET", "_catalog") == 2
    assert {*target.tags} == {f"mirror/{called(source)}/{path}" for path in APPS[:3]}


async def test_regular_expressions_select_and_exclusions_leave_out(world: World) -> None:
    """A `/re/` matches the whole path; what `exclude` matches is left out, also where `match` names it."""
    source, target = await filled(world, *APPS, "team/web2", "team/web2/x"), await world.registry("target")
    rules = {"match": ["/team/(web[0-9]?|db)/", "other/app", "team/tools/*"], "exclude": ["*/lint", "/other.*/"]}
    mirror = world.mirror({"registry": source.host, "repositories": rules, "tags": ["v1"]}, target)
    run = await world.run(mirror)
    assert (run.result, run.plan and run.plan.remarks) == (Result.SUCCESS, ())
    assert {*target.tags} == {f"mirror/{called(source)}/team/{app}" for app in ("web", "web2", "db")}
    assert source.count("HEAD", "(other|tools)/") == 0
    listed = world.mirror({"registry": source.host, "repositories": ["/.+/x/"], "tags": ["v1"]}, target)
    assert (await world.run(listed)).result is Result.SUCCESS
    assert f"mirror/{called(source)}/team/web2/x" in target.tags


async def test_an_exclusion_may_match_nothing_but_not_everything(world: World) -> None:
    """An idle exclusion is no remark; one that leaves nothing fails the run, as a glob does that matches nothing."""
    source, target = await filled(world, *APPS), await world.registry("target")
    keys = {"registry": source.host, "tags": ["v1"]}
    rules: dict[str, list[str]] = {"match": ["team/*"], "exclude": ["*/scratch", "/none-.*/"]}
    plan = await world.plan(world.mirror({**keys, "repositories": rules}, target))
    assert (len(plan.steps), plan.remarks, plan.problems) == (3, (), ())
    nothing = f"{source.host}: exclude leaves out every repository that match has; correct from.repositories"
    idle = f"{source.host}: no repository matches /x+/; 4 repositories seen; correct from.repositories"
    for match, said in ((["team/*", "/x+/"], f"{idle}; {nothing}"), (["team/*", "team/new"], nothing)):
        run = await world.run(world.mirror({**keys, "repositories": {"match": match, "exclude": ["team/*"]}}, target))
        assert (run.result, run.error) == (Result.FAILED, said)


async def test_globs_select_from_the_api_of_the_registry(world: World) -> None:
    """With `profile: harbor` the project is listed by Harbor's API; images are read from the registry as always."""
    source, target = await filled(world, *APPS), await world.registry("target")
    names = json.dumps([{"name": name} for name in (*APPS[:3], "team/Not Allowed")]).encode()
    source.faults.on("GET", r"/api/v2\.0/projects/team/repositories\?").status(200, names)
    policy = HostPolicy(source.host, profile="harbor")
    async with Http(HostBook({source.host: policy}), jitter=lambda: 0.0) as http:
        world.services = replace(world.services, http=http)
        keys = {"registry": source.host, "repositories": ["team/*"], "tags": ["v1"]}
        run = await world.run(world.mirror(keys, target))
    assert run.result is Result.SUCCESS, run
    assert (source.count("GET", "_catalog"), source.count("GET", "/api/")) == (0, 1)
    assert {*target.tags} == {f"mirror/{called(source)}/{path}" for path in APPS[:3]}


OFF: dict[str, Any] = {"signatures": {"copy": False}}


async def test_nothing_new_costs_one_head_a_tag(world: World) -> None:
    """Within `trust` no target is asked; after it, one HEAD a tag; without a record, HEADs and no content."""
    source, target = await filled(world, *APPS), await world.registry("target")
    mirror = world.mirror(
        {"registry": source.host, "repositories": [*APPS], "tags": ["v1", "v2"]}, target, LOCAL, **OFF
    )
    assert (await world.run(mirror)).result is Result.SUCCESS
    for hours, store, heads in ((11, world.store, 0), (2, world.store, 8), (0, MemoryStore(), 8)):
        world.later(hours=hours)
        world.store = store
        world.wire.exchanges.clear()
        assert (await world.run(mirror)).result is Result.NOOP
        asked = Counter((one.server, one.method) for one in world.wire.exchanges)
        assert asked == {("source", "HEAD"): 8} | ({("target", "HEAD"): heads} if heads else {})


async def test_a_repository_that_cannot_be_read_fails_alone(world: World) -> None:
    """What does not exist or cannot be read is missing, by its name; the others are mirrored, and it comes later."""
    source, target = await filled(world, *APPS), await world.registry("target")
    source.faults.on("HEAD", "team/db/", times=None).status(403)
    source.faults.on("GET", "team/db/", times=None).status(403)
    keys = {"registry": source.host, "repositories": ["team/web", "team/db", "gone"], "tags": ["v1"]}
    mirror = world.mirror(keys, target)
    run = await world.run(mirror)
    assert run.result is Result.PARTIAL
    assert {*target.tags} == {f"mirror/{called(source)}/team/web"}
    assert run.plan
    db, gone = sorted(run.plan.missing, key=lambda text: "gone" in text)
    assert db.startswith(f"{source.host}/team/db: ")
    assert gone == f"{source.host}/gone:v1 does not exist"


async def test_a_list_that_cannot_be_read_fails_the_run(world: World) -> None:
    """Without its list the registry is not mirrored, and the targets keep everything."""
    source, target = await filled(world, *APPS), await world.registry("target")
    mirror = world.mirror({"registry": source.host, "repositories": ["team/*"], "tags": ["v1"]}, target)
    await world.run(mirror)
    before = {name: dict(tags) for name, tags in target.tags.items()}
    source.faults.on("GET", "_catalog").status(404)
    run = await world.run(mirror)
    assert run.result is Result.FAILED
    assert "_catalog" in run.error
    assert target.tags == before


@pytest.mark.parametrize("listed", [(), ("other/app",)])
async def test_globs_that_match_nothing_fail_the_run(world: World, listed: tuple[str, ...]) -> None:
    """A registry that lists nothing that is wanted is no success of zero images; what is named is mirrored still."""
    source, target = await filled(world, *listed), await world.registry("target")
    keys = {"registry": source.host, "repositories": ["team/*", "tools/*"], "tags": ["v1"]}
    run = await world.run(world.mirror(keys, target))
    assert run.result is Result.FAILED
    seen = f"{len(listed)} repositories seen; correct from.repositories"
    assert run.error == "; ".join(
        f"{source.host}: no repository matches {glob}; {seen}" for glob in keys["repositories"]
    )
    plan = await world.plan(world.mirror({**keys, "repositories": ["team/*", "*/app", *listed]}, target))
    assert plan.remarks == ((f"{source.host}: no repository matches team/*; {seen}",) if listed else ())


async def test_a_list_that_shrank_is_a_guard(world: World) -> None:
    """Far fewer repositories than before make each run partial until `--allow`, with the code `guard`."""
    names = [f"team/app{number}" for number in range(10)]
    facts = await open_store(world.folder / "record.db", world.now)
    world.services = replace(world.services, facts=facts)
    source, target = await filled(world, *names, tags=("v1",)), await world.registry("target")
    mirror = world.mirror({"registry": source.host, "repositories": ["team/*"], "tags": ["v1"]}, target, LOCAL)
    await world.run(mirror)
    for name in names[2:]:
        del source.content.manifests[name], source.content.links[name]
    for allow, stopped in ((False, True), (False, True), (True, False), (False, False)):
        run = await world.run(replace(mirror, allow=allow))
        record = RunSummary.of(run).record
        assert (run.result, record.code) == ((Result.PARTIAL, "guard") if stopped else (Result.NOOP, ""))
        assert [one.result for one in record.targets] == [Result.NOOP] * 2  # they have what is listed
        if stopped:
            assert "no longer lists 8 of 10 repositories" in record.error
            assert "more than 20% of them; they stay at the targets" in record.error
            assert "max_loss" not in record.error  # no key of images
            assert "mirrord sync app --allow" in record.error
    await facts.close()
    assert len(target.tags) == 10


async def test_a_registry_that_lists_nothing_more_is_a_guard(world: World) -> None:
    """Where it listed repositories before, none is an accident, and code and sentence say so; a new glob is not."""
    facts = await open_store(world.folder / "record.db", world.now)
    world.services = replace(world.services, facts=facts)
    source, target = await filled(world, "team/a", "team/b", tags=("v1",)), await world.registry("target")
    keys = {"registry": source.host, "repositories": ["team/*"], "tags": ["v1"]}
    mirror = world.mirror(keys, target)
    await world.run(mirror)
    for name in ("team/a", "team/b"):
        del source.content.manifests[name], source.content.links[name]
    for _ in range(2):
        run = await world.run(mirror)
        assert (run.result, run.code) == (Result.FAILED, "guard")
        assert run.error == (
            f"{source.host}: lists none of the 2 repositories that it listed before (team/a, team/b); nothing is "
            "changed; check the registry and the rights of its credential, or correct from.repositories"
        )
    assert (await world.run(world.mirror({**keys, "repositories": ["tools/*"]}, target))).code == "content"
    await facts.close()
    assert len(target.tags) == 2


async def test_what_is_excluded_later_is_not_lost(world: World) -> None:
    """An exclusion that is added leaves out repositories without a report; the next real loss is reported."""
    names = [f"team/app{number}" for number in range(10)]
    facts = await open_store(world.folder / "record.db", world.now)
    world.services = replace(world.services, facts=facts)
    source, target = await filled(world, *names, tags=("v1",)), await world.registry("target")
    keys = {"registry": source.host, "repositories": ["team/*"], "tags": ["v1"]}
    await world.run(world.mirror(keys, target))
    fewer = world.mirror({**keys, "repositories": {"match": ["team/*"], "exclude": ["/team/app[5-9]/"]}}, target)
    run = await world.run(fewer)
    assert (run.result, run.problems) == (Result.NOOP, ())
    for name in names[:4]:
        del source.content.manifests[name], source.content.links[name]
    plan = await world.plan(fewer)
    assert "no longer lists 4 of 5 repositories" in plan.first_missing
    assert plan.missing_code == "guard"
    await facts.close()


async def test_registries_take_turns_and_short_tags_come_first(world: World) -> None:
    """Of an image `1` comes before `1.25` and that before `1.25.3`."""
    source, target = await filled(world, "team/a", "team/b", tags=("1.25.3", "1", "1.25")), await world.registry("t")
    mirror = world.mirror({"registry": source.host, "repositories": ["team/a", "team/b"], "tags": ["1*"]}, target)
    plan = await world.plan(mirror)
    assert [step.item.removeprefix(f"{source.host}/") for step in plan.steps if step.action is Action.COPY] == [
        f"team/{app}:{tag}" for app in "ab" for tag in ("1", "1.25", "1.25.3")
    ]


@pytest.mark.parametrize("place", ["registry", LOCAL])
async def test_the_ledger_names_the_repository(world: World, place: str) -> None:
    """Moves are recorded as `host/path:tag`, and what a crash left open is settled by asking for that repository."""
    source, target = await filled(world, "team/web", tags=("v1",)), await world.registry("target")
    to = target if place == "registry" else LOCAL
    mirror = world.mirror({"registry": source.host, "repositories": ["team/web"], "tags": ["v1"]}, to)
    await world.run(mirror)
    (entry,) = await world.store.moves("app", unsettled=False)
    digest = source.tags["team/web"]["v1"]
    assert (entry.name, entry.before, entry.after) == (f"{source.host}/team/web:v1", None, digest)
    # as a crash between the push and its outcome leaves it
    entry = replace(entry, run=world.now + timedelta(hours=1), outcome=Settled.OPEN)
    await world.store.intend([entry])
    await world.run(mirror)
    assert {one.outcome for one in await world.store.moves("app", unsettled=False)} == {Settled.DONE}


@pytest.mark.parametrize("tags", [["v*"], {"match": ["v*"]}])
async def test_listed_names_that_are_no_tags_are_a_problem(world: World, tags: object) -> None:
    """What nobody can ask for is left out and counted, and the first ones are said, without what they may hide."""
    source, target = await filled(world, "team/a", tags=("v1",)), await world.registry("target")
    digest = source.tags["team/a"]["v1"]
    bad = ["v1 bad", "v2\x1b[31m\n", "v3é", *(f"v{number}:{'x' * 500}" for number in range(4, 10))]
    source.content.tags["team/a"] |= dict.fromkeys(bad, digest)
    for keys in ({"registry": source.host, "repositories": ["team/*"]}, {"repository": f"{source.host}/team/a"}):
        run = await world.run(world.mirror({**keys, "tags": tags}, target))
        (problem,) = run.problems
        assert problem.startswith(f"{source.host}/team/a: the list of tags has 9 names that are no tags: 'v1 bad', ")
        assert r"'v2\x1b[31m\n', 'v3\xe9', " in problem
        assert problem.endswith(" …")
        assert len(problem) < 500
        assert run.result in (Result.SUCCESS, Result.NOOP)
