"""`mirrord copy`: one image to many places, without configuration or state."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mirrord.blobs.pool import SpoolPool
from mirrord.cli.console import exit_code, say_json, say_run
from mirrord.cli.progress import shown
from mirrord.daemon import loop
from mirrord.errors import kind_of
from mirrord.events import Events
from mirrord.files import storage_errors
from mirrord.model.run import Run
from mirrord.pipeline import run_mirror
from mirrord.report.documents import run_document
from mirrord.syncer.values import Services
from mirrord.syncers.image.names import copying, host_of, parse_source
from mirrord.syncers.image.syncer import SYNCER
from mirrord.syncers.image.upstream.layout import own_tag
from mirrord.wire.dockerconfig import DockerKeyring
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http

BUDGET = 20 << 30  # bytes of the temporary folder

HELP = """Copy one image, with all its platforms, to one or many places. Every blob is read once.

SRC and DST are references ([cyan]ghcr.io/team/app:v1[/cyan]), [cyan]oci:DIR[:TAG][/cyan] for an OCI layout,
or (SRC only) [cyan]docker-archive:FILE[:NAME][/cyan]. Several images in one layout or archive are distinguished by
name ([cyan]oci:DIR:quay.io/team/app:v3[/cyan]), by the tag in it ([cyan]oci:DIR:v3[/cyan]) or by digest
([cyan]oci:DIR@DIGEST[/cyan]). A SRC without a tag is [cyan]latest[/cyan],
a DST without one gets the tag of SRC. Needs no configuration and no state;
credentials are docker's own ([cyan]DOCKER_CONFIG[/cyan], [cyan]DOCKER_AUTH_CONFIG[/cyan], credential helpers).

  $ mirrord copy docker.io/library/nginx:1.29 ghcr.io/team/nginx oci:backup
  $ mirrord copy oci:build/app registry.example/team/app:v1 ghcr.io/team/app:v1

Exit code 0 when every DST has the image, 1 when none could get it, 2 when some could, 69 when nothing
could be reached.
"""

PREFIX = "mirrord-copy-"
_LOCK = "lock"


@contextmanager
def room() -> Iterator[Path]:
    """Yield an empty folder, removed at the end; a lock that the kernel keeps says that we are alive."""
    with storage_errors("the folder for temporary files; set TMPDIR to another"):
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
    """Remove our folders whose process is gone; what cannot be looked at is left alone."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            try:
                lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                folder.rmdir()  # killed before it had a lock, or not yet so far: then `_make` begins again
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
            continue  # somebody's sweep was quicker
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_nlink:
                return folder, lock
        os.close(lock)


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="What to copy.")],
    targets: Annotated[list[str], typer.Argument(metavar="DST", help="Where to; any number.")],
    allow_private: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--allow-private", help="SRC and DST may be at private addresses, such as 10.0.0.5.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,  # noqa: FBT002 - a flag
) -> int:
    """Run the command and return its exit code."""
    book = _book([source, *targets] if allow_private else [])
    run = loop.run(_copy(source, targets, book, quiet=json), plain=True)
    if json:
        say_json(run_document(run))
    else:
        say_run(run, kept=True)
    return exit_code([run])


def _book(private: list[str]) -> HostBook:
    """Return the rules for hosts: docker's credentials, and what is named in `private` may have private addresses."""
    hosts = [host_of(text) for text in private]
    return HostBook({host: HostPolicy(host, allow_private=True) for host in hosts if host}, DockerKeyring())


async def _copy(source: str, targets: list[str], book: HostBook, *, quiet: bool) -> Run:
    events = Events()
    copying(source, targets, None)  # what is written wrong is reported before anything is asked
    with room() as folder, shown(events, quiet=quiet):
        async with Http(book, events) as http:
            spools = SpoolPool(folder, BUDGET, events)
            services = Services(http, spools, events, folder)
            try:
                mirror = copying(source, targets, await own_tag(parse_source(source), folder))
                clock = partial(datetime.now, UTC)
                run = await run_mirror(mirror, SYNCER, services, None, "command", clock=clock, parallel=1)
            finally:
                await spools.aclose()
    if run.error:
        raise kind_of(run.code)(run.error)
    return replace(run, mirror="copy", plan=run.plan and replace(run.plan, mirror="copy"))
