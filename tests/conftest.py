"""What holds for all tests."""

from __future__ import annotations

import gc
import os
import re
import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from mirrord.errors import UnreachableError
from mirrord.testing.servers import REQUIRE_ALL, excused
from mirrord.wire import secret
from tests.support.postgres import Postgres

for _number in (signal.SIGINT, signal.SIGHUP):  # `nohup` and a shell's `&` leave them ignored, in children too
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a loaded machine
settings.load_profile("house")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for cycles once in what is collected, and never again: that is 1.4 million objects, a second for a look."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _secrets_of_one_test() -> Iterator[None]:
    """A password of one test is an ordinary word in another, which redaction must leave alone there."""
    known = secret._known  # there is nothing to forget in production
    before = set(known._live)
    yield
    with known._lock:
        for key in set(known._live) - before:
            known._live.pop(key, None)
        known._recent.clear()
        known._forms = None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a server for all tests of this process; they share its database `mirrord`."""
    try:
        with Postgres() as server:
            yield server
    except UnreachableError as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where all tools are required, unless its reason names one that is excused."""
    report = yield
    if os.environ.get(REQUIRE_ALL) == "1" and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", reason) for name in excused()):
            report.outcome = "failed"
            report.longrepr = f"{reason}: with {REQUIRE_ALL}=1 a skip is a failure"
    return report
