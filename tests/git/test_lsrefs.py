"""Asking a repository for its refs: one request, any server, and nothing that is believed unread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from mirrord.errors import BrokenError, ContentError, DeniedError, MissingError, TooLargeError, UntrustedError
from mirrord.testing.exchange import Exchange
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git import lsrefs
from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git
from mirrord.wire.git.lsrefs import ls_refs
from mirrord.wire.git.pktline import encode, lines, request
from mirrord.wire.git.refs import Refs
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits

RESULT = {"Content-Type": "application/x-git-upload-pack-result"}
ONE = "1" * 40

Ask = Callable[..., Awaitable[Refs]]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[GitHost]:
    async with GitHost(tmp_path / "host") as made:
        yield made


@pytest.fixture
def upstream(host: GitHost) -> Upstream:
    made = Upstream(host.create("team/app.git"))
    made.commit("main", {"README.md": b"hello\n"})
    made.commit("feature/x", {"x": b"x\n"})
    made.tag("v1", "main", annotated=True)
    made.tag("v0", "main")
    return made


@pytest.fixture
async def ask(tmp_path: Path, host: GitHost) -> AsyncIterator[Ask]:
    git = Git(tmp_path / "home", HostBook())
    async with Http(HostBook(), limits=Limits(attempts=1)) as http:

        async def ask(name: str = "team/app.git") -> Refs:
            return await ls_refs(git, http, Address.parse(host.url(name)))

        yield ask


def told(upstream: Upstream) -> dict[str, str]:
    return {name: oid for name, oid in upstream.refs().items() if name.startswith(("refs/heads/", "refs/tags/"))}


async def test_one_request(ask: Ask, host: GitHost, upstream: Upstream) -> None:
    """Branches, tags, what tags point to, and the default branch come with a single request."""
    upstream.set("refs/pull/1/head", upstream.refs()["refs/heads/main"])
    refs = await ask()
    assert refs.refs == told(upstream)
    assert refs.head == "refs/heads/main"
    assert refs.peeled == {"refs/tags/v1": upstream.refs()["refs/heads/main"]}
    assert [one.method for one in host.log] == ["POST"]
    assert host.log[0].headers["git-protocol"] == "version=2"


async def test_hidden_refs_are_not_sent(ask: Ask, host: GitHost, upstream: Upstream) -> None:
    """The server is asked for branches and tags alone: a thousand pull requests cost nothing."""
    await ask()
    before = host.log[-1].sent
    for number in range(50):
        upstream.set(f"refs/pull/{number}/head", upstream.refs()["refs/heads/main"])
    await ask()
    assert host.log[-1].sent == before


async def test_both_ways_agree(ask: Ask, host: GitHost, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `git ls-remote` finds is the same: it stands in where protocol v2 is not spoken."""
    fast = await ask()
    host.faults.on("POST", "git-upload-pack", times=2).status(400)
    slow = await ask()
    assert (slow.refs, slow.head, slow.peeled) == (fast.refs, fast.head, fast.peeled)
    assert slow.fingerprint == fast.fingerprint


async def test_a_server_of_the_old_protocol(ask: Ask, host: GitHost, upstream: Upstream) -> None:
    """A server that knows protocol v0 alone is asked through git."""
    upstream.git("config", "protocol.version", "0")
    upstream.git("config", "uploadpack.advertiseRefInWant", "false")
    host.faults.on("POST", "git-upload-pack", times=2).status(200, encode("ERR no such command"), RESULT)
    assert (await ask()).refs == told(upstream)


async def test_a_real_server_of_the_old_protocol(tmp_path: Path) -> None:
    """The same with a server that never heard of `Git-Protocol`: what it makes of our request is not believed."""

    class Old(GitHost):
        def _environ(self, exchange: Exchange) -> dict[str, str]:
            return {name: value for name, value in super()._environ(exchange).items() if name != "GIT_PROTOCOL"}

    async with Old(tmp_path / "old") as host, Http(HostBook(), limits=Limits(attempts=1)) as http:
        made = Upstream(host.create("team/app.git"))
        made.commit("main", {"README.md": b"hello\n"})
        made.tag("v1", "main", annotated=True)
        refs = await ls_refs(Git(tmp_path / "home", HostBook()), http, Address.parse(host.url("team/app.git")))
    assert (refs.refs, refs.head) == (made.refs(), "refs/heads/main")
    assert refs.peeled == {"refs/tags/v1": made.refs()["refs/heads/main"]}


