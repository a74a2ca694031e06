"""Carries out a command: by the daemon that holds the state directory, or in this process when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from mirrord.cli.console import note, say_json
from mirrord.cli.exits import exit_code
from mirrord.cli.folders import concluded, config_folder, configuration, state_folder
from mirrord.cli.progress import shown
from mirrord.cli.results import Show, say_run
from mirrord.commands import Command, GetMirrors, GetStatus, PlanMirrors, Prune, Publish, Restore, Sync
from mirrord.config.files import list_folder
from mirrord.config.load import Configuration
from mirrord.daemon.dispatcher import Dispatcher
from mirrord.daemon.lock import StateLock, exists, used
from mirrord.daemon.loop import run
from mirrord.daemon.runtime import open_runtime
from mirrord.errors import BusyError, UsageError
from mirrord.events import Events
from mirrord.model.run import Run
from mirrord.report.documents import run_document
from mirrord.serve.remote import SOCKET, ControlClient, bind_control
from mirrord.syncer.port import Syncer, load_syncers

if TYPE_CHECKING:
    from mirrord.serve.door import Listener

_Answer = TypeVar("_Answer")

LOOKS: Final = 50  # attempts of commands such as `status` when the state is in use and nothing answers
PAUSE: Final = 0.1  # seconds between two attempts
QUICK: Final = 1.0  # seconds after which a command answers `status`; shorter ones need not


def ask(command: Command[_Answer], config: Path | None, state: Path | None, *, quiet: bool) -> _Answer:
    """Return the answer to a command, showing progress meanwhile unless `quiet`.

    Raises:
        ConfigError: there is no daemon, and the configuration is wrong.
        UsageError: the daemon reads another folder than `config`, or there is no state to look at.
        BusyError: another command holds the state.
    """
    return ask_whom(command, config, state, quiet=quiet)[0]


def ask_whom(
    command: Command[_Answer], config: Path | None, state: Path | None, *, quiet: bool
) -> tuple[_Answer, bool]:
    """Return the answer to a command, and whether another process gave it: the daemon. Raises as `ask`."""
    return run(_ask(command, config, state_folder(state, config), quiet=quiet, named=state is not None))


def report(run: Run, show: Show, *, json: bool) -> int:
    """Print the result of a run, and return the exit code of its command."""
    if json:
        say_json(run_document(run))
    else:
        say_run(run, show)
    return exit_code([run])


async def _ask(
    command: Command[_Answer], config: Path | None, state: Path, *, quiet: bool, named: bool
) -> tuple[_Answer, bool]:
    there = await asyncio.to_thread(exists, state)
    alone = f"{state}: {command.of_daemons}; if a daemon runs, name its directory with --state"
    if command.of_daemons and not there:
        raise UsageError(alone)
    # Read before the state directory is made: a wrong configuration leaves none behind.
    early = None if there else await asyncio.to_thread(_read, config, command)
    if not command.uses_hosts and not await asyncio.to_thread(used, state):  # looking creates nothing
        nothing = f"no state in {state}: nothing has run yet, or --state is wrong"
        if named or not command.before_runs:
            raise UsageError(nothing)
        known = early if early is not None else await asyncio.to_thread(_read, config, command)
        if isinstance(command, GetMirrors | GetStatus):
            note(nothing)
        return await _without_state(command, *known), False
    events = Events()
    async with AsyncExitStack() as stack:
        client = await _holder(stack, command, config, state)
        if client is not None:
            if config:
                await asyncio.to_thread(list_folder, config)
            with _leaving(command), shown(events, quiet=quiet):
                return await client.carry_out(command, events), True
        if command.of_daemons:
            raise UsageError(alone)
        read, syncers = await asyncio.to_thread(_read, config, command) if early is None else early
        async with open_runtime(read, syncers, state, events, of_record=command.of_record) as runtime:
            for loss in runtime.losses:
                note(loss)
            dispatcher = Dispatcher(runtime)
            async with (
                _showing_status(dispatcher, config_folder(config), state) if command.uses_hosts else nullcontext()
            ):
                with shown(events, quiet=quiet):
                    answer = await dispatcher.carry_out(command)
                for trouble in dispatcher.troubles:
                    note(f"what `keep` does not keep was not removed: {trouble}")
                return answer, False


@contextmanager
def _leaving(command: Command[Any]) -> Iterator[None]:
    """Say to whoever does not wait for a run that it goes on."""
    try:
        yield
    except asyncio.CancelledError:
        if isinstance(command, Prune | Publish | Restore | Sync):
            note("the daemon goes on with it; `mirrord status` shows how far it is, `mirrord cancel` ends it")
        raise


async def _holder(
    stack: AsyncExitStack, command: Command[_Answer], config: Path | None, state: Path
) -> ControlClient | None:
    """Return a client of the process that holds the state, or take the lock until `stack` ends and return None.

    Raises:
        BusyError: another command holds it, or a daemon that does not answer.
    """
    typed = click.get_current_context(silent=True)
    lock = StateLock(state, (typed.info_name if typed else "") or "")
    client, looks = ControlClient(state, config), command.while_busy
    for last in (*([False] * LOOKS if looks else []), True):
        try:
            stack.enter_context(lock)
        except BusyError as busy:
            if (lock.serving or looks) and await client.answers():
                return client
            if last and lock.serving:
                raise BusyError(f"{state}: the daemon is starting, or ending; try again in a moment") from None
            if last:
                raise busy from None
            await asyncio.sleep(PAUSE)  # another `status`, which ends soon, or a command that does not listen yet
        else:
            return None
    return None


@asynccontextmanager
async def _showing_status(dispatcher: Dispatcher, folder: Path, state: Path) -> AsyncIterator[None]:
    """Answer commands such as `mirrord status` while a command runs. Others are refused by the lock."""
    doors: list[Listener] = []

    async def answer(command: Command[Any]) -> Any:
        if not command.while_busy:
            raise BusyError(f"{state}: a command is at work; try again when it has ended")
        return await dispatcher.carry_out(command)

    async def opened() -> None:
        await asyncio.sleep(QUICK)
        serve = [await asyncio.to_thread(import_module, f"mirrord.serve.{name}") for name in ("door", "control")]
        doors.append(serve[0].Listener(serve[1].make_control(answer, Events(), folder)))
        await doors[0].listen(bind_control(state))

    opening = asyncio.create_task(opened())
    try:
        yield
    finally:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)  # failing to listen does not fail the command
        for door in doors:
            await door.close()
            await asyncio.to_thread((state / SOCKET).unlink, missing_ok=True)


async def _without_state(command: Command[_Answer], read: Configuration, syncers: Mapping[str, Syncer]) -> _Answer:
    """Carry out a command by the configuration alone, with a state that is removed again."""
    with TemporaryDirectory(prefix="mirrord-") as folder:
        async with open_runtime(read, syncers, Path(folder), Events(), of_record=command.of_record) as runtime:
            return await Dispatcher(runtime).carry_out(command)


def _read(config: Path | None, command: Command[_Answer]) -> tuple[Configuration, Mapping[str, Syncer]]:
    syncers = load_syncers()
    undone = "nothing was planned" if isinstance(command, PlanMirrors) else "nothing was done"
    folder = config_folder(config)
    with concluded(folder, undone):
        read = configuration(folder, syncers)
        if command.uses_hosts:
            read.require(command.about, undone)
    return read, syncers
