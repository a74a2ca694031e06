"""docs/how-to/pull-from-another-machine.md, typed as it stands there: proxies with TLS, and their clients."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from mirrord.errors import UnreachableError
from mirrord.serve.incoming import TrustedProxies
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import Services
from mirrord.testing import Image, Registry, build_image, push, require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk
from tests.support.frontproxy import FrontProxy, fences, fronted
from tests.support.frontserver import listening
from tests.support.imagetools import podman

CONFIGURATION = """\
settings: {{listen: "127.0.0.1:0"}}
mirrors:
  - {{name: alpine, kind: image, as: library/alpine, from: {{repository: "{source}/up/app", tags: [v1]}}, to: local}}
  - {{name: node, kind: image, as: quay/calico/node, from: {{repository: "{source}/up/app", tags: [v1]}}, to: local}}
  - {{name: grafana, kind: helm, from: "{charts}", to: local}}
  - {{name: crane, kind: git, from: "{upstream}/crane.git", to: local}}
"""


@dataclass(frozen=True)
class Proxied:
    """A proxy before a daemon that has an image, a chart and a repository."""

    proxy: FrontProxy
    daemon: str
    image: Image


@pytest.fixture(params=["nginx", "caddy"])
async def proxied(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Proxied]:
    require(request.param, "git")
    desk, image = Desk(tmp_path), build_image(layer_size=60_000)
    async with (
        Registry() as source,
        ChartRepository() as charts,
        GitHost(tmp_path / "upstream") as upstream,
    ):
        await push(image, source, "up/app", ["v1"])
        charts.add(build_chart("app", "1.0.0"))
        Upstream(upstream.create("crane.git")).commit("main", {"README.md": b"# crane\n"})
        desk.configure(CONFIGURATION.format(source=source.host, charts=charts.url, upstream=upstream.base))
        assert (await desk.run("sync")).status == 0
        async with desk.serving() as daemon, fronted(request.param, daemon.address, tmp_path / "proxy") as proxy:
            yield Proxied(proxy, daemon.address, image)


async def test_clients_reach_all_through_a_proxy(proxied: Proxied) -> None:
    """skopeo, git and curl get images, repositories and files by TLS; status and metrics stay on the machine."""
    require("skopeo")
    base, name = f"https://{proxied.proxy.address}", f"docker://{proxied.proxy.address}/library/alpine:v1"
    raw = await proxied.proxy.run("skopeo", "inspect", "--raw", name)
    assert raw.output.encode() == proxied.image.body
    await proxied.proxy.run("skopeo", "copy", "--all", "--insecure-policy", name, f"oci:{proxied.proxy.folder}/copy:v1")
    await proxied.proxy.run("git", "clone", "--quiet", f"{base}/git/crane.git", f"{proxied.proxy.folder}/crane")
    assert (proxied.proxy.folder / "crane/README.md").read_text() == "# crane\n"
    assert (await proxied.proxy.run("curl", "-sf", f"{base}/raw/crane/main/README.md")).output == "# crane\n"
    for path in ("/", "/status", "/metrics", "/healthz"):
        answer = await proxied.proxy.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{base}{path}")
        assert answer.output == "404", path


async def test_helm_installs_through_a_proxy(proxied: Proxied) -> None:
    """`helm repo add` and `helm pull` work by TLS."""
    require("helm3")
    where = (
        "--repository-config",
        f"{proxied.proxy.folder}/helm.yaml",
        "--repository-cache",
        f"{proxied.proxy.folder}/helm",
    )
    authority = ("--ca-file", f"{proxied.proxy.folder}/ca.pem")
    await proxied.proxy.run(
        "helm3", "repo", "add", "grafana", f"https://{proxied.proxy.address}/helm/grafana", *authority, *where
    )
    await proxied.proxy.run("helm3", "pull", "grafana/app", "--destination", str(proxied.proxy.folder), *where)
    assert (proxied.proxy.folder / "app-1.0.0.tgz").is_file()


async def test_podman_pulls_under_the_original_name(proxied: Proxied) -> None:
    """With the page's registries.conf, names of Docker Hub and quay.io come from the mirror, without asking either.

    With the lines for a network without TLS, images come from mirrord's own port.
    """
    require("podman")
    plain, written = sorted((text for text in fences("toml") if "[[registry]]" in text), key=len)
    text = plain.replace("mirror.example.com:8080", proxied.daemon) + written.replace(
        "mirror.example.com", proxied.proxy.address
    )
    (proxied.proxy.folder / "registries.conf").write_text(text)
    environ = {**proxied.proxy.environ, "CONTAINERS_REGISTRIES_CONF": f"{proxied.proxy.folder}/registries.conf"}
    async with contextlib.AsyncExitStack() as stack:
        try:
            call = await stack.enter_async_context(podman(**environ))
        except UnreachableError as error:
            pytest.skip(str(error))
        for name in ("docker.io/library/alpine:v1", "quay.io/calico/node:v1", f"{proxied.daemon}/quay/calico/node:v1"):
            pulled = await call("pull", "--platform=linux/amd64", name)
            assert pulled.status == 0, pulled.output
    assert {"/v2/library/alpine/manifests/v1", "/v2/quay/calico/node/manifests/v1"} <= proxied.proxy.asked()


async def test_containerd_asks_for_these_paths(proxied: Proxied) -> None:
    """What containerd makes of the page's hosts.toml is answered: it adds `?ns=`, `override_path` leaves /v2 out."""
    docker, quay = [tomllib.loads(text) for text in fences("toml") if text.startswith("server")]
    assert [one["server"] for one in (docker, quay)] == ["https://registry-1.docker.io", "https://quay.io"]
    ((plain, _),), ((prefixed, options),) = docker["host"].items(), quay["host"].items()
    assert options["override_path"]
    asked = (f"{plain}/v2/library/alpine/manifests/v1?ns=docker.io", f"{prefixed}/calico/node/manifests/v1?ns=quay.io")
    for url in asked:
        answer = await proxied.proxy.run("curl", "-sf", url.replace("mirror.example.com", proxied.proxy.address))
        assert json.loads(answer.output) == proxied.image.document()


