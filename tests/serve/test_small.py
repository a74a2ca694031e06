"""What many ask for costs one look at the disk: counted, since the time that it takes says nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from mirrord.files import LocalFile
from mirrord.serve import small
from mirrord.serve.small import SMALL, SmallFiles
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from tests.support.frontserver import open_front


class Tagged:
    """Serves one file under the tag that the path names, or without one."""

    prefixes = ("/file/",)

    def __init__(self, file: Path) -> None:
        self.file = file

    async def respond(self, asked: Request, services: Services) -> Response:
        return Response(200, {"ETag": asked.path} if asked.path != "none" else {}, LocalFile.of(self.file))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often which file is opened to be sent."""
    found: Counter[str] = Counter()

    def opened(stored: LocalFile) -> Any:
        found[stored.path.name] += 1
        return os.fdopen(os.open(stored.path, os.O_RDONLY), "rb", buffering=0)

    monkeypatch.setattr(small, "open_stored", opened)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"0123456789")
    return tmp_path / "file"


@pytest.fixture
async def url(file: Path) -> AsyncIterator[str]:
    nobody: Any = None
    async with open_front(nobody, Tagged(file)) as base:
        yield f"{base}/file"


async def get(url: str, part: str = "") -> bytes:
    """Ask for a file, or a part of it."""
    async with aiohttp.request("GET", URL(url, encoded=True), headers={"Range": part} if part else {}) as answer:
        return await answer.read()


async def test_one_look_for_many(url: str, looks: Counter[str]) -> None:
    """A hundred requests for a small file with a strong tag open it once, those for a part of it once more."""
    for _ in range(100):
        assert await get(f'{url}/"a"') == b"0123456789"
    assert looks["file"] == 1
    for _ in range(100):
        assert await get(f'{url}/"a"', "bytes=2-4") == b"234"
    assert looks["file"] == 2


async def test_another_tag_is_other_content(url: str, file: Path, looks: Counter[str]) -> None:
    """What is remembered counts for its tag only; without a strong one nothing is remembered."""
    for tag in ('"a"', "none", 'W/"a"'):
        assert await get(f"{url}/{tag}") == b"0123456789"
    file.write_bytes(b"9876543210")
    for tag in ('"b"', "none", 'W/"a"'):
        assert await get(f"{url}/{tag}") == b"9876543210"


async def test_memory_is_bounded(tmp_path: Path, looks: Counter[str]) -> None:
    """Who was asked for longest ago gives way, and what is gone from the disk is not there."""
    files = SmallFiles(3 * SMALL)
    for name in "abcd":
        (tmp_path / name).write_bytes(name.encode() * SMALL)
    stored = [LocalFile.of(tmp_path / name) for name in "abcd"]
    for one in (*stored, stored[3], stored[0]):
        assert await files.read(one, '"tag"') is not None
    assert looks == {"a": 2, "b": 1, "c": 1, "d": 1}


async def test_what_is_gone(tmp_path: Path) -> None:
    """A file that is gone or became shorter is not there."""
    (tmp_path / "short").write_bytes(b"12")
    for name in ("gone", "short"):
        assert await SmallFiles().read(LocalFile(tmp_path / name, 0, 10), '"tag"') is None
