"""Lets the daemon that holds the state carry out a command, or carries it out here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from mirrord.cli.console import note, say_json
from mirrord.cli.folders import configuration, state_folder
from mirrord.cli.progress import shown
from mirrord.cli.results import Show, exit_code, say_run
from mirrord.commands import Command
from mirrord.config.load import Configuration
from mirrord.daemon.dispatcher import NO_DAEMON, Dispatcher
from mirrord.daemon.lock import StateLock
from mirrord.daemon.loop import run
from mirrord.daemon.runtime import open_runtime
from mirrord.errors import BusyError, UsageError
from mirrord.events import Events
from mirrord.model.run import Run
from mirrord.report.documents import run_document
from mirrord.serve.remote import ControlClient
from mirrord.syncer.port import Syncer, load_syncers

_Answer = TypeVar("_Answer")


def ask(command: Command[_Answer], config: Path | None, state: Path | None, *, quiet: bool) -> _Answer:
    """Return the answer to a command, showing progress meanwhile unless `quiet`.

    Raises:
        ConfigError: there is no daemon, and the configuration is wrong.
        BusyError: another command holds the state.
    """
    return run(_ask(command, config, state_folder(state), quiet=quiet))


def report(run: Run, show: Show, *, json: bool) -> int:
    """Print what became of a run, and return the exit code of the command that asked for it."""
    if json:
        say_json(run_document(run))
    else:
        say_run(run, show)
    return exit_code([run])


async def _ask(command: Command[_Answer], config: Path | None, state: Path, *, quiet: bool) -> _Answer:
    exists = await asyncio.to_thread(state.exists)
    if command.of_daemons and not exists:
        raise UsageError(NO_DAEMON)
    # Read before there is a state directory: who has it wrong finds none left behind.
    early = None if exists else await asyncio.to_thread(_read, config, command)
    events = Events()
    with ExitStack() as stack:
        lock = StateLock(state)
        try:
            stack.enter_context(lock)
        except BusyError as busy:
            client = ControlClient(state)
            if not await client.answers():
                if lock.serving:
                    raise BusyError(f"{state}: the daemon is starting, or ending; try again in a moment") from None
                raise busy from None
            with shown(events, quiet=quiet):
                return await client.carry_out(command, events)
        if command.of_daemons:
            raise UsageError(NO_DAEMON)
        read, syncers = await asyncio.to_thread(_read, config, command) if early is None else early
        async with open_runtime(read, syncers, state, events) as runtime:
            for loss in runtime.losses:
                note(loss)
            with shown(events, quiet=quiet):
                return await Dispatcher(runtime).carry_out(command)


def _read(config: Path | None, command: Command[_Answer]) -> tuple[Configuration, Mapping[str, Syncer]]:
    syncers = load_syncers()
    read = configuration(config, syncers)
    if command.uses_hosts:
        read.require(command.about)
    return read, syncers
