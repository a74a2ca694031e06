"""Objects of Git LFS for those who clone a served mirror: real git-lfs is the client."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mirrord.syncers.git.front.lfs import LONGEST, MOST
from mirrord.syncers.git.names import MARK
from mirrord.syncers.git.syncer import SYNCER
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import Ran, run
from mirrord.testing.servers import require
from mirrord.wire.git.lfs.objects import place
from tests.support.frontserver import open_front
from tests.support.gitcontent import lfs_pointer
from tests.support.opening import open_services

BIG, LOST = b"big" * 40_000, b"lost" * 1000
ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
MEDIA = "application/vnd.git-lfs+json"
LFS = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
    "GIT_CONFIG_COUNT": "3",
    "GIT_CONFIG_KEY_0": "filter.lfs.process",
    "GIT_CONFIG_VALUE_0": "git-lfs filter-process",
    "GIT_CONFIG_KEY_1": "filter.lfs.required",
    "GIT_CONFIG_VALUE_1": "true",
    "GIT_CONFIG_KEY_2": "lfs.concurrenttransfers",
    "GIT_CONFIG_VALUE_2": "2",
}
"""What `git lfs install` writes."""


@dataclass(slots=True)
class Site:
    """A served cache `app` with one object that is there, and a pointer to one that is not on a branch of its own."""

    url: str
    cache: Upstream
    http: aiohttp.ClientSession
    oid: str

    async def ask(
        self, body: bytes, path: str = "app.git/info/lfs/objects/batch", **headers: str
    ) -> tuple[int, Any, str]:
        """Post to the batch API; return status, document and its type."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        async with self.http.post(f"{self.url}/git/{path}", data=body, headers=named) as answer:
            text = await answer.read()
            return answer.status, json.loads(text) if answer.content_type == MEDIA else text, answer.content_type

    async def clone(self, to: Path, *options: str, name: str = "app.git") -> Ran:
        return await run("git", "clone", "--quiet", *options, "--", f"{self.url}/git/{name}", to, env=LFS)


def wants(*objects: dict[str, Any], operation: str = "download", **more: Any) -> bytes:
    return json.dumps({"operation": operation, "objects": objects, **more}).encode()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_services(tmp_path / "state") as services:
        assert services.keep is not None
        folder = services.keep / "git" / "app.git"
        assert (await run("git", "init", "--quiet", "--bare", "-b", "main", folder, env=LFS)).status == 0
        (folder / MARK).write_text("app")
        cache = Upstream(folder)
        cache.commit("main", {"f.bin": lfs_pointer(BIG), ".gitattributes": ATTRIBUTES, "README.md": b"app\n"})
        cache.commit("stale", {"lost.bin": lfs_pointer(LOST), ".gitattributes": ATTRIBUTES}, parent=None)
        oid = lfs_pointer(BIG).split(b"sha256:")[1][:64].decode()
        place(folder, oid).parent.mkdir(parents=True)
        place(folder, oid).write_bytes(BIG)
        async with open_front(services, SYNCER) as url, aiohttp.ClientSession() as http:
            yield Site(url, cache, http, oid)


@pytest.mark.parametrize("name", ["app.git", "app"])
async def test_a_clone_with_git_lfs_has_its_files(site: Site, tmp_path: Path, name: str) -> None:
    """`git clone` where git-lfs is installed checks out the file itself, not its pointer, and fails at nothing."""
    require("git-lfs")
    done = await site.clone(tmp_path / "c", name=name)
    assert done.status == 0, done.output
    assert (tmp_path / "c" / "f.bin").read_bytes() == BIG
    pulled = await run("git", "-C", tmp_path / "c", "lfs", "pull", env=LFS)
    assert pulled.status == 0, pulled.output


async def test_an_object_that_is_not_here_is_told_so_by_git_lfs(site: Site, tmp_path: Path) -> None:
    """A branch whose object the mirror lacks says which file, and that the mirror does not have it."""
    require("git-lfs")
    done = await site.clone(tmp_path / "c", "--branch=stale")
    assert done.status != 0
    assert "this mirror does not have the object" in done.output


@pytest.mark.parametrize("size", [len(BIG) - 1, len(BIG) + 1])
async def test_a_pointer_with_a_wrong_size_is_checked_out(site: Site, tmp_path: Path, size: int) -> None:
    """git-lfs looks at the id of what it gets, not at its size; so a clone from here works as one from upstream."""
    require("git-lfs")
    wrong = lfs_pointer(BIG).replace(b"size %d" % len(BIG), b"size %d" % size)
    site.cache.commit("wrong", {"w.bin": wrong, ".gitattributes": ATTRIBUTES}, parent=None)
    done = await site.clone(tmp_path / "c", "--branch=wrong")
    assert done.status == 0, done.output
    assert (tmp_path / "c" / "w.bin").read_bytes() == BIG


