"""`mirrord demo`: it works, it says what it uses, and it leaves nothing behind however it ends."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import aiohttp
import pytest

from mirrord.testing.running import started
from mirrord.testing.servers import require

STARTS = (
    "python3",
    "sh",
    "env",
    "git",
    "htpasswd",
)  # all that PATH has in these tests, and docker-registry where wanted


def environment(tmp_path: Path, *tools: str) -> dict[str, str]:
    """Return an environment whose temporary folder and PATH are the test's own."""
    for name in ("tmp", "bin"):
        (tmp_path / name).mkdir()
    for tool in (*STARTS, *tools):
        if found := shutil.which(tool):
            (tmp_path / "bin" / tool).symlink_to(found)
    own = {"TMPDIR": str(tmp_path / "tmp"), "PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
    return {name: value for name, value in os.environ.items() if name != "MAKELEVEL"} | own


@asynccontextmanager
async def demo(
    env: Mapping[str, str], *flags: str, cwd: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command in a session of its own; it is gone at the end."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    async with started(sys.executable, "-P", "-m", "mirrord", "demo", *flags, **streams, env=env, cwd=cwd) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.communicate(), 60)


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    output, _ = await asyncio.wait_for(process.communicate(), 100)
    return process.returncode or 0, output.decode()


async def said(process: asyncio.subprocess.Process, pattern: str) -> str:
    """Return all that it says up to a line that matches."""
    assert process.stdout is not None
    text = ""
    async with asyncio.timeout(100):
        while not re.search(pattern, text):
            line = await process.stdout.readline()
            assert line, text
            text += line.decode()
    return text


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def table_of(text: str) -> dict[str, list[str]]:
    """Return the rows of the table by target."""
    lines = text.partition("TARGET ")[2].partition("\n\n")[0].splitlines()[1:]
    return {row[0]: row[1:] for line in lines if (row := re.split(r"\s{2,}", line.strip())) and len(row) == 5}


def lines(text: str) -> set[str]:
    """Return the lines of what the demo prints without what differs from one time to the next: numbers and spaces."""
    return {" ".join(re.sub(r"\b[0-9a-f]{7,64}\b|\d+(?:\.\d+)*", "#", line).split()) for line in text.splitlines()}


def pictured() -> str:
    """Return what the picture in README.md shows at the end."""
    picture = ET.parse(Path(__file__).parents[2] / "docs/pictures/demo.svg")
    shown = (group for group in picture.iter("{http://www.w3.org/2000/svg}g") if group.get("visibility") != "hidden")
    return "\n".join(" ".join(group.itertext()) for group in shown)


@pytest.mark.parametrize("server", ["docker-registry", ""], ids=["real", "in-process"])
async def test_once_publishes_checks_and_ends(tmp_path: Path, server: str) -> None:
    """With `--once` one image gets to three registries and the embedded store under both tags, then all is gone."""
    if server:
        require(server)
    made = {} if server else {"MAKELEVEL": "1"}  # as in `make demo`
    async with demo(environment(tmp_path, *filter(None, [server])) | made, "--once") as process:
        status, text = await ended(process)
    assert status == 0, text
    program = "make" if made else "mirrord"
    assert text.splitlines()[-1] == f"Run `{program} demo` (without --once) to look at the status page."
    rows = table_of(text)
    assert list(rows) == ["east", "west", "north", "local"], text
    assert len({digest for _, _, digest, _ in rows.values()}) == 1
    for _, tags, _, sent in rows.values():
        assert re.fullmatch(r"main-[0-9a-f]{7}, main", tags)
        assert sent == "40.0 MiB"
    assert "7 blobs, 7 reads at the source" in text
    assert re.search(r"charts: success .*\n.*\n(local +app.*done.*\n){3}local +index.yaml +done", text), text
    assert re.search(r"code: success", text), text
    assert len(re.findall(r"^(?:gitea|forge|local) +refs/.*done", text, re.MULTILINE)) == 9
    assert re.search(r"^first +6 blobs, \S+ MiB +6$", text, re.MULTILINE), text
    assert re.search(r"^second +6 blobs, \S+ MiB +0$", text, re.MULTILINE), text
    assert "All digests are right. 6 blobs, 6 reads at the source." in text
    assert ("docker-registry servers" if server else "in-process registries of mirrord.testing") in text
    if server:
        assert not lines(text) - lines(pictured()) - {""}, "record the picture again: docs/pictures/record.py"
    assert not any(listens(address) for address in re.findall(r"127\.0\.0\.1:\d+", text))
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
async def test_it_stays_until_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    """Without `--once` the daemon answers at the printed address until Ctrl-C, which is exit code 0 and cleans up."""
    async with demo(environment(tmp_path)) as process:
        text = await said(process, r"Ctrl-C ends") + await said(process, r"(?m)^Page .*")
        found = re.search(r"^Page +http://(127\.0\.0\.1:\d+)/", text.splitlines()[-1])
        assert found, text
        assert listens(found[1])
        process.send_signal(number)
        status, rest = await ended(process)
    assert status == 0, text + rest
    assert not any(listens(address) for address in re.findall(r"127\.0\.0\.1:\d+", text))
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_it_works_beside_a_folder_called_mirrord(tmp_path: Path) -> None:
    """Above a clone, whose folder is called like the package, the demo runs, and so do the commands that it prints."""
    env = environment(tmp_path)
    (tmp_path / "mirrord").mkdir()
    async with demo(env, cwd=tmp_path) as process:
        text = await said(process, r"Ctrl-C ends")
        command = re.search(r"^  (.* status --state .*)$", text, re.MULTILINE)
        assert command, text
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        async with started("/bin/sh", "-c", command[1], **streams, env=env, cwd=tmp_path) as other:
            status, shown = await ended(other)
    assert status == 0, shown
    assert shown.startswith("4 mirrors: 1 new, 3 ok\nHEALTH")


async def test_there_is_something_to_see_on_the_page(tmp_path: Path) -> None:
    """The page shows what was mirrored; with the printed commands a mirror fails there, says why, and recovers."""
    require("skopeo", "docker-registry")
    env = environment(tmp_path, "skopeo", "docker-registry")
    async with demo(env) as process:
        text = await said(process, r"(?m)^Page .*")
        fail, release, recover = re.findall(r"^  (.* sync release .*|skopeo copy .*)$", text, re.MULTILINE)
        address = text.split()[text.split().index("Page") + 1]

        async def shown(command: str) -> tuple[int, str]:
            streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            async with started("/bin/sh", "-c", command, **streams, env=env) as other:
                status = await asyncio.wait_for(other.wait(), 60)
            async with aiohttp.ClientSession() as session, session.get(address) as answer:
                return status, await answer.text()

        assert "3 of 4 mirrors are healthy" in (await shown("true"))[1]
        status, page = await shown(fail)
        assert status != 0
        assert "1 of 4 mirrors is failing" in page
        assert "team/app:v2 does not exist" in page
        assert (await shown(release))[0] == 0
        status, page = await shown(recover)
        assert status == 0
        assert "All 4 mirrors are healthy" in page


async def test_without_git_the_rest_is_shown(tmp_path: Path) -> None:
    """Where git is not installed its part is left out, and the output says so."""
    env = environment(tmp_path)
    (tmp_path / "bin" / "git").unlink()
    async with demo(env, "--once") as process:
        status, text = await ended(process)
    assert status == 0, text
    assert "git is not installed" in text
    assert "charts: success" in text


async def test_a_signal_in_the_middle_cleans_up(tmp_path: Path) -> None:
    """Ctrl-C while it publishes is exit code 130, and nothing is left behind."""
    async with demo(environment(tmp_path)) as process:
        text = await said(process, r"\$ mirrord publish")
        process.send_signal(signal.SIGINT)
        status, rest = await ended(process)
    assert status == 130, text + rest
    assert "Traceback" not in rest
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_a_registry_that_does_not_start_is_told(tmp_path: Path) -> None:
    """When a server cannot be started the command says what it said, exits 69, and nothing is left behind."""
    env = environment(tmp_path)
    broken = tmp_path / "bin" / "docker-registry"
    broken.write_text("#!/bin/sh\necho 'no such storage driver' >&2\nexit 1\n")
    broken.chmod(0o755)
    async with demo(env, "--once") as process:
        status, text = await ended(process)
    assert status == 69, text
    assert "no such storage driver" in text
    assert "Traceback" not in text
    assert list((tmp_path / "tmp").iterdir()) == []
