"""`mirrord runs`: the runs of a mirror."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mirrord.cli.ask import ask
from mirrord.cli.console import say_json, shortened
from mirrord.cli.layout import Column, Long, TableRow, laid_out
from mirrord.cli.screen import Screen
from mirrord.commands import GetRuns
from mirrord.model.history import RunRecord
from mirrord.model.run import Result
from mirrord.printable import size
from mirrord.report.documents import adapter
from mirrord.report.runs import items, sent
from mirrord.report.words import words

_SAID: Final = words("en")
_COLUMNS: Final = (
    Column("RESULT"),
    Column("STARTED"),
    Column("DURATION"),
    Column("TRIGGER", spare=1),
    Column("ITEMS"),
    Column("READ", spare=3),
    Column("SENT"),
    Column("RUN", spare=2),
    Column("REPLICA", least=12, spare=1),
    Column("ERROR"),
)
_COLOURS: Final = {Result.FAILED: "red", Result.PARTIAL: "red", Result.DEFERRED: "yellow", Result.INTERRUPTED: "yellow"}


def runs(*, name: str, limit: int, before: int | None, config: Path | None, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    found = ask(GetRuns(name, limit, before), config, state, quiet=True)
    if json:
        write = adapter(RunRecord).dump_python
        say_json({"mirror": name, "runs": [write(run, mode="json") for run in found]})
        return 0
    screen = Screen.of()
    if not found:
        print(f"{name}: no runs" if before is None else f"{name}: no runs before {before}")  # noqa: T201 - the command line prints
        return 0
    replicas = any(run.replica for run in found)
    columns = [column for column in _COLUMNS if replicas or column.head != "REPLICA"]
    for line in laid_out(columns, [_row(run, replicas=replicas) for run in found], screen):
        print(line)  # noqa: T201 - the command line prints
    if len(found) == limit and screen.width is not None:
        print(f"older runs: mirrord runs {name} --before {found[-1].id}")  # noqa: T201 - the command line prints
    return 0


def _row(run: RunRecord, *, replicas: bool) -> TableRow:
    error = shortened(run.error or next((target.error for target in run.targets if target.error), ""))
    cells = (
        run.result.value,
        _SAID.time(run.started),
        _SAID.lasted((run.finished - run.started).total_seconds()),
        run.trigger,
        items(run, _SAID),
        size(run.read),
        size(sent(run)),
        str(run.id),
        *((run.replica,) if replicas else ()),
        Long(error),
    )
    return TableRow(cells, _COLOURS.get(run.result, ""))
