"""What a run does besides pushing: repositories that are made, default branches, LFS, what is kept between runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace

import pytest

from mirrord.errors import DeniedError
from mirrord.model.plan import Action
from mirrord.model.run import Outcome, Result
from mirrord.syncer.values import LOCAL
from mirrord.syncers.git.kept.cache import GitRuntime, MirrorCache, git_of
from mirrord.syncers.git.names import MARK
from mirrord.syncers.git.transfer import destinations
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.forges import known
from mirrord.wire.forges.port import Forge
from mirrord.wire.git.address import Address
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from tests.support.gitworld import GitWorld, receipts

NAME = "team/app.git"
MAIN, DEV = "refs/heads/main", "refs/heads/dev"


@dataclass
class Clerk(Forge):
    """A forge's API, as far as it can be seen in the repositories of a host."""

    host: GitHost
    asked: list[tuple[str, ...]] = field(default_factory=list)
    denies: bool = False
    slow: int = 0
    creates: bool = True
    switches: bool = True

    async def create(self, http: Http, address: Address, visibility: str, description: str) -> str:
        self.asked.append(("create", address.path, visibility, description))
        if self.denies:
            raise DeniedError(f"{address.host}: may not")
        self.host.create(address.path, head="main")
        return "it waits for a review"

    async def set_default_branch(self, http: Http, address: Address, branch: str) -> None:
        self.asked.append(("switch", branch))
        if self.denies:
            raise DeniedError(f"{address.host}: may not")
        self.slow -= 1
        if self.slow >= 0:
            return  # it says yes, and does nothing
        Upstream(self.host.path(address.path)).head(branch)


@dataclass(slots=True)
class Scene:
    """One upstream and one destination with an API."""

    world: GitWorld
    source: GitHost
    upstream: Upstream
    there: GitHost
    clerk: Clerk

    @property
    def places(self) -> dict[str, str]:
        return {"one": self.there.url(NAME)}


