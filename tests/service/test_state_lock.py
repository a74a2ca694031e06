"""Who holds the state directory, whether it is still the same one, and who else may look into it."""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mirrord.cli import folders
from mirrord.cli.folders import config_folder
from mirrord.commands import Sync
from mirrord.config.files import list_folder
from mirrord.daemon.lock import SERVE, StateLock, exists, held, used
from mirrord.errors import BusyError, ConfigError, StorageError
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.testing import Registry, build_image, push
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk


@pytest.mark.parametrize(
    ("what", "said"),
    [
        pytest.param(SERVE, "the daemon is starting, or ending; try again in a moment", id="daemon"),
        pytest.param("", f"in use by process {os.getpid()}; wait until it ends", id="command"),
    ],
)
async def test_whoever_holds_the_state_is_told(tmp_path: Path, what: str, said: str) -> None:
    """A10: beside a daemon that does not answer yet a command says so; beside another command, which process it is."""
    desk = Desk(tmp_path)
    desk.configure("mirrors: []\n")
    with StateLock(tmp_path / "state", what):
        told = await desk.run("sync")
    assert told.status == 75
    assert said in told.err


async def test_two_daemons(tmp_path: Path) -> None:
    """The second one says which process is the first, and that it is a daemon."""
    lock = StateLock(tmp_path, SERVE)
    with (
        lock,
        pytest.raises(BusyError, match=rf"in use by process {os.getpid()} \(`mirrord serve`\); stop it"),
        StateLock(tmp_path, SERVE),
    ):
        pass
    with lock:
        lock.check()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()} serve\n"


async def test_a_daemon_that_starts_waits_for_a_command_that_looks(tmp_path: Path) -> None:
    """A10: `mirrord status` at that moment does not keep the service from starting; a long command is named."""
    async with AsyncExitStack() as daemon:
        with StateLock(tmp_path, "status"):
            start = asyncio.create_task(daemon.enter_async_context(held(tmp_path)))
            with pytest.raises(BusyError, match=rf"in use by process {os.getpid()} \(`mirrord status`\); wait until"):
                await daemon.enter_async_context(held(tmp_path, patience=0.1))
            assert not start.done()
        await start
        with pytest.raises(BusyError, match=r"\(`mirrord serve`\); stop it"):
            await daemon.enter_async_context(held(tmp_path))


def test_a_lock_knows_its_directory(tmp_path: Path) -> None:
    """A10: what was moved away, replaced or removed is not what we hold."""
    state, aside = tmp_path / "state", tmp_path / "aside"
    with StateLock(state) as lock:
        lock.check()
        state.rename(aside)
        with pytest.raises(StorageError, match="was moved or removed while in use; put it back"):
            lock.check()
        with StateLock(state), pytest.raises(StorageError):
            lock.check()
        (state / "lock").unlink()
        state.rmdir()
        aside.rename(state)
        lock.check()


async def test_a_state_that_is_moved_away_is_told(place: Any) -> None:
    """A10: the daemon is not ready and no run begins while its state is elsewhere; with it back all goes on."""
    place.source("m", "one")
    place.configure("m")
    aside = place.root / "aside"
    async with place.daemon() as daemon:
        place.state.rename(aside)
        (run,) = await ControlClient(aside).carry_out(Sync(("m",)))
        assert (run.result, run.code) == (Result.FAILED, "storage")
        assert "was moved or removed while in use" in run.error
        code, body = await daemon.get("/readyz")
        assert code == 503
        assert b"was moved or removed" in body
        assert not place.state.exists()
        aside.rename(place.state)
        (run,) = await ControlClient(place.state).carry_out(Sync(("m",)))
        assert run.result is Result.SUCCESS
        assert (await daemon.get("/readyz"))[0] == 200


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("before", [0o755, 0o1777])
def test_a_state_of_ours_is_closed_to_others(tmp_path: Path, before: int) -> None:
    """A10: an empty directory, and one that mirrord used before, are made 0700, and that is said."""
    for _ in range(2):
        tmp_path.chmod(before)
        with StateLock(tmp_path) as lock:
            assert mode(tmp_path) & 0o777 == 0o700
            (notice,) = lock.notices
            assert f"others could look into it (mode {before:04o}); it is 0700 now" in notice
    with StateLock(tmp_path) as lock:
        assert lock.notices == ()


