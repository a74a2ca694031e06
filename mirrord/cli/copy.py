"""`mirrord copy`: one image to many places, without configuration or state."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from mirrord.blobs.pool import SpoolPool
from mirrord.cli.console import exit_code, say_json, say_run
from mirrord.cli.progress import shown
from mirrord.errors import MirrordError, UsageError
from mirrord.events import Events, StepDone
from mirrord.model import Action, Digest, Plan, Receipt, Run, Step
from mirrord.syncer import Services
from mirrord.syncers.image.plan import ImageSource
from mirrord.syncers.image.transfer import Destination, ImageSession, LayoutDestination, RegistryDestination
from mirrord.syncers.image.upstream.layout import LayoutSource
from mirrord.syncers.image.upstream.registry import RegistrySource
from mirrord.transfer.execute import execute
from mirrord.wire.dockerconfig import DockerKeyring
from mirrord.wire.host import HostBook
from mirrord.wire.http import Http
from mirrord.wire.oci.archive import open_archive
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.layout import REF_NAME, Layout, split_tag
from mirrord.wire.oci.layout_writer import LayoutWriter
from mirrord.wire.oci.reference import Reference, valid_tag

BUDGET = 20 << 30  # bytes of the temporary folder

HELP = """Copy one image, with all its platforms, to one or many places. Every blob is read once.

SRC and DST are references ([cyan]ghcr.io/team/app:v1[/cyan]), [cyan]oci:DIR[:TAG][/cyan] for an OCI layout,
or (SRC only) [cyan]docker-archive:FILE[:TAG][/cyan]. A DST without a tag gets the tag of SRC.
Needs no configuration and no state; credentials are docker's own ([cyan]DOCKER_CONFIG[/cyan],
[cyan]DOCKER_AUTH_CONFIG[/cyan], credential helpers).

  mirrord copy docker.io/library/nginx:1.29 ghcr.io/team/nginx registry.example/mirror/nginx oci:backup
"""


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="What to copy.")],
    targets: Annotated[list[str], typer.Argument(metavar="DST...", help="Where to; any number.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,  # noqa: FBT002 - a flag
) -> int:
    """Run the command and return its exit code."""
    run = asyncio.run(_copy(source, targets, quiet=json))
    if json:
        from mirrord.report.documents import run_document  # noqa: PLC0415 - only --json pays for it

        say_json(run_document(run))
    else:
        say_run(run)
    return exit_code([run])


async def _copy(source: str, targets: list[str], *, quiet: bool) -> Run:
    started = datetime.now(UTC)
    events = Events()
    receipts: list[Receipt] = []

    def done(receipt: Receipt) -> None:
        receipts.append(receipt)
        events.emit(StepDone("copy", receipt))

    with tempfile.TemporaryDirectory(prefix="mirrord-copy-") as folder, shown(events, quiet=quiet):
        async with Http(HostBook(keyring=DockerKeyring()), events) as http:
            spools = SpoolPool(Path(folder), BUDGET, events)
            services = Services(http, spools, events, Path(folder))
            origin, digest, tag = await _open(source, services)
            places = dict(_destination(text, tag, services) for text in targets)
            if len(places) < len(targets):
                raise UsageError("the same place is named twice")
            session = ImageSession({source: origin}, {name: place for name, (place, _) in places.items()}, services, 0)
            try:
                steps = await asyncio.gather(*(_step(source, digest, name, *place) for name, place in places.items()))
                plan = Plan("copy", "image", started, tuple(steps))
                await execute(plan, session, 1, done)
            finally:
                await session.aclose()
                await spools.aclose()
    return Run("copy", "image", "command", started, datetime.now(UTC), plan, tuple(receipts), session.read)


async def _open(text: str, services: Services) -> tuple[ImageSource, Digest, str | None]:
    """Return where to read, what, and its tag."""
    scheme, _, rest = text.partition(":")
    if scheme in ("oci", "docker-archive"):
        path, tag = split_tag(rest)
        if scheme == "oci":
            layout = await asyncio.to_thread(Layout.open, Path(path), services.scratch)
            root = layout.resolve(tag)
            name = tag or root.annotations.get(REF_NAME, "")
            return LayoutSource(layout, root), root.digest, name if valid_tag(name) else None
        archive = await open_archive(Path(path), services.scratch, tag)
        return LayoutSource(archive.layout, archive.root), archive.root.digest, tag
    reference = Reference.parse(text)
    repository = Repository(services.http, reference, services.http.book)
    head = await repository.head_manifest(reference.digest or reference.tag or "latest")
    if head is None:
        raise UsageError(f"{reference} is not there")
    tag = reference.tag if reference.tag or reference.digest else "latest"
    return RegistrySource(repository), head.digest, tag


def _destination(text: str, tag: str | None, services: Services) -> tuple[str, tuple[Destination, tuple[str, ...]]]:
    """Return a target's canonical name, where to write, and under which names."""
    if text.startswith("oci:"):
        path, wanted = split_tag(text.removeprefix("oci:"))
        name = wanted or tag
        return f"oci:{path}", (LayoutDestination(LayoutWriter(Path(path)), path), (name,) if name else ())
    reference = Reference.parse(text)
    if reference.digest:
        raise UsageError(f"{text}: a target has no digest; the image keeps its own")
    name = reference.tag or tag
    client = Repository(services.http, reference, services.http.book, push=True)
    place = RegistryDestination(client, reference.domain, reference.path)
    return f"{reference.name}:{name}" if name else reference.name, (place, (name,) if name else ())


async def _step(item: str, digest: Digest, target: str, place: Destination, names: tuple[str, ...]) -> Step:
    """Decide about one target: nothing to do when its tag stands for the same content already."""
    action, reason = Action.COPY, "not there"
    try:
        there = await place.named(names[0]) if names else None
        if there:
            action, reason = (Action.KEEP, "already there") if there == digest else (Action.COPY, f"moves from {there}")
    except MirrordError as error:
        reason = f"not known what is there: {error}"
    return Step(action, item, digest, target, names, reason, group=item)
