"""The curves can be drawn, and the webhook be measured: each benchmark does what it measures, in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mirrord.testing import require

ROOT = Path(__file__).parents[2]
WORKS = {
    "tags-local": {"first", "nothing new"},
    "tags-registry": {"first", "nothing new"},
    "mirrors": {"start", "run, nothing new", "/status", "/"},
    "refs": {"first", "nothing new"},
    "charts": {"first", "one new", "nothing new"},
}


@pytest.mark.parametrize("part", WORKS)
def test_a_curve_is_drawn(part: str) -> None:
    """Each part mirrors what it says in a real daemon, and tells what that cost and what kept its loop."""
    require("git")
    argv = [sys.executable, "-m", "bench.scale", "--only", part, "--sizes", "3", "--json"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    curves = json.loads(done.stdout)[part]
    assert curves.keys() == WORKS[part]
    assert all(cost["cpu"] > 0 and cost["longest"] > 0 for sizes in curves.values() for cost in sizes.values())


def test_a_webhook_is_measured() -> None:
    """Each review of the load is answered with a patch, and what it took is told, in milliseconds."""
    argv = [sys.executable, "-m", "bench.webhook", "--rate", "20", "--seconds", "0.5", "--images", "3", "--json"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == {"median", "p99", "p99.9", "longest", "cpu", "within"}
    assert all(found[name] > 0 for name in ("median", "p99", "longest", "cpu"))
    assert 0 <= found["within"] <= 1
