"""From start to end of the daemon: what comes after what, and which signal does what."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from mirrord import __version__, garbage
from mirrord.commands import Reload
from mirrord.config.load import Configuration, load_folder
from mirrord.config.settings import TlsSettings
from mirrord.config.webhook import WebhookKeys
from mirrord.daemon.bucket_watch import BucketWatch, bucket_watch
from mirrord.daemon.daemon import Daemon
from mirrord.daemon.denied_elsewhere import follow_denied
from mirrord.daemon.lock import held
from mirrord.daemon.loop import cancelled, lasting
from mirrord.daemon.notifying import NOTIFY_GRACE
from mirrord.daemon.runner import CANCEL
from mirrord.daemon.runtime import now, open_runtime
from mirrord.daemon.systemd import Notifier
from mirrord.daemon.webhook import WebhookPointing, open_webhook, renewing
from mirrord.errors import ConfigError, MirrordError, StorageError
from mirrord.events import Events
from mirrord.report.logs import Logs
from mirrord.report.metrics import Metrics
from mirrord.serve.app import make_app
from mirrord.serve.asking import AskPages
from mirrord.serve.control import make_control
from mirrord.serve.door import GRACE, Listener, address_of, bind
from mirrord.serve.gate import TokenGate
from mirrord.serve.hooks import IssueHooks
from mirrord.serve.programs import Programs
from mirrord.serve.remote import SOCKET, bind_control
from mirrord.serve.spooled import AnswerRoom
from mirrord.serve.tls import ServedCertificate
from mirrord.syncer.port import load_syncers

STOP_TIMEOUT = 120.0
"""Seconds that runs under way get to end after SIGTERM; `LONGEST_STOP` follows from it."""
LONGEST_STOP = STOP_TIMEOUT + CANCEL + NOTIFY_GRACE + 2 * 2 * GRACE
"""Seconds after which a stopping daemon has ended: each of its two doors closes in twice the grace of an answer."""
_ANSWERS = 4  # answers on their way may have one part in so many of what the spool has, besides


FILES: Final = 65536
"""Files and connections that may be open at once, if this user may have so many."""


async def serve(
    config_folder: Path, state: Path, listen: str | None = None, *, stop_timeout: float = STOP_TIMEOUT
) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    SIGHUP reads the configuration again. After the first SIGTERM no run starts, `/readyz` is 503, and runs
    under way get `stop_timeout` seconds before they are cancelled; a second SIGTERM ends at once.

    Raises:
        ConfigError: the configuration is wrong; nothing was started.
        BusyError: the state directory or the address is taken.
        StorageError: the state cannot be used.
    """
    _allow_files()
    environ = dict(os.environ)
    syncers = load_syncers()
    configuration = await asyncio.to_thread(load_folder, config_folder, syncers, environ)
    async with AsyncExitStack() as stack:
        lock = await stack.enter_async_context(held(state))
        public = bind(listen or configuration.settings.listen)
        stack.callback(public.close)
        style, log = ("text" if sys.stdout.isatty() else "json"), configuration.settings.log
        logs = Logs(sys.stdout, now, style=style if log.format == "auto" else log.format, level=log.level)
        stack.callback(logs.adopt())

        def notice(level: str, text: str) -> None:
            logs.write(level, "daemon.notice", message=text)

        metrics, notifier, events = Metrics(__version__), Notifier(environ), Events(detailed=log.level == "debug")
        events.listen(logs)
        events.listen(metrics)
        bucket = _watched(configuration, events, notice)
        away = (lambda: bucket.away) if bucket else str
        opening = open_runtime(configuration, syncers, state, events, check=lock.check, away=away)
        runtime = await stack.enter_async_context(opening)
        address = address_of(public)
        daemon = Daemon(
            runtime, logs, metrics, notifier, folder=config_folder, state=state, environ=environ, listen=address
        )
        await daemon.shown.follow()
        daemon.shown.bucket = bucket
        if configuration.webhook:
            await _open_webhook(stack, daemon, configuration.webhook, state, notice)
        if tls := configuration.settings.tls:
            daemon.shown.certificate = await asyncio.to_thread(open_certificate, tls, notice)
        for level, text in (*runtime.notices, *(("warning", text) for text in lock.notices)):
            notice(level, text)
        for text in await daemon.token_notices():
            notice("warning", text)
        await _open(stack, daemon, public, state, partial(notice, "warning"))
        logs.write("info", "daemon.ready", address=address, version=__version__, mirrors=len(runtime.snapshot.names))
        garbage.keep()
        await _until_signal(daemon, logs, notifier)
        daemon.clock.stop()
        await _resign(daemon)
        if not await runtime.runner.stop(stop_timeout):
            logs.write("warning", "daemon.notice", message="a run did not end when it was cancelled; leaving it behind")
        await asyncio.gather(daemon.notifying.close(), daemon.pulls.close(NOTIFY_GRACE))
    logs.write("info", "daemon.stopped")
    return 0


def _watched(configuration: Configuration, events: Events, notice: Callable[[str, str], None]) -> BucketWatch | None:
    """Return what watches the bucket of `local`, by what is asked of it; None without one."""
    if configuration.bucket is None:
        return None
    watch = bucket_watch(configuration.bucket, notice)
    events.listen(watch)
    return watch


