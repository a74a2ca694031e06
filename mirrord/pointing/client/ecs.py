"""Containers of a task definition of Amazon ECS and Fargate. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from mirrord.pointing.client.images import ImageFile, Images, by_service
from mirrord.pointing.client.mirror import ClientFile, ClientSetup

_FILE: Final = "task-definition.json"


def setup(images: Images, _: Mapping[str, Sequence[str]]) -> ClientSetup:
    """Return a container for each repository, with the last of its tags."""
    named = by_service(images)
    containers = [{"name": name, "image": str(one.place)} for name, one in named.items()]
    private = {
        one.place.domain
        for one in named.values()
        if not one.place.domain.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    }
    return ClientSetup(
        (ClientFile(_FILE, json.dumps({"containerDefinitions": containers}, indent=2) + "\n", part=True),),
        f"aws ecs register-task-definition --cli-input-json file://{_FILE}",
        (
            "keep the containers alone that your task has; ECS has no setting for a mirror",
            "Fargate pulls by TLS with a public authority alone, from where the network of the task can reach it",
            *(("for a login write repositoryCredentials: {credentialsParameter: ARN of a secret}",) if private else ()),
        ),
    )


ECS: Final = ImageFile("ecs", setup)
