"""The daemon tells a pull request of a real Gitea where the images of its builds can be pulled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mirrord.testing import DockerRegistry, build_image
from mirrord.testing.servers import require
from tests.support.commands import Desk
from tests.support.gitea import OWNER, Gitea
from tests.support.layouts import write_layout

MARK = "<!-- mirrord: images of this pull request -->"
HERE = f"/repos/{OWNER}/app"
COMMITS = ("0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef")


async def pull_request(gitea: Gitea) -> int:
    """Make a repository with one pull request."""
    await gitea.api("POST", "/user/repos", {"name": "app", "private": False, "auto_init": True})
    change = {"content": "eA==", "message": "a change", "branch": "main", "new_branch": "change"}
    await gitea.api("POST", f"{HERE}/contents/a.txt", change)
    made = await gitea.api("POST", f"{HERE}/pulls", {"head": "change", "base": "main", "title": "a change"})
    return int(made["number"])


async def said(gitea: Gitea, number: int) -> list[Any]:
    return [(one["user"]["login"], one["body"]) for one in await gitea.api("GET", f"{HERE}/issues/{number}/comments")]


async def test_each_build_is_told_in_one_comment(desk: Desk, tmp_path: Path) -> None:
    """The comment is written anew for a later build; what a stranger wrote with its mark stays.

    A branch is nobody's pull request. A forge that refuses fails no publish, and the log has why, without the token.
    """
    require("gitea", "docker-registry")
    write_layout(build_image(layer_size=50_000), desk.folder / "build")
    async with Gitea(tmp_path / "gitea") as gitea, DockerRegistry() as target:
        number = await pull_request(gitea)
        await gitea.api("POST", f"{HERE}/issues/{number}/comments", {"body": MARK}, await gitea.make_user("alice"))
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{hub: {{kind: image, to: {target.host}/team}}}}\n"
            "mirrors:\n"
            "  - {name: app, kind: image, from: {layouts: /none}, to: hub}\n"
            "  - {name: other, kind: image, from: {layouts: /none}, to: hub}\n"
            "pull_requests:\n"
            f"  app: {{forge: gitea, repository: 'http://{gitea.host}/{OWNER}/app', token: {{env: T}},"
            " mirrors: [app=web], helm: helm install app ./chart}\n"
        )
        layout = ("--layout", str(desk.folder / "build"))
        token = await gitea.make_token("write:issue", "read:user")
        async with desk.serving(T=token) as daemon:
            for name, *to in (("other", "--pr", "7"), ("app", "--branch", "main")):
                assert (await desk.run("publish", name, *layout, *to, "--commit", COMMITS[0])).status == 0
            for count, commit in enumerate(COMMITS, 1):
                told = ("--pr", str(number), "--commit", commit)
                assert (await desk.run("publish", "app", *layout, *told)).status == 0
                line = await daemon.logged("pull_request.commented", count)
                assert (line["number"], line["build"], line["new"]) == (str(number), commit[:7], count == 1)
                stranger, (author, body), *more = await said(gitea, number)
                assert (stranger, author, more) == (("alice", MARK), OWNER, [])
                assert body.startswith(f"{MARK}\n### Images of this pull request\n")
                assert f"`docker pull {target.host}/team/app:pr-{number}-{commit[:7]}`" in body
                assert f"--set web.image.tag=pr-{number}-{commit[:7]}" in body
            assert [line["event"] for line in daemon.lines].count("pull_request.commented") == 2
        async with desk.serving(T="a-wrong-token-0123456789") as daemon:
            refused = await desk.run("publish", "app", *layout, "--pr", str(number), "--commit", COMMITS[0])
            assert refused.status == 0
            line = await daemon.logged("pull_request.failed")
            assert "status 401" in line["error"]
            assert "a-wrong-token" not in str(daemon.lines)
        assert len(await said(gitea, number)) == 2
