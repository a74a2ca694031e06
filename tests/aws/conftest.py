"""AWS on loopback, and an identity that nobody else has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mirrord.testing.servers import DockerRegistry, require
from mirrord.wire.vendors import aws
from tests.support.ecr import TOKEN, Ecr, open_ecr, open_moto


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with open_moto() as url:
        yield url


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine says who we are; the environment does."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key-of-the-test")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    aws._clients.clear()


@pytest.fixture
async def ecr(moto: str) -> AsyncIterator[Ecr]:
    require("docker-registry", "htpasswd")
    async with DockerRegistry(user=("AWS", TOKEN)) as registry, open_ecr(moto, registry) as one:
        yield one
