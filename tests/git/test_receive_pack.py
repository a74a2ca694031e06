"""A push over HTTP as mirrord itself speaks it: what is sent, and what a host's answer is taken for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mirrord.errors import BrokenError, ContentError, MirrordError, RefusedError
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.address import Address
from mirrord.wire.git.changes import Change, Pushed, PushStatus, RefResult
from mirrord.wire.git.command import Git
from mirrord.wire.git.receive_pack import push
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest, HttpResponse, Upload
from tests.support.gitworld import GitWorld

ZERO, MAIN, OLD = "0" * 40, "refs/heads/main", "refs/heads/old"
ADDRESS = Address.parse("http://127.0.0.1:1/app.git")
ALL = "report-status-v2 side-band-64k delete-refs ofs-delta object-format=sha1 agent=git/2.39"


def packet(text: str | bytes) -> bytes:
    """Write one packet."""
    payload = text.encode() if isinstance(text, str) else text
    return b"%04x%b" % (len(payload) + 4, payload)


def band(number: int, content: bytes, size: int = 7) -> bytes:
    """Write content to a band, in pieces that end anywhere."""
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(packet(bytes([number]) + piece) for piece in pieces)


@dataclass(slots=True)
class Host:
    """Answers as a host would; keeps what it was sent."""

    refs: dict[str, str] = field(default_factory=dict)
    capabilities: str = ALL
    report: bytes = b""
    media: str = "application/x-git-receive-pack-advertisement"
    status: int = 200
    sent: bytes = b""
    sizes: list[int | None] = field(default_factory=list)
    book: HostBook = field(default_factory=HostBook)

    async def fetch(self, request: HttpRequest) -> HttpResponse:
        """See `Http.fetch`."""
        if request.method == "GET":
            listed = [f"{oid} {name}" for name, oid in self.refs.items()] or [f"{ZERO} capabilities^{{}}"]
            listed[0] += f"\0{self.capabilities}"
            head = packet("# service=git-receive-pack\n") + b"0000"
            body = head + b"".join(packet(f"{line}\n") for line in listed) + b"0000"
            return HttpResponse(self.status, {"content-type": self.media}, body, request.url)
        assert isinstance(request.body, Upload)
        assert request.attempts == 1
        self.sizes.append(request.body.size)
        self.sent += b"".join([piece async for piece in request.body.open()])
        media = "application/x-git-receive-pack-result"
        return HttpResponse(200, {"content-type": media}, self.report, request.url)


@dataclass(slots=True)
class Cache:
    """A repository with one branch."""

    git: Git
    path: Path
    tip: str
    sent: list[int] = field(default_factory=list)  # bytes of packs, as they were told

    async def push(self, host: Host, *changes: Change) -> Pushed:
        http: Http = host  # type: ignore[assignment]  # all that is used of it
        return await push(
            self.git, http, self.path, ADDRESS, changes or [Change(MAIN, None, self.tip)], on_sent=self.sent.append
        )


@pytest.fixture
async def cache(world: GitWorld) -> Cache:
    """Make it."""
    path = world.folder / "cache.git"
    Upstream(world.folder).git("init", "-q", "--bare", "-b", "main", str(path))
    tip = Upstream(path).commit("main", {"a": b"a" * 5000}, parent=None)
    return Cache(Git(world.folder / "home", world.services.http.book), path, tip)


def done(*lines: str) -> bytes:
    """Write a report."""
    return b"".join(packet(f"{line}\n") for line in lines) + b"0000"


async def test_what_is_sent(cache: Cache) -> None:
    """Commands with what was seen, capabilities that are offered and used, a pack; the length when it is short."""
    host = Host({OLD: cache.tip}, report=band(1, done("unpack ok", f"ok {MAIN}", f"ok {OLD}")) + b"0000")
    pushed = await cache.push(host, Change(MAIN, None, cache.tip), Change(OLD, cache.tip, None))
    first = f"{ZERO} {cache.tip} {MAIN}\0 report-status-v2 side-band-64k object-format=sha1 agent=mirrord/"
    commands, _, pack = host.sent.partition(b"0000PACK")
    assert commands[4:].startswith(first.encode())
    assert commands.endswith(packet(f"{cache.tip} {ZERO} {OLD}"))
    assert pack[:8] == b"\0\0\0\2\0\0\0\0"  # of no objects: all are there
    assert host.sizes == [len(host.sent)]
    assert cache.sent == [len(b"PACK" + pack)]
    assert pushed == Pushed((RefResult(MAIN, PushStatus.CREATED), RefResult(OLD, PushStatus.DELETED)))


async def test_deletions_alone_need_no_pack(cache: Cache) -> None:
    """Nothing follows the commands."""
    host = Host({OLD: cache.tip}, report=band(1, done("unpack ok", f"ok {OLD}")) + b"0000")
    await cache.push(host, Change(OLD, cache.tip, None))
    assert host.sent[4:].startswith(f"{cache.tip} {ZERO} {OLD}\0".encode())
    assert int(host.sent[:4], 16) + len(b"0000") == len(host.sent)


async def test_long_packs_go_while_they_are_made(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what is kept in memory nobody knows the length, and it is sent once."""
    monkeypatch.setattr("mirrord.wire.git.receive_pack.BUFFER", 10)
    monkeypatch.setattr("mirrord.program.PIECE", 50)
    host = Host(report=band(1, done("unpack ok", f"ok {MAIN}")) + b"0000")
    await cache.push(host)
    assert host.sizes == [None]
    Upstream(cache.path).git("index-pack", "--stdin", stdin=b"PACK" + host.sent.partition(b"0000PACK")[2])


