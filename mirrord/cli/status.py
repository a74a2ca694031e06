"""`mirrord status`: the state of all mirrors and targets."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mirrord.cli.ask import ask
from mirrord.cli.console import say_json
from mirrord.cli.overview import overview
from mirrord.cli.screen import Screen
from mirrord.commands import GetStatus
from mirrord.daemon.loop import run
from mirrord.model.run import Result
from mirrord.report.status import Status, status_document

EVERY: Final = 2.0  # seconds between two updates of --watch


def status(*, config: Path | None, state: Path | None, watch: bool, json: bool) -> int:
    """Run the command and return its exit code."""
    screen = Screen.of()
    if watch and not json and screen.steers:
        _live(config, state)
    while True:
        found = ask(GetStatus(), config, state, quiet=True)
        if json:
            say_json(status_document(found))
        else:
            _show(found)
        if not watch:
            refused = bool(found.front and found.front.list_errors)
            good = {mirror.result for mirror in found.mirrors} <= {None, Result.SUCCESS, Result.NOOP}
            return 0 if good and not refused else 1
        sys.stdout.flush()  # also into a pipe each look is written at once
        run(_pause(), plain=True)  # a signal ends it in good order


def _show(status: Status) -> None:
    for line in overview(status, Screen.of()):
        print(line)  # noqa: T201 - the command line prints


def _live(config: Path | None, state: Path | None) -> None:
    """Show the mirrors on the whole screen, again and again, until a signal ends it."""
    from rich import console, live, text  # noqa: PLC0415 - only a terminal pays for rich

    found, resized = None, False
    with live.Live(console=console.Console(), screen=True, auto_refresh=False) as drawing:
        while True:
            if found is None or not resized:
                found = ask(GetStatus(), config, state, quiet=True)
            lines = _page(list(overview(found, screen := Screen.of())), screen)
            drawing.update(text.Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
            resized = run(_pause(), plain=True)


def _page(lines: Sequence[str], screen: Screen) -> Sequence[str]:
    """Return as many lines as the screen has."""
    if len(lines) <= screen.height:
        return lines
    rest = len(lines) - screen.height + 1
    return [*lines[: screen.height - 1], screen.paint(f"{screen.dots} {rest} more lines", "dim")]


async def _pause() -> bool:
    """Wait until the next look, or return True at once when the size of the terminal changes."""
    resized = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGWINCH, resized.set)
    try:
        async with asyncio.timeout(EVERY):
            return await resized.wait()
    except TimeoutError:
        return False