async def _resign(daemon: Daemon) -> None:
    """Leave to others what one of all replicas does, and answer no more issues: what ending runs leave is no answer."""
    if daemon.queued:
        await daemon.queued.resign()
    await daemon.issues.close()


def _allow_files() -> None:
    """Raise the limit of open files as far as this user may, to what the systemd unit has: a client takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _open_webhook(
    stack: AsyncExitStack, daemon: Daemon, keys: WebhookKeys, state: Path, notice: Callable[[str, str], None]
) -> None:
    """Answer the API server of a cluster; ConfigError and BusyError as for the public address.

    Where there is no certificate of our own, nothing listens, so that the API server need not wait, and mirrors run.
    """
    async with AsyncExitStack() as own:
        connection = bind(keys.listen)
        own.callback(connection.close)
        pointing = WebhookPointing(daemon.runtime)
        try:
            certificate = await open_webhook(
                own, pointing, daemon.runtime, keys=keys, connection=connection, state=state, notice=notice
            )
        except StorageError as error:
            daemon.shown.webhook_refused(str(error))
            notice("error", f"{error}; no Pod is pointed at the mirror until mirrord is started again")
            return
        works = [
            certificate.follow(),
            pointing.follow_lists(notice),
            *(() if keys.certificate else (renewing(keys.names, state, notice),)),
        ]
        for work in works:
            own.push_async_callback(cancelled, asyncio.create_task(work))
        notice("info", f"the webhook listens on {address_of(connection)}")
        daemon.webhook, daemon.shown.webhook_certificate = pointing, certificate
        stack.push_async_exit(own.pop_all())


def open_certificate(tls: TlsSettings, warn: Callable[[str, str], None]) -> ServedCertificate:
    """Load the certificate of the public address. ConfigError: it changed since `check`, and is bad now."""
    try:
        return ServedCertificate(tls.certificate, tls.key, warn, now)
    except ValueError as error:
        raise ConfigError(f"settings.tls: {tls.certificate} and {tls.key} {error}") from error


async def _open(stack: AsyncExitStack, daemon: Daemon, public: Any, state: Path, warn: Callable[[str], None]) -> None:
    """Open the doors, then start the clock: whoever sees the first run can also ask about it."""

    async def lead() -> None:
        await daemon.desk.lead()
        await daemon.notifying.follow()
        await daemon.issues.follow()

    control = Listener(make_control(daemon.carry_out, daemon.runtime.events, daemon.folder))
    stack.callback((state / SOCKET).unlink, missing_ok=True)
    stack.push_async_callback(control.close)
    await control.listen(bind_control(state))
    for kind, syncer in daemon.runtime.snapshot.syncers.items():
        if syncer.through:
            daemon.opened[kind] = await stack.enter_async_context(syncer.through.open(daemon.shown.services))
    budget = daemon.runtime.snapshot.configuration.settings.spool.budget
    room = AnswerRoom(daemon.shown.services().scratch, disk=budget // _ANSWERS)
    address = address_of(public)
    gate = TokenGate(daemon.tokens, lambda: daemon.runtime.snapshot.configuration.needs_token(address), warn)
    asking = AskPages(
        daemon.desk, gate, lambda: daemon.runtime.snapshot.configuration.asking is not None, daemon.runtime.events
    )
    hooks = IssueHooks(daemon.issues.hook, lambda: now().timestamp())
    front = Listener(make_app(daemon.shown, Programs(room), gate=gate, asking=asking, hooks=hooks))
    stack.push_async_callback(front.close)
    stack.push_async_callback(daemon.desk.close)  # before the door: who follows an image is let go
    certificate = daemon.shown.certificate
    await front.listen(public, certificate.context if certificate else None)
    for told in daemon.runtime.cut_off:
        daemon.runtime.events.emit(told)
    daemon.runtime.runner.settle()
    with suppress(StorageError):  # a record that cannot be read is told elsewhere
        await daemon.desk.resume()
    await daemon.issues.follow()
    await daemon.notifying.follow()
    if daemon.queued:
        await stack.enter_async_context(daemon.queued.working(lead, daemon.shown.follow_others))
        denied = partial(follow_denied, daemon.runtime, daemon.follow_denied, warn)
        stack.push_async_callback(cancelled, asyncio.create_task(lasting(denied)))
    await daemon.start_clock()
    stack.callback(daemon.clock.stop)
    own = (daemon.beat, daemon.look_after_state, daemon.measure_state, *daemon.collections.works)
    bucket = daemon.shown.bucket
    for work in (*own, *((certificate.follow,) if certificate else ()), *((bucket.watch,) if bucket else ())):
        stack.push_async_callback(cancelled, asyncio.create_task(lasting(work)))


async def _until_signal(daemon: Daemon, logs: Logs, notifier: Notifier) -> None:
    """Wait for SIGTERM or SIGINT, reloading at each SIGHUP meanwhile."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str] = loop.create_future()
    reloads: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        with suppress(MirrordError):  # logged and counted by the daemon
            await daemon.carry_out(Reload())

    def hang_up() -> None:
        task = asyncio.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def end(number: signal.Signals) -> None:
        if not ended.done():
            ended.set_result(number.name)
            return
        # Asked twice: the state is safe at any moment (kill -9 is), so end as the signal would have.
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    notifier.ready(daemon.summary())
    name = await ended
    loop.remove_signal_handler(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # its default would end us before the runs are done
    notifier.stopping()
    logs.write("info", "daemon.stopping", signal=name)
