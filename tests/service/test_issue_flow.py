"""A stranger asks in an issue of a real Gitea, and a real daemon copies to a real registry and answers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from mirrord.asking.issues import ASKS
from mirrord.testing import DockerRegistry, build_image, push
from mirrord.testing.servers import require
from tests.support.gitea import OWNER, Gitea

REPOSITORY = f"/repos/{OWNER}/ask"
TEMPLATE = Path(__file__).parents[2] / "deploy/issues/sync-image.md"


@dataclass
class Desk:
    """A Gitea with a repository for issues, a stranger there, and two registries."""

    gitea: Gitea
    stranger: str
    source: DockerRegistry
    target: DockerRegistry
    place: Any
    numbers: list[int] = field(default_factory=list)

    def configure(self, allow: str, more: str = "") -> None:
        url = f"http://{self.gitea.host}/{OWNER}/ask"
        (self.place.conf / "a.yaml").write_text(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{hub: {{kind: image, to: {self.target.host}/m}}}}\n"
            f"asking:\n  to: [hub]\n  allow: ['{allow}']\n"
            f"  issues: [{{forge: gitea, repository: '{url}', token: {{env: T}}, every: 10s{more}}}]\n"
        )

    async def open(self, title: str) -> int:
        """Open an issue as a stranger does by the template: the label is not set."""
        body = TEMPLATE.read_text().rpartition("---\n")[2].replace("[ ] linux/amd64", "[x] linux/amd64")
        assert ASKS in body
        issue = {"title": title, "body": body}
        made = await self.gitea.api("POST", f"{REPOSITORY}/issues", issue, self.stranger)
        return int(made["number"])

    async def said(self, number: int) -> list[str]:
        found = await self.gitea.api("GET", f"{REPOSITORY}/issues/{number}/comments")
        assert {one["user"]["login"] for one in found} <= {OWNER}
        return [one["body"] for one in found]

    async def closed(self, number: int) -> list[str]:
        """Return the labels of an issue that is closed."""
        issue = await self.gitea.api("GET", f"{REPOSITORY}/issues/{number}")
        assert issue["state"] == "closed"
        return [label["name"] for label in issue["labels"]]

    async def manifest(self, image: str) -> int:
        """Return the status of what a client pulls."""
        host, _, rest = image.partition("/")
        name, _, tag = rest.rpartition(":")
        kinds = {"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"}
        url = f"http://{host}/v2/{name}/manifests/{tag}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=kinds) as answer:
            return answer.status


@asynccontextmanager
async def opened(place: Any, tmp_path: Path) -> AsyncIterator[Desk]:
    async with (
        Gitea(tmp_path / "gitea") as gitea,
        DockerRegistry() as source,
        DockerRegistry() as target,
    ):
        await gitea.api("POST", "/user/repos", {"name": "ask", "private": False, "auto_init": False})
        yield Desk(gitea, await gitea.make_user("alice"), source, target, place)


async def test_a_stranger_asks_and_pulls(place: Any, tmp_path: Path) -> None:
    """By webhook: queued, copied, answered, labelled, closed; a misspelt title gets a suggestion.

    A daemon that is killed after its first comment says nothing twice; the next one finds by looking what was left.
    """
    require("gitea", "docker-registry")
    async with opened(place, tmp_path) as desk:
        await push(build_image(["linux/amd64"], layers=1, layer_size=500), desk.source.url, "team/app", ["v1"])
        await push(build_image(["linux/amd64"], layers=1, layer_size=600), desk.source.url, "team/other", ["v1"])
        desk.configure(f"{desk.source.host}/team/**", ", secret: {env: S}")
        secrets = {"T": desk.gitea.token, "S": "a-secret-of-the-test"}
        image = f"{desk.source.host}/team/app:v1"
        async with place.daemon(**secrets) as daemon:
            hook = {
                "type": "gitea", "events": ["issues"], "active": True,
                "config": {
                    "url": f"http://127.0.0.1:{daemon.port}/hooks/gitea/{OWNER}/ask",
                    "content_type": "json", "secret": secrets["S"],
                },
            }  # fmt: skip
            await desk.gitea.api("POST", f"{REPOSITORY}/hooks", hook)
            number = await desk.open(image)
            await daemon.logged("issue.answered")
            queued, done = await desk.said(number)
            assert f"`{image}` (`linux/amd64`) is queued" in queued
            pulled = done.partition("docker pull ")[2].partition("\n")[0]
            assert pulled == f"{desk.target.host}/m/{desk.source.host.replace(':', '_')}/team/app:v1"
            assert await desk.manifest(pulled) == 200
            assert await desk.closed(number) == ["sync image: done"]
            odd = await desk.open(f"docker pull {image}")
            assert (await daemon.logged("issue.answered", 2))["answer"] == "refused"
            assert f"Did you mean `{image}`?" in (await desk.said(odd))[0]
            left = await desk.open(f"{desk.source.host}/team/other:v1")
            async with asyncio.timeout(60):
                while not await desk.said(left):  # noqa: ASYNC110 - the forge is another process
                    await asyncio.sleep(0.01)
            daemon.kill(signal.SIGKILL)
            await daemon.end()
        missing = await desk.open(f"{desk.source.host}/team/app:v2")
        async with place.daemon(**secrets) as daemon:
            await daemon.logged("issue.answered", 2)
            assert "not at its registry" in (await desk.said(missing))[-1]
            assert await desk.closed(missing) == ["sync image: refused"]
            assert await desk.closed(left) == ["sync image: done"]
        marks = [text.rpartition("<!-- mirrord:")[2].partition(" ")[0] for text in await desk.said(left)]
        assert marks == ["queued", "done"]
        assert [len(await desk.said(one)) for one in (number, odd, missing)] == [2, 1, 1]
        assert not any("issue.failed" in line["event"] for line in daemon.lines)
