"""What tests of content in a bucket share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.bucketproxy import BucketProxy
from tests.support.clocks import Clock
from tests.support.gateway import gateway


@pytest.fixture
def wall() -> Clock:
    """Return a clock, later than what a test writes to a disk or a bucket."""
    return Clock(4_000_000_000.0)


@pytest.fixture
async def proxy() -> AsyncIterator[BucketProxy]:
    """Return a proxy before the bucket."""
    gateway()
    async with BucketProxy() as proxy:
        yield proxy
