"""Clients of a registry over plain HTTP, as judges: each pulls an image whole and says what it got.

A judge is given `HOST:PORT/NAME:TAG` and an empty folder. It checks every digest by itself, or what it wrote is read
and checked here; it returns the digest of what the tag stands for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from mirrord.errors import UnreachableError
from mirrord.testing.running import Ran, run
from mirrord.testing.servers import require
from tests.support.imagetools import podman
from tests.support.walking import walk_layout

Judge = Callable[[str, Path], Awaitable[str]]
FOLDER: Final = Path(__file__).with_name("fetcher")
_NAME: Final = "here"  # of the image in a layout


class JudgedError(Exception):
    """A judge did not get what it asked for; carries what it wrote."""


def containerd_fetcher() -> str:
    """Return the name of the program that pulls as containerd does."""
    return f"containerd-fetcher-{_sources(FOLDER)}"


def admission_judge() -> str:
    """Return the name of the program that takes answers of the webhook as an API server does."""
    return f"admission-judge-{_sources(FOLDER.with_name('admission'))}"


def _sources(folder: Path) -> str:
    """Return what changes with the sources of a program of the tests, see `.ci/run`."""
    files = [*sorted(folder.glob("*.go")), folder / "go.mod", folder / "go.sum"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


async def _done(*command: str | Path, folder: Path) -> Ran:
    """Run a program at home in `folder`, so that no login of the machine is used.

    Raises:
        JudgedError: it failed.
    """
    ran = await run(*command, env={"HOME": str(folder), "DOCKER_CONFIG": str(folder)})
    if ran.status:
        raise JudgedError(f"{command[0]}: {ran.output[-2000:]}")
    return ran


async def skopeo(reference: str, folder: Path) -> str:
    """Copy all platforms into an OCI layout; skopeo checks digests, and so do we."""
    flags = ("--all", "--insecure-policy", "--src-tls-verify=false")
    await _done("skopeo", "copy", *flags, f"docker://{reference}", f"oci:{folder}/layout:{_NAME}", folder=folder)
    inspected = await _done("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}", folder=folder)
    digest = f"sha256:{hashlib.sha256(inspected.output.encode()).hexdigest()}"
    if dict(walk_layout(folder / "layout")) != {_NAME: digest}:
        raise JudgedError(f"{reference}: inspect says {digest}, and the copy is another")
    return digest


async def podman_pull(reference: str, folder: Path) -> str:
    """Pull for this machine; podman checks all digests on its way, and remembers the one of the tag.

    Raises:
        UnreachableError: podman cannot run here.
        JudgedError: it failed.
    """
    async with podman(HOME=str(folder)) as call:
        pulled = await call("pull", "--tls-verify=false", "--quiet", "--arch=amd64", reference)
        if pulled.status:
            raise JudgedError(f"podman: {pulled.output[-2000:]}")
        shown = await call("image", "inspect", reference)
    (image,) = json.loads(shown.output)
    return str(image["Digest"])


async def crane(reference: str, folder: Path) -> str:
    """Validate at the registry, list, and pull into a layout, which is read and checked."""
    digest = (await _done("crane", "digest", "--insecure", reference, folder=folder)).output.strip()
    await _done("crane", "validate", "--insecure", "--remote", reference, folder=folder)
    name, _, tag = reference.rpartition(":")
    listed = (await _done("crane", "ls", "--insecure", name, folder=folder)).output.split()
    if tag not in listed:
        raise JudgedError(f"crane ls: {listed} has no {tag}")
    options = ("--insecure", "--format=oci", "--annotate-ref")
    await _done("crane", "pull", *options, reference, folder / "layout", folder=folder)
    if list(walk_layout(folder / "layout").values()) != [digest]:
        raise JudgedError(f"{reference}: `crane digest` says {digest}, and the copy is another")
    return digest


async def oras(reference: str, folder: Path) -> str:
    """Copy everything into a layout, which is read and checked."""
    to = f"{folder}/layout:{_NAME}"
    await _done("oras", "copy", "--no-tty", "--from-plain-http", "--to-oci-layout", reference, to, folder=folder)
    found = await _done("oras", "resolve", "--plain-http", reference, folder=folder)
    digest = found.output.strip()
    if walk_layout(folder / "layout").get(_NAME) != digest:
        raise JudgedError(f"{reference}: `oras resolve` says {digest}, and the copy is another")
    return digest


def containerd(version: int, parallel: int = 1, chunk: int = 0, namespace: str = "") -> Judge:
    """Return containerd's fetcher: 1 or 2, with so many ranges of `chunk` bytes at once.

    With a namespace `HOST:PORT` is its mirror, so that containerd adds `?ns=`; the name has no registry then.
    """

    async def judge(reference: str, folder: Path) -> str:
        host, _, name = reference.partition("/")
        asked = (str(version), host, f"{namespace or host}/{name}", str(parallel), str(chunk))
        fetched = await _done(containerd_fetcher(), *asked, folder=folder)
        return fetched.output.split()[0]

    return judge


def containerd_reading(version: int, certs: Path) -> Judge:
    """Return containerd's fetcher: 1 or 2, told by the hosts.toml below a folder where each registry is served."""

    async def judge(reference: str, folder: Path) -> str:
        fetched = await _done(containerd_fetcher(), str(version), certs, reference, "1", "0", folder=folder)
        return fetched.output.split()[0]

    return judge


CHUNK: Final = 16 * 1024
ANYWHERE: Final[Mapping[str, tuple[str, Judge]]] = {
    "skopeo": ("skopeo", skopeo),
    "podman": ("podman", podman_pull),
    "crane": ("crane", crane),
    "oras": ("oras", oras),
    "containerd-1.7": (containerd_fetcher(), containerd(1)),
    "containerd-2": (containerd_fetcher(), containerd(2)),
    "containerd-2-parallel": (containerd_fetcher(), containerd(2, 4, CHUNK)),
}
"""Judges of any registry, and the program that each needs."""


async def judged(name: str, reference: str, folder: Path) -> str:
    """Let the judge of that name pull; skips the test where the judge is not here, or cannot run."""
    program, judge = ANYWHERE[name]
    require(program)
    folder.mkdir()
    try:
        return await judge(reference, folder)
    except UnreachableError as error:
        pytest.skip(str(error))
