"""What `local` mirrors serve over HTTP: real git and dulwich clone from it, and plain requests get single files."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from dulwich import porcelain
from yarl import URL

from mirrord.syncer.serving import Process, Request, Serves
from mirrord.syncer.values import Services
from mirrord.syncers.git.front import respond
from mirrord.syncers.git.front.raw import LARGEST, SMALL
from mirrord.syncers.git.front.state import BlobFiles, front_of
from mirrord.syncers.git.kept.cache import git_of
from mirrord.syncers.git.names import MARK
from mirrord.syncers.git.syncer import SYNCER
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import Ran, run
from tests.support.frontserver import open_front
from tests.support.gitcontent import fill, lfs_pointer
from tests.support.opening import open_services

GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
}
TEXT, HTML = b"# app\n", b"<script>alert(1)</script>\n"
BIG = hashlib.shake_256(b"big").digest(SMALL + 1000)
NAMES = ("main", "feature", "feature/x", "v1.0.0")


@dataclass(slots=True)
class Site:
    """Served caches.

    Attributes:
        url: of the front.
        services: what it uses.
        upstream: the cache `app`, which is served, with branches `main`, `release/1.x` and a tag.
        http: a client that changes nothing of what comes.
    """

    url: str
    services: Services
    upstream: Upstream
    http: aiohttp.ClientSession

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (lower-cased) and body."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        async with self.http.request(method, f"{self.url}{path}", headers=named) as answer:
            return answer.status, {key.lower(): value for key, value in answer.headers.items()}, await answer.read()

    async def clone(self, to: Path, *options: str, name: str = "app.git") -> Ran:
        return await run("git", "clone", "--quiet", *options, "--", f"{self.url}/git/{name}", to, env=GIT)


def cache(services: Services, name: str, served: str | None = "") -> Upstream:
    """Make the cache of a mirror, to be served under another name, under its own ("") or not at all (None)."""
    assert services.keep is not None
    folder = services.keep / "git" / f"{name}.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", folder], check=True, env={**os.environ, **GIT})
    if served is not None:
        (folder / MARK).write_text(served)
    return Upstream(folder)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_services(tmp_path / "state") as services:
        upstream = cache(services, "app")
        upstream.commit("main", {"README.md": TEXT, "docs/page.html": HTML, "docs/ü b.txt": b"x", "big.bin": BIG})
        upstream.tag("v1.0.0", "main", annotated=True)
        upstream.commit("release/1.x", {"README.md": b"old\n"}, parent=None)
        upstream.set("refs/mirrord/backup/20260101T000000Z/heads/main", upstream.refs()["refs/heads/main"])
        async with open_front(services, SYNCER) as url, aiohttp.ClientSession(auto_decompress=False) as http:
            yield Site(url, services, upstream, http)


def ls(folder: Path, *arguments: str) -> dict[str, str]:
    """Return the refs of a repository, by git itself."""
    words = ["git", "-C", str(folder), "for-each-ref", "--format=%(refname) %(objectname)", *arguments]
    out = subprocess.run(words, check=True, capture_output=True, text=True, env={**os.environ, **GIT}).stdout
    return dict(line.split(" ") for line in out.splitlines())


def shown(refs: dict[str, str]) -> dict[str, str]:
    return {name: oid for name, oid in refs.items() if not name.startswith("refs/mirrord/")}


def exactly(url: str) -> URL:
    """Return a URL as it is written."""
    return URL(url, encoded=True)


def test_port() -> None:
    """The front fits the port."""
    assert isinstance(SYNCER.front, Serves)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--depth=1", "--no-single-branch"),
        ("--filter=blob:none",),
        ("-c", "protocol.version=0"),
        ("-c", "protocol.version=1", "--depth=1", "--no-single-branch"),
    ],
    ids=" ".join,
)
async def test_git_clones(site: Site, tmp_path: Path, options: tuple[str, ...]) -> None:
    """`git clone` in each of its ways brings every branch and tag, nothing hidden, and `git fsck` is content."""
    done = await site.clone(tmp_path / "c", "--mirror", *options)
    assert done.status == 0, done.output
    assert ls(tmp_path / "c") == shown(site.upstream.refs())
    checked = await run("git", "-C", tmp_path / "c", "fsck", "--strict", env=GIT)
    assert checked.status == 0, checked.output


async def test_a_working_copy_follows(site: Site, tmp_path: Path) -> None:
    """A checkout has the files, `.git` may be left out, and a later fetch brings what is new, forced or gone."""
    assert (await site.clone(tmp_path / "c", name="app")).status == 0
    assert (tmp_path / "c" / "README.md").read_bytes() == TEXT
    tip = site.upstream.rewrite("main", {"README.md": b"new\n"})
    site.upstream.delete("refs/heads/release/1.x")
    done = await run("git", "-C", tmp_path / "c", "fetch", "--quiet", "--prune", env=GIT)
    assert done.status == 0, done.output
    found = ls(tmp_path / "c", "refs/remotes")
    assert found["refs/remotes/origin/main"] == tip
    assert "refs/remotes/origin/release/1.x" not in found


async def test_many_refs_and_a_long_conversation(site: Site, tmp_path: Path) -> None:
    """A repository with hundreds of refs is cloned whole, in parallel, also with requests that git compresses."""
    many = cache(site.services, "many")
    fill(many, 600, 3_000_000)
    done = await asyncio.gather(*(site.clone(tmp_path / f"c{n}", "--mirror", name="many.git") for n in range(3)))
    assert [one.status for one in done] == [0, 0, 0]
    assert ls(tmp_path / "c1") == many.refs()
    old = await run("git", "-C", tmp_path / "c2", "rev-parse", "refs/heads/main~20", env=GIT)
    assert (await site.clone(tmp_path / "d", "--mirror", "--shallow-exclude=v5", name="many.git")).status == 0
    assert old.status == 0


async def test_dulwich_clones(site: Site, tmp_path: Path) -> None:
    """An independent implementation reads the same refs and files."""
    with await asyncio.to_thread(porcelain.clone, f"{site.url}/git/app.git", str(tmp_path / "c"), depth=None) as made:
        refs = {name.decode(): oid.decode() for name, oid in made.get_refs().items()}
    assert (tmp_path / "c" / "README.md").read_bytes() == TEXT
    mine = site.upstream.refs()
    assert refs["refs/remotes/origin/release/1.x"] == mine["refs/heads/release/1.x"]
    assert refs["refs/tags/v1.0.0"] == mine["refs/tags/v1.0.0"]


async def test_hidden_refs_stay_hidden(site: Site) -> None:
    """What the mirror keeps for itself is not told, in any version of the protocol."""
    listed = f"{site.url}/git/app.git"
    for version in ("0", "1", "2"):
        done = await run("git", "-c", f"protocol.version={version}", "ls-remote", listed, env=GIT)
        assert "refs/heads/main" in done.output
        assert "mirrord" not in done.output


async def test_pushing_is_refused(site: Site, tmp_path: Path) -> None:
    """A push is 403, whatever the cache's own configuration says, and nothing changes."""
    site.upstream.git("config", "http.receivepack", "true")
    assert (await site.clone(tmp_path / "c")).status == 0
    before = site.upstream.refs()
    done = await run("git", "-C", tmp_path / "c", "push", "origin", "HEAD:refs/heads/new", env=GIT)
    assert done.status != 0
    assert "403" in done.output
    for path, method in (("info/refs?service=git-receive-pack", "GET"), ("git-receive-pack", "POST")):
        assert (await site.get(f"/git/app.git/{path}", method))[0] == 403
    both = "info/refs?service=git-upload-pack&service=git-receive-pack"
    code, headers, _ = await site.get(f"/git/app.git/{both}")
    assert (code, headers["content-type"]) == (200, "application/x-git-upload-pack-advertisement")
    assert site.upstream.refs() == before


