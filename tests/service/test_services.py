"""What runs are built on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from mirrord.config.load import Configuration, load_folder
from mirrord.daemon.runtime import build_services, open_runtime
from mirrord.events import Events
from mirrord.syncer.port import load_syncers
from mirrord.syncer.values import FrontRules
from mirrord.testing import Registry
from mirrord.wire.http.message import FRONT_LIMITS, HttpRequest
from mirrord.wire.http.pace import Party, RequestClass


async def test_a_state_named_from_here_is_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`./state`, the default, is made absolute: git works in a folder of its own, and would look for it there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.yaml").write_text("settings: {}\n")
    Path("state").mkdir()
    configuration = load_folder(Path("conf.d"), load_syncers(), {})
    async with build_services(configuration, Path("state"), Events()) as services:
        assert services.keep == tmp_path / "state"
        assert services.scratch == tmp_path / "state" / "scratch"


async def test_upstreams_are_read_without_what_is_ours(tmp_path: Path) -> None:
    """The way of fronts has credentials only where `front:` opts in; a reload replaces it and closes the old one."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "state").mkdir()
    auth = "auth: {username: robot, password: {env: SECRET}}"
    (tmp_path / "conf.d" / "a.yaml").write_text(f"hosts:\n  quay.io: {{{auth}, requests: 3}}\n  ghcr.io: {{{auth}}}\n")
    configuration = load_folder(tmp_path / "conf.d", load_syncers(), {"SECRET": "hunter2"})
    rules = FrontRules(None, {"quay.io": False, "ghcr.io": True})
    whole = replace(configuration, fronts={"image": rules})
    async with open_runtime(whole, load_syncers(), tmp_path / "state", Events()) as runtime:
        first = runtime.snapshot.services
        await runtime.adopt(configuration)
        second = runtime.snapshot.services
        assert first.http.book.policy("quay.io").credential is not None
        assert first.upstreams is not None
        assert second.upstreams is not None
        books = [first.upstreams.book, second.upstreams.book]
        assert [await book.credential("quay.io") for book in books] == [None, None]
        assert [await book.credential("ghcr.io") is None for book in books] == [False, True]
        assert [book.policy("quay.io").requests for book in books] == [3, 3]
        assert (dict(first.fronts), dict(second.fronts)) == ({"image": rules}, {})


async def test_runs_and_fronts_share_the_hosts_that_both_may_ask(tmp_path: Path) -> None:
    """A front keeps its part of `requests` at its upstreams alone; its requests give up sooner than those of runs."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "conf.d" / "a.yaml").write_text("hosts:\n  quay.io: {requests: 3}\n  ghcr.io: {requests: 3}\n")
    configuration = load_folder(tmp_path / "conf.d", load_syncers(), {})
    whole = replace(configuration, fronts={"image": FrontRules(None, {"quay.io": False})})
    async with open_runtime(whole, load_syncers(), tmp_path / "state", Events()) as runtime:
        services = runtime.snapshot.services
        assert services.upstreams is not None
        assert services.upstreams._limits == FRONT_LIMITS
        for host, runs, front in (("quay.io", 2, 1), ("ghcr.io", 3, 0)):
            limiter = services.http._shares.limiter(services.http.book.policy(host))
            assert limiter is services.upstreams._shares.limiter(services.upstreams.book.policy(host))
            assert sum(limiter.enter(RequestClass.SMALL, Party.RUNS) for _ in range(9)) == runs
            assert sum(limiter.enter(RequestClass.SMALL, Party.FRONT) for _ in range(9)) == front
        await runtime.adopt(configuration)
        again = runtime.snapshot.services.http
        assert not again._shares.limiter(again.book.policy("quay.io")).shared


async def test_fronts_see_what_is_configured(tmp_path: Path) -> None:
    """Fronts are given the mirrors of the configuration in use, by kind; after a reload those of the new one."""
    file = tmp_path / "conf.d" / "a.yaml"
    file.parent.mkdir()
    (tmp_path / "state").mkdir()
    syncers = load_syncers()

    def configured(*names: str) -> Configuration:
        lines = (
            f"  - {{name: {name}, kind: image, from: {{repository: h.example/{name}:v1}}, to: [local]}}\n"
            for name in names
        )
        charts = "  - {name: charts, kind: helm, from: 'https://h.example/charts', to: [local]}\n"
        file.write_text("mirrors:\n" + "".join(lines) + charts)
        return load_folder(file.parent, syncers, {})

    async with open_runtime(configured("app", "base"), syncers, tmp_path / "state", Events()) as runtime:
        before = runtime.snapshot.services
        await runtime.adopt(configured("app", "other"))
        after = runtime.snapshot.services
    named = [{kind: [one.name for one in some] for kind, some in given.mirrors.items()} for given in (before, after)]
    assert named == [{"image": ["app", "base"], "helm": ["charts"]}, {"image": ["app", "other"], "helm": ["charts"]}]
    assert before.repositories is after.repositories


async def test_a_reload_cuts_no_client_off(tmp_path: Path) -> None:
    """What a front reads when the configuration changes is read to its end; then its old connections are closed."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "conf.d" / "a.yaml").write_text("settings: {}\n")
    configuration = load_folder(tmp_path / "conf.d", load_syncers(), {})
    async with Registry() as upstream, open_runtime(configuration, load_syncers(), tmp_path / "state", Events()) as run:
        data = bytes(range(256)) * 8192
        digest = upstream.content.put_blob("team/app", data)
        fault = upstream.faults.on("GET", "/blobs/").stall(1 << 20)
        old = run.snapshot.services.upstreams
        assert old is not None
        closed = asyncio.Event()
        close = old.aclose

        async def noted() -> None:
            await close()
            closed.set()

        old.aclose = noted  # type: ignore[method-assign]  # nothing else shows when it closes
        call = HttpRequest("GET", f"{upstream.url}/v2/team/app/blobs/{digest}", upstream.host)
        async with old.stream(call) as response:
            await fault.reached.wait()
            await run.adopt(configuration)
            assert run.snapshot.services.upstreams is not old
            assert not closed.is_set()
            fault.release()
            assert b"".join([piece async for piece in response.chunks()]) == data
        assert closed.is_set()
