"""Real servers start, answer and leave nothing behind."""

import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from mirrord.errors import UnreachableError
from mirrord.testing import DockerRegistry, available, build_image, ports, push, require
from mirrord.testing.ports import free_port
from mirrord.testing.running import run
from tests.support.oldstates import PORTS

ROOT = Path(__file__).parents[2]


async def test_starts_and_stops() -> None:
    """The child answers while the context is open; afterwards process and folder are gone."""
    require("docker-registry")
    async with DockerRegistry(access_log=True) as registry:
        await push(build_image(["linux/amd64"]), registry.url, "a/b", ["main"])
        pid, folder = registry.pid, registry.folder
        assert (folder / "content").is_dir()
        hits = [hit for hit in registry.hits() if hit.method == "PUT" and "/manifests/main" in hit.path]
        assert [hit.status for hit in hits] == [201]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not folder.exists()


async def test_dies_and_comes_back(tmp_path: Path) -> None:
    """Stopped and started again it has its port and its content, and a chosen folder stays."""
    require("docker-registry")
    image = build_image(["linux/amd64"])
    async with DockerRegistry(folder=tmp_path) as registry:
        await push(image, registry.url, "a/b", ["main"])
        url = registry.url
        await registry.stop()
        await registry.start()
        assert registry.url == url
        headers = {"Accept": image.media_type}
        place = f"{url}/v2/a/b/manifests/main"
        async with aiohttp.ClientSession() as session, session.get(place, headers=headers) as answer:
            assert await answer.read() == image.body
    assert (tmp_path / "content").is_dir()


def test_free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port is given out once, and is none of those that others get: by the system, or by another process of tests."""
    found = {free_port() for _ in range(250)}  # fewer where servers of earlier tests have some, or had a moment ago
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        assert other.getsockname()[1] > max(found)
    script = "from mirrord.testing.ports import free_port; print(*(free_port() for _ in range(250)))"
    theirs = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not found & {*map(int, theirs.split())}
    assert max(found) < min(PORTS.values())
    few = sorted(found)[:9]
    monkeypatch.setattr(ports, "_numbers", itertools.cycle(few))
    assert [free_port() for _ in range(18)] == [*few, *few]
    with socket.socket() as other:
        other.bind(("127.0.0.1", few[7]))
        assert [free_port() for _ in range(16)] == [*few[:7], few[8]] * 2


async def test_passwords() -> None:
    """With a user it lets in who knows the password, and nobody else."""
    require("docker-registry", "htpasswd")
    async with DockerRegistry(user=("ann", "pw")) as registry, aiohttp.ClientSession() as session:
        for headers, status in (({}, 401), ({"Authorization": "Basic YW5uOnB3"}, 200)):
            async with session.get(f"{registry.url}/v2/", headers=headers) as answer:
                assert answer.status == status


async def test_missing_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named: as a reason, as a skip, as a failure where all tools are demanded, as an error."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("MIRRORD_REQUIRE_TOOLS", raising=False)
    assert available("docker-registry") == "docker-registry is not installed"
    with pytest.raises(pytest.skip.Exception, match="docker-registry is not installed"):
        require("docker-registry")
    monkeypatch.setenv("MIRRORD_REQUIRE_TOOLS", "1")
    with pytest.raises(pytest.fail.Exception, match="MIRRORD_REQUIRE_TOOLS"):
        require("docker-registry")
    with pytest.raises(UnreachableError, match="install the Debian package"):
        await DockerRegistry().start()
    monkeypatch.setenv("MIRRORD_WITHOUT_TOOLS", "helm,docker-registry")
    with pytest.raises(pytest.skip.Exception, match="docker-registry is named in MIRRORD_WITHOUT_TOOLS"):
        require("docker-registry")


@pytest.mark.parametrize(
    ("env", "outcome"),
    [
        ({}, "2 skipped"),
        ({"MIRRORD_REQUIRE_TOOLS": "1"}, "1 failed, 1 error"),
        ({"MIRRORD_REQUIRE_TOOLS": "1", "MIRRORD_WITHOUT_TOOLS": "tool,helm"}, "1 skipped, 1 error"),
    ],
)
async def test_a_skip_fails_where_all_is_required(tmp_path: Path, env: dict[str, str], outcome: str) -> None:
    """What `.ci/run` sets makes every skip a failure, except one whose reason names a tool that is excused."""
    skips = '@pytest.mark.skipif(True, reason="needs tool-x")\ndef test_x(): pass\n'
    file = tmp_path / "test_skips.py"
    file.write_text(f'import pytest\n{skips}def test_y(): pytest.skip("no tool here")\n')
    words = ("-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", tmp_path, "-p", "tests.conftest", "-n", "0", file)
    clean = dict.fromkeys(("MIRRORD_REQUIRE_TOOLS", "MIRRORD_WITHOUT_TOOLS", "PYTEST_ADDOPTS"), "")
    ran = await run(sys.executable, *words, env={**clean, "PYTHONPATH": str(ROOT), **env})
    assert f"\n{outcome} in " in ran.output, ran.output
