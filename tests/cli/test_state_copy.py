"""`mirrord state copy`, as people type it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrord.cli import main
from mirrord.record.store import open_store
from tests.support.postgres import PASSWORD, Postgres

T0 = datetime(2026, 11, 28, tzinfo=UTC)


def test_there_and_back(
    tmp_path: Path, postgres: Postgres, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record goes where `settings.record` says, and back; what cannot be is said, and the password never is."""
    monkeypatch.setenv("DB_WORD", PASSWORD)
    folder, state = tmp_path / "conf.d", tmp_path / "state"
    folder.mkdir()
    state.mkdir(mode=0o700)

    def copied(to: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["state", "copy", "--to", to, "-c", str(folder), "--state", str(state)])
        said = capsys.readouterr()
        assert PASSWORD not in said.out + said.err
        return int(ended.value.code or 0), said.out + said.err

    async def number() -> int:
        store = await open_store(state / "mirrord.db", T0)
        try:
            return await store.accept("m")
        finally:
            await store.close()

    (folder / "a.yaml").write_text("targets: {}\n")
    assert copied("sqlite") == (64, f"mirrord: {folder}: no settings.record; write there which database is meant\n")
    with postgres.database("typed") as address:
        url = f"postgresql://mirrord@127.0.0.1:{postgres.port}/{address.name}"
        (folder / "a.yaml").write_text(f"settings: {{record: {{url: '{url}', password: {{env: DB_WORD}}}}}}\n")
        assert copied("postgresql")[0] == 64
        assert asyncio.run(number()) == 1
        place = f"postgresql://127.0.0.1:{postgres.port}/typed"
        assert copied("postgresql") == (0, f"copied 1 rows from {state}/mirrord.db to {place}\n")
        code, said = copied("sqlite")
        assert (code, "mirrord.db: has a record already" in said) == (64, True)
        (state / "mirrord.db").rename(state / "old.db")
        (state / "lock").touch()
        assert copied("sqlite") == (0, f"copied 1 rows from {place} to {state}/mirrord.db\n")
    assert asyncio.run(number()) == 2
