"""`mirrord list mirrored` and `/api/v1/catalog.*`: what is mirrored where, from the record of real runs."""

from __future__ import annotations

import csv
import gzip
import json
import re

import aiohttp

from mirrord.testing import Registry, build_image, push, require
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk

IMAGE = build_image()
PLAIN = {"Accept-Encoding": "identity"}


def configured(desk: Desk, source: Registry, target: Registry, to: str = "mirror") -> None:
    """Write a mirror of one repository, and one of a list."""
    desk.configure(
        f"settings: {{listen: '127.0.0.1:0'}}\ntargets: {{hub: {{kind: image, to: {target.host}/{to}}}}}\nmirrors:\n"
        "  - name: app\n    kind: image\n    to: [hub, local]\n"
        f"    from: {{repository: {source.host}/team/app, tags: ['v*']}}\n"
        "  - {name: many, kind: image, from: {list: images.txt}, to: [hub]}\n"
    )
    images = ("a/b:v1", f"a/c:v2@{IMAGE.digest}", f"a/d@{IMAGE.digest}")
    (desk.folder / "conf.d" / "images.txt").write_text("".join(f"{source.host}/{image}\n" for image in images))


async def filled(source: Registry) -> None:
    """Put the images into the source."""
    for path, tags in (("team/app", ["v9", "v10"]), ("a/b", ["v1"]), ("a/c", ["v2"]), ("a/d", ["v2"])):
        await push(IMAGE, source, path, tags)


def lines(source: Registry, target: Registry) -> list[str]:
    """Return what the catalog has after a run, as text."""
    digest, there, here = IMAGE.digest, f"{target.host}/mirror", source.host.replace(":", "_")
    return [
        f"{source.host}/a/b:v1\t{there}/{here}/a/b:v1\t{digest}",
        f"{source.host}/a/c:v2@{digest}\t{there}/{here}/a/c:v2\t{digest}",
        f"{source.host}/a/d@{digest}\t{there}/{here}/a/d@{digest}\t{digest}",
        f"{source.host}/team/app:v9\t{there}/app:v9\t{digest}",
        f"{source.host}/team/app:v9\tlocal/app:v9\t{digest}",
        f"{source.host}/team/app:v10\t{there}/app:v10\t{digest}",
        f"{source.host}/team/app:v10\tlocal/app:v10\t{digest}",
    ]


async def test_what_is_mirrored_where(desk: Desk) -> None:
    """Each item has a line for each target: its name at the source, its name there, its digest; v9 before v10."""
    async with Registry() as source, Registry() as target:
        await filled(source)
        configured(desk, source, target)
        nothing = await desk.run("list", "mirrored")
        assert (nothing.status, nothing.out) == (64, "")
        said = await desk.run("sync")
        assert said.status == 0, said.out + said.err
        names = [re.split("  +", line)[1] for line in said.out.splitlines() if line.startswith("hub ") and "/" in line]
        assert sorted(names) == [f"{source.host}/a/{each}" for each in ("b:v1", "c:v2", "d (no tag, digest only)")]
        said = await desk.run("list", "mirrored")
        assert (said.status, said.err) == (0, "")
        assert said.out.splitlines() == lines(source, target)
        one = await desk.run("list", "mirrored", "many", "--format", "csv")
        rows = list(csv.DictReader(one.out.splitlines()))
        assert [(row["mirror"], row["target"], row["source"]) for row in rows] == [
            ("many", "hub", f"{source.host}/a/b:v1"),
            ("many", "hub", f"{source.host}/a/c:v2@{IMAGE.digest}"),
            ("many", "hub", f"{source.host}/a/d@{IMAGE.digest}"),
        ]
        for row in rows:  # what is named there is there
            path, _, ref = row["name"].removeprefix(f"{target.host}/").replace("@", ":", 1).partition(":")
            assert ref in target.content.tags.get(path, {}) or ref in map(str, target.content.manifests[path])
        document = (await desk.run("list", "mirrored", "app", "--format", "json")).document
        assert [entry["item"] for entry in document["entries"]] == ["v9", "v9", "v10", "v10"]
        known = {"mirror", "kind", "item", "source", "target", "name", "digest", "at", "size", "platforms"}
        known |= {"referrers", "signer", "origin"}
        assert set(document["entries"][0]) == known
        assert (await desk.run("list", "mirrored", "ap")).status == 64
        configured(desk, source, target, "elsewhere")
        said = await desk.run("list", "mirrored")
        assert [line.split("\t")[1] for line in said.out.splitlines()] == ["local/app:v9", "local/app:v10"]


async def test_a_git_repository_is_one_line(desk: Desk) -> None:
    """A repository is listed with the digest of all its refs, once a run found them in place; no single ref is."""
    require("git")
    async with GitHost(desk.folder / "git") as host:
        upstream = Upstream(host.create("code.git"))
        for branch in ("a", "b", "main"):
            upstream.commit(branch, {"README.md": branch.encode()})
        desk.configure(
            f"targets: {{there: {{kind: git, to: '{host.url('there.git')}'}}}}\n"
            f"mirrors: [{{name: code, kind: git, from: '{host.url('code.git')}', to: [there, local]}}]\n"
        )
        host.create("there.git")
        found = []
        for _ in range(2):
            for _ in range(2):
                said = await desk.run("sync", "code", "--allow")
                assert said.status == 0, said.out + said.err
            found.append([line.split("\t") for line in (await desk.run("list", "mirrored")).out.splitlines()])
            upstream.delete("refs/heads/a")
        origin, there = (host.url(name).partition("://")[2].removesuffix(".git") for name in ("code.git", "there.git"))
        for rows in found:
            assert [row[:2] for row in rows] == [[origin, "local/code"], [origin, there]]
            assert rows[0][2] == rows[1][2]
        assert found[0][0][2] != found[1][0][2]


async def test_the_daemon_serves_it(desk: Desk) -> None:
    """The three forms over HTTP are those of the command; a run renews them, and a client that has them gets 304."""
    async with Registry() as source, Registry() as target:
        await filled(source)
        configured(desk, source, target)
        async with (
            desk.serving() as daemon,
            aiohttp.ClientSession(auto_decompress=False, headers=PLAIN) as session,
        ):
            url = f"http://{daemon.address}/api/v1/catalog"
            async with session.get(f"{url}.txt") as answer:
                assert (answer.status, await answer.read()) == (200, b"")
                before = answer.headers["ETag"]
            said = await desk.run("sync")
            assert said.status == 0, said.out + said.err
            for form in ("txt", "json", "csv"):
                said = await desk.run("list", "mirrored", "--format", form)
                async with session.get(f"{url}.{form}", headers={"Accept-Encoding": "gzip"}) as answer:
                    assert answer.headers["Content-Encoding"] == "gzip"
                    assert gzip.decompress(await answer.read()).decode() == said.out
            async with session.get(f"{url}.txt") as answer:
                assert (await answer.text()).splitlines() == lines(source, target)
                assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
                assert "Link" not in answer.headers
                tag = answer.headers["ETag"]
                assert tag != before
            async with session.get(f"{url}.txt", headers={"If-None-Match": tag}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
            async with session.get(f"{url}.json?page=2") as answer:
                assert json.loads(await answer.read()) == {"entries": []}
            for page in ("0", "-1", "x", "9" * 7, "1.5"):
                async with session.get(f"{url}.csv", params={"page": page}) as answer:
                    assert (answer.status, await answer.text()) == (400, "page is a number from 1\n")
            async with session.post(f"{url}.txt") as answer:
                assert answer.status == 405
