"""What a command loads before it does anything: counted in modules, since each costs time and memory."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest

from mirrord.cli.grammar import COMMANDS
from mirrord.cli.grammar.words import function_name
from mirrord.syncer import port
from tests.support.commands import Desk, Said

# Each of these is a tenth of a second or more, or megabytes.
_CLIENTS = ("aiohttp", "asyncio", "ssl", "httpx", "git")
_READERS = ("yaml", "pydantic")
_STATE = ("sqlalchemy", "sqlite3", "alembic")
_DAEMON = ("apscheduler", "structlog", "prometheus_client", "logging.config", "aiohttp.web", "mirrord.serve", "jinja2")
_SIGNATURES = ("cryptography", "sigstore", "mirrord.wire.cosign")
_OTHERS = ("mirrord.syncers.helm", "mirrord.syncers.git", "mirrord.daemon.runtime", "mirrord.testing")

FIRST = """
import gc, importlib, os, sys
import aiohttp, pydantic, rich, sqlalchemy, yaml  # what takes long to load, and is not ours
gc.disable()

for name in sys.argv[1:]:
    if not os.fork():
        importlib.import_module(name)
        os._exit(0)
    os.wait()
"""  # a fork that fails says so on stderr, and goes on with what is left


def loaded(code: str) -> list[str]:
    """Return the modules that a fresh interpreter has when it did `code`."""
    script = f"import atexit, sys; atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr)); {code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    return done.stderr.splitlines()[-1].split()


def among(modules: list[str], *heavy: str) -> list[str]:
    return [name for name in heavy if name in modules]


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["--bogus"], ["bogus"], *([*name.split(), "--help"] for name in COMMANDS)],
    ids=" ".join,
)
def test_help_loads_the_grammar_alone(words: list[str]) -> None:
    """Help, and what is said of a wrong word, need no client, no YAML, no models and no database, nor any command."""
    modules = loaded(f"from mirrord.cli import main; main({words})")
    assert among(modules, *_CLIENTS, *_READERS, *_STATE, *_DAEMON, *_OTHERS, "rich") == []
    assert among(modules, *(f"mirrord.cli.{re.sub('[- ]', '_', name)}" for name in COMMANDS)) == []
    assert len([name for name in modules if name.startswith("mirrord")]) <= 16


def test_copy_loads_only_what_it_needs() -> None:
    """`mirrord copy` runs through the corridor, and starts without database, scheduler, web server, logs, metrics."""
    modules = loaded("import mirrord.cli, mirrord.cli.copy")
    assert len([name for name in modules if name.startswith("mirrord")]) <= 155
    assert among(modules, *_READERS, "httpx", "git", *_STATE, *_DAEMON, *_SIGNATURES, *_OTHERS, "rich", "uvloop") == []


def test_every_command_can_be_loaded_first() -> None:
    """The modules of each command load in an interpreter that has loaded none of ours, in whatever order they do."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST, *(f"mirrord.cli.{function_name(name)}" for name in COMMANDS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_doubles_are_loaded_by_the_demonstration_only_when_it_runs() -> None:
    """The command line as a whole can be loaded without `mirrord.testing`."""
    every = ", ".join(f"mirrord.cli.{re.sub('[- ]', '_', name)}" for name in COMMANDS)
    assert [name for name in loaded(f"import {every}") if name.startswith("mirrord.testing")] == []


def test_completion_of_names_loads_no_reader() -> None:
    """At each Tab the names of mirrors are looked for without YAML, models and clients."""
    typed = "dict(_MIRRORD_COMPLETE='bash_complete', COMP_WORDS='mirrord sync cra', COMP_CWORD='2')"
    modules = loaded(f"import os; os.environ.update({typed}); from mirrord.cli import main; main([])")
    assert "mirrord.cli.completion" in modules
    assert among(modules, *_CLIENTS, *_READERS, *_STATE, *_DAEMON, *_OTHERS, "rich") == []


def test_check_loads_no_daemon() -> None:
    """`mirrord check` reads files: it needs no database, no clock, no server and no metrics."""
    assert among(loaded("import mirrord.cli, mirrord.cli.check"), *_STATE, *_DAEMON, "rich", "uvloop") == []


@pytest.mark.parametrize("words", [("check",), ("raw-url", "https://github.com/team/none/blob/main/README.md")])
@pytest.mark.parametrize("count", [1, 300])
def test_kinds_are_loaded_once_a_command(
    desk: Desk, typed: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], count: int
) -> None:
    """However many mirrors there are, what is installed is looked for once."""
    looks: list[dict[str, Any]] = []

    def counted(**wanted: Any) -> Any:
        looks.append(wanted)
        return entry_points(**wanted)

    mirrors = (
        f"{{name: m{number}, kind: image, from: {{repository: h.example/a/m{number}}}, to: local}}"
        for number in range(count)
    )
    desk.configure("mirrors:\n" + "".join(f"  - {mirror}\n" for mirror in mirrors))
    monkeypatch.setattr(port, "entry_points", counted)
    assert typed(*words).status in (0, 1)
    assert len(looks) == 1