@pytest.fixture
async def scene(world: GitWorld, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Build it; every host is of the kind that the clerk serves."""
    source, there = await world.host("source"), await world.host("one")
    upstream = Upstream(source.create(NAME))
    first = upstream.commit("main", {"README.md": b"one\n"})
    upstream.commit("dev", {"dev.txt": b"dev\n"}, parent=first)
    clerk = Clerk(there)
    monkeypatch.setitem(known.FORGES, "plain", clerk)
    return Scene(world, source, upstream, there, clerk)


async def test_a_missing_destination_is_made(scene: Scene) -> None:
    """A repository that is not there is made, private, and filled; what the host says about it is told."""
    mirror = scene.world.mirror(scene.source.url(NAME), scene.places)
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS, run.receipts
    assert scene.there.refs(NAME) == scene.upstream.refs()
    assert scene.clerk.asked == [("create", NAME, "private", f"Mirror of {scene.source.url(NAME)}")]
    assert "it waits for a review" in receipts(run, "one")[MAIN].detail


async def test_a_destination_that_cannot_be_made_fails_alone(scene: Scene) -> None:
    """When the host does not make the repository, all its refs say why; `local` has everything."""
    scene.clerk.denies = True
    mirror = scene.world.mirror(scene.source.url(NAME), scene.places, local=LOCAL)
    run = await scene.world.run(mirror)
    assert run.result is Result.PARTIAL
    assert {one.code for one in receipts(run, "one").values()} == {"denied"}
    assert {one.outcome for one in receipts(run, "local").values()} == {Outcome.DONE}


async def test_without_create_nothing_is_made(scene: Scene) -> None:
    """`create: false` leaves a missing repository missing."""
    mirror = scene.world.mirror(scene.source.url(NAME), scene.places, options={"create": False})
    run = await scene.world.run(mirror)
    assert run.result is Result.FAILED
    assert scene.clerk.asked == []


async def test_a_renamed_default_branch_is_followed(scene: Scene) -> None:
    """`main` becomes `trunk` upstream: the new branch is pushed, made the default one, and then the old one goes."""
    mirror = scene.world.mirror(scene.source.url(NAME), scene.places, local=LOCAL)
    await scene.world.run(mirror)
    scene.clerk.asked.clear()
    upstream = scene.upstream
    upstream.set("refs/heads/trunk", upstream.refs()[MAIN])
    upstream.head("trunk")
    upstream.delete(MAIN)
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS, run.receipts
    assert scene.clerk.asked == [("switch", "trunk")]
    assert scene.there.head(NAME) == "refs/heads/trunk"
    assert scene.there.refs(NAME) == upstream.refs()
    assert (await scene.world.cache(mirror).repository.served()).head == "refs/heads/trunk"
    assert (await scene.world.run(mirror)).result is Result.NOOP


async def test_a_host_that_switches_late_is_asked_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gitea may say yes and still refuse to delete its former default branch: asked once more, it all goes through."""
    monkeypatch.setattr(destinations, "SETTLES", 0.0)
    mirror = scene.world.mirror(scene.source.url(NAME), scene.places)
    await scene.world.run(mirror)
    scene.clerk.asked.clear()
    scene.clerk.slow = 1
    upstream = scene.upstream
    upstream.set("refs/heads/trunk", upstream.refs()[MAIN])
    upstream.head("trunk")
    upstream.delete(MAIN)
    run = await scene.world.run(mirror)
    assert run.result is Result.SUCCESS, run.receipts
    assert scene.clerk.asked == [("switch", "trunk")] * 2
    assert (scene.there.refs(NAME), scene.there.head(NAME)) == (upstream.refs(), "refs/heads/trunk")


async def test_a_default_branch_that_cannot_be_switched_keeps_the_old_one(scene: Scene) -> None:
    """When the API says no, the new branch is there, the old one stays, and both say why."""
    mirror = scene.world.mirror(scene.source.url(NAME), scene.places)
    await scene.world.run(mirror)
    old = scene.upstream.refs()[MAIN]
    scene.upstream.set("refs/heads/trunk", old)
    scene.upstream.head("trunk")
    scene.upstream.delete(MAIN)
    scene.clerk.denies = True
    run = await scene.world.run(mirror)
    told = receipts(run, "one")
    assert run.result is Result.PARTIAL
    assert {ref: one.outcome for ref, one in told.items()} == {
        "refs/heads/trunk": Outcome.DONE,
        "HEAD": Outcome.REFUSED,
        MAIN: Outcome.REFUSED,
    }
    assert scene.there.refs(NAME)[MAIN] == old


async def test_a_plain_host_keeps_its_default_branch_and_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an API the host refuses to delete its default branch: that ref is refused with the next step."""
    monkeypatch.setitem(known.FORGES, "plain", Forge())
    scene.there.create(NAME)
    mirror = scene.world.mirror(scene.source.url(NAME), scene.places)
    await scene.world.run(mirror)
    scene.upstream.set("refs/heads/trunk", scene.upstream.refs()[MAIN])
    scene.upstream.head("trunk")
    scene.upstream.delete(MAIN)
    for _ in range(2):
        run = await scene.world.run(mirror)
        told = receipts(run, "one")[MAIN]
        assert (told.step.action, told.outcome) == (Action.DELETE, Outcome.REFUSED)
        assert "HEAD" in told.detail
        assert run.result is Result.PARTIAL
    assert "refs/heads/trunk" in scene.there.refs(NAME)


async def test_a_lost_cache_is_made_again(scene: Scene) -> None:
    """Without its cache a mirror fetches anew and finds every destination as it shall be."""
    mirror = scene.world.mirror(scene.source.url(NAME), scene.places, local=LOCAL)
    await scene.world.run(mirror)
    shutil.rmtree(scene.world.cache(mirror).folder)
    run = await scene.world.run(mirror)
    assert not run.error
    assert {receipt.step.target for receipt in run.receipts} == {"local"}
    assert (await scene.world.cache(mirror).repository.served()).refs == scene.upstream.refs()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"seal": "x"}', '{"served": 1}'])
async def test_a_damaged_note_is_no_note(scene: Scene, damage: str) -> None:
    """What is noted beside the cache is believed when it is whole and of this very state; else git is asked."""
    mirror = scene.world.mirror(scene.source.url(NAME), local=LOCAL)
    await scene.world.run(mirror)
    kept = scene.world.cache(mirror)
    note = kept.folder / "mirrord.json"
    good = json.loads(note.read_text())
    note.write_text(damage)
    known_again = await kept.known.read()
    assert known_again.served is not None
    assert known_again.served.refs == scene.upstream.refs()
    assert json.loads(note.read_text()) == good


async def test_what_somebody_did_to_the_cache_is_seen(scene: Scene) -> None:
    """A ref that was moved in the cache by hand is put right by the next run."""
    mirror = scene.world.mirror(scene.source.url(NAME), local=LOCAL)
    await scene.world.run(mirror)
    cache = Upstream(scene.world.cache(mirror).folder)
    cache.set(MAIN, scene.upstream.refs()[DEV])
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert cache.refs()[MAIN] == scene.upstream.refs()[MAIN]


async def test_local_is_marked_as_served_and_unmarked(scene: Scene) -> None:
    """Only a mirror with `local` among its targets leaves the name under which it is served."""
    mirror = scene.world.mirror(scene.source.url(NAME), scene.places, keys={"as": "crane"}, local=LOCAL)
    await scene.world.run(mirror)
    mark = scene.world.cache(mirror).folder / MARK
    assert mark.read_text() == "crane"
    await scene.world.run(scene.world.mirror(scene.source.url(NAME), scene.places))
    assert not mark.exists()


async def test_backups_go_when_their_time_is_over(scene: Scene) -> None:
    """What was overwritten is kept as long as the mirror says, and not longer, with what became of it."""
    mirror = scene.world.mirror(scene.source.url(NAME), keys={"backups": "10d"}, local=LOCAL)
    await scene.world.run(mirror)
    scene.upstream.rewrite("dev")
    await scene.world.run(mirror)
    scene.world.later(days=8)
    await scene.world.run(mirror)
    assert set(await scene.world.backups(mirror)) == {DEV}
    kept = scene.world.cache(mirror)
    assert [one.why for one in await kept.backups()] == ["overwritten by upstream, by force, 2024-05-18 12:00 UTC"]
    scene.upstream.delete(DEV)
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    whys = [one.why.partition(",")[0] for one in await kept.backups()]
    assert whys == ["deleted by upstream", "overwritten by upstream"]
    scene.world.later(days=2)
    await scene.world.run(mirror)
    assert [one.why.partition(",")[0] for one in await kept.backups()] == ["deleted by upstream"]
    note = kept.folder / "mirrord-backups.json"
    assert len(json.loads(note.read_bytes())) == 1  # what is forgotten is not noted any longer
    note.unlink()
    assert [one.why.partition(",")[0] for one in await kept.backups()] == ["overwritten or deleted"]
    scene.world.later(days=9)
    await scene.world.run(mirror)
    assert await scene.world.backups(mirror) == {}


async def test_a_restored_ref_overrides_upstream_until_it_is_released(scene: Scene) -> None:
    """What was held goes everywhere in the place of upstream's, and upstream's comes back when it is released."""
    scene.there.create(NAME)
    mirror = scene.world.mirror(scene.source.url(NAME), scene.places, local=LOCAL)
    await scene.world.run(mirror)
    old = scene.upstream.refs()[DEV]
    scene.upstream.rewrite("dev")
    await scene.world.run(mirror)
    kept = scene.world.cache(mirror)
    (backup,) = await kept.backups()
    assert (backup.item, backup.digest) == (DEV, old)
    await kept.restore([backup.name])
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.there.refs(NAME)[DEV] == old
    await kept.release([DEV])
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    assert scene.there.refs(NAME) == scene.upstream.refs()


async def test_what_makes_room_for_what_was_brought_back_is_told_so(scene: Scene) -> None:
    """A branch that cannot be beside a restored one goes for that reason, in the plan and in the list of backups."""
    mirror = scene.world.mirror(scene.source.url(NAME), one=scene.there.url(NAME), local=LOCAL)
    await scene.world.run(mirror)
    scene.upstream.delete(DEV)
    main = scene.upstream.refs()["refs/heads/main"]
    scene.upstream.set(f"{DEV}/x", main)
    assert (await scene.world.run(mirror)).result is Result.SUCCESS
    kept = scene.world.cache(mirror)
    (backup,) = await kept.backups()
    await kept.restore([backup.name])
    run = await scene.world.run(mirror)
    assert run.result is Result.PARTIAL  # until it is released: upstream has a branch that cannot be here
    assert run.plan is not None
    reasons = {step.reason.partition(":")[0] for step in run.plan.steps if step.item == f"{DEV}/x"}
    assert reasons == {"its name and that of what was brought back cannot both be"}
    assert scene.there.refs(NAME) == {"refs/heads/main": main, DEV: backup.digest}
    why = {one.item: one.why for one in await kept.backups()}
    assert why[f"{DEV}/x"].startswith("deleted by what was brought back")


async def test_bit_rot_is_found_by_a_push_and_healed(scene: Scene) -> None:
    """A pack with a flipped byte fails at a host that needs it; the next run begins the cache anew, and all is well."""
    for number in range(40):
        scene.upstream.commit("main", {f"file{number}": bytes(range(256)) * 8})
    mirror = scene.world.mirror(scene.source.url(NAME), local=LOCAL)
    await scene.world.run(mirror)
    kept = scene.world.cache(mirror)
    Upstream(kept.folder).git("repack", "-q", "-a", "-d")
    (pack,) = kept.folder.glob("objects/pack/*.pack")
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pack.write_bytes(data)
    scene.there.create(NAME)
    wider = scene.world.mirror(scene.source.url(NAME), scene.places, local=LOCAL)
    run = await scene.world.run(wider)
    assert receipts(run, "one")[MAIN].code == run.code == "content"
    assert "damaged" in run.error
    assert MAIN not in scene.there.refs(NAME)
    run = await scene.world.run(wider)
    assert run.result is Result.SUCCESS, (run.error, run.receipts)
    assert scene.there.refs(NAME) == scene.upstream.refs()
    Upstream(scene.there.path(NAME)).git("fsck", "--strict")
    Upstream(kept.folder).git("fsck", "--strict")


async def test_selected_refs_only(scene: Scene) -> None:
    """`refs:` decides what goes out; what is taken out later goes away there."""
    scene.there.create(NAME)
    only = scene.world.mirror(scene.source.url(NAME), scene.places, keys={"refs": ["refs/heads/main"]})
    await scene.world.run(only)
    assert set(scene.there.refs(NAME)) == {MAIN}
    await scene.world.run(scene.world.mirror(scene.source.url(NAME), scene.places))
    assert set(scene.there.refs(NAME)) == {MAIN, DEV}


async def test_what_runs_share_outlasts_a_reload(scene: Scene) -> None:
    """New rules for hosts bring a new way to start git; locks, and what was read last, stay those of runs under way."""
    old = scene.world.services
    async with Http(HostBook(), old.events) as http:
        new = replace(old, http=http)
        assert new.once(GitRuntime) is old.once(GitRuntime)
        assert git_of(new) is git_of(new) is not git_of(old)
        assert git_of(new).book is http.book
        mirror = scene.world.mirror(scene.source.url(NAME), scene.places)
        async with MirrorCache(mirror, old).lock:
            assert MirrorCache(mirror, new).folder in new.once(GitRuntime).locks
