"""`mirrord demo`: a demonstration on this machine alone.

The only part of the program that uses `mirrord.testing`: a demonstration needs registries and an image.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from mirrord.cli.console import say, short, table
from mirrord.cli.exits import exit_code
from mirrord.cli.progress import shown
from mirrord.cli.results import say_run
from mirrord.commands import Publish, Sync
from mirrord.daemon.loop import run
from mirrord.errors import DigestError
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.plan.naming import build_tags
from mirrord.printable import size
from mirrord.serve.remote import ControlClient
from mirrord.syncer.values import Publication
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference

if TYPE_CHECKING:
    from mirrord.testing.stage import Stage

CHARTS, CODE, RELEASE, VERSION = "charts", "code", "release", "v2"


def demo(*, once: bool) -> int:
    """Run the command and return its exit code."""
    return run(_demo(once=once))


async def _demo(*, once: bool) -> int:
    """Run the demonstration. A signal during it gives exit code 130; one after it ends the daemon."""
    work = asyncio.current_task()
    assert work is not None

    def end() -> None:
        if not work.cancelling():  # further signals do not stop it from cleaning up
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        async with AsyncExitStack() as stack:
            return await _play(stack, once=once)
    except asyncio.CancelledError:
        return 130


async def _play(stack: AsyncExitStack, *, once: bool) -> int:
    from mirrord.testing.stage import daemon_ended, open_stage  # noqa: PLC0415 - only a demonstration needs doubles

    say("Starting four registries and the daemon, on 127.0.0.1 alone ...")
    stage = await stack.enter_async_context(open_stage())
    doubles = stage.stand_in and f"in-process registries of mirrord.testing ({stage.stand_in})"
    servers = ", ".join(f"{name} {place.host}" for name, place in {"source": stage.source, **stage.targets}.items())
    say(f"Four {doubles or 'docker-registry servers'}:\n  {servers}")
    blobs = len(stage.image.blobs)
    say(f"The source has an image for linux/amd64 and linux/arm64: {blobs} blobs, {size(stage.image.size)}")
    code = await _publish(stage) or await _sync_charts(stage) or await _sync_code(stage)
    if code:
        return code
    await _pull(stage)
    if once:
        program = "make" if "MAKELEVEL" in os.environ else "mirrord"
        say(f"\nRun `{program} demo` (without --once) to look at the status page.")
        return 0
    _invite(stage)
    try:
        await daemon_ended(stage)
    except asyncio.CancelledError:
        say("\nCleaning up.")
    return 0


async def _publish(stage: Stage) -> int:
    """Publish through the daemon, as `mirrord publish` does, and ask every target what it has."""
    commit = stage.image.digest.hex[-7:]  # any will do
    say(f"\n$ mirrord publish {stage.mirror} --image {stage.origin} --branch main --commit {commit}")
    sys.stdout.flush()
    events, names = Events(), build_tags("main", commit)
    command = Publish(stage.mirror, Publication(stage.origin, names))
    with shown(events, quiet=False):
        ended = await ControlClient(stage.state).carry_out(command, events)
    if code := exit_code([ended]):
        say_run(ended)
        return code
    await _verify(stage, names)
    say()
    receipts = {receipt.step.target: (receipt.step, receipt.sent) for receipt in ended.receipts}
    rows = []
    for name, place in stage.places.items():
        step, sent = receipts[name]
        rows.append((name, place, ", ".join(step.names), short(step.digest), size(sent)))
    table(("TARGET", "WHERE", "TAGS", "DIGEST", "BYTES"), rows)
    blobs, reads = len(stage.image.blobs), stage.reads()
    say(f"\nEvery target was asked again: all digests equal the source's. {blobs} blobs, {reads} reads at the source.")
    return 0


async def _sync(stage: Stage, name: str) -> int:
    """Let the daemon mirror one more thing, as `mirrord sync` does; return the exit code."""
    say(f"\n$ mirrord sync {name}")
    sys.stdout.flush()
    (run,) = await ControlClient(stage.state).carry_out(Sync((name,)))
    say_run(run)
    return exit_code([run])


async def _sync_charts(stage: Stage) -> int:
    """Mirror the chart repository, and get every archive from mirrord as helm would."""
    if code := await _sync(stage, CHARTS):
        return code
    async with Http(HostBook()) as http:
        for file, data in stage.charts.files.items():
            if file.endswith(".tgz"):
                call = HttpRequest("GET", f"http://{stage.address}/helm/{CHARTS}/{file}", stage.address, cap=len(data))
                if (await http.fetch(call)).body != data:
                    raise DigestError(f"{file} is not the source's")
    return 0


async def _sync_code(stage: Stage) -> int:
    """Mirror the Git repository, and compare what its hosts have with upstream."""
    if stage.code is None:
        say("\ngit is not installed: mirroring a repository is left out")
        return 0
    if code := await _sync(stage, CODE):
        return code
    wanted = stage.code.refs(f"team/{CODE}.git")
    for name, forge in stage.forges.items():
        if forge.refs(f"mirror/{CODE}.git") != wanted:
            raise DigestError(f"{name} has other branches and tags than upstream")
    return 0


async def _pull(stage: Stage) -> None:
    """Pull an image that no mirror has from the daemon, twice, and say what the source saw of that."""
    say(f"\nThe front: pulling {stage.pulled}, which no mirror has, twice ...")
    sys.stdout.flush()
    rows, reference, before = list[tuple[str, str, str]](), Reference.parse(stage.pulled), stage.reads(unmirrored=True)
    async with Http(HostBook()) as http:
        for turn in ("first", "second"):
            blobs, count = await _pulled(Repository(http, reference), stage.unmirrored.digest)
            now = stage.reads(unmirrored=True)
            rows.append((turn, f"{blobs} blobs, {size(count)}", str(now - before)))
            before = now
    table(("PULL", "SENT TO THE CLIENT", "READS AT THE SOURCE"), rows)
    say(f"All digests are right. {len(stage.unmirrored.blobs)} blobs, {before} reads at the source.")
    say("The guide to the front: docs/how-to/registry-front.md")


async def _pulled(repository: Repository, digest: Digest) -> tuple[int, int]:
    """Read a whole image, with all platforms; return how many blobs and bytes of blobs it has."""
    top = await repository.get_manifest(repository.reference.tag or "")
    if top.digest != digest:
        raise DigestError(f"{repository.reference} is {top.digest}, not {digest}")
    manifests = [await repository.get_manifest(child.digest) for child in top.children]
    blobs = {blob.digest: blob for manifest in manifests for blob in manifest.blobs}
    return len(blobs), sum([len(await repository.get_blob(blob)) for blob in blobs.values()])


async def _verify(stage: Stage, names: tuple[str, ...]) -> None:
    """Ask every place for every name; DigestError when one of them has something else."""
    async with Http(HostBook()) as http:
        for place in stage.places.values():
            for name in names:
                found = await Repository(http, Reference.parse(place)).head_manifest(name)
                if found is None or found.digest != stage.image.digest:
                    there = found.digest if found else "missing"
                    raise DigestError(f"{place}:{name} is {there}, not {stage.image.digest}")


def _invite(stage: Stage) -> None:
    program = "mirrord" if shutil.which("mirrord") else f"{shlex.quote(sys.executable)} -P -m mirrord"
    state = shlex.quote(str(stage.state))
    first = next(iter(stage.targets.values())).host
    origin = stage.origin.rpartition(":")[0]
    plain = "--src-tls-verify=false --dest-tls-verify=false"
    say(f"""
Log      {stage.folder}/daemon.log
Config   {stage.folder}/conf.d/demo.yaml

Charts   helm repo add demo http://{stage.address}/helm/{CHARTS} && helm search repo demo

Code     git clone http://{stage.address}/git/{CODE}.git
Raw      curl http://{stage.address}/raw/{CODE}/main/README.md

Try, in another terminal:
  {program} status --state {state}
  {program} sync {stage.mirror} --state {state}
  skopeo inspect --tls-verify=false docker://{first}/mirror/{stage.mirror}:main
  podman pull --tls-verify=false {stage.address}/{stage.mirror}:main
  podman pull --tls-verify=false {stage.pulled}

Open the page and watch a mirror fail, and recover: `{RELEASE}` wants a version that nobody has released.
  {program} sync {RELEASE} --state {state}
  skopeo copy --all {plain} docker://{stage.origin} docker://{origin}:{VERSION}
  {program} sync {RELEASE} --state {state}

Ctrl-C ends the daemon and the registries, and removes {stage.folder}.

Page     http://{stage.address}/   (JSON: /status, Prometheus: /metrics)""")
    sys.stdout.flush()
