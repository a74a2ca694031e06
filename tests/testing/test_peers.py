"""What benchmarks compare with, and how they measure: nothing is left out in silence, and all count alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import measure, peers
from bench.fanout import counted
from mirrord.testing.servers import Hit


def test_what_is_missing_is_named_with_where_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A peer of Debian's is named with its package, and one to build with its module."""
    monkeypatch.setattr(peers, "PLACES", (tmp_path,))
    monkeypatch.setattr(peers, "search_path", lambda: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    versions, missing = peers.present(["skopeo", "crane"])
    assert versions == {}
    assert missing == [
        "no skopeo here; install the Debian package skopeo",
        f"no crane here, and no Go to build {peers.GO['crane']}",
    ]


async def test_a_measurement_is_of_what_ran_and_not_of_who_started_it() -> None:
    """Peak memory is that of the program, however large we are; CPU time is that of all that ran at once."""
    ballast = bytearray(64 << 20)
    found = await measure.measure([["sh", "-c", "exit 0"]] * 2)
    assert len(ballast) == 64 << 20
    assert 0 < found["memory"] < 64
    assert found["wall"] > 0


async def test_a_command_that_fails_is_no_measurement() -> None:
    """A tool that fails gives no number but its own words."""
    with pytest.raises(RuntimeError, match="no such tag"):
        await measure.measure([["sh", "-c", "echo no such tag >&2; exit 3"]])


async def test_tools_take_turns() -> None:
    """The order alternates, so that no tool always comes first."""
    order: list[str] = []

    async def once(tool: str) -> measure.Measured:
        order.append(tool)
        return {"wall": float(len(order))}

    results = await measure.by_turns(["mirrord", "crane"], 3, once)
    assert order == ["mirrord", "crane", "crane", "mirrord", "mirrord", "crane"]
    assert measure.medians(results) == {"mirrord": {"wall": 4.0}, "crane": {"wall": 3.0}}


def test_requests_are_counted_from_what_registries_saw() -> None:
    """Blob reads, bytes and writes by method come from the access logs alone."""
    source = [Hit("GET", "/v2/app/blobs/sha256:0", 200, 10), Hit("HEAD", "/v2/app/manifests/v1", 200, 0)]
    found = counted(source, [Hit("PUT", "/v2/app/manifests/v1", 201), Hit("HEAD", "/v2/app/blobs/sha256:0", 404)])
    assert (found["source: requests"], found["source: blob GETs"], found["source: MB"]) == (2, 1, 1e-5)
    assert (found["targets: requests"], found["targets: PUT"], found["targets: PATCH"]) == (2, 1, 0)