@pytest.mark.parametrize(
    ("report", "reason", "words"),
    [
        (band(1, done("unpack ok", f"ng {MAIN} hook declined")), "hook declined", ""),
        (
            band(2, b"no way\n\nPush 50%\r") + band(1, done("unpack ok", f"ng {MAIN} no")),
            "no",
            "remote: no way",
        ),
        (
            band(1, done("unpack disk full", f"ng {MAIN} unpacker error")),
            "unpacker error",
            "remote: unpack failed: disk full",
        ),
        (
            band(1, done("unpack ok", f"ng {MAIN} over the quota", f"ng {MAIN} failed", f"ok {MAIN}")),
            "over the quota",
            "",
        ),
        (band(1, done("unpack ok")), "remote failed to report status", ""),
        (band(3, b"out of memory"), "remote failed to report status", "remote: out of memory"),
        (band(1, done("unpack ok", f"ng {MAIN} {'x' * 900}")), "x" * 400, ""),
    ],
    ids=["ng", "hook", "unpack", "twice", "silent", "fatal", "endless"],
)
async def test_each_ref_has_its_result(cache: Cache, report: bytes, reason: str, words: str) -> None:
    """Refusals are the host's, in its own words; what it does not mention did not arrive."""
    pushed = await cache.push(Host(report=report + b"0000"))
    assert pushed.results == (RefResult(MAIN, PushStatus.REJECTED, reason, remote=True),)
    assert words in pushed.words


async def test_nothing_is_made_up_for_old_hosts(cache: Cache) -> None:
    """Without bands a report comes as it is; without a report nothing is known; what cannot be deleted is not tried."""
    plain = Host(capabilities="report-status", report=done("unpack ok", f"ok {MAIN}"))
    assert (await cache.push(plain)).results == (RefResult(MAIN, PushStatus.CREATED),)
    assert (await cache.push(Host(capabilities="ofs-delta"))).results == ()
    old = Host({OLD: cache.tip}, "report-status")
    (result,) = (await cache.push(old, Change(OLD, cache.tip, None))).results
    assert (result.ok, result.remote, old.sizes) == (False, False, [])


async def test_what_is_as_it_shall_be_is_not_sent(cache: Cache) -> None:
    """Neither a ref that has moved there by itself, nor one that is gone; what was not seen is left alone."""
    host = Host({MAIN: cache.tip, OLD: cache.tip})
    changes = Change(MAIN, None, cache.tip), Change("refs/heads/gone", cache.tip, None), Change(OLD, None, None)
    pushed = await cache.push(host, *changes)
    assert [result.became for result in pushed.results] == [PushStatus.SAME, PushStatus.SAME, PushStatus.REJECTED]
    assert host.sizes == []


@pytest.mark.parametrize(
    ("host", "error", "words"),
    [
        (Host(media="text/html"), ContentError, "login page"),
        (Host(status=301), RefusedError, "moved"),
        (Host(report=b""), BrokenError, "ended before it reported what became of the refs"),
        (Host(report=band(1, done("unpack ok"))[:-2]), BrokenError, "cut off"),
    ],
    ids=["page", "moved", "empty", "cut"],
)
async def test_what_is_no_answer_is_an_error(cache: Cache, host: Host, error: type[MirrordError], words: str) -> None:
    """Whoever is asked for another address, or does not answer to the end, has no results to tell."""
    with pytest.raises(error, match=words):
        await cache.push(host)


async def test_what_git_cannot_pack_is_never_sent_whole(cache: Cache) -> None:
    """An object that is not here fails the push with git's words, and the host gets no commands."""
    host = Host()
    with pytest.raises(MirrordError, match="bad"):
        await cache.push(host, Change(MAIN, None, "1" * 40))
    assert host.sizes == []


async def test_a_batch_knows_what_went_before(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects go with the first refs that need them; the next batch sends none of them again."""
    monkeypatch.setattr("mirrord.wire.git.receive_pack.BATCH", 1)
    host = Host(report=band(1, done("unpack ok", "ok refs/heads/a", "ok refs/heads/b")) + b"0000")
    await cache.push(host, *(Change(f"refs/heads/{name}", None, cache.tip) for name in "ab"))
    counts = [int.from_bytes(pack[4:8]) for pack in host.sent.split(b"PACK")[1:]]
    assert counts == [3, 0]
