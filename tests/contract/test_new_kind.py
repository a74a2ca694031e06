"""A new kind is one folder and one entry-point line: shown with the example syncer of tests/testing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers
from mirrord.testing.contract import SCENARIO_CHECKS, check_port, check_rooms

EXAMPLE = Path(__file__).parents[1] / "testing" / "test_contract_catches.py"
FOLDER = {
    "__init__": "from example_notes.plan import SYNCER, World\n",
    "spec": "",
    "plan": f"""import importlib.util
spec = importlib.util.spec_from_file_location("example_notes.example", {str(EXAMPLE)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
World = module.World
SYNCER = World().syncer
""",
}


def install(place: Path, line: str) -> None:
    """Do what an installer does: a folder, and a line in its metadata."""
    (place / "example_notes").mkdir()
    for room, text in FOLDER.items():
        (place / "example_notes" / f"{room}.py").write_text(text)
    metadata = place / "example_notes-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: example-notes\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[mirrord.syncers.v1]\n{line}\n")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "example_notes"]:
        del sys.modules[name]


async def test_a_new_kind(place: Path) -> None:
    """Installed by one line, the new kind is found beside ours and passes the whole contract unedited."""
    install(place, "note = example_notes:SYNCER")
    syncers = load_syncers()
    assert {"image", "note"} <= set(syncers)
    check_port("note", syncers["note"])
    check_rooms("example_notes")
    for check in SCENARIO_CHECKS:
        scenario = sys.modules["example_notes"].World()
        assert type(scenario.syncer) is type(syncers["note"])
        await check(scenario)


@pytest.mark.parametrize(
    ("line", "word"),
    [("letter = example_notes:SYNCER", "make them equal"), ("note = example_notes:World", "correct the entry point")],
)
def test_what_is_no_syncer_is_named(place: Path, line: str, word: str) -> None:
    """An entry point that does not fulfil the port is an error of the installation, with its name."""
    install(place, line)
    with pytest.raises(ConfigError, match=f"example_notes.*{word}"):
        load_syncers()