async def test_git_lfs_cannot_push(site: Site, tmp_path: Path) -> None:
    """An upload is refused in words, and nothing is written; there are no locks."""
    require("git-lfs")
    assert (await site.clone(tmp_path / "c")).status == 0
    work = tmp_path / "c"
    (work / "new.bin").write_bytes(b"new" * 100)
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    for words in (("add", "new.bin"), (*who, "commit", "--quiet", "-m", "new")):
        done = await run("git", "-C", work, *words, env=LFS)
        assert done.status == 0, done.output
    before = sorted(site.cache.path.rglob("lfs/**/*"))
    pushed = await run("git", "-C", work, "lfs", "push", "origin", "main", env=LFS)
    assert pushed.status != 0
    assert "read-only; push to its upstream" in pushed.output
    assert sorted(site.cache.path.rglob("lfs/**/*")) == before
    checked = await run("git", "-C", work, "lfs", "locks", env=LFS)
    assert "there are no locks here" in checked.output


async def test_the_batch_api(site: Site) -> None:
    """Each object has its own answer, in the type of the API, with addresses as the client reached us."""
    one, lost = {"oid": site.oid, "size": len(BIG)}, {"oid": "0" * 64, "size": 5}
    odd, short = {"oid": "../../config", "size": 5}, {"oid": site.oid, "size": 1}
    status, told, kind = await site.ask(wants(one, lost, odd, short, transfers=["basic", "ssh"], ref={"name": "x"}))
    assert (status, kind, told["transfer"]) == (200, MEDIA, "basic")
    found, *others, other_size = told["objects"]
    href = f"{site.url}/git/app.git/info/lfs/objects/{site.oid}"
    assert found == {**one, "authenticated": True, "actions": {"download": {"href": href}}}
    assert [each["error"]["code"] for each in others] == [404, 422]
    assert other_size == found
    forwarded = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "mirror.example:8443, inner"}
    _, told, _ = await site.ask(wants(one), **forwarded)
    assert told["objects"][0]["actions"]["download"]["href"].startswith("https://mirror.example:8443/git/app.git/")
    assert (await site.ask(wants(one), Host='x"><script>'))[0] == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[" * 100_000, 422),
        (b'{"operation": "download"}', 422),
        (b'{"operation": "download", "objects": [1]}', 422),
        (b'{"operation": "download", "objects": [{"oid": "a", "size": 1e999}]}', 422),
        (wants(operation="upload"), 403),
        (wants(operation="delete"), 403),
        (wants(hash_algo="sha512"), 409),
        (wants(transfers=["tus"]), 422),
        (wants(*({"oid": "a", "size": 1} for _ in range(MOST + 1))), 413),
        (b" " * (LONGEST + 1), 413),
    ],
    ids=["nothing", "deep", "no objects", "a number", "no size", "upload", "delete", "hash", "tus", "many", "long"],
)
async def test_what_the_batch_api_does_not_take(site: Site, body: bytes, status: int) -> None:
    """Nonsense, uploads and what is too much are refused with a status that git-lfs knows."""
    assert (await site.ask(body))[0] == status


async def test_other_addresses(site: Site) -> None:
    """Objects are files with parts and tags; there are no locks; what is not served has no objects either."""
    base = f"{site.url}/git/app.git/info/lfs"
    async with site.http.get(f"{base}/objects/{site.oid}", headers={"Range": "bytes=3-5"}) as answer:
        assert (answer.status, await answer.read()) == (206, b"big")
    async with site.http.head(f"{base}/objects/{site.oid}") as answer:
        assert (answer.status, answer.content_length) == (200, len(BIG))
        assert (answer.headers["ETag"], "sandbox" in answer.headers["Content-Security-Policy"]) == (
            f'"{site.oid}"',
            True,
        )
    for path, status in (
        (f"objects/{'0' * 64}", 404),
        ("objects/..%2f..%2fconfig", 400),
        ("objects/batch", 405),
        ("locks", 404),
        ("else", 404),
    ):
        async with site.http.get(f"{base}/{path}") as answer:
            assert answer.status == status, path
    for path, status in (
        ("app.git/info/lfs/locks/verify", 404),
        (f"app.git/info/lfs/objects/{site.oid}", 405),
        ("other.git/info/lfs/objects/batch", 404),
    ):
        assert (await site.ask(b"{}", path))[0] == status, path
    (site.cache.path / MARK).unlink()
    assert (await site.ask(wants({"oid": site.oid, "size": len(BIG)})))[0] == 404
    async with site.http.get(f"{base}/objects/{site.oid}") as answer:
        assert answer.status == 404
