"""A PostgreSQL for replicas: one server for each process of the tests, whose tables are emptied for each test."""

from __future__ import annotations

import pytest

from tests.support.fleets import FleetWorld
from tests.support.postgres import Postgres


@pytest.fixture
async def fleet_world(postgres: Postgres) -> FleetWorld:
    """Return a database that replicas may share."""
    return await FleetWorld.made(postgres)
