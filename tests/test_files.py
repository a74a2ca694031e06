"""Durable files: the old or the new content whatever the disk says, in the right order of flushes, and no leftovers."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mirrord import files
from mirrord.errors import StorageError
from mirrord.files import (
    IrregularError,
    link_durably,
    make_folder,
    nameless,
    open_regular,
    storage_errors,
    write_durably,
)


class Calls:
    """What the system was asked, in order; one call may be made to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = list[str]()
        self.failing = ""
        for name in ("fsync", "replace", "link", "mkdir"):
            self._watch(monkeypatch, name)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(os, name)

        def call(first: Any, *rest: Any, **options: Any) -> Any:
            where = Path(f"/proc/self/fd/{first}").readlink() if isinstance(first, int) else Path(first)
            self.made.append(f"{name} {where.name.split('.')[1] if where.name[0] == '.' else where.name}")
            if name == self.failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(first, *rest, **options)

        monkeypatch.setattr(os, name, call)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_the_order_of_flushes(calls: Calls, tmp_path: Path) -> None:
    """Bytes reach the disk before their name, the name before anybody goes on; and so do folders, from above."""
    calls.made.clear()
    make_folder(tmp_path / "a" / "b")
    assert calls.made == ["mkdir a", f"fsync {tmp_path.name}", "mkdir b", "fsync a"]
    calls.made.clear()
    stages = list[tuple[str, list[str]]]()
    place = tmp_path / "a" / "b" / "note"
    write_durably(
        place,
        b"new",
        written=lambda: stages.append(("written", list(calls.made))),
        named=lambda: stages.append(("named", list(calls.made))),
    )
    assert calls.made == ["fsync note", "replace note", "fsync b"]
    assert stages == [("written", ["fsync note"]), ("named", ["fsync note", "replace note"])]
    assert (place.read_bytes(), stat.S_IMODE(place.stat().st_mode)) == (b"new", 0o600)
    calls.made.clear()
    link_durably(place, tmp_path / "a" / "second")
    assert calls.made == ["fsync note", "link note", "fsync a"]
    assert (tmp_path / "a" / "second").samefile(place)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_disk_that_says_no(calls: Calls, tmp_path: Path, failing: str) -> None:
    """The old content is still there, nothing is beside it, and the error names the file."""
    place = tmp_path / "note"
    write_durably(place, b"old")
    calls.failing = failing
    with pytest.raises(StorageError, match=f"^{place}: No space left on device; free some space$"):
        write_durably(place, b"new")
    assert ([path.name for path in (tmp_path).iterdir()], place.read_bytes()) == (["note"], b"old")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The error names the place, the reason and what to do; advice of the caller comes first."""
    (tmp_path / "file").write_bytes(b"")
    place = tmp_path / "file" / "folder" / "note"
    with pytest.raises(StorageError, match=f"^{place}: Not a directory; a file stands where a folder is needed: name"):
        write_durably(place, b"new")
    with pytest.raises(StorageError, match=r"^x: Not a directory; y$"), storage_errors("x", "; y"):
        place.parent.mkdir()


@pytest.mark.parametrize("code", sorted(files._NO_LINKS))
def test_where_there_are_no_links(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int) -> None:
    """A second name is a copy where the file system has no links; an error leaves nothing of it."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    file = tmp_path / "file"
    file.write_bytes(b"x" * 3_000_000)
    link_durably(file, tmp_path / "folder" / "copy")
    assert (tmp_path / "folder" / "copy").read_bytes() == file.read_bytes()
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
        link_durably(file, tmp_path / "folder" / "other")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["copy"]


def test_the_longest_names(tmp_path: Path) -> None:
    """What is written beside a file whose name is as long as names can be has a shorter one."""
    for name in ("n" * 255, "\u00e9" * 127, "\u65e5" * 85):
        write_durably(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    """Who comes second finds the content there, which is the same."""
    file, place = tmp_path / "file", tmp_path / "place"
    file.write_bytes(b"one")
    place.write_bytes(b"one")
    link_durably(file, place)
    assert not place.samefile(file)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A pipe is not waited for, a device and a folder are named as such, a link to a file is one."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name, kind in {"pipe": "a pipe", ".": "a folder", "/dev/null": "a device"}.items():
        with pytest.raises(IrregularError, match=f"^is {kind}; only regular"):
            open_regular(tmp_path / name)
    handle = open_regular(tmp_path / "link")
    assert os.read(handle, 10) == b"x"
    os.close(handle)


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 16) + 1])
def test_nameless(tmp_path: Path, size: int) -> None:
    """A file without a name holds what was given, whether it needs the disk or not."""
    with nameless(b"x" * size, tmp_path) as file:
        assert file.read() == b"x" * size
        assert [path.name for path in (tmp_path).iterdir()] == []
