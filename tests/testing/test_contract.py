"""Every installed syncer and every store keeps its promises."""

from collections.abc import Awaitable, Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mirrord.blobs.bounded import BoundedStore
from mirrord.blobs.disk import DiskStore
from mirrord.blobs.disk_repositories import DiskRepositories
from mirrord.blobs.s3 import S3Store
from mirrord.blobs.s3_repositories import S3Repositories
from mirrord.blobs.store import BlobStore
from mirrord.syncer.port import GROUP, load_syncers
from mirrord.testing.contract import SCENARIO_CHECKS, Scenario, check_port, check_rooms
from tests.support.gateway import bucket
from tests.support.remotestore import RemoteStore
from tests.support.scenarios import SCENARIOS
from tests.support.store_contract import REPOSITORY_CHECKS, STORE_CHECKS, Open, check_complete

INSTALLED = {entry.name: entry.module for entry in entry_points(group=GROUP)}
STORES: dict[str, Callable[[Path], BlobStore]] = {
    "disk": DiskStore,
    "bounded": lambda folder: BoundedStore(folder, lambda: 1 << 40),
    "remote": lambda _: RemoteStore(),
    "s3": lambda _: S3Store(bucket()),
}


def _in_bucket(_: Path) -> Open:
    objects = bucket()
    return lambda: S3Repositories(objects)


REPOSITORIES: dict[str, Callable[[Path], Open]] = {
    "disk": lambda folder: lambda: DiskRepositories(folder),
    "s3": _in_bucket,
}


@pytest.mark.parametrize("kind", INSTALLED)
def test_port(kind: str) -> None:
    """An installed syncer offers the whole port, with closed models."""
    check_port(kind, load_syncers()[kind])


@pytest.mark.parametrize("kind", INSTALLED)
def test_rooms(kind: str) -> None:
    """An installed syncer's folder has only named rooms."""
    check_rooms(INSTALLED[kind])


def test_every_shipped_syncer_is_tested() -> None:
    """Each syncer of ours that is installed has a world to be tested in."""
    ours = {kind for kind, module in INSTALLED.items() if module.startswith("mirrord.")}
    assert ours <= set(SCENARIOS)


@pytest.mark.parametrize("kind", SCENARIOS)
@pytest.mark.parametrize("check", SCENARIO_CHECKS, ids=lambda check: check.__name__)
async def test_syncer(kind: str, check: Callable[[Scenario], Awaitable[None]], tmp_path: Path) -> None:
    """A syncer keeps each promise of the contract; the check's docstring says which."""
    async with SCENARIOS[kind](tmp_path) as scenario:
        await check(scenario)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_store(store: str, check: Callable[[BlobStore, Path], Awaitable[None]], tmp_path: Path) -> None:
    """A store keeps each promise of its port; the check's docstring says which."""
    await check(STORES[store](tmp_path / "store"), tmp_path)


@pytest.mark.parametrize("kind", REPOSITORIES)
@pytest.mark.parametrize("check", REPOSITORY_CHECKS, ids=lambda check: check.__name__)
async def test_repositories(kind: str, check: Callable[[Open], Awaitable[None]], tmp_path: Path) -> None:
    """Repositories keep each promise of their port; the check's docstring says which."""
    await check(REPOSITORIES[kind](tmp_path / "names"))


@pytest.mark.parametrize("kind", REPOSITORIES)
@pytest.mark.parametrize("store", STORES)
async def test_complete(kind: str, store: str, tmp_path: Path) -> None:
    """Together they say whether all of a manifest is there."""
    await check_complete(REPOSITORIES[kind](tmp_path / "names"), STORES[store](tmp_path / "store"))
