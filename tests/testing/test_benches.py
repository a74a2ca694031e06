"""The benchmarks can be started as they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHES = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if "ArgumentParser(" in path.read_text())


@pytest.mark.parametrize("name", BENCHES)
def test_a_benchmark_starts_as_it_says(name: str) -> None:
    """The command in its own text is how it is started from the root, and it knows the options that stand there."""
    text = (ROOT / "bench" / f"{name}.py").read_text().partition('"""')[2].partition('"""')[0]
    command = re.search(rf"python (-m bench\.{name}) (.*)", text)
    assert command is not None
    asked = [sys.executable, *command[1].split(), "--help"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in re.findall("--[a-z]+", command[2]))