@pytest.mark.parametrize(
    ("path", "method", "code"),
    [
        ("app.git/info/refs", "GET", 403),
        ("app.git/info/refs?service=git-upload-archive", "GET", 403),
        ("app.git/info/refs?service=git-upload-pack", "POST", 405),
        ("app.git/git-upload-pack", "GET", 405),
        ("app.git/objects/info/packs", "GET", 404),
        ("app.git/objects/00/11", "GET", 404),
        ("app.git/config", "GET", 404),
        ("app.git/packed-refs", "GET", 404),
        (f"app.git/{MARK}", "GET", 404),
        ("app.git", "GET", 404),
        ("app.git/", "GET", 404),
        ("app.git", "POST", 405),
        ("none.git/HEAD", "GET", 404),
        ("private.git/HEAD", "GET", 404),
        ("private.git/info/refs?service=git-upload-pack", "GET", 404),
        ("app.git.git/HEAD", "GET", 404),
        (".git/HEAD", "GET", 404),
        ("a..b.git/HEAD", "GET", 404),
        ("-x.git/HEAD", "GET", 404),
        ("app%2egit/HEAD", "GET", 404),
        ("app.git/HEAD", "PUT", 405),
        ("app.git/../app.git/HEAD", "GET", 400),
        ("", "GET", 404),
    ],
)
async def test_strange_requests(site: Site, path: str, method: str, code: int) -> None:
    """Only what a clone needs is answered; the older protocol, files and other caches are not (bad inputs 21, 34)."""
    cache(site.services, "private", None).commit("main", {"secret": b"x"})
    async with site.http.request(method, exactly(f"{site.url}/git/{path}")) as answer:
        assert answer.status == code
        assert str(site.services.scratch.parent).encode() not in await answer.read()


