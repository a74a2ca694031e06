"""What `client-config` writes, read by the clients themselves: each pulls an image by its original name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirrord.errors import UnreachableError
from mirrord.testing import DockerRegistry, build_image, push, require
from mirrord.testing.running import Ran, run
from tests.support.frontdesk import ALIAS, NAMESPACE, FrontDesk, fronted
from tests.support.imagetools import podman
from tests.support.judges import JudgedError, containerd_fetcher, containerd_reading
from tests.support.tls import Authority
from tests.support.walking import walk_layout

IMAGE = build_image(seed="pointed")
NAME = "library/app"
REFUSED = "other/app"
FILE = "etc/containers/registries.conf.d/50-mirrord.conf"
VERSIONS = pytest.mark.parametrize("version", ["", "1.7", "2.0", "2.1", "2.2"])


@pytest.fixture
async def upstream() -> AsyncIterator[DockerRegistry]:
    require("docker-registry")
    async with DockerRegistry(access_log=True) as registry:
        for name in (NAME, REFUSED):
            await push(IMAGE, registry.url, name, ["v1"])
        yield registry


@pytest.fixture
async def front(upstream: DockerRegistry, tmp_path: Path) -> AsyncIterator[FrontDesk]:
    async with fronted(tmp_path, upstream.host, allow=[f"{upstream.host}/{NAME}"]) as made:
        yield made


async def written(front: FrontDesk, *arguments: str) -> Path:
    """Write the files of a client for the daemon, and return the folder."""
    folder = front.desk.folder / "client"
    said = await front.desk.run("client-config", *arguments, "--output", folder, MIRRORD_LISTEN=front.host)
    assert said.status == 0, said.err
    return folder


async def answered(front: FrontDesk) -> int:
    """Count the answers with content that the front gave."""
    text = (await front.get("/metrics")).body.decode()
    rows = [line for line in text.splitlines() if line.startswith("mirrord_front_answers_total{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in rows)


async def skopeo(front: FrontDesk, folder: Path, reference: str) -> Ran:
    """Copy an image as a machine with these files would; the files and logins of this machine do not count."""
    options = ("--registries-conf", folder / FILE, "--insecure-policy")
    to = f"oci:{front.desk.folder}/layout:v1"
    environ = {"HOME": str(front.desk.folder)}
    return await run("skopeo", *options, "copy", "--all", f"docker://{reference}", to, env=environ)


@pytest.mark.parametrize("options", [(), ("--no-fallback",)], ids=["fallback", "alone"])
async def test_skopeo(options: tuple[str, ...], front: FrontDesk, tmp_path: Path) -> None:
    """By podman's file, skopeo gets an image of a registry that it cannot reach: all of it comes from the front."""
    require("skopeo")
    folder = await written(front, "podman", *options)
    copied = await skopeo(front, folder, f"{ALIAS}/{NAME}:v1")
    assert copied.status == 0, copied.output
    assert dict(walk_layout(tmp_path / "layout")) == {"v1": IMAGE.digest}
    assert await answered(front) > len(IMAGE.blobs)


async def test_podman(front: FrontDesk) -> None:
    """Podman pulls by the original name, reading the same file."""
    folder = await written(front, "podman")
    environ = {"HOME": str(front.desk.folder), "CONTAINERS_REGISTRIES_CONF": str(folder / FILE)}
    try:
        async with podman(**environ) as call:
            pulled = await call("pull", "--quiet", "--arch=amd64", f"{ALIAS}/{NAME}:v1")
    except UnreachableError as error:
        pytest.skip(str(error))
    assert pulled.status == 0, pulled.output
    assert await answered(front) > 0


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--no-fallback",), 1)], ids=["fallback", "alone"])
async def test_skopeo_where_the_front_refuses(
    options: tuple[str, ...], status: int, front: FrontDesk, upstream: DockerRegistry
) -> None:
    """What the front refuses comes from the registry itself, and with --no-fallback from nowhere."""
    require("skopeo")
    folder = await written(front, "podman", *options)
    file = folder / FILE
    plain = f'location = "{upstream.host}"\n'  # this registry itself speaks no TLS, unlike those of the world
    file.write_text(file.read_text().replace(plain, f"{plain}insecure = true\n", 1))
    before = len(upstream.hits())
    copied = await skopeo(front, folder, f"{upstream.host}/{REFUSED}:v1")
    assert copied.status == status, copied.output
    assert (len(upstream.hits()) > before) is (status == 0)
    assert await answered(front) == 0


