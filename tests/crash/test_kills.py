"""SIGKILL in the middle of prune, takedown, restore and gc, at an event drawn by lot: the next command ends the work.

The event is the nth deletion, upload or removal of a file, of as many as a whole run has, counted from outside. The lot
is that of pytest-randomly (`--randomly-seed` repeats it); MIRRORD_KILLS sets how many kills there are of each command.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from mirrord.commands import CollectGarbage, Command, Prune, Restore, Sync, Takedown
from mirrord.model.run import Result
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push, require
from tests.support.commands import Desk
from tests.support.killing import FileEvents, Gate, gated
from tests.support.localstore import linked_in
from tests.support.walking import leftovers, walk, walk_local

pytestmark = pytest.mark.asyncio(loop_scope="module")

KILLS: Final = int(os.environ.get("MIRRORD_KILLS", "1"))
GONE, KEPT = (
    [build_image(["linux/amd64"], layers=2, layer_size=3000, shared_layers=1, seed=f"{kind}{n}") for n in range(4)]
    for kind in ("gone", "kept")
)
INDEX: Final = build_image([f"linux/{name}" for name in ("amd64", "arm64", "arm", "s390x", "riscv64")], seed="index")
OLD: Final = {f"v{number}": image for number, image in enumerate([*GONE, *KEPT])}
LEFT: Final = {f"v{number}": str(image.digest) for number, image in enumerate(KEPT, len(GONE))}
WAS: Final = {tag: str(image.digest) for tag, image in OLD.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gates() -> AsyncIterator[Mapping[str, Gate]]:
    """A registry that deletes manifests only, and one that deletes tags, each behind a proxy that counts."""
    require("docker-registry", "registry3")
    async with (
        DockerRegistry() as old,
        DockerRegistry(program="registry3") as new,
        gated(old.url, "DELETE", "PUT") as before_old,
        gated(new.url, "DELETE", "PUT") as before_new,
    ):
        yield {"docker-registry": before_old, "registry3": before_new}


class Job:
    """A mirror to a registry and to `local` that is ready for one command.

    Attributes:
        words: the command as it is typed.
        command: the same as a value.
        left: tags and digests that the target has in the end.
        local: those that `local` has.
        before: those that both have before.
    """

    def __init__(self, folder: Path, gate: Gate, source: Registry) -> None:
        folder.mkdir()
        self.desk, self.gate, self.source, self.state = Desk(folder), gate, source, folder / "state"
        self.prefix = f"t{secrets.token_hex(4)}"
        self.words: tuple[str, ...] = ()
        self.command: Command[Any] = Sync()
        self.left: Mapping[str, str] = LEFT
        self.local: Mapping[str, str] = LEFT
        self.before: tuple[Mapping[str, str], ...] = ()
        self.files = FileEvents(folder / "hook", frozenset({"blobs", "repositories"}))

    def configure(self, keep: str = "") -> None:
        self.desk.configure(
            f"settings: {{listen: '127.0.0.1:0', denied: {self.desk.folder}/denied.yaml}}\n"
            f"targets: {{one: {{kind: image, to: {self.gate.host}/{self.prefix}}}}}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: {self.source.host}/up/app, tags: ['*']}}, "
            f"{keep}to: [one, local], prune: {{after: 0s}}}}]\n"
        )

    async def prepare(self, kind: str) -> None:
        (self.desk.folder / "denied.yaml").touch()
        self.configure()
        await self.fill(OLD)
        await getattr(self, f"_{kind}")()
        self.before = await self.found()

    async def _prune(self) -> None:
        for tag in OLD.keys() - LEFT.keys():
            del self.source.content.tags["up/app"][tag]
        self.words, self.command, self.local = ("prune", "app", "--apply"), Prune(("app",)), WAS
        await self.desk.carry_out(self.command)  # two that are to agree

    async def _takedown(self) -> None:
        await self.fill(dict.fromkeys(OLD.keys() - LEFT.keys(), INDEX))
        what = f"{self.source.host}/up/app:v0"
        self.words = ("takedown", what, "--reason", "asked to")
        self.command = Takedown(what, "asked to")

    async def _restore(self) -> None:
        await self.fill(dict(zip(OLD, [*KEPT, *KEPT], strict=True)))
        names = tuple(f"{tag}@{WAS[tag]}" for tag in OLD.keys() - LEFT.keys())
        self.words, self.command = ("restore", "app", *names), Restore("app", names)
        self.left = self.local = WAS

    async def _gc(self) -> None:
        self.configure(f"keep: {{newest: {len(KEPT)}}}, ")
        self.words, self.command, self.left = ("gc",), CollectGarbage(), WAS

    async def fill(self, tags: Mapping[str, Image]) -> None:
        for tag, image in tags.items():
            await push(image, self.source, "up/app", [tag])
        (run,) = await self.desk.carry_out(Sync(("app",)))
        assert run.result is Result.SUCCESS, run

    async def killed(self, at: int, *, files: bool, done: bool) -> bool:
        """Run the command as a child, which is killed at that event; whether it came so far."""
        self.gate.arm(0 if files else at, done=done)
        environ = self.files.environ(at) if files else {}
        async with self.desk.started(*self.words, **environ) as process:
            self.gate.act = process.kill
            status = await process.wait()
            assert status in (0, -signal.SIGKILL), await process.communicate()
            return status != 0

    async def events(self, *, files: bool) -> int:
        """Run the whole command, and count."""
        self.gate.arm(0, done=False)
        if not files:
            await self.desk.carry_out(self.command)
            return self.gate.seen
        said = await self.desk.run(*self.words, **self.files.environ())
        assert said.status == 0, said
        return self.files.seen

    async def found(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return what the target and `local` have, read whole."""
        registry = DockerRegistry()
        registry.host = self.gate.host
        return await walk(registry, f"{self.prefix}/app"), walk_local(self.state, "app")

    async def sound(self) -> None:
        """All that has to stay is there, and nothing else than before or after."""
        for tags, before, left in zip(await self.found(), self.before, (self.left, self.local), strict=True):
            assert left.items() & before.items() <= tags.items() <= before.items() | left.items()
            assert left.keys() <= tags.keys()

    def unfinished(self) -> set[str]:
        """Return the names whose moves are not settled, and the files that nothing links any more."""
        with closing(sqlite3.connect(self.state / "mirrord.db")) as link:
            names = {name for (name,) in link.execute("select name from ledger where outcome = 'open'")}
        linked = linked_in(self.state / "repositories", "app")
        assert linked
        named = {digest.partition(":")[2] for digest in map(str, linked.content)}
        return names | {file.name for file in (self.state / "blobs").glob("*/*/*")} - named

    async def ended(self) -> None:
        """It is done, the ledger says so, and nothing comes back."""
        assert await self.found() == (self.left, self.local)
        assert self.unfinished() == set()
        newest = self.newest()
        for target, tags in (("one", self.left), ("local", self.local)):
            assert {name: digest for (place, name), digest in newest.items() if place == target and digest} == tags
        (run,) = await self.desk.carry_out(Sync(("app",)))
        assert run.result is Result.NOOP, run
        assert await self.found() == (self.left, self.local)
        assert leftovers(self.state) == []

    def newest(self) -> dict[tuple[str, str], str | None]:
        """Return the digest of each name by the newest move that was made."""
        found = dict[tuple[str, str], str | None]()
        with closing(sqlite3.connect(self.state / "mirrord.db")) as link:
            asked = "select target, name, after from ledger where outcome = 'done' order by id"
            found.update(((target, name), after) for target, name, after in link.execute(asked))
        return found


