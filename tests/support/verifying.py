"""A configuration, opened as a command opens it, to run and verify its mirrors; and damage to what was written."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mirrord.commands import Sync, Verify
from mirrord.config.load import load_folder
from mirrord.daemon.dispatcher import Dispatcher
from mirrord.daemon.runtime import open_runtime
from mirrord.events import Events
from mirrord.model.run import Run
from mirrord.model.verification import Level, TargetVerification, Verification
from mirrord.syncer.port import load_syncers
from mirrord.testing.servers import DockerRegistry


@dataclass(frozen=True, slots=True)
class Verified:
    """What is open."""

    dispatcher: Dispatcher
    state: Path

    async def sync(self, mirror: str = "app") -> Run:
        """Run a mirror."""
        (run,) = await self.dispatcher.carry_out(Sync((mirror,)))
        return run

    async def verify(self, level: Level = Level.NAMES, mirror: str = "app", *, repair: bool = False) -> Verification:
        """Verify a mirror."""
        (found,) = await self.dispatcher.carry_out(Verify((mirror,), level, repair))
        return found

    def blob(self, digest: str) -> Path:
        """Return the file of content of `local`."""
        algorithm, _, number = digest.partition(":")
        return self.state / "blobs" / algorithm / number[:2] / number

    def contents(self) -> set[str]:
        """Return the digests of all files below the state directory, whoever keeps them and under whatever name."""
        return {f"sha256:{sha256(file.read_bytes()).hexdigest()}" for file in self.state.rglob("*") if file.is_file()}


@asynccontextmanager
async def opened(folder: Path, text: str) -> AsyncIterator[Verified]:
    """Open a configuration, with its state below `folder`."""
    (folder / "conf.d").mkdir(exist_ok=True)
    (folder / "conf.d" / "a.yaml").write_text(text)
    state = folder / "state"
    state.mkdir(exist_ok=True)
    syncers = load_syncers()
    async with open_runtime(load_folder(folder / "conf.d", syncers, {}), syncers, state, Events()) as runtime:
        yield Verified(Dispatcher(runtime), state)


def codes(found: Verification) -> list[tuple[str, str, str]]:
    """Return target, item and code of all findings."""
    return sorted((one.target, one.item, one.code) for target in found.targets for one in target.findings)


def at(found: Verification, target: str) -> TargetVerification:
    """Return what was found at a target."""
    return next(one for one in found.targets if one.target == target)


def data_of(registry: DockerRegistry, digest: str) -> Path:
    """Return the file with content of a registry."""
    algorithm, _, number = digest.partition(":")
    return registry.folder / "content/docker/registry/v2/blobs" / algorithm / number[:2] / number / "data"


def repository_of(registry: DockerRegistry, path: str) -> Path:
    """Return the folder with the links of a repository of a registry."""
    return registry.folder / "content/docker/registry/v2/repositories" / path


def lose_tag(registry: DockerRegistry, path: str, tag: str) -> None:
    """Take a tag away, and nothing else."""
    shutil.rmtree(repository_of(registry, path) / "_manifests/tags" / tag)


def lose_manifest(registry: DockerRegistry, path: str, digest: str) -> None:
    """Take a manifest out of a repository."""
    shutil.rmtree(repository_of(registry, path) / "_manifests/revisions" / digest.replace(":", "/"))


def lose_blob(registry: DockerRegistry, path: str, digest: str) -> None:
    """Take a blob out of a repository, and its bytes from the disk."""
    shutil.rmtree(repository_of(registry, path) / "_layers" / digest.replace(":", "/"))
    shutil.rmtree(data_of(registry, digest).parent)


def damage(file: Path) -> None:
    """Change the first byte of a file and keep its size."""
    data = file.read_bytes()
    file.unlink()  # it may share its content with another one by a hard link
    file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
