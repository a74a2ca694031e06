"""The list of a registry's repositories: pages of real registries, what is no repository, and who may see it."""

from __future__ import annotations

import json

import pytest

from mirrord.errors import ContentError, RefusedError
from mirrord.testing import Registry, build_image, push
from mirrord.testing.servers import DockerRegistry
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci import paging
from mirrord.wire.oci.catalog import list_repositories

NAMES = [f"team/app{number}" for number in range(7)]


async def listed(host: str) -> list[str]:
    async with Http(HostBook()) as http:
        return [name async for name in list_repositories(http, host)]


async def test_a_real_registry_lists_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """All repositories of a real registry come once, however small its pages are."""
    monkeypatch.setattr(paging, "PAGE", 3)
    async with DockerRegistry() as registry:
        assert await listed(registry.host) == []
        image = build_image(["linux/amd64"], layers=1, layer_size=16)
        for name in NAMES:
            await push(image, registry.url, name, ["v1"])
        assert await listed(registry.host) == NAMES


async def test_what_is_no_repository_is_left_out() -> None:
    """Names that nobody can request are left out, and a page without a list is an error, never an empty list."""
    async with Registry() as registry:
        names = ["team/app", "Team/App", 1, "../x", "team/app", None, ""]
        registry.faults.on("GET", "_catalog").answer(json.dumps({"repositories": names}).encode())
        assert await listed(registry.host) == ["team/app"]
        registry.faults.on("GET", "_catalog").answer(b"{}")
        with pytest.raises(ContentError, match="list of repositories: the answer has no `repositories`"):
            await listed(registry.host)


async def test_a_registry_without_a_list_refuses() -> None:
    """A registry that has no catalogue, or shows it to nobody, is an error."""
    async with Registry() as registry:
        registry.faults.on("GET", "_catalog").status(404)
        with pytest.raises(RefusedError):
            await listed(registry.host)
