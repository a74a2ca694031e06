"""`mirrord copy`: one image to many places, without configuration or state."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer

from mirrord.blobs.pool import SpoolPool
from mirrord.cli.console import exit_code, say_json, say_run
from mirrord.cli.places import Opened, Place, host_of, open_source, open_target
from mirrord.cli.progress import shown
from mirrord.cli.tempdir import room
from mirrord.daemon import loop
from mirrord.errors import MirrordError, UnreachableError, UsageError
from mirrord.events import Events, StepDone
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Receipt, Run
from mirrord.syncer.values import Services
from mirrord.syncers.image.transfer.session import ImageSession
from mirrord.transfer.execute import execute, failed
from mirrord.wire.dockerconfig import DockerKeyring
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http

BUDGET = 20 << 30  # bytes of the temporary folder
PATIENCE = 10.0  # seconds for which the other targets wait to hear what one of them has

HELP = """Copy one image, with all its platforms, to one or many places. Every blob is read once.

SRC and DST are references ([cyan]ghcr.io/team/app:v1[/cyan]), [cyan]oci:DIR[:TAG][/cyan] for an OCI layout,
or (SRC only) [cyan]docker-archive:FILE[:NAME][/cyan]. Several images in one layout or archive are distinguished by
name ([cyan]oci:DIR:quay.io/team/app:v3[/cyan]), by the tag in it ([cyan]oci:DIR:v3[/cyan]) or by digest
([cyan]oci:DIR@DIGEST[/cyan]). A DST without a tag gets the tag of SRC. Needs no configuration and no state;
credentials are docker's own ([cyan]DOCKER_CONFIG[/cyan], [cyan]DOCKER_AUTH_CONFIG[/cyan], credential helpers).

  $ mirrord copy docker.io/library/nginx:1.29 ghcr.io/team/nginx oci:backup
  $ mirrord copy oci:build/app registry.example/team/app:v1 ghcr.io/team/app:v1

Exit code 0 when every DST has the image, 1 when none could get it, 2 when some could, 69 when nothing
could be reached.
"""


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="What to copy.")],
    targets: Annotated[list[str], typer.Argument(metavar="DST", help="Where to; any number.")],
    allow_private: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--allow-private", help="SRC and DST may be at private addresses, such as 10.0.0.5.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,  # noqa: FBT002 - a flag
) -> int:
    """Run the command and return its exit code."""
    named = [source, *targets] if allow_private else []
    run = loop.run(_copy(source, targets, _book(named), quiet=json), plain=True)
    if json:
        from mirrord.report.documents import run_document  # noqa: PLC0415 - only --json pays for it

        say_json(run_document(run))
    else:
        say_run(run, kept=True)
    return exit_code([run])


def _book(private: list[str]) -> HostBook:
    """Return the rules for hosts: docker's credentials, and what is named in `private` may have private addresses."""
    hosts = [host_of(text) for text in private]
    return HostBook({host: HostPolicy(host, allow_private=True) for host in hosts if host}, DockerKeyring())


async def _copy(source: str, targets: list[str], book: HostBook, *, quiet: bool) -> Run:
    started = datetime.now(UTC)
    events = Events()
    receipts: list[Receipt] = []

    def done(receipt: Receipt) -> None:
        receipts.append(receipt)
        events.emit(StepDone("", receipt))

    with room() as folder, shown(events, quiet=quiet):
        async with Http(book, events) as http:
            spools = SpoolPool(folder, BUDGET, events)
            services = Services(http, spools, events, folder)
            _places(targets, None, services)  # what is written wrong is reported before anything is asked
            opened = await open_source(source, services)
            places = _places(targets, opened.tag, services)
            session = ImageSession(
                {source: opened.source}, {place.name: place.destination for place in places}, services, 0
            )
            try:
                decided = await asyncio.gather(*(_step(source, opened, place) for place in places))
                for receipt in decided:
                    if isinstance(receipt, Receipt):
                        done(receipt)
                steps = tuple(one.step if isinstance(one, Receipt) else one for one in decided)
                plan = Plan("copy", "image", started, steps)
                left = tuple(one for one in decided if isinstance(one, Step))
                await execute(replace(plan, steps=left), session, 1, done)
            finally:
                await session.aclose()
                await spools.aclose()
    return Run("copy", "image", "command", started, datetime.now(UTC), plan, tuple(receipts), session.read)


def _places(targets: list[str], tag: str | None, services: Services) -> list[Place]:
    places = {place.name: place for place in (open_target(text, tag, services) for text in targets)}
    if len(places) < len(targets):
        raise UsageError("the same DST is named twice; name each place once")
    return list(places.values())


async def _step(item: str, opened: Opened, place: Place) -> Step | Receipt:
    """Decide about one target: nothing to do when its tag stands for the same content already."""
    step = Step(Action.COPY, item, opened.digest, place.name, place.names, "not there", group=item)
    try:
        async with asyncio.timeout(PATIENCE):
            head = await place.destination.head_manifest(place.names[0]) if place.names else None
    except TimeoutError:
        return _because(step, Action.COPY, f"not known what is there: no answer within {PATIENCE:.0f} s")
    except UnreachableError as error:
        return failed(step, error)  # it has been tried often enough: do not wait for it a second time
    except MirrordError as error:
        return _because(step, Action.COPY, f"not known what is there: {error}")
    if head is None:
        return step
    if head.digest == opened.digest:
        return _because(step, Action.KEEP, "already there")
    return _because(step, Action.COPY, f"moves from {head.digest}")


def _because(step: Step, action: Action, reason: str) -> Step:
    return replace(step, action=action, reason=reason)