async def test_head_and_compressed_requests(site: Site) -> None:
    """HEAD of what a clone asks first is answered, the file HEAD too, and a compressed request is understood."""
    assert (await site.get("/git/app.git/info/refs?service=git-upload-pack", "HEAD"))[::2] == (200, b"")
    assert (await site.get("/git/app.git/HEAD"))[2] == b"ref: refs/heads/main\n"
    body = gzip.compress(b"0014command=ls-refs\n0000")
    headers = {
        "Content-Type": "application/x-git-upload-pack-request",
        "Content-Encoding": "gzip",
        "Git-Protocol": "version=2",
    }
    async with site.http.post(f"{site.url}/git/app.git/git-upload-pack", data=body, headers=headers) as answer:
        assert b"refs/heads/release/1.x" in await answer.read()


async def test_served_under_another_name(site: Site, tmp_path: Path) -> None:
    """A mirror that is called otherwise than its repository is served by the name that the run wrote down only."""
    cache(site.services, "mirror-7", "Other.Name").commit("main", {"a": b"1"})
    assert (await site.clone(tmp_path / "c", name="Other.Name.git")).status == 0
    assert (await site.get("/raw/Other.Name/main/a"))[2] == b"1"
    assert (await site.get("/raw/mirror-7/main/a"))[0] == 404


# Single files


@pytest.mark.parametrize("ref", ["main", "HEAD", "v1.0.0", "COMMIT"])
async def test_raw_files(site: Site, ref: str) -> None:
    """A file is had by branch, tag, HEAD and commit; its tag is the blob's id, whatever the way."""
    commit = site.upstream.refs()["refs/heads/main"]
    code, headers, body = await site.get(f"/raw/app/{ref.replace('COMMIT', commit)}/README.md")
    assert (code, body, headers["content-type"]) == (200, TEXT, "text/plain; charset=utf-8")
    assert headers["etag"] == f'"{site.upstream.git("rev-parse", "main:README.md").strip()}"'
    assert headers["cache-control"] == ("public, max-age=31536000, immutable" if ref == "COMMIT" else "no-cache")
    assert (headers["x-content-type-options"], "sandbox" in headers["content-security-policy"]) == ("nosniff", True)
    assert (await site.get(f"/raw/app/{ref.replace('COMMIT', commit)}/README.md", "HEAD"))[2] == b""


async def test_raw_conditions_and_parts(site: Site) -> None:
    """304 and parts work, for what is kept in memory and for what is put on the shelf."""
    for path, data in (("README.md", TEXT), ("big.bin", BIG)):
        for _ in range(2):  # taken out of the cache, and found again
            code, headers, body = await site.get(f"/raw/app/main/{path}")
            assert (code, body) == (200, data)
        assert (await site.get(f"/raw/app/main/{path}", If_None_Match=headers["etag"]))[::2] == (304, b"")
        code, headers, body = await site.get(f"/raw/app/main/{path}", Range="bytes=2-3", If_Range=headers["etag"])
        assert (code, body, headers["content-range"]) == (206, data[2:4], f"bytes 2-3/{len(data)}")
    assert [file.stat().st_size for file in (site.services.scratch / "raw").iterdir()] == [len(BIG)]


