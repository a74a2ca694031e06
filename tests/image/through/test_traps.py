"""The table of traps in `docs/explanation/front.md`."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[2]
PAGE = TESTS.parent / "docs" / "explanation" / "front.md"


def test_every_trap_names_tests_that_exist_or_says_why_not() -> None:
    """T1 to T34 are all there; each file and each test that the table names exists."""
    rows = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("| T")]
    assert [number.strip() for number, _, _ in rows] == [f"T{number}" for number in range(1, 35)]
    assert all(trap.strip() and held.strip() for _, trap, held in rows)
    file = ""
    for name in re.findall(r"`([a-z0-9_/.]+)`", "".join(held for _, _, held in rows)):
        if name.endswith(".py"):
            file = (TESTS / name).read_text()
        elif name.startswith("test_"):
            assert f"def {name}(" in file, name
