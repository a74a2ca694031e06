"""What only backups hold is not served, to no client that knows an id; what branches and tags reach is."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from mirrord.syncer.values import Services
from mirrord.syncers.git.kept.cache import git_of
from mirrord.syncers.git.names import MARK
from mirrord.syncers.git.syncer import SYNCER
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import Ran, run
from mirrord.wire.git.pktline import DELIMITER, FLUSH, encode
from mirrord.wire.git.wants import untold, wanted, withheld
from tests.support.frontserver import open_front
from tests.support.opening import open_services

GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
SECRET = b"the secret that was pushed by accident\n"
VERSIONS = pytest.mark.parametrize("version", ["0", "1", "2"])
PACKED = pytest.mark.parametrize("packed", [False, True], ids=["loose", "bitmap"])
A, B = "a" * 40, "b" * 40


@dataclass(slots=True)
class Site:
    """A served cache with a backup; ids by what they are."""

    url: str
    services: Services
    upstream: Upstream
    shown: dict[str, str]
    hidden: dict[str, str]

    def client(self, folder: Path) -> Path:
        subprocess.run(["git", "init", "--quiet", "--bare", folder], check=True, env={**os.environ, **GIT})
        return folder

    async def fetch(self, folder: Path, version: str, *what: str) -> Ran:
        words = ("-c", f"protocol.version={version}", "fetch", "--quiet", self.url, *what)
        return await run("git", "-C", folder, *words, env=GIT)

    async def post(self, body: bytes, version: str, **headers: str) -> tuple[int, bytes]:
        told = {"Content-Type": "application/x-git-upload-pack-request", "Git-Protocol": f"version={version}"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self.url}/git-upload-pack", data=body, headers={**told, **headers}) as answer,
        ):
            return answer.status, await answer.read()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_services(tmp_path / "state") as services:
        assert services.keep is not None
        folder = services.keep / "git" / "app.git"
        await run("git", "init", "--quiet", "--bare", "-b", "main", folder, env=GIT)
        (folder / MARK).write_text("app")
        up = Upstream(folder)
        first = up.commit("main", {"old.txt": b"old\n"})
        middle = up.commit("main", {"old.txt": b"new\n", "docs/a": b"a\n"})
        up.commit("main", {"old.txt": b"newest\n"})
        inner = up.tag("inner", middle, annotated=True)
        nested = f"object {inner}\ntype tag\ntag v1\ntagger A <a@example.com> 1 +0000\n\nof a tag\n"
        up.set("refs/tags/v1", up.git("mktag", stdin=nested.encode()).strip())
        up.delete("refs/tags/inner")
        shown = {"first": first, "middle": middle, "inner": inner}
        for what, name in (("old", f"{first}:old.txt"), ("folder", "main:docs"), ("tip", "main:old.txt")):
            shown[what] = up.git("rev-parse", name).strip()
        accident = up.commit("accident", {"secret.txt": SECRET}, parent=first)
        above = up.commit("accident", {"more.txt": b"more\n"})
        note = up.tag("note", first, annotated=True)  # hidden, though what it tags is not
        garbage = up.git("hash-object", "-w", "--stdin", stdin=b"garbage\n").strip()
        up.set("refs/mirrord/backup/20260101T000000Z/heads/accident", above)
        up.set("refs/mirrord/backup/20260101T000000Z/tags/note", note)
        up.delete("refs/heads/accident", "refs/tags/note")
        hidden = {"tip": above, "accident": accident, "note": note, "garbage": garbage, "absent": "1" * 40}
        for what, name in (("file", f"{above}:secret.txt"), ("folder", f"{above}^{{tree}}")):
            hidden[what] = up.git("rev-parse", name).strip()
        async with open_front(services, SYNCER) as url:
            yield Site(f"{url}/git/app.git", services, up, shown, hidden)


@VERSIONS
@PACKED
async def test_what_is_hidden_is_not_sent(site: Site, tmp_path: Path, version: str, packed: bool) -> None:
    """Commits, tags, folders and files of backups are refused in every version of the protocol, in git's own words."""
    if packed:
        site.upstream.git("repack", "-adqbk")
    client = site.client(tmp_path / "c")
    for what, oid in site.hidden.items():
        body = encode("command=fetch") + DELIMITER + encode(f"want {oid}") + encode("done") + FLUSH
        old = encode(f"want {oid} side-band-64k ofs-delta") + FLUSH + encode("done")
        status, answer = await site.post(body if version == "2" else old, version)
        assert (status, answer) == (200, encode(f"ERR upload-pack: not our ref {oid}")), what
    done = await site.fetch(client, version, site.hidden["tip"])
    assert done.status != 0
    assert f"not our ref {site.hidden['tip']}" in done.output


async def test_not_even_the_size_of_what_is_hidden_is_told(site: Site) -> None:
    """`object-info` tells sizes of what branches and tags reach, and refuses the others."""
    for oid, word in ((site.shown["old"], f"{site.shown['old']} 4"), (site.hidden["file"], "not our ref")):
        body = encode("command=object-info") + DELIMITER + encode("size") + encode(f"oid {oid}") + FLUSH
        status, answer = await site.post(body, "2")
        assert (status, word.encode() in answer) == (200, True)


@VERSIONS
@PACKED
async def test_what_is_reached_is_sent(site: Site, tmp_path: Path, version: str, packed: bool) -> None:
    """Any commit, tag, folder or file that a branch or tag reaches can be fetched by its id, also at depth 1."""
    if packed:
        site.upstream.git("repack", "-adqbk")
    for number, (what, oid) in enumerate(site.shown.items()):
        client = site.client(tmp_path / f"c{number}")
        done = await site.fetch(client, version, *(("--depth=1", oid) if what == "middle" else (oid,)))
        assert done.status == 0, (what, done.output)
        assert (await run("git", "-C", client, "cat-file", "-e", oid, env=GIT)).status == 0


