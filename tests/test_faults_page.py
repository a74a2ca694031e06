"""The page about faults names what proves it, and nothing that is not there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/explanation/faults.md").read_text()
ROWS = dict[str, str](re.findall(r"^\| (F[0-9]+) \|(.*)\|$", PAGE, re.MULTILINE))


@cache
def names_in(file: Path) -> frozenset[str]:
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("number", ROWS)
def test_what_the_page_about_faults_names_is_there(number: str) -> None:
    """Each fault has a sentence, and at least one test; each test exists."""
    _, does, shown = ROWS[number].split("|")
    assert does.strip()
    named = re.findall(r"`(tests/[^`:]+)(?:::([^`]+))?`", shown)
    assert named
    for file, name in named:
        assert (ROOT / file).is_file()
        assert not name or name in names_in(ROOT / file)


def test_each_fault_is_on_the_page() -> None:
    """F1 to F44 have a row each, or are named as what is left out."""
    left_out = set(re.findall(r"F[0-9]+", PAGE.splitlines()[-1]))
    assert set(ROWS) | left_out == {f"F{number}" for number in range(1, 45)}
    assert not set(ROWS) & left_out
