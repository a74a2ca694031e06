"""What goes wrong at one destination, on the way, or in the middle of a run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirrord.errors import BrokenError
from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL, Mirror
from mirrord.syncers.git.kept.cache import MirrorCache
from mirrord.syncers.git.transfer import destinations
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.git.address import Address
from mirrord.wire.git.changes import Pushed
from mirrord.wire.git.receive_pack import push
from mirrord.wire.git.refs import Refs
from tests.support.gitworld import GitWorld, receipts

NAME = "app.git"
MAIN, DEV = "refs/heads/main", "refs/heads/dev"


@dataclass(slots=True)
class Pair:
    """One upstream, a destination in trouble and one without."""

    world: GitWorld
    source: GitHost
    upstream: Upstream
    bad: GitHost
    good: GitHost

    def mirror(self, **options: object) -> Mirror:
        places = {"bad": self.bad.url(NAME), "good": self.good.url(NAME)}
        return self.world.mirror(self.source.url(NAME), places, options=options, local=LOCAL)

    def wanted(self) -> dict[str, str]:
        return self.upstream.refs()


async def pair(world: GitWorld, **options: object) -> Pair:
    """Build both; `options` are the bad host's."""
    source = await world.host("source")
    upstream = Upstream(source.create(NAME))
    first = upstream.commit("main", {"README.md": b"one\n"})
    upstream.commit("main", {"README.md": b"two\n"})
    upstream.commit("dev", {"dev.txt": b"dev\n"}, parent=first)
    upstream.tag("v1", first)
    bad, good = await world.host("bad", **options), await world.host("good")
    for host in (bad, good):
        host.create(NAME)
    return Pair(world, source, upstream, bad, good)


async def test_a_destination_that_is_down_hurts_no_other(world: GitWorld) -> None:
    """One host out of order: its refs fail, the other ones are done, and its next good run catches up."""
    two = await pair(world)
    await world.run(two.mirror())
    two.upstream.commit("main", {"README.md": b"three\n"})
    two.bad.faults.on("*", "", times=None).status(503)
    run = await world.run(two.mirror())
    assert run.result is Result.PARTIAL
    assert {one.outcome for one in receipts(run, "bad").values()} == {Outcome.FAILED}
    assert {one.outcome for one in receipts(run, "good").values()} == {Outcome.DONE}
    assert two.good.refs(NAME) == two.wanted()
    two.bad.faults.clear()
    assert (await world.run(two.mirror())).result is Result.SUCCESS
    assert two.bad.refs(NAME) == two.wanted()


async def test_a_destination_that_cannot_be_seen_is_looked_at_again(world: GitWorld) -> None:
    """The plan was blind; the run looks once more, pushes what is missing, and backs up what drifted there."""
    two = await pair(world)
    await world.run(two.mirror())
    there = Upstream(two.bad.path(NAME))
    there.set(DEV, two.wanted()["refs/tags/v1"])
    two.upstream.commit("main", {"README.md": b"three\n"})
    two.bad.faults.on("POST", "git-upload-pack", times=2).status(400)  # falls back to `git ls-remote`, which fails
    two.bad.faults.on("GET", "info/refs").status(500)
    run = await world.run(two.mirror())
    assert run.result is Result.SUCCESS, run.receipts
    assert receipts(run, "bad")["refs"].detail == "2 refs changed"
    assert two.bad.refs(NAME) == two.wanted()


async def test_61_f26_a_protected_branch_is_refused_and_the_rest_arrives(world: GitWorld) -> None:
    """A host that protects a branch refuses that ref, in its own words; everything else is pushed (F26)."""
    two = await pair(world, kind="gitee")
    Upstream(two.bad.path(NAME)).git("config", "gitee.protected", "dev")
    await world.run(two.mirror())
    two.upstream.rewrite("dev")
    two.upstream.commit("main", {"README.md": b"three\n"})
    run = await world.run(two.mirror())
    told = receipts(run, "bad")
    assert run.result is Result.PARTIAL
    assert (told[MAIN].outcome, told[DEV].outcome, told[DEV].code) == (Outcome.DONE, Outcome.REFUSED, "refused")
    assert "GE007: the protected branch refs/heads/dev cannot be forced" in told[DEV].detail
    assert two.bad.refs(NAME)[MAIN] == two.wanted()[MAIN]
    assert two.good.refs(NAME) == two.wanted()


async def test_61_f26_a_host_that_denies_forced_pushes_says_what_to_do(world: GitWorld) -> None:
    """As Coding does by default: the ref is refused, and the receipt names the switch."""
    two = await pair(world, kind="coding")
    await world.run(two.mirror(host="plain"))
    two.upstream.rewrite("dev")
    run = await world.run(two.mirror(host="plain"))
    told = receipts(run, "bad")[DEV]
    assert told.outcome is Outcome.REFUSED
    assert "non-fast-forward" in told.detail
    assert "forced pushes" in told.detail