async def test_the_connection_stays_open(tmp_path: Path) -> None:
    """Looking again, also at another repository of the host, needs no new connection: nothing but one round trip."""
    peers = list[object]()

    class Noting(GitHost):
        async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
            assert request.transport is not None
            peers.append(request.transport.get_extra_info("peername"))
            return await super()._handle(request)

    async with Noting(tmp_path / "noting") as host, Http(HostBook(), limits=Limits(attempts=1)) as http:
        git = Git(tmp_path / "home", HostBook())
        for name in ("one.git", "two.git", "one.git"):
            if not host.path(name).exists():
                Upstream(host.create(name)).commit("main", {"README.md": b"hello\n"})
            await ls_refs(git, http, Address.parse(host.url(name)))
    assert (len(peers), len(set(peers))) == (3, 1)


async def test_an_empty_repository(ask: Ask, host: GitHost) -> None:
    """A repository without refs is a state, not an error."""
    host.create("team/new.git", head="trunk")
    assert await ask("team/new.git") == Refs({}, "refs/heads/trunk")


async def test_an_empty_repository_of_the_old_protocol(ask: Ask, host: GitHost) -> None:
    """An empty list is believed where a Git server sent it, in whatever protocol."""
    host.create("team/new.git")
    host.faults.on("POST", "git-upload-pack", times=2).status(400)
    assert (await ask("team/new.git")).refs == {}


@pytest.mark.parametrize("slow", [False, True])
async def test_a_head_that_leads_nowhere(ask: Ask, host: GitHost, upstream: Upstream, slow: bool) -> None:
    """Protocol v2 tells which branch HEAD misses; through git it is told that it misses one."""
    assert not (await ask()).dangling
    upstream.head("gone")
    host.faults.on("POST", "git-upload-pack", times=2 if slow else 0).status(400)
    refs = await ask()
    assert (refs.refs, refs.head, refs.dangling) == (told(upstream), None if slow else "refs/heads/gone", True)


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_server_that_does_not_know_unborn_heads(
    ask: Ask, host: GitHost, upstream: Upstream, status: int
) -> None:
    """Who takes an argument that it does not know for an error (as JGit does) is asked without it, from then on."""
    refusal = encode("ERR unexpected line: 'unborn'") + b"0000"
    host.faults.on("POST", "git-upload-pack").status(status, refusal, RESULT)
    for count in (2, 1):
        host.forget()
        assert (await ask()).refs == told(upstream)
        assert host.count("*") == count


async def test_it_is_missing(ask: Ask) -> None:
    """A repository that is not there is missing, after one request."""
    with pytest.raises(MissingError):
        await ask("team/none.git")


@pytest.mark.parametrize("status", [410, 451])
async def test_f44_gone_for_good(ask: Ask, host: GitHost, upstream: Upstream, status: int) -> None:
    """Fault 44: gone and blocked for legal reasons are missing too; nothing must be deleted for it."""
    host.faults.on("POST", "git-upload-pack").status(status)
    with pytest.raises(MissingError, match="nothing is deleted"):
        await ask()


@pytest.mark.parametrize("status", [401, 403])
async def test_denied(ask: Ask, host: GitHost, upstream: Upstream, status: int) -> None:
    """Who may not see it is told so, and not asked again through git."""
    host.faults.on("POST", "git-upload-pack", times=None).status(status)
    with pytest.raises(DeniedError):
        await ask()
    assert host.count("GET") == 0


async def test_f44_a_login_page(ask: Ask, host: GitHost, upstream: Upstream) -> None:
    """Fault 44: a host that answers everything with a page is no empty repository."""
    host.faults.on("*", "app.git", times=None).status(200, b"<html>log in", {"Content-Type": "text/html"})
    with pytest.raises(ContentError):
        await ask()


