"""What runs are built on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.config.load import load_folder
from mirrord.daemon.services import build_services
from mirrord.events import Events
from mirrord.syncer.loader import load_syncers


async def test_a_state_named_from_here_is_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`./state`, the default, is made absolute: git works in a folder of its own, and would look for it there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.yaml").write_text("settings: {}\n")
    Path("state").mkdir()
    configuration = load_folder(Path("conf.d"), load_syncers(), {})
    async with build_services(configuration, Path("state"), Events()) as services:
        assert services.keep == tmp_path / "state"
        assert services.scratch == tmp_path / "state" / "scratch"