async def test_partial_clones_fetch_their_files_later(site: Site, tmp_path: Path) -> None:
    """A clone without files gets those of a checkout, and of old commits, when they are looked at."""
    copy = tmp_path / "c"
    done = await run("git", "clone", "--quiet", "--filter=blob:none", "--", site.url, copy, env=GIT)
    assert done.status == 0, done.output
    assert (copy / "old.txt").read_bytes() == b"newest\n"
    shown = await run("git", "-C", copy, "show", f"{site.shown['first']}:old.txt", env=GIT)
    assert (shown.status, shown.output.strip()) == (0, "old")


async def test_the_whole_history_of_a_hidden_commit_is_not_sent(site: Site, tmp_path: Path) -> None:
    """A client that says it has a hidden commit without its parents does not get those by asking for all history."""
    tip = site.upstream.refs()["refs/heads/main"]
    words = [f"want {tip}", f"shallow {site.hidden['tip']}", "deepen 2147483647", "done"]
    body = encode("command=fetch") + DELIMITER + b"".join(map(encode, words)) + FLUSH
    assert (await site.post(body, "2"))[1] == encode(f"ERR upload-pack: not our ref {site.hidden['tip']}")
    client = site.client(tmp_path / "c")
    assert (await site.fetch(client, "2", "--depth=1", "main")).status == 0
    site.upstream.rewrite("main")  # the commit at which this client's history ends is a backup's from now on
    assert (await site.fetch(client, "2", "--depth=1", "main")).status == 0
    fresh = site.client(tmp_path / "d")
    assert (await site.fetch(fresh, "2", "--depth=1", "main")).status == 0
    done = await site.fetch(fresh, "2", "--unshallow", "main")
    assert done.status == 0, done.output
    assert not (fresh / "shallow").exists()


async def test_compressed_requests_are_looked_into(site: Site) -> None:
    """A compressed request is read as git would read it; what is broken, too long or in another coding is refused."""
    body = encode("command=fetch") + DELIMITER + encode(f"want {site.hidden['tip']}") + encode("done") + FLUSH
    assert b"not our ref" in (await site.post(gzip.compress(body), "2", **{"Content-Encoding": "gzip"}))[1]
    good = body.replace(site.hidden["tip"].encode(), site.shown["first"].encode())
    assert b"PACK" in (await site.post(gzip.compress(good), "2", **{"Content-Encoding": "x-gzip"}))[1]
    bomb = gzip.compress(bytes(64 << 20))
    for data, coding, code in (
        (good, "gzip", 400),
        (gzip.compress(good)[:-9], "gzip", 400),
        (gzip.compress(good) + gzip.compress(body), "gzip", 400),
        (bomb, "gzip", 413),
        (good, "br", 415),
        (b"want " + site.hidden["tip"].encode(), "identity", 400),
        (b"00080004-004", "identity", 400),  # a length that leads back
        (b"", "identity", 400),
    ):
        assert (await site.post(data, "2", **{"Content-Encoding": coding}))[0] == code


async def test_tips_cost_one_process(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every clone asks for is answered out of the list of refs."""
    git = git_of(site.services)
    verbs: list[str] = []
    real = git.run

    async def counted(args: list[str], **options: object) -> object:
        verbs.append(args[0])
        return await real(args, **options)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(git, "run", counted)
    tips = {oid for name, oid in site.upstream.refs().items() if not name.startswith("refs/mirrord/")}
    assert await untold(git, site.upstream.path, tips) == set()
    assert verbs == ["for-each-ref"]
    assert await untold(git, site.upstream.path, set()) == set()
    assert await withheld(git, site.upstream.path, set()) is None
    assert verbs == ["for-each-ref"]


@pytest.mark.parametrize(
    ("lines", "oids"),
    [
        (["command=ls-refs", "ref-prefix refs/heads/"], set()),
        ([f"want {A}", f"want {B} thin-pack", f"have {'c' * 40}"], {A, B}),
        ([f"want {A.upper()}"], {A.upper()}),
        ([f"want {A}{'d' * 24}"], {A + "d" * 24}),
        ([f"want {A}\0x"], {f"{A}\0x"}),
        (["want "], {""}),
        ([f"want {A}", f"shallow {B}", "deepen 1"], {A}),
        ([f"shallow {B}", "deepen 2147483647"], {B}),
        ([f"shallow {B}", "deepen 0x7fffffff"], {B}),
        ([f"shallow {B}", "deepen 017777777777"], {B}),
        ([f"shallow {B}", "deepen 6442450943"], {B}),
        ([f"shallow {B}", "deepen -1"], {B}),
        ([f"shallow {B}", "deepen 10", "deepen 2147483647"], {B}),
        (["command=object-info", "size", f"oid {A}"], {A}),
    ],
)
def test_what_a_request_asks_for(lines: list[str], oids: set[str]) -> None:
    """Wanted ids are found as they came, and shallow commits when all of the history is asked for, however written."""
    assert wanted(b"".join(map(encode, lines)) + FLUSH + encode("want " + "e" * 40)) == oids


@pytest.mark.parametrize("oid", ["", "main", "HEAD", A.upper(), A[:39], f"{A}d", "--all", f"{A}\0x"])
async def test_only_ids_are_ids(site: Site, oid: str) -> None:
    """What is no id in full is never asked of git, and refused."""
    assert await withheld(git_of(site.services), site.upstream.path, {oid}) == oid