@asynccontextmanager
async def ready(folder: Path, gate: Gate, kind: str) -> AsyncIterator[Job]:
    async with Registry() as source:
        job = Job(folder, gate, source)
        await job.prepare(kind)
        yield job


@pytest.mark.parametrize(
    ("kind", "program"),
    [
        ("prune", "docker-registry"),
        ("prune", "registry3"),
        ("takedown", "docker-registry"),
        ("restore", "docker-registry"),
        ("gc", "docker-registry"),
    ],
)
async def test_kills(tmp_path: Path, gates: Mapping[str, Gate], kind: str, program: str) -> None:
    """A command killed in the middle loses nothing that stays; the same command again does all of it."""
    files, gate = kind == "gc", gates[program]
    async with ready(tmp_path / "whole", gate, kind) as job:
        events = await job.events(files=files)
        await job.ended()
    assert events >= len(GONE)
    counted = 0
    for number in range(4 * KILLS):
        async with ready(tmp_path / f"{number}", gate, kind) as job:
            killed = await job.killed(random.randint(1, events), files=files, done=random.random() < 0.5)
            counted += killed and bool(job.unfinished())
            await job.sound()
            await job.desk.carry_out(job.command)
            await job.ended()
        if counted == KILLS:
            break
    assert counted == KILLS
