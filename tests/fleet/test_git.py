"""Git repositories that several replicas serve: each from its own clone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import aiohttp

from mirrord.daemon.scheduled import ScheduledVerifier
from mirrord.daemon.verifier import Verifier
from mirrord.errors import MirrordError
from mirrord.model.verification import Verification
from mirrord.record.fleet import Fleet
from mirrord.schedule import Clock
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import run
from tests.support.commands import Desk
from tests.support.fleets import ALIVE, FleetWorld, until
from tests.support.quickreplica import replica
from tests.support.verifying import opened


async def test_each_replica_serves_its_clone(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """Git clones from each; one that has no clone yet says so, and never that there is no such repository."""
    async with GitHost(tmp_path / "upstream") as host, AsyncExitStack() as stack:
        upstream = Upstream(host.create("app.git"))
        first = upstream.commit("main", {"README": b"one"})
        configuration = (
            f"mirrors:\n- {{name: app, kind: git, from: '{host.url('app.git')}', to: local, every: 1h}}\n"
            f"- {{name: gone, kind: git, from: '{host.url('gone.git')}', to: local}}\n"
        )
        places = []
        for name in ("one", "two"):
            served = await stack.enter_async_context(replica(tmp_path / name, fleet_world.postgres, configuration))
            places.append(f"http://{served.address}")

        async def heads() -> set[str]:
            listed = [await run("git", "ls-remote", f"{place}/git/app.git", "main") for place in places]
            return {one.output.partition("\t")[0] for one in listed}

        async def all_have(commit: str) -> bool:
            return await heads() == {commit}

        await until(lambda: all_have(str(first)))
        second = upstream.commit("main", {"README": b"two"})
        for name in ("one", "two"):
            assert (await Desk(tmp_path / name).run("sync", "app")).status == 0
        await until(lambda: all_have(str(second)))
        async with aiohttp.ClientSession() as client:
            for place in places:
                cloned = await run("git", "clone", "-q", f"{place}/git/app.git", str(tmp_path / place[-5:]))
                assert cloned.status == 0, cloned.output
                assert (tmp_path / place[-5:] / "README").read_bytes() == b"two"
                async with client.get(f"{place}/raw/app/main/README") as answer:
                    assert await answer.text() == "two"
                for path, status in {
                    "git/gone.git/info/refs": 503,
                    "raw/gone/main/a": 503,
                    "git/none.git/x": 404,
                }.items():
                    async with client.get(f"{place}/{path}") as answer:
                        assert (answer.status, "Retry-After" in answer.headers) == (status, status == 503)


class _Due(Clock):
    """A clock that calls when it is told to."""

    def __init__(self) -> None:
        self.call: Callable[[str], Awaitable[None]] | None = None

    def verify(
        self, call: Callable[[str], Awaitable[None]], due: Mapping[str, datetime], *, only: str | None = None
    ) -> None:
        """Keep what to call."""
        self.call = call


async def test_whoever_has_the_copy_verifies_it(fleet_world: FleetWorld, tmp_path: Path) -> None:
    """By schedule a Git mirror is verified by the replica that ran it last, whoever leads: its copy is the newest."""
    async with GitHost(tmp_path / "git") as host, AsyncExitStack() as stack:
        Upstream(host.create("app.git")).commit("main", {"a": b"a"})
        host.create("there.git")
        text = (
            "settings: {verify: {every: 7d}}\n"
            f"targets: {{there: {{kind: git, to: '{host.url('there.git')}'}}}}\n"
            f"mirrors: [{{name: app, kind: git, from: '{host.url('app.git')}', to: there}}]\n"
        )
        one = await stack.enter_async_context(opened(tmp_path, text))
        await one.sync()
        a = await stack.enter_async_context(fleet_world.replica("a", pace=ALIVE))
        b = await stack.enter_async_context(fleet_world.replica("b", pace=ALIVE))
        runtime, clock, found = one.dispatcher.runtime, _Due(), list[tuple[str, bool]]()

        async def after(name: str, verified: Verification | MirrordError) -> None:
            found.append((name, isinstance(verified, Verification) and verified.whole.equal))

        verifying = ScheduledVerifier(runtime, Verifier(runtime), clock)
        verifying.after, runtime.fleet = after, b
        await verifying.follow()

        async def due_after(ran: Fleet, *, leads: bool) -> int:
            b.leads = leads
            async with ran.hold("app"):
                pass
            assert clock.call
            await clock.call("app")
            return len(found)

        assert await due_after(a, leads=True) == 0
        assert await due_after(b, leads=False) == 1
        assert found == [("app", True)]
        runtime.fleet = None