async def test_62_a_size_limit_is_told_in_the_hosts_words(world: GitWorld) -> None:
    """A host that is full refuses everything; a good destination has it all (Gitee's real message)."""
    two = await pair(world, kind="gitee")
    Upstream(two.bad.path(NAME)).git("config", "gitee.limit", "0")
    run = await world.run(two.mirror())
    told = receipts(run, "bad")
    assert {one.outcome for one in told.values()} == {Outcome.REFUSED}
    assert "repository size exceeds limit" in told[MAIN].detail
    assert two.bad.refs(NAME) == {}
    assert two.good.refs(NAME) == two.wanted()


async def test_62_f26_one_bad_ref_does_not_stop_the_others(world: GitWorld) -> None:
    """A hook that refuses a whole push for one branch is given the refs one by one (gitaly#2451)."""
    two = await pair(world)
    two.bad.hook(
        NAME, "pre-receive", "#!/bin/sh\nif grep -q heads/dev; then echo 'dev holds a secret' >&2; exit 1; fi\n"
    )
    run = await world.run(two.mirror())
    told = receipts(run, "bad")
    assert {ref: one.outcome for ref, one in told.items() if ref != "HEAD"} == {
        MAIN: Outcome.DONE,
        DEV: Outcome.REFUSED,
        "refs/tags/v1": Outcome.DONE,
    }
    assert "dev holds a secret" in told[DEV].detail
    assert set(two.bad.refs(NAME)) == {MAIN, "refs/tags/v1"}


async def test_62_a_ref_that_the_host_keeps_to_itself_is_refused(world: GitWorld) -> None:
    """A hidden ref is refused by the host and by nobody else; the rest arrives."""
    two = await pair(world)
    Upstream(two.bad.path(NAME)).git("config", "receive.hideRefs", DEV)
    run = await world.run(two.mirror())
    told = receipts(run, "bad")
    assert told[DEV].outcome is Outcome.REFUSED
    assert "hidden ref" in told[DEV].detail
    assert told[MAIN].outcome is Outcome.DONE


async def test_a_push_that_broke_is_tried_once_more(world: GitWorld) -> None:
    """What failed on the way is pushed once more in the same run."""
    two = await pair(world)
    two.bad.faults.on("POST", "git-receive-pack").status(502)
    run = await world.run(two.mirror())
    assert run.result is Result.SUCCESS, run.receipts
    assert two.bad.refs(NAME) == two.wanted()
    assert two.bad.count("POST", "git-receive-pack") == 2


@pytest.mark.parametrize(("status", "words"), [(413, "too big"), (403, "credential")])
async def test_a_push_that_was_refused_is_not_tried_again(world: GitWorld, status: int, words: str) -> None:
    """What another try cannot change is reported at once, with the next step."""
    two = await pair(world)
    two.bad.faults.on("POST", "git-receive-pack", times=None).status(status)
    run = await world.run(two.mirror())
    told = receipts(run, "bad")[MAIN]
    assert not told.good
    assert words in told.detail
    assert two.bad.count("POST", "git-receive-pack") == 1