@pytest.mark.parametrize("options", [(), ("--no-fallback",)], ids=["fallback", "alone"])
@VERSIONS
async def test_containerd(version: str, options: tuple[str, ...], front: FrontDesk, tmp_path: Path) -> None:
    """By containerd's own reader of hosts.toml all of the image comes from the front; `?ns=` says its registry."""
    require(containerd_fetcher())
    folder = await written(front, "containerd", *options, *(["--version", version] if version else []))
    reading = [1] if version == "1.7" else [2] if version else [1, 2]
    for number in reading:
        judge = containerd_reading(number, folder / "etc/containerd/certs.d")
        assert await judge(f"{NAMESPACE}/{NAME}:v1", tmp_path) == IMAGE.digest
    assert await answered(front) >= len(reading) * len(IMAGE.blobs)


@pytest.mark.parametrize("number", [1, 2])
async def test_containerd_where_the_front_refuses(number: int, front: FrontDesk, tmp_path: Path) -> None:
    """What the front refuses comes from the registry itself, in a folder for a host with a port."""
    require(containerd_fetcher())
    judge = containerd_reading(number, await written(front, "containerd") / "etc/containerd/certs.d")
    assert await judge(f"{front.upstream}/{REFUSED}:v1", tmp_path) == IMAGE.digest
    assert await answered(front) == 0


@pytest.mark.parametrize("number", [1, 2])
async def test_containerd_without_another_way(
    number: int, front: FrontDesk, upstream: DockerRegistry, tmp_path: Path
) -> None:
    """With --no-fallback what the front refuses comes from nowhere."""
    require(containerd_fetcher())
    judge = containerd_reading(number, await written(front, "containerd", "--no-fallback") / "etc/containerd/certs.d")
    before = len(upstream.hits())
    with pytest.raises(JudgedError):
        await judge(f"{front.upstream}/{REFUSED}:v1", tmp_path)
    assert len(upstream.hits()) == before


async def test_the_version_matters(front: FrontDesk, tmp_path: Path) -> None:
    """Version 1.7 ignores a file for 2.2 as a whole, so that files for every version have none of its words."""
    require(containerd_fetcher())
    judge = containerd_reading(1, await written(front, "containerd", "--version", "2.2") / "etc/containerd/certs.d")
    with pytest.raises(JudgedError):
        await judge(f"{NAMESPACE}/{NAME}:v1", tmp_path)
    assert await answered(front) == 0


@pytest.fixture
async def private(upstream: DockerRegistry, tmp_path: Path) -> AsyncIterator[tuple[FrontDesk, Path]]:
    """A front with a certificate of an authority that nobody knows, and the file of that."""
    authority = Authority(tmp_path)
    certificate, key = authority.pair("127.0.0.1")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "tls.yaml").write_text(
        f"settings: {{tls: {{certificate: '{certificate}', key: '{key}'}}}}\n"
    )
    async with fronted(tmp_path, upstream.host) as made:
        yield made, authority.ca


@pytest.mark.parametrize("number", [1, 2])
async def test_containerd_with_an_authority(number: int, private: tuple[FrontDesk, Path], tmp_path: Path) -> None:
    """By the file of --ca containerd trusts the front, and without it the front is not asked."""
    require(containerd_fetcher())
    front, ca = private
    certs = await written(front, "containerd", "--ca", str(ca)) / "etc/containerd/certs.d"
    for file in certs.glob("*/hosts.toml"):  # the files lie below another folder than they will at the client
        file.write_text(file.read_text().replace("/etc/containerd/certs.d", str(certs)))
    assert await containerd_reading(number, certs)(f"{NAMESPACE}/{NAME}:v1", tmp_path) == IMAGE.digest
    await written(front, "containerd")
    with pytest.raises(JudgedError):
        await containerd_reading(number, certs)(f"{NAMESPACE}/{NAME}:v1", tmp_path)


async def test_skopeo_with_an_authority(private: tuple[FrontDesk, Path], tmp_path: Path) -> None:
    """By the file of --ca skopeo trusts the front."""
    require("skopeo")
    front, ca = private
    folder = await written(front, "podman", "--ca", str(ca))
    options = ("--registries-conf", folder / FILE, "--insecure-policy")
    trusts = ("--src-cert-dir", folder / "etc/containers/certs.d" / front.host)
    asked = ("copy", "--all", f"docker://{ALIAS}/{NAME}:v1", f"oci:{tmp_path}/layout:v1")
    copied = await run("skopeo", *options, *asked, *trusts, env={"HOME": str(tmp_path)})
    assert copied.status == 0, copied.output
    assert dict(walk_layout(tmp_path / "layout")) == {"v1": IMAGE.digest}
