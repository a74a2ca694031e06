"""The man page, as programs that show man pages read it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mirrord.cli.grammar import COMMANDS

PAGE = Path(__file__).parents[2] / "man/mirrord.1"
SHOWN = {
    "groff": ("-ww", "-man", "-Tutf8", "-rLL=100n", "-P-c"),
    "mandoc": ("-T", "utf8", "-W", "warning", "-O", "width=100"),
}


@pytest.mark.parametrize("program", SHOWN)
def test_it_is_shown_without_a_warning(program: str) -> None:
    """Groff (with all its warnings) and mandoc have nothing to say, and show every command with every option."""
    if not shutil.which(program):
        pytest.skip(f"no {program} here")
    done = subprocess.run(
        [program, *SHOWN[program], str(PAGE)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)
    for name in COMMANDS:
        assert f"mirrord {name}" in shown
        for one in COMMANDS[name].params:
            if not getattr(one, "hidden", False) and one.param_type_name == "option":
                assert [option for option in one.opts if option not in shown] == []
    assert "`" not in shown
