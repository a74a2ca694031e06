"""Which folders a command uses when none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.cli import folders
from mirrord.cli.folders import config_folder, state_folder
from mirrord.cli.grammar.words import FOLDERS, STATE_OF_MACHINE


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder, with /etc/mirrord/conf.d in another place; returns that place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(folders, "FOLDERS", (tmp_path / "etc", *FOLDERS[1:]))
    return tmp_path / "etc"


def test_the_state_belongs_to_the_configuration(machine: Path) -> None:
    """With the configuration of the machine goes the state of the machine, as in the unit; else it is ./state."""
    assert state_folder(None) == Path("state")
    machine.mkdir()
    assert config_folder(None) == machine
    assert state_folder(None) == STATE_OF_MACHINE == Path("/var/lib/mirrord")
    assert state_folder(None, machine) == STATE_OF_MACHINE
    assert state_folder(None, Path("conf.d")) == Path("state")
    assert state_folder(Path("other")) == Path("other")


def test_what_was_named_and_what_was_used_before(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that an earlier version began in ./state is found again; $STATE_DIRECTORY overrides both."""
    machine.mkdir()
    (tmp_path / "state").mkdir()
    assert state_folder(None) == STATE_OF_MACHINE
    (tmp_path / "state" / "mirrord.db").touch()
    assert state_folder(None) == state_folder(None, machine) == Path("state")
    monkeypatch.setenv("STATE_DIRECTORY", "/srv/one:/srv/two")
    assert state_folder(None) == Path("/srv/one")