async def test_the_destination_has_the_last_word(world: GitWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push that says it failed and arrived is done; one that says it worked and did not arrive has failed."""
    two = await pair(world)

    async def liar(git: object, http: object, folder: Path, address: Address, *args: object, **keys: object) -> Pushed:
        if address.host == two.bad.host:
            await push(git, http, folder, address, *args, **keys)  # type: ignore[arg-type]  # passed on as it came
            raise BrokenError("the connection ended")
        return Pushed(())

    monkeypatch.setattr(destinations, "push", liar)
    run = await world.run(two.mirror())
    assert {one.outcome for one in receipts(run, "bad").values()} == {Outcome.DONE}
    assert {one.code for one in receipts(run, "good").values()} == {"broken"}
    assert "does not show it" in receipts(run, "good")[MAIN].detail


async def test_what_moves_at_the_destination_meanwhile_is_not_overwritten_unseen(
    world: GitWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody pushes between the look and our push: that ref waits for the next plan."""
    two = await pair(world)
    await world.run(two.mirror())
    tip = two.upstream.commit("main", {"README.md": b"three\n"})
    there = Upstream(two.bad.path(NAME))
    foreign: list[str] = []
    real = MirrorCache.adopt

    async def between(self: MirrorCache, wanted: Refs, backups: Mapping[tuple[str, str], str], stamp: str) -> None:
        foreign.append(there.commit("main", {"README.md": b"somebody else\n"}))
        await real(self, wanted, backups, stamp)

    monkeypatch.setattr(MirrorCache, "adopt", between)
    run = await world.run(two.mirror())
    told = receipts(run, "bad")[MAIN]
    assert (told.outcome, told.code) == (Outcome.FAILED, "busy")
    assert two.bad.refs(NAME)[MAIN] == foreign[0]
    assert two.good.refs(NAME)[MAIN] == tip


@pytest.mark.parametrize("where", ["source", "bad"])
async def test_a_host_that_limits_the_rate_puts_the_run_off(where: str, world: GitWorld) -> None:
    """429 with Retry-After, upstream or at a target: one request, and the run goes on at that time (F12)."""
    two = await pair(world)
    await world.run(two.mirror())
    before = two.wanted()
    two.upstream.commit("main", {"README.md": b"three\n"})
    host = two.source if where == "source" else two.bad
    limit = host.faults.on("*", "", times=None).status(429, headers={"Retry-After": "900"})
    began = time.monotonic()
    run = await world.run(two.mirror())
    assert (run.result, limit.hits) == (Result.DEFERRED, 1)
    assert run.until is not None
    assert 900 - (time.monotonic() - began) <= (run.until - run.finished).total_seconds() <= 902
    assert two.bad.refs(NAME) == before
    assert two.good.refs(NAME) == (before if where == "source" else two.wanted())


async def test_the_first_run_is_put_off_too(world: GitWorld) -> None:
    """A target that limits the rate before it was ever seen: nothing is written there, and the run goes on later."""
    two = await pair(world)
    limit = two.bad.faults.on("*", "", times=None).status(429, headers={"Retry-After": "900"})
    began = time.monotonic()
    run = await world.run(two.mirror())
    assert (run.result, limit.hits) == (Result.DEFERRED, 1)
    assert run.until is not None
    assert 900 - (time.monotonic() - began) <= (run.until - run.finished).total_seconds() <= 902
    assert two.good.refs(NAME) == two.wanted()
    assert {one.code for one in run.receipts if one.bad} == {"throttled"}


async def test_a_sha256_upstream_is_refused_clearly(world: GitWorld) -> None:
    """A SHA-256 repository is not fetched at all, and the reason is told."""
    source = await world.host("source")
    path = source.create(NAME)
    Upstream(path).git("init", "-q", "--bare", "--object-format=sha256", str(source.folder / "big.git"))
    upstream = Upstream(source.folder / "big.git")
    upstream.commit("main", {"a": b"a"}, parent=None)
    run = await world.run(world.mirror(source.url("big.git"), local=LOCAL))
    assert (run.result, run.code) == (Result.FAILED, "unsupported")
    assert "SHA-256" in run.error


async def test_a_repository_that_is_missing_at_a_plain_host_is_told(world: GitWorld) -> None:
    """A plain host cannot be asked to make a repository: nothing is pushed there, and the reason says what to do."""
    two = await pair(world)
    two.bad.path(NAME).rename(two.bad.folder / "elsewhere")
    run = await world.run(two.mirror())
    assert run.plan is not None
    (refused,) = (step for step in run.plan.steps if step.action is Action.REFUSE)
    assert refused.target == "bad"
    assert "make it there" in refused.reason
    assert two.good.refs(NAME) == two.wanted()


async def test_two_mirrors_of_one_destination_take_turns(world: GitWorld) -> None:
    """Two runs that push to one repository at once do not get in each other's way (racing pushers lose every ref)."""
    two = await pair(world)
    one, other = (world.mirror(two.source.url(NAME), name=name, bad=two.bad.url(NAME)) for name in ("first", "second"))
    runs = await asyncio.gather(world.run(one), world.run(other))
    assert {run.result for run in runs} == {Result.SUCCESS}
    outcomes = {receipt.outcome for run in runs for receipt in run.receipts}
    assert outcomes <= {Outcome.DONE, Outcome.KEPT}
    assert two.bad.refs(NAME) == two.wanted()


async def test_f40_a_cancelled_run_ends_and_the_next_one_goes_on(world: GitWorld) -> None:
    """Cancelling in the middle of a push ends git; the destination is whole and the next run does the rest."""
    two = await pair(world)
    held = two.bad.faults.on("POST", "git-receive-pack").hold()
    running = asyncio.create_task(world.run(two.mirror()))
    await held.reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    held.release()
    assert (await world.run(two.mirror())).result is not Result.FAILED
    assert two.bad.refs(NAME) == two.wanted()


@pytest.mark.parametrize(
    "stop", ["git.fetched", "git.backed_up", "git.adopted", "git.pushed", "notes.written", "notes.renamed"]
)
async def test_f4_a_kill_anywhere_converges(world: GitWorld, stop: str) -> None:
    """Killed at any durable step, the next run brings everything to what upstream has, backups included (F4)."""
    two = await pair(world)
    await world.run(two.mirror())
    old = two.wanted()[DEV]
    two.upstream.rewrite("dev")
    two.upstream.commit("main", {"README.md": b"three\n"})
    targets = (f"bad={two.bad.url(NAME)}", f"good={two.good.url(NAME)}", "local=local")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.gitworld", str(world.folder), two.source.url(NAME), stop, *targets),
        stdout=subprocess.DEVNULL,
    )
    assert await child.wait() == 137
    run = await world.run(two.mirror())
    assert not run.error
    assert two.bad.refs(NAME) == two.good.refs(NAME) == two.wanted()
    served = await world.cache(two.mirror()).repository.served()
    assert served.refs == two.wanted()
    assert (await world.cache(two.mirror()).known.read()).served == served
    assert await world.backups(two.mirror()) == {DEV: old}
