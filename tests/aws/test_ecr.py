"""Mirroring to Amazon ECR: who we are is found out, and what nobody created is created."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto.ecr.exceptions import InvalidParameterException, LimitExceededException

from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import Mirror, Target
from mirrord.testing import build_image, push
from mirrord.wire.ecr import ecr_registry
from mirrord.wire.host import HostBook
from mirrord.wire.keyring import Keyrings
from mirrord.wire.vendors.aws import create_repository
from tests.support.ecr import Ecr, backend
from tests.support.world import IMAGE, World, by_target, open_world

PULL = {"Sid": "allow-all-pull", "Effect": "Allow", "Principal": "*", "Action": ["ecr:BatchGetImage"]}
WRONG = {"Version": "2008-10-17", "Statement": [{"Effect": "Perhaps"}]}


@pytest.fixture
async def world(ecr: Ecr, tmp_path: Path) -> AsyncIterator[World]:
    policies = {ecr.host: ecr.policy}
    async with open_world(tmp_path, book=HostBook(policies, Keyrings(policies))) as world:
        yield world


async def image(world: World, ecr: Ecr, create: dict[str, Any] | None, name: str = "app") -> Mirror:
    """Make a mirror of an image with six layers to the registry."""
    source = await world.registry(f"source-{name}")
    await push(build_image(layers=6), source, "team/app", ["v1"])
    mirror = world.mirror({"repository": f"{source.host}/team/app:v1"}, name=name)
    options = IMAGE.target_spec.model_validate({} if create is None else {"create": create})
    return replace(mirror, targets=(Target("ecr", "image", f"{ecr.host}/mirror", options),))


def counted(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> list[str]:
    """Return the names of repositories that AWS is asked to create, from now on; with an error it creates none."""
    asked, create = list[str](), type(backend()).create_repository

    def count(self: Any, repository_name: str, *arguments: Any, **more: Any) -> Any:
        asked.append(repository_name)
        if error:
            raise error
        return create(self, repository_name, *arguments, **more)

    monkeypatch.setattr(type(backend()), "create_repository", count)
    return asked


async def test_what_nobody_created_is_created_once(world: World, ecr: Ecr, monkeypatch: pytest.MonkeyPatch) -> None:
    """The push comes first; for all its blobs the repository is created once, with all that `create:` says."""
    asked = counted(monkeypatch)
    create = {
        "mutability": "immutable",
        "scan": True,
        "encryption": {"type": "kms", "key": "alias/images"},
        "tags": {"team": "platform"},
        "policy": {"Version": "2008-10-17", "Statement": [PULL]},
    }
    mirror = await image(world, ecr, create)
    assert (await world.run(mirror)).result is Result.SUCCESS
    assert asked == ["mirror/app"]
    made = ecr.repositories["mirror/app"]
    assert made.image_tag_mutability == "IMMUTABLE"
    assert made.image_scanning_configuration == {"scanOnPush": True}
    assert made.encryption_configuration == {"encryptionType": "KMS", "kmsKey": "alias/images"}
    assert backend().tagger.get_tag_dict_for_resource(made.arn) == {"team": "platform"}
    assert json.loads(made.policy)["Statement"][0]["Sid"] == "allow-all-pull"
    ecr.asked.clear()
    world.later(days=1)
    assert (await world.run(mirror)).result is Result.NOOP
    assert (ecr.asked, asked) == (["HEAD /v2/mirror/app/manifests/v1"], ["mirror/app"])


async def test_without_create_the_error_says_what_to_write(world: World, ecr: Ecr) -> None:
    """Nothing is created that nobody wants, and the step fails with the key that would do it."""
    run = await world.run(await image(world, ecr, None))
    receipt = by_target(run)["ecr"]
    assert receipt.outcome is Outcome.REFUSED
    assert "NAME_UNKNOWN" in receipt.detail
    assert "write `create: {}` at the target" in receipt.detail
    assert ecr.repositories == {}


async def test_a_full_quota_ends_creation_for_the_target(
    world: World, ecr: Ecr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS is asked once; the other blobs, and other repositories a moment later, are told why by their name."""
    asked = counted(monkeypatch, LimitExceededException("The repository limit of 10000 was reached"))
    for name in ("app", "other"):
        receipt = by_target(await world.run(await image(world, ecr, {}, name)))["ecr"]
        assert receipt.outcome is Outcome.REFUSED
        assert receipt.detail.count("could not be created") == 1
        assert f"/mirror/{name} could not be created: " in receipt.detail
        assert "LimitExceededException" in receipt.detail
        assert "ask AWS for a higher quota" in receipt.detail
    assert len(asked) == 1


async def test_what_is_wrong_with_one_repository_ends_creation_for_no_other(
    world: World, ecr: Ecr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS does not take one repository: the next one is asked for all the same."""
    asked = counted(monkeypatch, InvalidParameterException("Invalid parameter at 'repositoryName'"))
    for name in ("app", "other"):
        receipt = by_target(await world.run(await image(world, ecr, {}, name)))["ecr"]
        assert (receipt.outcome, "InvalidParameterException" in receipt.detail) == (Outcome.REFUSED, True)
    assert len(asked) == 2


async def test_who_is_stopped_between_creation_and_policy_sets_it_all_the_same(
    ecr: Ecr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped while the repository is created leaves none without its policy."""
    begun, go, done = threading.Event(), threading.Event(), threading.Event()
    create, set_policy = type(backend()).create_repository, type(backend()).set_repository_policy

    def wait(self: Any, *arguments: Any, **more: Any) -> Any:
        begun.set()
        assert go.wait(10)
        return create(self, *arguments, **more)

    def tell(self: Any, *arguments: Any, **more: Any) -> Any:
        try:
            return set_policy(self, *arguments, **more)
        finally:
            done.set()

    monkeypatch.setattr(type(backend()), "create_repository", wait)
    monkeypatch.setattr(type(backend()), "set_repository_policy", tell)
    registry = ecr_registry(ecr.policy)
    assert registry
    policy = json.dumps({"Version": "2008-10-17", "Statement": [PULL]})
    task = asyncio.create_task(create_repository(registry, "mirror/app", {}, policy))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.wait([task])
    go.set()
    assert await asyncio.to_thread(done.wait, 10)
    assert json.loads(ecr.repositories["mirror/app"].policy)["Statement"][0]["Sid"] == "allow-all-pull"


async def test_a_repository_that_stays_without_its_policy_is_named(
    world: World, ecr: Ecr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS refuses the policy, and does not remove the repository again: the error says both."""

    def refuse(*_: Any, **__: Any) -> None:
        raise InvalidParameterException("not now")

    monkeypatch.setattr(type(backend()), "delete_repository", refuse)
    receipt = by_target(await world.run(await image(world, ecr, {"policy": WRONG})))["ecr"]
    assert "ecr:SetRepositoryPolicy" in receipt.detail
    assert "; mirror/app stays without its policy (" in receipt.detail


async def test_a_repository_without_its_policy_does_not_stay(world: World, ecr: Ecr) -> None:
    """AWS refuses the policy: the repository is removed again, so that the next run neither skips nor forgets it."""
    mirror = await image(world, ecr, {"policy": WRONG})
    for _ in range(2):
        receipt = by_target(await world.run(mirror))["ecr"]
        assert receipt.outcome is Outcome.REFUSED
        assert "ecr:SetRepositoryPolicy" in receipt.detail
        assert ecr.repositories == {}
