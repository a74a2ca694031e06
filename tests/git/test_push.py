"""Pushes to a real server, each ref with its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from mirrord.errors import DeniedError, MirrordError, RefusedError, ServerError
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.address import Address
from mirrord.wire.git.changes import Change, Pushed, PushStatus
from mirrord.wire.git.command import Git
from mirrord.wire.git.receive_pack import push
from mirrord.wire.http.client import Http
from tests.support.gitworld import GitWorld

NAME, MAIN, DEV = "app.git", "refs/heads/main", "refs/heads/dev"
MANY = 50


@pytest.fixture
async def host(world: GitWorld) -> GitHost:
    """Start a host with one empty repository."""
    started = await world.host("one")
    started.create(NAME)
    return started


@dataclass(slots=True)
class Sender:
    """A repository, and git to push from it as the service does."""

    git: Git
    http: Http
    cache: Upstream

    async def push(self, host: GitHost, wanted: Sequence[Change]) -> Pushed:
        return await push(self.git, self.http, self.cache.path, Address.parse(host.url(NAME)), wanted)


@pytest.fixture
def sender(world: GitWorld) -> Sender:
    """Make a repository with two branches."""
    path = world.folder / "cache.git"
    Upstream(world.folder).git("init", "-q", "--bare", "-b", "main", str(path))
    cache = Upstream(path)
    cache.commit("main", {"a": b"a"}, parent=None)
    cache.commit("dev", {"b": b"b"}, parent=None)
    return Sender(Git(world.folder / "home", world.services.http.book), world.services.http, cache)


def changes(cache: Upstream, there: dict[str, str]) -> list[Change]:
    here = cache.refs()
    names = sorted(here.keys() | there.keys())
    return [Change(name, there.get(name), here.get(name)) for name in names if here.get(name) != there.get(name)]


async def test_each_change_has_its_result(sender: Sender, host: GitHost) -> None:
    """Created, moved (by force, too) and deleted refs are told apart."""
    sender.cache.tag("t", "main")
    await sender.push(host, changes(sender.cache, {}))
    sender.cache.commit("main", {"a": b"2"})
    sender.cache.rewrite("dev")
    sender.cache.delete("refs/tags/t")
    sender.cache.tag("u", "main", annotated=True)
    pushed = await sender.push(host, changes(sender.cache, host.refs(NAME)))
    assert {result.ref: result.became for result in pushed.results} == {
        MAIN: PushStatus.MOVED,
        DEV: PushStatus.MOVED,
        "refs/tags/t": PushStatus.DELETED,
        "refs/tags/u": PushStatus.CREATED,
    }
    assert host.refs(NAME) == sender.cache.refs()


async def test_a_lease_protects_what_was_not_seen(sender: Sender, host: GitHost) -> None:
    """A ref that is not what it was seen to be is not overwritten, and neither is one that appeared meanwhile."""
    await sender.push(host, changes(sender.cache, {}))
    before = host.refs(NAME)
    new = sender.cache.commit("main", {"a": b"2"})
    stale = [Change(MAIN, before[DEV], new), Change(DEV, None, new)]
    pushed = await sender.push(host, stale)
    assert {(result.ref, result.became, result.reason) for result in pushed.results} == {
        (MAIN, PushStatus.REJECTED, "stale info"),
        (DEV, PushStatus.REJECTED, "stale info"),
    }
    assert host.refs(NAME) == before


@pytest.mark.parametrize("moved", [True, False])
async def test_a_lease_protects_what_was_not_seen_among_many(sender: Sender, host: GitHost, moved: bool) -> None:
    """The same in a batch: what was moved, made or deleted by somebody else stays as it is, all others arrive."""
    for number in range(MANY):
        sender.cache.tag(f"t{number}", "main")
    await sender.push(host, changes(sender.cache, {}))
    seen, there = host.refs(NAME), Upstream(host.path(NAME))
    sender.cache.delete("refs/tags/t0")
    if moved:  # else there are new ones and deletions alone, which go by wildcards
        sender.cache.rewrite("dev")
    for number in range(MANY):
        sender.cache.tag(f"n{number}", "main")
    theirs = {
        ref: there.commit("theirs", {"c": ref.encode()}, parent=None) for ref in (DEV, "refs/tags/t0", "refs/tags/n0")
    }
    there.delete("refs/heads/theirs")
    for ref, oid in theirs.items():
        there.set(ref, oid)
    pushed = await sender.push(host, changes(sender.cache, seen))
    rejected = {result.ref for result in pushed.results if not result.ok}
    assert rejected == {"refs/tags/t0", "refs/tags/n0", *([DEV] if moved else [])}
    assert host.refs(NAME) == {**sender.cache.refs(), **theirs}


async def test_what_is_pushed_is_what_was_decided(sender: Sender, host: GitHost) -> None:
    """A few changes go by object id: what the cache's refs are meanwhile does not matter."""
    decided = changes(sender.cache, {})
    expected = sender.cache.refs()
    sender.cache.commit("main", {"a": b"later"})
    await sender.push(host, decided)
    assert host.refs(NAME) == expected


async def test_many_go_in_batches_and_nothing_else_changes(
    sender: Sender, host: GitHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look, then one request for each batch: every change arrives, and no other ref is touched."""
    monkeypatch.setattr("mirrord.wire.git.receive_pack.BATCH", 30)
    there = Upstream(host.path(NAME))
    for name in ("dev/under", "old", "stays"):
        there.commit(name, {"c": b"c"}, parent=None)
    before = host.refs(NAME)
    for number in range(MANY):
        sender.cache.tag(f"t{number}", "main", annotated=not number % 2)
    wanted = [change for change in changes(sender.cache, before) if change.ref != "refs/heads/stays"]
    host.forget()
    pushed = await sender.push(host, wanted)
    assert (host.count("GET", "git-receive-pack"), host.count("POST", "git-receive-pack")) == (1, 3)
    assert host.refs(NAME) == {**sender.cache.refs(), "refs/heads/stays": before["refs/heads/stays"]}
    assert {result.became for result in pushed.results} == {PushStatus.CREATED, PushStatus.DELETED}
    assert {result.ref for result in pushed.results} == {change.ref for change in wanted}
    assert pushed.error is None


async def test_bookkeeping_and_hidden_refs_are_never_pushed(sender: Sender, host: GitHost) -> None:
    """Neither a few refs nor many take `refs/mirrord` or `refs/pull` along."""
    tip = sender.cache.refs()[MAIN]
    for name in ("refs/mirrord/backup/1/heads/x", "refs/pull/1/head", "refs/notes/x"):
        sender.cache.set(name, tip)
    for number in range(MANY):
        sender.cache.tag(f"t{number}", "main")
    await sender.push(host, changes(sender.cache, {}))
    assert all(name.startswith(("refs/heads/", "refs/tags/")) for name in host.refs(NAME))


@pytest.mark.parametrize(
    ("method", "status", "error"),
    [("GET", 500, ServerError), ("GET", 403, DeniedError), ("POST", 413, RefusedError), ("POST", 503, ServerError)],
)
async def test_a_push_that_failed_as_a_whole_raises(
    sender: Sender, host: GitHost, method: str, status: int, error: type[MirrordError]
) -> None:
    """A push without a result of any ref is an error, whatever else git prints (`Everything up-to-date`)."""
    host.faults.on(method, "git-receive-pack", times=None).status(status)
    with pytest.raises(error, match=host.host):
        await sender.push(host, changes(sender.cache, {}))
    assert host.refs(NAME) == {}
