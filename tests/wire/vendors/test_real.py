"""Real registries that list: docker-registry and Gitea, by `/v2/_catalog`."""

from __future__ import annotations

from pathlib import Path

from mirrord.testing import build_image, push
from mirrord.testing.servers import DockerRegistry, require
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.reference import Reference
from mirrord.wire.vendors.known import repositories_for, times_of
from tests.support.gitea import OWNER, Gitea
from tests.support.imagetools import skopeo_copy

NAMES = ["other/db", "team/tools/lint", "team/web"]


async def listed(book: HostBook, host: str) -> list[str]:
    async with Http(book) as http:
        return sorted([path async for path in repositories_for(http, host, ["*", "team/*"])])


async def test_docker_registry_lists_all() -> None:
    """A registry of no known kind lists everything, whatever the globs are, and has no dates."""
    async with DockerRegistry() as registry:
        for name in NAMES:
            await push(build_image(["linux/amd64"], layers=1, layer_size=16), registry.url, name, ["v1"])
        assert await listed(HostBook(), registry.host) == NAMES
        async with Http(HostBook()) as http:
            assert times_of(http, Reference.parse(f"{registry.host}/team/web")) is None


async def test_gitea_lists_all(tmp_path: Path) -> None:
    """Gitea lists the images of its registry of packages by `/v2/_catalog`, with the token of a user."""
    require("gitea")
    async with Gitea(tmp_path / "gitea", packages=True) as gitea, DockerRegistry() as source:
        book = HostBook({gitea.host: gitea.policy})
        await push(build_image(["linux/amd64"], index=False, layers=1, layer_size=16), source.url, "app", ["v1"])
        for name in ("web", "tools/lint"):
            to = f"docker://{gitea.host}/{OWNER}/{name}:v1"
            done = await skopeo_copy(f"docker://{source.host}/app:v1", to, "--dest-creds", f"{OWNER}:{gitea.token}")
            assert done.status == 0, done
        assert await listed(book, gitea.host) == [f"{OWNER}/tools/lint", f"{OWNER}/web"]
