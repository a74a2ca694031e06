"""The temporary folder of `mirrord copy`, and what killed processes left of theirs."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from mirrord.cli.copy import PREFIX, room, sweep


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(parent: Path, name: str) -> Path:
    folder = parent / f"{PREFIX}{name}"
    (folder / "work").mkdir(parents=True)
    (folder / "lock").touch()
    (folder / "work" / "sha256-00.part").write_bytes(b"x")
    return folder


def test_nothing_stays(parent: Path) -> None:
    """The folder is empty at first and gone at the end, whatever was put into it, also after an error."""
    with room() as work:
        assert list(work.iterdir()) == []
        (work / "deep").mkdir()
        (work / "deep" / "file").touch()
    with suppress(KeyError), room():
        raise KeyError
    assert list(parent.iterdir()) == []


def test_killed_processes_are_swept(parent: Path) -> None:
    """Folders whose process is gone are removed at the next start, also one that was killed before it had a lock."""
    left(parent, "a")
    (parent / f"{PREFIX}b").mkdir()
    with room() as work:
        assert list(parent.iterdir()) == [work.parent]


def test_living_processes_are_left_alone(parent: Path) -> None:
    """Two rooms at once do not see one another."""
    with room() as one, room() as other:
        assert one != other
        assert one.is_dir()
        assert other.is_dir()
        sweep(parent)
        assert one.is_dir()


def test_strangers_are_left_alone(parent: Path) -> None:
    """Nothing is removed through a link, without our lock file in it, or under another name."""
    elsewhere = parent / "elsewhere"
    left(elsewhere, "a").rename(elsewhere / "real")
    (parent / f"{PREFIX}link").symlink_to(elsewhere / "real")
    full = parent / f"{PREFIX}full"
    full.mkdir()
    (full / "theirs").touch()
    linked = parent / f"{PREFIX}linked"
    linked.mkdir()
    (linked / "lock").symlink_to(elsewhere / "real" / "lock")
    other = parent / "mirrord-other"
    other.mkdir()
    sweep(parent)
    assert (elsewhere / "real" / "work" / "sha256-00.part").exists()
    assert all(place.exists() for place in (full, linked, other))


@pytest.mark.parametrize("moment", ["before the lock", "after the lock"])
def test_a_sweep_in_the_middle_of_making(parent: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """A sweep of another process between making the folder and locking it costs a second try, nothing else."""
    true_make, true_lock = tempfile.mkdtemp, fcntl.flock
    disturbed: list[str] = []

    def make(**keys: str) -> str:
        folder = true_make(**keys)
        if moment == "before the lock" and not disturbed:
            disturbed.append(folder)
            sweep(parent)
        return folder

    def lock(handle: int, how: int) -> None:
        if moment == "after the lock" and not disturbed:
            disturbed.append("x")
            monkeypatch.setattr(fcntl, "flock", true_lock)
            sweep(parent)
        true_lock(handle, how)

    monkeypatch.setattr(tempfile, "mkdtemp", make)
    monkeypatch.setattr(fcntl, "flock", lock)
    with room() as work:
        assert disturbed
        assert work.is_dir()
        handle = os.open(work.parent / "lock", os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            true_lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
    assert list(parent.iterdir()) == []
