"""`mirrord copy`: one image to many places, without configuration or state."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Unpack

from mirrord.blobs.pool import SpoolPool
from mirrord.cli.console import say_json
from mirrord.cli.exits import exit_code
from mirrord.cli.hosts import HostOptions, copy_hosts
from mirrord.cli.progress import shown
from mirrord.cli.results import Show, say_run
from mirrord.daemon import loop
from mirrord.errors import UsageError, kind_of
from mirrord.events import Events
from mirrord.files import storage_errors
from mirrord.model.run import Run
from mirrord.pipeline import run_mirror
from mirrord.report.documents import run_document
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.image.names.typed import copying, host_of, parse_source
from mirrord.syncers.image.syncer import SYNCER
from mirrord.syncers.image.upstream.layout import own_tag
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http

BUDGET = 20 << 30  # bytes of the temporary folder

PREFIX = "mirrord-copy-"
_LOCK = "lock"


@contextmanager
def room() -> Iterator[Path]:
    """Yield an empty folder that is removed at the end; a file lock marks it as in use."""
    with storage_errors("the folder for temporary files", "; set TMPDIR to another"):
        sweep(Path(tempfile.gettempdir()))
        folder, lock = _make()
    try:
        work = folder / "work"
        with storage_errors(str(work)):
            work.mkdir()
        yield work
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path) -> None:
    """Remove folders of copies whose process has ended; unreadable ones are skipped."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            try:
                lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                folder.rmdir()  # killed before it had a lock, or just being made: then `_make` starts again
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


def _make() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # the sweep of another copy was quicker
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:
                return folder, lock
        os.close(lock)


def copy(
    source: str,
    targets: tuple[str, ...],
    *,
    platform: tuple[str, ...],
    without_signatures: bool,
    quiet: bool,
    verbose: bool,
    json: bool,
    **options: Unpack[HostOptions],
) -> int:
    """Run the command and return its exit code."""
    _check_no_file(source, "docker-archive:{0} or oci:{0}")
    for target in targets:
        _check_no_file(target, "a reference or oci:DIR[:TAG]")
    copying(source, targets, None, platform)  # report mistakes in what was typed before any request
    hosts = [host for host in map(host_of, (source, *targets)) if host]
    book = copy_hosts(hosts, os.environ, **options)
    copied = partial(copying, platforms=platform, signatures=not without_signatures)
    run = loop.run(_copy(source, targets, copied, book, quiet=json or quiet), plain=True)
    if json:
        say_json(run_document(run))
    else:
        say_run(run, Show.of(quiet=quiet, verbose=verbose), copied=True)
    return exit_code([run])


def _check_no_file(text: str, better: str) -> None:
    """Refuse the path of an archive: without `oci:` or `docker-archive:` it would be read as a name."""
    for path in (text, text.rpartition(":")[0]):
        named = path.endswith((".tar", ".tar.gz", ".tgz")) or path.startswith((".", "/"))
        if named and os.path.isfile(path):  # noqa: PTH113 - a text of any length is no error
            raise UsageError(f"{path} is a file; write {better.format(text)}")


async def _copy(
    source: str, targets: Sequence[str], copied: Callable[..., Mirror], book: HostBook, *, quiet: bool
) -> Run:
    events = Events()
    with room() as folder, shown(events, quiet=quiet):
        async with Http(book, events) as http:
            spools = SpoolPool(folder, BUDGET, events)
            services = Services(http, spools, events, folder)
            try:
                mirror = copied(source, targets, await own_tag(parse_source(source), folder))
                clock = partial(datetime.now, UTC)
                run = await run_mirror(mirror, SYNCER, services, None, "command", clock=clock, parallel=1)
            finally:
                await spools.aclose()
    if run.error:
        raise kind_of(run.code)(run.error)
    return replace(run, mirror="copy", plan=run.plan and replace(run.plan, mirror="copy"))
