"""The systemd unit: known options only, tight, and true about the program's exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mirrord.daemon.main import LONGEST_STOP
from mirrord.errors import ConfigError, UsageError
from mirrord.testing.servers import require

UNIT = Path(__file__).parents[2] / "systemd" / "mirrord.service"
OPTIONS: list[tuple[str, str]] = re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE)

# What the service must be able to do without: write to memory it runs, as some compiled modules do.
STRICT = """
import ctypes, os
refused = ctypes.CDLL(None, use_errno=True).prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
if refused:
    raise SystemExit(77)
import aiohttp, apscheduler, pydantic, prometheus_client, sqlalchemy, sqlite3, ssl, structlog, uvloop, yaml
uvloop.run(__import__("asyncio").sleep(0))
pydantic.create_model("M", x=(int, ...))(x=1)
sqlalchemy.create_engine("sqlite://").connect().close()
"""


def _value(name: str) -> str:
    return dict(OPTIONS)[name]


def test_exposure() -> None:
    """`systemd-analyze security` rates the unit 1.5 or better."""
    require("systemd-analyze")
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rated = re.search(r"exposure level for mirrord\.service: ([0-9.]+)", done.stdout)
    assert rated
    assert float(rated[1]) <= 1.5


def test_every_option_is_known(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say; only the program is another, since ours may not be installed."""
    require("systemd-analyze")
    copy = tmp_path / "mirrord.service"
    copy.write_text(re.sub(r"^(Exec\w+=)mirrord ", r"\1true ", UNIT.read_text(), flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_commented_options_are_known(tmp_path: Path) -> None:
    """What an operator may uncomment is known as well."""
    require("systemd-analyze")
    copy = tmp_path / "mirrord.service"
    text = re.sub(r"^#(\w+=)", r"\1", UNIT.read_text(), flags=re.MULTILINE)
    copy.write_text(re.sub(r"^(Exec\w+=)mirrord ", r"\1true ", text, flags=re.MULTILINE))
    assert "\nLoadCredential=" in copy.read_text()
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_wrong_configuration_is_not_tried_again() -> None:
    """Usage and configuration errors end the service; that works for the main process only, so nothing runs before."""
    assert set(map(int, _value("RestartPreventExitStatus").split())) == {UsageError.exit_code, ConfigError.exit_code}
    assert "ExecStartPre" not in dict(OPTIONS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("ExecStart", "mirrord serve -c /etc/mirrord/conf.d"),
        ("DynamicUser", "yes"),
        ("StateDirectory", "mirrord"),
        ("ConfigurationDirectory", "mirrord"),
        ("KillMode", "mixed"),
    ],
)
def test_what_the_program_relies_on(name: str, value: str) -> None:
    """The program finds its state, its configuration and its notify socket."""
    assert _value(name) == value


def test_a_stop_has_the_time_it_may_take() -> None:
    """A daemon that stops is killed by systemd only after it took longer than the daemon itself allows."""
    assert LONGEST_STOP == 165
    assert int(_value("TimeoutStopSec")) > LONGEST_STOP


def test_dependencies_run_under_the_hardening() -> None:
    """`MemoryDenyWriteExecute` stops none of the libraries, on kernels where a process can ask for the same."""
    assert _value("MemoryDenyWriteExecute") == "yes"
    done = subprocess.run([sys.executable, "-c", STRICT], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert done.returncode == 0, done.stderr
