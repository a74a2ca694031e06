"""`create:` of a target at Harbor: projects that nobody created."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import Mirror, Target
from mirrord.testing import Exchange, Registry, build_image, push
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply, refusal
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.secret import Credential, Secret
from tests.support.auth import Auth
from tests.support.world import IMAGE, World, by_target, open_world

ROBOT = ("robot$mirror", "a-secret-of-harbor")


class Harbor(Registry):
    """A registry with projects; what it says of a missing one is from src/server/middleware/v2auth/auth.go.

    Attributes:
        projects: those that exist.
        requests: bodies of requests to create one (api/v2.0/swagger.yaml, ProjectReq).
        status: of the answer to such a request, if it is refused.
    """

    def __init__(self) -> None:
        super().__init__(auth=Auth(basic=ROBOT))
        self.projects = dict[str, Any]()
        self.requests = list[Any]()
        self.status = 201

    async def _reply(self, exchange: Exchange, intake: Intake) -> Reply:
        if exchange.matches("POST", "/api/v2.0/projects"):
            if denied := self.auth and self.auth.check(exchange.headers.get("authorization", ""), (), ""):
                return denied
            self.requests.append(json.loads(await intake.read(4096) or b""))
            name = self.requests[-1]["project_name"]
            if self.status == 201 and name in self.projects:
                return refusal(409, "CONFLICT", f"The project named {name} already exists")
            if self.status == 201:
                self.projects[name] = self.requests[-1]
                return Reply(201, {"Location": "/api/v2.0/projects/1"})
            return refusal(self.status, "FORBIDDEN", "forbidden")
        project = exchange.path.removeprefix("/v2/").partition("/")[0]
        if exchange.headers.get("authorization") and project and project not in self.projects:
            return refusal(401, "UNAUTHORIZED", f"project {project} not found", {"Www-Authenticate": ""})
        return await super()._reply(exchange, intake)


@pytest.fixture
async def harbor() -> AsyncIterator[Harbor]:
    async with Harbor() as made:
        yield made


@pytest.fixture
async def world(harbor: Harbor, tmp_path: Path) -> AsyncIterator[World]:
    policy = HostPolicy(harbor.host, Credential(ROBOT[0], Secret(ROBOT[1])), profile="harbor")
    async with open_world(tmp_path, book=HostBook({harbor.host: policy})) as world:
        yield world


async def mirror(world: World, harbor: Harbor, create: dict[str, Any] | None) -> Mirror:
    source = await world.registry("source")
    await push(build_image(layers=4), source, "team/app", ["v1"])
    options = IMAGE.target_spec.model_validate({} if create is None else {"create": create})
    made = world.mirror({"repository": f"{source.host}/team/app:v1"})
    return replace(made, targets=(Target("harbor", "image", f"{harbor.host}/cache", options),))


async def test_a_project_is_created_once(world: World, harbor: Harbor) -> None:
    """The push comes first; then the project is created with what `create:` says, and the push goes on."""
    run = await world.run(await mirror(world, harbor, {"public": True, "storage_limit": "10GiB"}))
    assert run.result is Result.SUCCESS, [one.detail for one in run.receipts]
    wanted = {"project_name": "cache", "metadata": {"public": "true"}, "storage_limit": 10 << 30}
    assert harbor.requests == [wanted]
    assert "v1" in harbor.content.tags["cache/app"]


async def test_a_project_that_somebody_else_created_meanwhile(world: World, harbor: Harbor) -> None:
    """409 is success: the push goes on."""
    made = await mirror(world, harbor, {})
    post = harbor.faults.on("POST", "/uploads/")
    post.status(401, body=b'{"errors": [{"code": "UNAUTHORIZED", "message": "project cache not found"}]}')
    harbor.projects["cache"] = {}
    assert (await world.run(made)).result is Result.SUCCESS
    assert harbor.requests == [{"project_name": "cache"}]


async def test_harbor_creates_no_project(world: World, harbor: Harbor) -> None:
    """The error says who may create one; it is asked for once."""
    harbor.status = 403
    receipt = by_target(await world.run(await mirror(world, harbor, {})))["harbor"]
    assert receipt.outcome is Outcome.REFUSED
    assert "let an administrator create project cache" in receipt.detail
    assert ROBOT[1] not in receipt.detail
    assert len(harbor.requests) == 1


async def test_without_create_the_error_says_what_to_write(world: World, harbor: Harbor) -> None:
    """Nothing is created that nobody wants."""
    receipt = by_target(await world.run(await mirror(world, harbor, None)))["harbor"]
    assert "project cache not found" in receipt.detail
    assert "write `create: {}` at the target" in receipt.detail
    assert harbor.requests == []
