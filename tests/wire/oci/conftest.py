"""A registry double, and a repository of it that is written to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from mirrord.testing import Registry
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import Limits
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.profiles import GENERIC, Profile
from mirrord.wire.oci.reference import Reference


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry() as registry:
        yield registry


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http(HostBook(), limits=Limits(attempts=1), jitter=lambda: 0.0) as http:
        yield http


@pytest.fixture
def repo(http: Http, registry: Registry) -> Repository:
    return Repository(http, Reference(registry.host, "a/b"), push=True)


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def use(**quirks: Any) -> None:
        quirky: Profile = replace(GENERIC, **quirks)
        monkeypatch.setattr(HostPolicy, "registry", quirky)

    return use