BODIES = {
    "empty": b"",
    "no-length": b"zzzz",
    "negative": b"-001",
    "reserved": b"0003",
    "cut-in-a-line": b"00ff" + ONE.encode(),
    "no-flush": encode(f"{ONE} refs/heads/main"),
    "no-oid": encode("nonsense refs/heads/main") + b"0000",
    "error": encode("ERR access denied") + b"0000",
    "version-1": encode("version 1") + encode(f"{ONE} HEAD\0symref=HEAD:refs/heads/main") + b"0000",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_60_garbage(ask: Ask, host: GitHost, upstream: Upstream, body: bytes) -> None:
    """Bad input 60: a list that is garbage or cut off is not believed in part; git has the last word."""
    host.faults.on("POST", "git-upload-pack", times=2).status(200, body, RESULT)
    assert (await ask()).refs == told(upstream)
    assert host.count("GET") == 1


@pytest.mark.parametrize("body", list(BODIES.values())[:4], ids=list(BODIES)[:4])
async def test_60_garbage_for_git_too(ask: Ask, host: GitHost, upstream: Upstream, body: bytes) -> None:
    """Bad input 60: where git cannot make sense of it either, it is an error, never an empty repository."""
    host.faults.on("*", "app.git", times=None).status(200, body, RESULT)
    with pytest.raises((ContentError, BrokenError)):
        await ask()


async def test_58_odd_names(ask: Ask, host: GitHost, upstream: Upstream) -> None:
    """Bad input 58: what looks like an option or a command is a name like every other; bytes that are no UTF-8 too."""
    oid = upstream.refs()["refs/heads/main"]
    names = ["refs/heads/-x", "refs/heads/--upload-pack=x", "refs/heads/a;b$(id)", "refs/heads/HEAD", "refs/heads/Main"]
    names += ["refs/heads/a\u2028b", "refs/heads/a\x85b"]
    for name in names:
        upstream.set(name, oid)
    (upstream.path / "refs" / "heads" / "\udcff").write_text(f"{oid}\n")
    refs = await ask()
    assert {*names, "refs/heads/\udcff"} <= set(refs.refs)
    host.faults.on("POST", "git-upload-pack", times=2).status(400)
    assert (await ask()).refs == refs.refs
    assert host.count("GET") == 1  # through git


async def test_58_head_outside(ask: Ask, host: GitHost, upstream: Upstream) -> None:
    """Bad input 58: a HEAD that is detached, or points outside of branches, is told as it is."""
    upstream.git("update-ref", "--no-deref", "HEAD", upstream.refs()["refs/heads/main"])
    assert (await ask()).head is None


async def test_too_many_refs(ask: Ask, host: GitHost, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list has a cap; a longer one is refused, not read into memory."""
    monkeypatch.setattr(lsrefs, "LARGEST", 100)
    with pytest.raises(TooLargeError):
        await ask()


async def test_57_plain_http(tmp_path: Path) -> None:
    """Bad input 57: nothing is sent in plain HTTP to a host that nobody marked."""
    async with Http(HostBook()) as http:
        with pytest.raises(UntrustedError, match="insecure: true"):
            await ls_refs(Git(tmp_path / "home", HostBook()), http, Address.parse("http://git.example/x"))


def test_packet_lines() -> None:
    """A request is written as gitprotocol-v2 has it, and lines are read up to the flush."""
    assert request("ls-refs", (), ("peel",)) == b"0014command=ls-refs\n0001" + b"0009peel\n" + b"0000"
    assert list(lines(encode("a") + b"0001" + encode("b") + b"0000" + b"junk")) == [b"a", b"b"]


@pytest.mark.parametrize("length", [b"-004", b"+004", b" 004", b"0_04", b"0x04", b"\n\t04", b"004"])
def test_a_length_is_four_hex_digits(length: bytes) -> None:
    """Whatever else Python takes for a number is none: a negative length led back to the line before, for ever."""
    with pytest.raises(ContentError, match="no packet line at byte 8"):
        list(lines(b"00080004" + length))
