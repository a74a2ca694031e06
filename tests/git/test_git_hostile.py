"""Upstreams and hosts that mean harm, or are broken on the wire: nothing of it is served, run, or left behind."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from mirrord.errors import ContentError, MirrordError, UnsupportedError
from mirrord.model.run import Result
from mirrord.testing.faults import Fault
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.server import listen
from mirrord.wire.git import environment
from mirrord.wire.git.address import Address
from mirrord.wire.git.pktline import encode
from tests.support.gitcache import NAME, CacheScene, open_scene
from tests.support.gitcontent import fill
from tests.support.gitworld import GitWorld

MAIN, BAD = "refs/heads/main", "refs/heads/bad"
SIZE = 300_000  # more than one piece on the wire


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[CacheScene]:
    """Give a cache in good order, and an upstream that is a large commit ahead."""
    async with open_scene(tmp_path) as made:
        made.fill()
        await made.turn()
        made.upstream.commit("main", {"noise": random.Random(3).randbytes(SIZE)})
        yield made


PACK = encode("acknowledgments") + encode("ready") + b"0001" + encode("packfile")
FLOOD = b"".join(encode(f"\x02still at work, line {number}") for number in range(20_000))  # the band of progress
DISTORTED = {
    "truncated": lambda fault: fault.truncate(SIZE // 2),
    "wrong-checksum": lambda fault: fault.corrupt(-15),
    "flipped-bit": lambda fault: fault.corrupt(SIZE // 2),
    "garbage": lambda fault: fault.answer(b"<html>log in</html>"),
    "nothing": lambda fault: fault.answer(b""),
    "err": lambda fault: fault.answer(encode("ERR upload-pack: not our ref")),
    "endless-progress": lambda fault: fault.answer(PACK + FLOOD),
    "told-fatal": lambda fault: fault.answer(PACK + encode("\x03the repository is on fire")),
}


@pytest.mark.parametrize("distort", DISTORTED.values(), ids=DISTORTED)
async def test_60_a_transfer_that_goes_wrong_changes_nothing(scene: CacheScene, distort: object) -> None:
    """Bad input 60: a pack that is cut, flipped, garbage or never comes moves no ref and leaves no file.

    It costs one fetch, nothing is cloned anew for what came wrong over the wire, and the next run has it all.
    """
    before = await scene.cache.refs()
    fault: Fault = scene.host.faults.on("POST", "git-upload-pack", skip=1)
    distort(fault)  # type: ignore[operator]  # of the table above
    scene.git.ran.clear()
    with pytest.raises(MirrordError) as caught:
        await scene.fetch()
    assert fault.hits == 1
    assert type(caught.value) is not MirrordError, "it is known what went wrong"
    assert len(str(caught.value)) < 1200
    assert await scene.cache.refs() == before
    assert [ran[0] for ran in scene.git.ran].count("fetch") == 1
    await scene.turn()
    assert (await scene.cache.served()).refs == scene.upstream.refs()
    assert not list((scene.cache.folder / "objects").rglob("tmp_*"))
    assert scene.whole()


def obj(upstream: Upstream, kind: str, data: bytes) -> bytes:
    """Write an object as it is, whatever git thinks of it; return its id."""
    return upstream.git("hash-object", "-w", "-t", kind, "--literally", "--stdin", stdin=data).strip().encode()


def entry(mode: str, name: str, oid: bytes) -> bytes:
    return f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid.decode())


def commit_of(upstream: Upstream, tree: bytes) -> str:
    """Put a branch `bad` over a tree."""
    person = b"Ada <ada@example.com> 1700000000 +0000"
    text = b"tree %s\nauthor %s\ncommitter %s\n\nbad\n" % (obj(upstream, "tree", tree), person, person)
    return upstream.set(BAD, obj(upstream, "commit", text).decode())


def modules(upstream: Upstream, text: str) -> bytes:
    return entry("100644", ".gitmodules", obj(upstream, "blob", text.encode()))


def hooked(upstream: Upstream, trap: Path) -> bytes:
    hook = obj(upstream, "blob", f"#!/bin/sh\ntouch {trap}\n".encode())
    hooks = obj(
        upstream, "tree", entry("100755", "post-checkout", hook) + entry("100755", "reference-transaction", hook)
    )
    return entry("40000", ".git", obj(upstream, "tree", entry("40000", "hooks", hooks)))


def module(path: str, url: str = "https://h.example/x") -> str:
    return f'[submodule "x"]\n\tpath = {path}\n\turl = {url}\n'


REFUSED = {
    "hooks": hooked,
    "url-option": lambda upstream, trap: modules(upstream, module("a", f"--upload-pack=touch {trap}")),
    "url-newline": lambda upstream, _: modules(upstream, module("a", '"https://h.example/x\\nhost=evil"')),
    "path-option": lambda upstream, _: modules(upstream, module("-u")),
    "name-climbs": lambda upstream, _: modules(upstream, module("a").replace('"x"', '"../../x"')),
    "linked-modules": lambda upstream, _: entry("120000", ".gitmodules", obj(upstream, "blob", b"/etc/passwd")),
    "dot-dot": lambda upstream, _: entry("100644", "..", obj(upstream, "blob", b"x")),
}
HARMLESS_WITHOUT_A_CHECKOUT = {
    "path-climbs": lambda upstream, _: modules(upstream, module("../x")),
    "carriage-return": lambda upstream, _: modules(upstream, module('"x\r"')),
    "command": lambda upstream, trap: modules(
        upstream, f"{module('a')}\tupdate = none\n\tignore = all\n# touch {trap}\n"
    ),
    "slash": lambda upstream, _: entry("100644", "a/b", obj(upstream, "blob", b"x")),
    "attributes": lambda upstream, _: entry("100644", ".gitattributes", obj(upstream, "blob", b"* filter=evil\n")),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
async def test_59_content_that_would_do_harm_in_a_checkout(scene: CacheScene, tmp_path: Path, make: object) -> None:
    """Bad input 59: trees that write into `.git`, modules that are options or links: refused, nothing ran."""
    await scene.turn()
    before = await scene.cache.refs()
    commit_of(scene.upstream, make(scene.upstream, tmp_path / "trap"))  # type: ignore[operator]  # of the table above
    with pytest.raises(ContentError):
        await scene.fetch()
    assert await scene.cache.refs() == before
    assert not (tmp_path / "trap").exists()
    scene.upstream.delete(BAD)
    await scene.turn()
    assert scene.whole()


@pytest.mark.parametrize("make", HARMLESS_WITHOUT_A_CHECKOUT.values(), ids=HARMLESS_WITHOUT_A_CHECKOUT)
async def test_59_content_that_needs_a_checkout_to_do_harm(scene: CacheScene, tmp_path: Path, make: object) -> None:
    """Bad input 59: what this git lets pass is mirrored as it is; nothing is checked out, so nothing runs."""
    oid = commit_of(scene.upstream, make(scene.upstream, tmp_path / "trap"))  # type: ignore[operator]  # as above
    await scene.turn()
    assert (await scene.cache.served()).refs[BAD] == oid
    assert not (tmp_path / "trap").exists()
    assert not (scene.cache.folder / ".gitmodules").exists()
    assert not (scene.cache.folder / "modules").exists()


async def test_65_a_shallow_upstream_is_named(scene: CacheScene) -> None:
    """Bad input 65: a shallow upstream cannot be mirrored, which git calls a success; it is told as what it is."""
    shallow = scene.host.folder / "shallow.git"
    words = ["git", "clone", "-q", "--bare", "--depth", "1", f"file://{scene.upstream.path}", str(shallow)]
    await asyncio.to_thread(subprocess.run, words, check=True)
    before = (await scene.cache.served()).refs
    with pytest.raises(UnsupportedError, match="is a shallow repository") as caught:
        await scene.cache.fetch(Address.parse(scene.host.url("shallow.git")))
    assert not caught.value.retry
    assert (await scene.cache.served()).refs == before
    assert not (scene.cache.folder / "shallow").exists()


async def test_65_a_list_of_alternates_leads_nowhere(scene: CacheScene, tmp_path: Path) -> None:
    """Bad input 65: a server of the old, dumb kind that says to fetch objects elsewhere is not followed there."""
    upstream, other = scene.upstream, scene.host.folder / "other.git"
    upstream.git("update-server-info")
    (upstream.path / "objects").rename(tmp_path / "objects")
    asked = []

    async def dumb(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path)
        if request.path.endswith("/http-alternates"):
            return web.Response(text=f"{scene.host.url(other.name)}/objects/\n/elsewhere/objects/\n")
        file = scene.host.folder / request.path.lstrip("/")
        return web.Response(body=file.read_bytes()) if file.is_file() else web.Response(status=404)

    runner, port = await listen(dumb)
    scene.host.forget()
    try:
        with pytest.raises(MirrordError):
            await scene.cache.fetch(Address.parse(f"http://127.0.0.1:{port}/{NAME}"))
    finally:
        await runner.cleanup()
    assert any(path.endswith("alternates") for path in asked), asked
    assert not any(path.startswith("/elsewhere") for path in asked)
    assert scene.host.log == []


async def test_a_cache_of_another_owner_is_used(scene: CacheScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory that belongs to somebody else (a volume, a restored backup) is no reason to stop.

    The control: git by itself refuses to work there.
    """
    other = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "true"}
    environ = {**os.environ, **other, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    words = ["git", "-C", str(scene.cache.folder), "for-each-ref"]
    control = await asyncio.to_thread(subprocess.run, words, env=environ, capture_output=True)
    assert b"dubious ownership" in control.stderr
    monkeypatch.setattr(environment, "_ALWAYS", environment._ALWAYS | other)
    await scene.turn()
    assert (await scene.cache.served()).refs == scene.upstream.refs()


async def test_two_programs_that_push_to_one_repository(world: GitWorld) -> None:
    """Two processes, each with a state of its own, race for one destination: it ends as upstream is, and stays so."""
    source, one = await world.host("source"), await world.host("one")
    upstream = Upstream(source.create(NAME))
    fill(upstream, 40, 1 << 18)
    one.create(NAME)
    words = (sys.executable, "-m", "tests.support.gitworld")
    rest = (source.url(NAME), "", f"one={one.url(NAME)}")
    children = [await asyncio.create_subprocess_exec(*words, str(world.folder / name), *rest) for name in ("a", "b")]
    assert [await child.wait() for child in children] == [0, 0]
    mirror = world.mirror(source.url(NAME), one=one.url(NAME))
    run = await world.run(mirror)
    assert run.result in (Result.SUCCESS, Result.NOOP), run.receipts
    assert one.refs(NAME) == upstream.refs()
    assert (await world.run(mirror)).result is Result.NOOP


async def test_two_thousand_refs(world: GitWorld) -> None:
    """2 000 refs are fetched, compared and seen at a destination; a day on which ten of them move costs one push."""
    source, one = await world.host("source"), await world.host("one")
    upstream = Upstream(source.create(NAME))
    fill(upstream, 2_000, 1 << 16)
    upstream.git("pack-refs", "--all")
    for part in ("packed-refs", "objects"):
        words = ["cp", "-r", str(upstream.path / part), str(one.create(NAME))]
        await asyncio.to_thread(subprocess.run, words, check=True)
    mirror = world.mirror(source.url(NAME), one=one.url(NAME))
    assert (await world.run(mirror)).result is Result.NOOP
    for number in range(1, 11):
        upstream.tag(f"v{number}", "main")
    one.forget()
    run = await world.run(mirror)
    assert (run.result, len(run.receipts)) == (Result.SUCCESS, 10)
    assert one.count("POST", "git-receive-pack") == 1
    assert one.refs(NAME) == upstream.refs()
