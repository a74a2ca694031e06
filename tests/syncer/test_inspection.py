"""What a verification collects: a sample that covers everything in time, and findings that are never lost as equal."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import DigestError, MissingError, ThrottledError, UnreachableError
from mirrord.model.digest import Digest
from mirrord.model.memory import NO_MEMORY, LastSeen, Memory
from mirrord.model.verification import Level
from mirrord.syncer.inspection import FINDINGS, Inspection

NOW = datetime(2024, 5, 17, tzinfo=UTC)


def sampled(sizes: dict[str, int], budget: int, read_up_to: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    inspection = Inspection(Level.BYTES, NO_MEMORY, budget, read_up_to)
    return list(inspection.sample("there", sizes)), inspection.read_up_to


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30), st.integers(1, 120))
def test_all_content_is_read_in_the_course_of_several_verifications(sizes: list[int], budget: int) -> None:
    """Each one goes on where the last one ended, within its budget but with one at least, and none is left out."""
    contents = {str(Digest.of(str(number).encode())): size for number, size in enumerate(sizes)}
    read_up_to: dict[str, str] = {}
    seen: list[str] = []
    for _ in contents:
        some, read_up_to = sampled(contents, budget, read_up_to)
        assert len(set(some)) == len(some) > 0
        assert len(some) == 1 or sum(contents[one] for one in some) <= budget
        seen += some
    assert set(seen) == set(contents)


def test_a_reading_that_ends_early_goes_on_with_what_was_not_read() -> None:
    """What was chosen and not read to its end is the first of the next time."""
    contents = dict.fromkeys("abc", 1)
    inspection = Inspection(Level.BYTES, NO_MEMORY, 10)
    for digest in inspection.sample("there", contents):
        if digest == "b":
            break
    assert sampled(contents, 1, inspection.read_up_to)[0] == ["b"]


def test_only_what_is_wrong_differs() -> None:
    """Missing and damaged content is drift; any other error leaves it open, and an item counts once."""
    inspection = Inspection(Level.DEEP, NO_MEMORY)
    for item, error in (
        ("a", MissingError("gone", 404)),
        ("b", DigestError("other bytes")),
        ("c", UnreachableError("away")),
        ("d", ThrottledError("later")),
        ("a", UnreachableError("away")),
    ):
        inspection.looked("there", item)
        inspection.failed("there", [item], "blob", error)
    found = inspection.result("there", NOW)
    assert (found.checked, found.drift, found.unknown, found.equal) == (4, 2, 2, False)
    assert [one.unknown for one in found.findings] == [False, False, True, True, True]
    assert not inspection.result("elsewhere", NOW).findings


def test_many_findings_are_counted_and_drift_is_named_first() -> None:
    """So many that nobody can tell of do not hide what differs."""
    inspection = Inspection(Level.NAMES, NO_MEMORY)
    for number in range(2 * FINDINGS):
        inspection.untold("there", f"v{number}", UnreachableError("away"))
    inspection.differs("there", "latest", "missing", "latest is not there")
    found = inspection.result("there", NOW)
    assert (found.drift, found.unknown, len(found.findings)) == (1, 2 * FINDINGS, FINDINGS + 1)
    assert found.findings[0].item == "latest"


def test_looking_again_forgets_what_was_found_of_these_items_alone() -> None:
    """What a second look finds takes the place of the first, item by item; damaged content is read once more."""
    seen = LastSeen("sha256:0", NOW)
    both = Memory({("there", "a"): seen, ("there", "b"): seen})
    inspection = Inspection(Level.BYTES, both, 1)
    for item in "ab":
        inspection.looked("there", item)
        inspection.differs("there", item, "bytes", "other bytes", f"sha256:{item}")
    inspection.again({("there", "a")}, Memory({("there", "a"): seen}))
    assert inspection.drifted() == {"there": frozenset("b")}
    assert list(inspection.items("there")) == ["a"]
    assert list(inspection.sample("there", {"sha256:a": 5, "sha256:b": 5, "sha256:c": 5})) == ["sha256:a", "sha256:b"]


def test_what_is_refused_is_no_drift() -> None:
    """It is counted and named by itself, after all else, and reported anew when items are looked at again."""
    inspection = Inspection(Level.DEEP, NO_MEMORY)
    inspection.looked("there", "a")
    inspection.refused("there", "b", "b is not signed")
    inspection.differs("there", "c", "missing", "c is not there")
    found = inspection.result("there", NOW)
    assert (found.drift, found.unknown, found.refused) == (1, 0, 1)
    assert [one.code for one in found.findings] == ["missing", "refused"]
    assert [one.item for one in inspection.drift()] == ["c"]
    inspection.again({("there", "c")}, NO_MEMORY)
    inspection.refused("there", "b", "b is not signed")
    found = inspection.result("there", NOW)
    assert (found.equal, found.refused, len(found.findings)) == (True, 1, 1)


def test_only_what_was_seen_again_counts_as_repaired() -> None:
    """An item that differed and that nobody could look at again is not repaired, nor is any if the look ended early."""
    seen = LastSeen("sha256:0", NOW)
    every = Memory({("there", item): seen for item in "abc"})
    inspection = Inspection(Level.NAMES, every)
    for item in "abc":
        inspection.differs("there", item, "missing", f"{item} is not there")
    drifted = inspection.drifted()["there"]
    inspection.again({("there", item) for item in "abc"}, every)
    inspection.untold("there", "b", UnreachableError("away"))
    inspection.differs("there", "c", "missing", "c is not there")
    assert inspection.settled("there", drifted) == 1
    inspection.untold("there", "", UnreachableError("away"))
    assert inspection.settled("there", drifted) == 0
