"""`mirrord docs`: a page about the mirrors for their users, of the configuration or of what is known."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import aiohttp

from mirrord.testing import Registry, build_image, push
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk, Said

TEXT = """
settings: {listen: '127.0.0.1:0'}
targets: {hub: {kind: image, to: docker.io/team}}
mirrors:
  - {name: app, kind: image, from: {repository: quay.io/team/app, tags: [v1]}, to: [hub, local], every: 6h}
"""


def test_one_page_to_standard_output(desk: Desk, typed: Callable[..., Said]) -> None:
    """Without a folder the page is printed, in English unless asked otherwise; what is left out is noted."""
    desk.configure(TEXT)
    said = typed("docs")
    assert said.status == 0
    assert said.out.startswith('---\ntitle: "Mirror Resources"\n')
    assert "\n    docker pull docker.io/team/app:v1\n" in said.out
    assert said.err.startswith("`local` is left out: nobody else can reach 127.0.0.1:0;")
    chinese = typed("docs", "--language", "zh", "--format", "html")
    assert "<h1>镜像资源</h1>" in chinese.out
    assert "同步周期：每六小时。" in chinese.out


def test_files_for_a_site(desk: Desk, typed: Callable[..., Said]) -> None:
    """With a folder, which is made, there is a file for each language, or for the one that is named."""
    desk.configure(TEXT.replace("listen: '127.0.0.1:0'", "url: https://mirror.example"))
    said = typed("docs", "--output", "site/docs")
    assert (said.status, said.err) == (0, "")
    assert said.out == "site/docs/mirrors.en.md is written\nsite/docs/mirrors.zh.md is written\n"
    folder = desk.folder / "site" / "docs"
    assert "docker pull mirror.example/app:v1" in (folder / "mirrors.en.md").read_text()
    assert "每六小时" in (folder / "mirrors.zh.md").read_text(encoding="utf-8")
    assert "[中文](mirrors.zh.md)" in (folder / "mirrors.en.md").read_text(encoding="utf-8")
    assert "[English](mirrors.en.md)" in (folder / "mirrors.zh.md").read_text(encoding="utf-8")
    assert typed("docs", "--output", "site/docs", "--format", "html", "--language", "zh").status == 0
    assert sorted(file.name for file in folder.iterdir()) == ["mirrors.en.md", "mirrors.zh.html", "mirrors.zh.md"]
    done = subprocess.run(["tidy", "-q", "-e", "-utf8", folder / "mirrors.zh.html"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "hreflang" not in (folder / "mirrors.zh.html").read_text(encoding="utf-8")  # there is no other file
    assert typed("docs", "--output", "both", "--format", "html").status == 0
    for one, other, link in (("en", "zh", 'lang="zh-Hans">中文'), ("zh", "en", 'lang="en">English')):
        file = desk.folder / "both" / f"mirrors.{one}.html"
        assert f'<a href="mirrors.{other}.html" rel="alternate" hreflang=' in file.read_text(encoding="utf-8")
        assert link in file.read_text(encoding="utf-8")
        done = subprocess.run(["tidy", "-q", "-e", "-utf8", file], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    (desk.folder / "file").touch()
    assert typed("docs", "--output", "file/docs").status == 74


async def test_live_branches_and_tags(desk: Desk, tmp_path: Path) -> None:
    """A Git mirror has its branches and tags with their commits, as its page has."""
    async with GitHost(tmp_path / "source") as source, GitHost(tmp_path / "there") as there:
        upstream = Upstream(source.create("crane.git"))
        commit = upstream.commit("main", {"README.md": b"# crane\n"})
        upstream.tag("v1", commit)
        there.create("crane.git")
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{there: {{kind: git, to: '{there.url('crane.git')}'}}}}\n"
            f"mirrors: [{{name: crane, kind: git, to: there, from: '{source.url('crane.git')}'}}]\n"
        )
        assert (await desk.run("sync")).status == 0
        said = await desk.run("docs", "--live")
        async with desk.serving():
            live = await desk.run("docs", "--live")
    for text in (said.out, live.out):
        rows = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| `refs/")]
        assert rows == [["| `refs/tags/v1`", f"`{commit}`"], ["| `refs/heads/main`", f"`{commit}`"]]


async def test_plain_http_of_a_host(desk: Desk) -> None:
    """A host that `hosts:` says to speak plain HTTP gets the flag in documents, in `status NAME` and on the page."""
    desk.configure(
        "settings: {listen: '127.0.0.1:0'}\n"
        "hosts: {'lab.example:5000': {insecure: true}}\n"
        "targets: {hub: {kind: image, to: 'lab.example:5000/team'}}\n"
        "mirrors: [{name: app, kind: image, from: {repository: quay.io/team/app, tags: [v1]}, to: [hub]}]\n"
    )
    flagged = "--tls-verify=false lab.example:5000/team/app:v1"
    printed = await desk.run("docs")
    assert "skopeo list-tags --tls-verify=false docker://lab.example:5000/team/app\n" in printed.out
    async with desk.serving() as served, aiohttp.ClientSession() as session:
        assert flagged in (await desk.run("status", "app")).out
        async with session.get(f"http://{served.address}/mirrors/app") as answer:
            assert flagged in await answer.text()


def test_live_needs_a_state(desk: Desk, typed: Callable[..., Said]) -> None:
    """Where nothing ever ran there is nothing to add: that is said, and no page is written."""
    desk.configure(TEXT)
    said = typed("docs", "--live", "--output", "site")
    assert said.status == 64
    assert "no state in" in said.err
    assert not (desk.folder / "site").exists()


async def test_live_from_the_record_and_the_daemon(desk: Desk) -> None:
    """After a run the page has digest, size, platforms and time, from the database and from a daemon alike."""
    image = build_image()
    async with Registry() as source, Registry() as target:
        await push(image, source, "team/app", ["v1"])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\n"
            f"targets: {{hub: {{kind: image, to: {target.host}/mirror}}}}\nmirrors:\n"
            f"  - {{name: app, kind: image, from: {{repository: {source.host}/team/app, tags: ['v*']}}, to: [hub]}}\n"
        )
        assert (await desk.run("sync")).status == 0
        said = await desk.run("docs", "--live")
        assert said.status == 0
        row = next(line for line in said.out.splitlines() if line.startswith("| `v1` |"))
        assert row.split(" | ")[1] == f"`{image.digest}`"
        assert "linux/amd64" in row
        assert "B | " in row
        assert "| healthy | 20" in said.out
        assert f"docker pull {target.host}/mirror/app:v1" in said.out
        async with desk.serving():
            live = await desk.run("docs", "--live")
        assert [line for line in live.out.splitlines() if "State as of" not in line] == [
            line for line in said.out.splitlines() if "State as of" not in line
        ]