async def test_a_crowd_costs_one_look(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dozens who want one file cost two processes, none of those that runs have; a new commit is seen at once."""
    ours, runs = site.services.once(front_of).git, git_of(site.services)
    site.services.once(front_of).recent._seconds = 3600  # however long the crowd takes
    real, verbs = ours.run, list[str]()

    async def counted(args: list[str], **options: Any) -> Any:
        verbs.append(args[0])
        return await real(args, **options)

    monkeypatch.setattr(ours, "run", counted)
    monkeypatch.setattr(runs, "run", None)
    answers = await asyncio.gather(*(site.get("/raw/app/main/README.md") for _ in range(40)))
    assert {(code, body) for code, _, body in answers} == {(200, TEXT)}
    assert verbs == ["cat-file", "cat-file"]
    site.upstream.commit("main", {"README.md": b"new\n"})
    assert (await site.get("/raw/app/main/README.md"))[2] == b"new\n"


async def test_what_a_browser_could_run_is_a_download(site: Site) -> None:
    """A page in a repository never becomes a page of ours; names are percent-encoded as they come."""
    _, headers, body = await site.get("/raw/app/main/docs/page.html")
    assert (headers["content-type"], body) == ("application/octet-stream", HTML)
    assert headers["content-disposition"] == 'attachment; filename="page.html"'
    assert (await site.get("/raw/app/main/docs/%C3%BC%20b.txt"))[2] == b"x"


async def test_names_with_slashes(site: Site) -> None:
    """The longest ref that fits is meant, a branch before a tag of its name; full names say which of them."""
    upstream = cache(site.services, "refs")
    tips = {
        name: upstream.commit(name.replace("/", "-"), {"who": name.encode(), "x/who": b"under x"}) for name in NAMES
    }
    upstream.set("refs/heads/release/1.x/final", tips["main"])
    upstream.set("refs/tags/feature/x", tips["feature/x"])
    upstream.set("refs/tags/main", tips["v1.0.0"])
    expected = {
        "release/1.x/final/who": b"main",
        "feature/who": b"feature",
        "feature/x/who": b"feature/x",
        "main/who": b"main",
        "refs/heads/feature/x/who": b"under x",
        "refs/tags/feature/x/who": b"feature/x",
        "refs/tags/main/who": b"v1.0.0",
    }
    for path, data in expected.items():
        assert (await site.get(f"/raw/refs/{path}"))[2] == data, path


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("app", 404, b"folders are not listed"),
        ("app/main", 404, b"folders are not listed"),
        ("app/main/", 404, b"folders are not listed"),
        ("app/main/docs", 404, b"folder"),
        ("app/main/docs/", 404, b"folders are not listed"),
        ("app/main/none", 404, b"no such file"),
        ("app/main/README.md/x", 404, b"no such file"),
        ("app/none/README.md", 404, b"no branch"),
        ("app/main~1/README.md", 404, b"no branch"),
        ("app/main%5E%7Btree%7D/README.md", 404, b"no branch"),
        ("app/@%7B0%7D/README.md", 404, b"no branch"),
        ("app/:README.md/x", 404, b"no branch"),
        ("app/--help/README.md", 404, b"no branch"),
        ("app/main/--help", 404, b"no such file"),
        ("app/main/:(top)README.md", 404, b"no such file"),
        ("app/main/*.md", 404, b"no such file"),
        ("app/refs/mirrord/backup/20260101T000000Z/heads/main/README.md", 404, b"no branch"),
        ("app/mirrord/backup/20260101T000000Z/heads/main/README.md", 404, b"no branch"),
        ("app/HIDDEN/README.md", 404, b"no branch"),
        ("app/" + "0" * 40 + "/README.md", 404, b"no branch"),
        ("app/BLOB/README.md", 404, b"no branch"),
        ("none/main/README.md", 404, b"no such repository"),
        ("..%2fapp/main/README.md", 400, b""),
        ("app/main/../README.md", 400, b""),
        ("app/main/a%0ab", 400, b""),
    ],
)
async def test_strange_files(site: Site, path: str, code: int, words: bytes) -> None:
    """What is no file at no ref is 404 in a few words: no listing, no revision syntax, no path outside (21)."""
    blob = site.upstream.git("rev-parse", "main:README.md").strip()
    hidden = site.upstream.rewrite("release/1.x")
    site.upstream.delete("refs/heads/release/1.x")
    url = f"{site.url}/raw/{path.replace('BLOB', blob).replace('HIDDEN', hidden)}"
    async with site.http.get(exactly(url)) as answer:
        body = await answer.read()
        assert (answer.status, words in body, len(body) < 300) == (code, True, True)


async def test_links_submodules_and_posts(site: Site) -> None:
    """A link is its text, a submodule is named as one, and nothing can be posted."""
    me = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    link = site.upstream.git("hash-object", "-w", "--stdin", stdin=b"/etc/passwd").strip()
    entries = f"120000 blob {link}\tlink.html\n160000 commit {'1' * 40}\tsub\n"
    made = site.upstream.git("mktree", "--missing", stdin=entries.encode()).strip()
    site.upstream.set("refs/heads/odd", site.upstream.git(*me, "commit-tree", "-m", "odd", made).strip())
    code, headers, body = await site.get("/raw/app/odd/link.html")
    assert (code, body, headers["content-type"]) == (200, b"/etc/passwd", "text/plain; charset=utf-8")
    assert b"submodule" in (await site.get("/raw/app/odd/sub"))[2]
    assert (await site.get("/raw/app/main/README.md", "POST"))[0] == 405


async def test_large_files(site: Site) -> None:
    """A file over the limit is 413 and says what to do; nothing of it is read."""
    site.upstream.commit("large", {"huge": bytes(LARGEST + 1)})
    code, _, body = await site.get("/raw/app/large/huge")
    assert (code, b"clone" in body) == (413, True)


async def test_large_file_storage(site: Site) -> None:
    """A pointer stands for its object when that is here whole, and says so when it is not."""
    data = b"\x89PNG\r\n\x1a\n" + bytes(100_000)
    oid = hashlib.sha256(data).hexdigest()
    site.upstream.commit("lfs", {"logo.png": lfs_pointer(data), "pointer.md": lfs_pointer(data) + b"and more"})
    code, _, body = await site.get("/raw/app/lfs/logo.png")
    assert (code, b"Git LFS" in body) == (404, True)
    assert (await site.get("/raw/app/lfs/pointer.md"))[0] == 200
    file = site.upstream.path / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    file.parent.mkdir(parents=True)
    file.write_bytes(data[:-1])
    assert (await site.get("/raw/app/lfs/logo.png"))[0] == 404
    file.write_bytes(data)
    code, headers, body = await site.get("/raw/app/lfs/logo.png", Range="bytes=0-7")
    assert (code, body, headers["content-type"], headers["etag"]) == (206, data[:8], "image/png", f'"{oid}"')


async def test_a_broken_cache(site: Site) -> None:
    """A cache that cannot be read is 500, without a path in it."""
    (site.upstream.path / "HEAD").write_text("nonsense")
    code, _, body = await site.get("/raw/app/main/README.md")
    assert (code, str(site.upstream.path).encode() in body) == (500, False)
    assert (await site.get("/git/app.git/info/refs?service=git-upload-pack"))[0] in (404, 500)


async def test_without_state(site: Site) -> None:
    """Where there is no state nothing is here."""
    old = site.services
    bare = Services(old.http, old.spools, old.events, old.scratch)
    for prefix, path in (("/git/", "app.git/HEAD"), ("/raw/", "app/main/README.md")):
        assert (await respond(Request("GET", prefix, path, {}), bare)).status == 404


async def test_the_shelf_is_bounded(tmp_path: Path) -> None:
    """What was not used for longest makes room, and what several ask for at once is read once."""
    shelf, reads = BlobFiles(tmp_path / "s", 25), iter(range(100))

    async def read() -> bytes:
        next(reads)
        return b"0123456789"

    await asyncio.gather(*(shelf.file("a", read) for _ in range(5)))
    assert next(reads) == 1
    for moment, name in enumerate(("b", "a", "c"), 1):
        os.utime(await shelf.file(name, read), ns=(0, moment))
    assert sorted(file.name for file in (tmp_path / "s").iterdir()) == ["a", "c"]


async def test_programs_of_clients_get_the_environment_of_every_other_git(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither our secrets nor anybody's settings reach what answers a clone; no transport, no hooks, refs hidden."""
    monkeypatch.setenv("REGISTRY_TOKEN", "hunter2")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/evil")
    request = Request(
        "GET", "/git/", "app.git/info/refs", {"service": "git-upload-pack"}, headers={"git-protocol": "version=2"}
    )
    process = (await respond(request, site.services)).body
    assert isinstance(process, Process)
    assert not {"hunter2", "/evil"}.intersection(process.env.values())
    settings = {process.env[f"GIT_CONFIG_KEY_{at}"]: at for at in range(int(process.env["GIT_CONFIG_COUNT"]))}
    assert {"core.hooksPath", "transfer.hideRefs", "uploadpack.allowReachableSHA1InWant"} <= settings.keys()
    assert (process.env["GIT_ALLOW_PROTOCOL"], process.env["GIT_PROTOCOL"]) == ("none", "version=2")
