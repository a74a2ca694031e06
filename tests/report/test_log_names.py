"""Log lines have names that are listed, and so documented."""

from __future__ import annotations

import ast
from pathlib import Path

import mirrord
from mirrord.report.log_names import NAMES


def test_log_lines_have_a_name() -> None:
    """What any module writes to the log is one of those names."""
    calls = [
        one for file in Path(mirrord.__file__).parent.rglob("*.py") for one in ast.walk(ast.parse(file.read_bytes()))
    ]
    given = [
        one.args[1].value
        for one in calls
        if isinstance(one, ast.Call)
        and len(one.args) > 1
        and isinstance(one.args[1], ast.Constant)
        and ast.unparse(one.func).endswith((".write", "._write", "Line"))
    ]
    written = {name for name in given if isinstance(name, str)}
    assert {"run.started", "daemon.ready", "gc.failed", "library"} <= written
    assert written <= NAMES