def test_a_directory_of_somebody_s_is_left_as_it_is(tmp_path: Path) -> None:
    """What holds something else already keeps its permissions; a person is told."""
    (tmp_path / "other").touch()
    tmp_path.chmod(0o755)
    with StateLock(tmp_path) as lock:
        assert mode(tmp_path) == 0o755
        assert "others may look into it (mode 0755); give a directory of its own, or chmod 700" in lock.notices[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize(("given", "told"), [(0o1777, True), (0o2775, False)])
def test_a_directory_of_somebody_else(tmp_path: Path, given: int, told: bool) -> None:
    """One that all may write into is told of; a volume of Kubernetes, which belongs to root and our group, is not."""
    os.chown(tmp_path, 12345, 12345)
    tmp_path.chmod(given)
    with StateLock(tmp_path) as lock:
        assert bool(lock.notices) == told
        assert mode(tmp_path) == given


async def test_nothing_in_the_state_is_for_others(tmp_path: Path) -> None:
    """A10: whatever the umask, all that lies in the state directory is ours alone, also what was there before."""
    desk, state = Desk(tmp_path), tmp_path / "state"
    before = os.umask(0o022)
    try:
        async with Registry() as source, GitHost(tmp_path / "up") as host:
            await push(build_image(), source, "a", ["v1"])
            Upstream(host.create("app.git")).commit("main", {"a": b"a"})
            desk.configure(
                "mirrors:\n"
                f"- {{name: i, kind: image, to: local, from: {{repository: {source.host}/a, tags: [v1]}}}}\n"
                f"- {{name: g, kind: git, to: local, from: {host.url('app.git')}}}\n"
            )
            assert (await desk.run("sync")).status == 0
            assert {entry.name: f"{mode(entry):o}" for entry in state.iterdir() if mode(entry) & 0o077} == {}
            for entry in (state, *state.iterdir()):
                entry.chmod(0o755 if entry.is_dir() else 0o644)
            assert (await desk.run("sync")).status == 0
            assert {entry.name: f"{mode(entry):o}" for entry in (state, *state.iterdir()) if mode(entry) & 0o077} == {}
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
async def test_what_root_makes_belongs_to_the_service(tmp_path: Path) -> None:
    """Commands of root beside a stopped service leave nothing behind that the user of the service cannot use."""
    desk, state = Desk(tmp_path), tmp_path / "state"
    outside = tmp_path / "outside"
    outside.write_bytes(b"root's own")
    async with Registry() as source:
        await push(build_image(), source, "a", ["v1"])
        desk.configure(
            f"mirrors: [{{name: i, kind: image, to: local, from: {{repository: {source.host}/a, tags: [v1]}}}}]\n"
        )
        state.mkdir(mode=0o700)
        os.chown(state, 12345, 12346)
        for word in ("sync", "status"):
            assert (await desk.run(word)).status == 0
            found = {(entry.lstat().st_uid, entry.lstat().st_gid) for entry in (state, *state.rglob("*"))}
            assert found == {(12345, 12346)}, word
        assert sum(entry.stat().st_nlink > 1 for entry in state.rglob("*") if entry.is_file()) > 0
        (state / "scratch" / "symbolic").symlink_to(outside)
        os.link(outside, state / "hard")
        with StateLock(state):
            pass
        assert (outside.stat().st_uid, (state / "hard").stat().st_uid) == (0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_who_may_not_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not look at the state, or at the configuration of the machine, is answered with a line that says so."""
    state, etc = tmp_path / "state", tmp_path / "etc" / "conf.d"
    for folder in (state / "inside", etc):
        folder.mkdir(parents=True)
        folder.parent.chmod(0o700)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(folders, "FOLDERS", (etc,))
    os.seteuid(12345)
    try:
        for look, place in ((used, state), (exists, state / "inside")):
            with pytest.raises(StorageError, match="Permission denied; run this as root, or as the user to whom the"):
                look(place)
        assert config_folder(None) == etc
        with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\); make it readable for this user"):
            list_folder(etc)
    finally:
        os.seteuid(0)
