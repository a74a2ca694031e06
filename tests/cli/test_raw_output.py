"""`mirrord raw-url --fetch -o FILE`: what becomes of the file that was there."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirrord.cli.raw_file import replace_content


@contextmanager
def no_room(beyond: int) -> Iterator[None]:
    """Let no file become longer than `beyond` bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (beyond, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_nothing(tmp_path: Path) -> None:
    """The old content stays, and nothing is left beside it."""
    file = tmp_path / "values.yaml"
    file.write_bytes(b"old")
    with no_room(1000), pytest.raises(OSError, match="File too large"):
        replace_content(file, b"x" * 100_000)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"values.yaml": b"old"}


def test_modes_and_links_stay(tmp_path: Path) -> None:
    """A new file gets the mode that the umask leaves; an old one keeps its own, also behind a symbolic link."""
    file, link, fresh = (tmp_path / name for name in ("file", "link", "fresh"))
    file.write_bytes(b"a longer old content")
    file.chmod(0o640)
    link.symlink_to("file")
    replace_content(link, b"new")
    assert link.is_symlink()
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"new", 0o640)
    before = os.umask(0o027)
    try:
        replace_content(fresh, b"new")
    finally:
        os.umask(before)
    assert (fresh.read_bytes(), stat.S_IMODE(fresh.stat().st_mode)) == (b"new", 0o640)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "fresh", "link"]


def test_a_link_to_nowhere_makes_its_target(tmp_path: Path) -> None:
    """A symbolic link whose target is missing stays, as with other programs."""
    (tmp_path / "link").symlink_to("gone")
    replace_content(tmp_path / "link", b"new")
    assert (tmp_path / "gone").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """`-o /dev/stdout` in a pipe: what is no regular file is never replaced."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        replace_content(pipe, b"x" * 10_000)
        assert os.read(reader, 20_000) == b"x" * 10_000
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
