"""What holds for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from mirrord.wire import secret

for _number in (signal.SIGINT, signal.SIGHUP):  # `nohup` and a shell's `&` leave them ignored, in children too
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


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
