"""What another replica writes into the file of `settings.denied` counts without a reload."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirrord.daemon import denied_elsewhere
from mirrord.daemon.denied_elsewhere import follow_denied
from mirrord.names.denied import Denied
from tests.support.verifying import Verified, opened

CONFIGURATION = """\
settings: {{denied: {denied}}}
mirrors:
- {{name: app, kind: image, from: {{repository: quay.io/team/app, tags: ["*"]}}, to: [local]}}
"""


def denied_by(one: Verified) -> list[str]:
    """Return what is denied."""
    denied: Denied = one.dispatcher.runtime.snapshot.configuration.denied or Denied()
    return [entry.what for entry in denied.entries]


async def test_what_others_write_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change is used once; what is wrong is said once, and then what was denied before stays denied."""
    monkeypatch.setattr(denied_elsewhere, "EVERY", 0.001)
    file, said, applied = tmp_path / "denied.yaml", asyncio.Queue[str](), asyncio.Queue[None]()
    file.touch()

    def write(text: str) -> None:
        fresh = file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(file)

    async with opened(tmp_path, CONFIGURATION.format(denied=file)) as one:

        async def apply() -> None:
            try:
                await one.dispatcher.follow_denied()
            finally:
                applied.put_nowait(None)

        following = asyncio.create_task(follow_denied(one.dispatcher.runtime, apply, said.put_nowait))
        await applied.get()
        assert denied_by(one) == []
        write("- {image: quay.io/team/app:v1, reason: ticket 4711}\n")
        await applied.get()
        assert denied_by(one) == ["quay.io/team/app:v1"]
        write("- {image: quay.io/team/app:v1}\n")
        await applied.get()
        assert (await said.get()).startswith(f"what is denied stays as it was: {file}:1: ")
        assert denied_by(one) == ["quay.io/team/app:v1"]
        file.unlink()
        await asyncio.sleep(0.01)
        write("")
        await applied.get()
        assert denied_by(one) == []
        await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.wait([following])
        assert (said.qsize(), applied.qsize()) == (0, 0)