class Asked:
    """Remembers what it was asked."""

    prefixes = ("/v2/",)

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def respond(self, request: Request, services: Services) -> Response:
        self.requests.append(request)
        return Response(200, {})


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_what_a_proxy_says_of_its_clients(tmp_path: Path, kind: str) -> None:
    """The page's proxies tell the address of a client and how it came, whatever the client writes into the fields."""
    asked, nobody = Asked(), None
    services: Any = nobody
    near = TrustedProxies((IPv4Network("127.0.0.1/32"),))
    async with (
        listening(services, asked, proxies=near) as (host, port),
        fronted(kind, f"{host}:{port}", tmp_path / "proxy") as proxy,
    ):
        forged = ("X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: http", "X-Forwarded-Host: evil.example")
        fields = [word for line in (*forged, "Forwarded: for=192.0.2.8;host=evil.example") for word in ("-H", line)]
        await proxy.run("curl", "-sf", "--interface", "127.0.0.2", *fields, f"https://{proxy.address}/v2/")
    assert asked.requests[-1].client == "127.0.0.2"
    assert asked.requests[-1].origin == f"https://{proxy.address}"


PULLED = """\
settings: {{listen: "127.0.0.1:0"}}
names: {{aliases: {{corp.example.com: "{source}"}}}}
front: {{image: {{upstreams: ["{source}"], allow: ["{source}/team/**"]}}}}
"""


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_the_front_behind_a_proxy(tmp_path: Path, kind: str) -> None:
    """What no mirror has comes through the page's proxies whole, twice; upstream each blob is read once."""
    require("skopeo")
    desk, image = Desk(tmp_path), build_image(layer_size=3_000_000)
    async with Registry() as source:
        await push(image, source, "team/app", ["v1"])
        desk.configure(PULLED.format(source=source.host))
        async with desk.serving() as daemon, fronted(kind, daemon.address, tmp_path / "proxy") as proxy:
            name = f"docker://{proxy.address}/corp.example.com/team/app:v1"
            for number in (1, 2):
                out = f"oci:{tmp_path}/out{number}:v1"
                await proxy.run("skopeo", "copy", "--all", "--insecure-policy", "--preserve-digests", name, out)
                assert image.digest in (tmp_path / f"out{number}" / "index.json").read_text()
        blobs = [one.path for one in source.select("GET", "/blobs/")]
        assert sorted(blobs) == sorted(f"/v2/team/app/blobs/{digest}" for digest in image.blobs)
