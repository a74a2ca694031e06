"""A desk to work at, and a place where nobody answers."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirrord import garbage
from mirrord.cli import main
from tests.support.commands import Desk, Said

Typed = Callable[..., Said]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def dead() -> Iterator[str]:
    """A port that is taken, so that nobody else gets it, and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def typed(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Run a command at the desk in this process: quicker than a child, for what is refused before it begins."""
    monkeypatch.setattr(garbage, "look_briefly", lambda: None)  # the test process keeps its own thresholds
    monkeypatch.setattr(tempfile, "tempdir", str(desk.temporary))
    monkeypatch.chdir(desk.folder)
    for name, value in desk.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        return Said(int(end.value.code or 0), *capsys.readouterr())

    return run
