"""A machine with a real systemd: `systemd-nspawn --boot` of a small tree that shares /usr with this machine.

async with booted(tmp_path) as machine:
    await machine.systemctl("start", "mirrord")

The network is the one of this machine, so that servers of a test are reached.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import mirrord
from mirrord.testing.running import Ran, run, started
from tests.support.processes import children_of

ROOT: Final = Path(__file__).parents[2]
UNIT: Final = ROOT / "systemd" / "mirrord.service"
_BASE: Final = Path(sys.base_prefix)
_SHARED: Final = not _BASE.is_relative_to("/usr")  # whether Python itself has to be brought in
_PYTHON: Final = (Path("/opt/python") if _SHARED else _BASE) / "bin" / f"python{sysconfig.get_python_version()}"
_LIBRARIES: Final = "LD_LIBRARY_PATH=/opt/python/lib " if _SHARED else ""
_PROGRAM: Final = f"""#!/bin/sh
{_LIBRARIES}PYTHONPATH=/opt/mirrord/source:/opt/mirrord/packages exec {_PYTHON} -m mirrord "$@"
"""
_FILES: Final = {
    "etc/machine-id": "",
    "etc/os-release": "ID=mirrord-test\n",
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nci:x:1500:1500::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\nci:x:1500:\nmirrord-builds:x:1600:ci\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files systemd\ngroup: files systemd\nhosts: files dns\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    # Nothing but what services need: no consoles, no network of its own.
    "etc/systemd/system/default.target": "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n",
}


def unbootable() -> str | None:
    """Return None where a machine can be booted, else why not."""
    if os.geteuid():
        return "only root can boot a container with systemd-nspawn"
    if not Path("/usr/lib/systemd/systemd").exists():
        return "systemd-nspawn has nothing to boot: there is no systemd in /usr"
    return None


class Machine:
    """A booted container."""

    def __init__(self, tree: Path, leader: int) -> None:
        self.tree = tree
        self._leader = leader

    async def run(self, *command: str, seconds: float = 60.0) -> Ran:
        """Run a command in the container, as root, to its end."""
        inside = ("nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--pid", "--root")
        clean = ("env", "--ignore-environment", "--chdir=/", "PATH=/usr/local/bin:/usr/bin:/usr/sbin", "LC_ALL=C.UTF-8")
        return await run(*inside, *clean, *command, seconds=seconds)

    async def systemctl(self, *words: str, seconds: float = 60.0) -> Ran:
        """Run systemctl."""
        return await self.run("systemctl", "--no-pager", *words, seconds=seconds)

    async def show(self, *names: str) -> dict[str, str]:
        """Return properties of the unit as systemd has them."""
        shown = await self.systemctl("show", "mirrord", *(f"--property={name}" for name in names))
        return dict(line.split("=", 1) for line in shown.output.splitlines())

    async def until_shown(self, **values: str) -> None:
        """Wait until systemd has these values of properties of the unit."""
        async with asyncio.timeout(60):
            while True:
                if await self.show(*values) == values:
                    return
                await asyncio.sleep(0.1)

    async def journal(self) -> str:
        """Return what was written to the journal about the unit."""
        return (await self.run("journalctl", "--no-pager", "--output=cat", "--unit=mirrord")).output

    def drop_in(self, name: str, *lines: str) -> None:
        """Add a drop-in with these lines for the section [Service]; `daemon-reload` makes it count."""
        self.write(f"etc/systemd/system/mirrord.service.d/{name}.conf", "\n".join(["[Service]", *lines, ""]))

    def configure(self, text: str) -> None:
        """Write the configuration of mirrord."""
        self.write("etc/mirrord/conf.d/a.yaml", text)

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        """Write a file of the container."""
        file = self.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file


@asynccontextmanager
async def booted(folder: Path) -> AsyncIterator[Machine]:
    """Boot a container with mirrord and its unit installed; when the context ends, it is gone.

    Raises:
        RuntimeError: it does not boot; says what it printed.
    """
    tree = folder / "tree"
    _make_tree(tree)
    programs = folder / "programs"
    programs.mkdir()
    (programs / "mirrord").write_text(_PROGRAM)
    (programs / "mirrord").chmod(0o755)
    binds = {
        Path("/usr"): "/usr",
        Path(mirrord.__file__).parent: "/opt/mirrord/source/mirrord",
        Path(sysconfig.get_path("purelib")): "/opt/mirrord/packages",
        **({_BASE: "/opt/python"} if _SHARED else {}),
    }
    options = (
        "--quiet",
        f"--directory={tree}",
        f"--machine=mirrord-{os.getpid()}-{folder.stat().st_ino}",
        "--register=no",
        "--keep-unit",  # this machine may have no systemd of its own
        "--console=pipe",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        *(f"--bind-ro={source}:{target}" for source, target in binds.items()),
        f"--overlay-ro={programs}:/usr/local/bin:/usr/local/bin",
    )
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # In a mount namespace of its own, so that no mount is left behind when it is killed.
    command = ("unshare", "--mount", "--propagation=private", "systemd-nspawn", *options, "--boot")
    async with started(*command, **pipes) as process:
        assert process.stdout is not None
        reading = asyncio.create_task(process.stdout.read())
        try:
            machine = Machine(tree, await _leader(process.pid, reading))
            await _until_up(machine, reading)
            yield machine
            await machine.systemctl("exit", "0")
            async with asyncio.timeout(30):
                await process.wait()
        finally:
            reading.cancel()


def _make_tree(tree: Path) -> None:
    for name in ("usr", "proc", "sys", "dev", "run", "tmp", "root", "var", "srv", "etc/mirrord/conf.d"):
        (tree / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if Path("/", name).is_symlink():
            (tree / name).symlink_to(f"usr/{name}")
    for path, text in _FILES.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    shutil.copy(UNIT, tree / "etc/systemd/system/mirrord.service")


async def _leader(pid: int, reading: asyncio.Task[bytes]) -> int:
    """Return the process that is number 1 in the container, as this machine knows it."""
    while not reading.done():
        for child in children_of(pid):
            with suppress(OSError):  # one that has just ended
                status = Path(f"/proc/{child}/status").read_text()
                if re.search(r"^NSpid:.*\t1$", status, re.MULTILINE):
                    return child
        await asyncio.sleep(0.02)
    raise RuntimeError(f"the container ended: {reading.result().decode(errors='replace')[-2000:]}")


async def _until_up(machine: Machine, reading: asyncio.Task[bytes]) -> None:
    async with asyncio.timeout(60):
        while not reading.done():
            state = (await machine.systemctl("is-system-running")).output.strip()
            if state in {"running", "degraded"}:
                return
            await asyncio.sleep(0.05)
    raise RuntimeError(f"the container ended: {reading.result().decode(errors='replace')[-2000:]}")
