"""An open mirrord that people may ask for images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mirrord.asking.asked import AskedImage
from mirrord.config.load import Configuration, load_folder
from mirrord.daemon.asking import AskDesk
from mirrord.daemon.runtime import Runtime, open_runtime
from mirrord.events import Events
from mirrord.model.request import ASKED
from mirrord.model.run import Result
from mirrord.syncer.port import load_syncers
from mirrord.testing import Image, Registry, build_image

SYNCERS = load_syncers()


@dataclass(slots=True)
class Counter:
    """An open mirrord that may be asked."""

    runtime: Runtime
    desk: AskDesk

    async def copied(self, image: str, *platforms: str) -> AskedImage:
        """Ask for an image that has to be copied, and return how it ended."""
        asked = await self.desk.ask(image, platforms, ["token a"])
        assert not asked.over, asked
        ended = await self.desk.wait(asked.id)
        assert ended
        return ended

    async def settled(self) -> None:
        """Wait until all is recorded."""
        await self.desk._runs.settled()

    async def runs(self) -> list[tuple[str, Result]]:
        """Return trigger and result of the runs, the newest first."""
        return [(run.trigger, run.result) for run in await self.runtime.store.runs(ASKED)]


async def configured(folder: Path, section: str, more: str = "") -> Configuration:
    """Write a configuration, and read it."""
    conf = folder / "conf.d"
    conf.mkdir(exist_ok=True)
    (conf / "a.yaml").write_text(f"asking: {section}\n{more}\n")
    return await asyncio.to_thread(load_folder, conf, SYNCERS, {})


@asynccontextmanager
async def asking(folder: Path, section: str, more: str = "") -> AsyncIterator[Counter]:
    """Open a mirrord over `folder`."""
    read, state = await configured(folder, section, more), folder / "state"
    state.mkdir(exist_ok=True)
    async with open_runtime(read, SYNCERS, state, Events()) as runtime:
        desk = AskDesk(runtime)
        await desk.resume()
        yield Counter(runtime, desk)
        await runtime.runner.stop(0.0)
        await desk.close()


def small(seed: str) -> Image:
    """Return an image of a kilobyte."""
    return build_image(["linux/amd64"], layers=1, layer_size=500, seed=seed)


def rules(source: Registry, target: Registry, more: str = "") -> tuple[str, str]:
    """Return what may be asked for, and the target."""
    section = f"{{to: [hub, local], allow: ['{source.host}/team/**'], {more}}}"
    return section, f"targets: {{hub: {{kind: image, to: {target.host}/m}}}}"
