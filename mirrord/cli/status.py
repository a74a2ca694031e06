"""`mirrord status`: the state of all mirrors and targets."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Final

from mirrord import __version__
from mirrord.cli.ask import ask
from mirrord.cli.console import say_json
from mirrord.cli.mirror_status import detail_document, mirror_lines
from mirrord.cli.overview import overview
from mirrord.cli.screen import Screen
from mirrord.commands import GetMirrors, GetStatus
from mirrord.daemon.loop import run
from mirrord.errors import UsageError
from mirrord.model.run import Result
from mirrord.report.documents import Document
from mirrord.report.mirror import MirrorDetail
from mirrord.report.moments import rfc3339
from mirrord.report.status import Status, status_document

EVERY: Final = 2.0  # seconds between two updates of --watch
_Found = Status | Sequence[MirrorDetail]
_Look = Callable[[], _Found]


def status(
    *, names: tuple[str, ...], config: Path | None, state: Path | None, watch: bool, every: bool, json: bool
) -> int:
    """Run the command and return its exit code."""

    def look() -> _Found:
        if not names:
            return ask(GetStatus(), config, state, quiet=True)
        return _joined(ask(GetMirrors(names, every), config, state, quiet=True))

    if every and not names:
        raise UsageError("--all lists the items of one mirror; add its NAME")
    if watch and not json and Screen.of().steers:
        _live(look, every=every)
    while True:
        found = look()
        if json:
            say_json(_document(found))
        else:
            _show(found, every=every)
        if not watch:
            return _code(found)
        sys.stdout.flush()  # also into a pipe each look is written at once
        run(_pause(), plain=True)  # a signal ends it in good order


def _joined(parts: Sequence[MirrorDetail]) -> Sequence[MirrorDetail]:
    """Return each mirror once, with the items of all its parts."""
    return [
        replace(own[0], items=[item for part in own for item in part.items], next=own[-1].next)
        for _, alike in groupby(parts, key=lambda part: part.mirror.name)
        for own in [list(alike)]
    ]


def _document(found: _Found) -> Document:
    if isinstance(found, Status):
        return status_document(found)
    now = max((rfc3339(detail.now) or "" for detail in found), default="")
    return {"version": __version__, "now": now, "mirrors": [detail_document(detail) for detail in found]}


def _code(found: _Found) -> int:
    shown = found.mirrors if isinstance(found, Status) else [detail.mirror for detail in found]
    refused = isinstance(found, Status) and found.front and found.front.list_errors
    good = {mirror.result for mirror in shown} <= {None, Result.SUCCESS, Result.NOOP}
    return 0 if good and not refused else 1


def _lines(found: _Found, screen: Screen, *, every: bool) -> Iterator[str]:
    if isinstance(found, Status):
        yield from overview(found, screen)
        return
    for at, detail in enumerate(found):
        yield from [""] if at else []
        yield from mirror_lines(detail, screen, every=every)


def _show(found: _Found, *, every: bool = False) -> None:
    for line in _lines(found, Screen.of(), every=every):
        print(line)  # noqa: T201 - the command line prints


def _live(look: _Look, *, every: bool) -> None:
    """Show the mirrors on the whole screen, again and again, until a signal ends it."""
    from rich import console, live, text  # noqa: PLC0415 - only a terminal pays for rich

    found, resized = None, False
    with live.Live(console=console.Console(), screen=True, auto_refresh=False, redirect_stdout=False) as drawing:
        while True:
            if found is None or not resized:
                found = look()
            lines = _page(list(_lines(found, screen := Screen.of(), every=every)), screen)
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
