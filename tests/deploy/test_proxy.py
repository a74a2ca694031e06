"""docs/how-to/pull-from-another-machine.md, typed as it stands there: nginx with TLS, and clients on the other side."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from mirrord.errors import UnreachableError
from mirrord.testing import Image, Registry, build_image, push, require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import Ran, run, started
from mirrord.testing.servers import free_port
from tests.support.commands import Desk
from tests.support.imagetools import podman

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "pull-from-another-machine.md"
CONFIGURATION = """\
settings: {{listen: "127.0.0.1:0"}}
mirrors:
  - {{name: alpine, kind: image, as: library/alpine, from: {{repository: "{source}/up/app", tags: [v1]}}, to: local}}
  - {{name: node, kind: image, as: quay/calico/node, from: {{repository: "{source}/up/app", tags: [v1]}}, to: local}}
  - {{name: grafana, kind: helm, from: "{charts}", to: local}}
  - {{name: crane, kind: git, from: "{upstream}/crane.git", to: local}}
"""
AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""


def fences(language: str) -> list[str]:
    """Return the examples of the page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Proxied:
    """nginx before a daemon that has an image, a chart and a repository; clients trust its certificate by `environ`."""

    address: str
    daemon: str
    image: Image
    folder: Path
    environ: Mapping[str, str]

    async def run(self, *command: str) -> Ran:
        """Run a client to its end; it has to succeed."""
        ran = await run(*command, env=self.environ)
        assert ran.status == 0, ran.output
        return ran

    def asked(self) -> set[str]:
        """Return the paths that nginx was asked for with success."""
        return set(re.findall(r'"(?:GET|POST) (\S+) HTTP/1.1" 200', (self.folder / "access.log").read_text()))


@pytest.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[Proxied]:
    require("nginx", "git")
    desk, image = Desk(tmp_path), build_image(layer_size=60_000)
    async with (
        Registry() as source,
        ChartRepository() as charts,
        GitHost(tmp_path / "upstream") as upstream,
        contextlib.AsyncExitStack() as stack,
    ):
        await push(image, source, "up/app", ["v1"])
        charts.add(build_chart("app", "1.0.0"))
        Upstream(upstream.create("crane.git")).commit("main", {"README.md": b"# crane\n"})
        desk.configure(CONFIGURATION.format(source=source.host, charts=charts.url, upstream=upstream.base))
        assert (await desk.run("sync")).status == 0
        daemon = await stack.enter_async_context(desk.serving())
        address, folder = f"127.0.0.1:{free_port()}", tmp_path / "nginx"
        folder.mkdir()
        environ = {**desk.environ, **_certificates(folder)}
        (server,) = fences("nginx")
        typed = server.replace("listen 443 ssl", f"listen {address} ssl").replace("127.0.0.1:8080", daemon.address)
        (folder / "nginx.conf").write_text(AROUND.format(folder=folder, server=typed.replace("/etc/ssl", str(folder))))
        await stack.enter_async_context(started("nginx", "-c", folder / "nginx.conf", "-e", folder / "error.log"))
        proxied = Proxied(address, daemon.address, image, folder, environ)
        retried = ("--retry", "20", "--retry-delay", "1", "--retry-connrefused")
        await proxied.run("curl", "--silent", "--show-error", "--fail", *retried, f"https://{address}/v2/")
        yield proxied


def _certificates(folder: Path) -> Mapping[str, str]:
    """Write what nginx needs, and return the environment of those who trust it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    (folder / "mirror.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(folder / "mirror.key"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return dict.fromkeys(("SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"), str(folder / "ca.pem"))


async def test_clients_reach_all_through_nginx(proxied: Proxied) -> None:
    """skopeo, git and curl get images, repositories and files by TLS; status and metrics stay on the machine."""
    require("skopeo")
    base, name = f"https://{proxied.address}", f"docker://{proxied.address}/library/alpine:v1"
    raw = await proxied.run("skopeo", "inspect", "--raw", name)
    assert raw.output.encode() == proxied.image.body
    await proxied.run("skopeo", "copy", "--all", "--insecure-policy", name, f"oci:{proxied.folder}/copy:v1")
    await proxied.run("git", "clone", "--quiet", f"{base}/git/crane.git", f"{proxied.folder}/crane")
    assert (proxied.folder / "crane/README.md").read_text() == "# crane\n"
    assert (await proxied.run("curl", "-sf", f"{base}/raw/crane/main/README.md")).output == "# crane\n"
    for path in ("/", "/status", "/metrics", "/healthz"):
        answer = await proxied.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{base}{path}")
        assert answer.output == "404", path


async def test_helm_installs_through_nginx(proxied: Proxied) -> None:
    """`helm repo add` and `helm pull` work by TLS."""
    require("helm3")
    where = ("--repository-config", f"{proxied.folder}/helm.yaml", "--repository-cache", f"{proxied.folder}/helm")
    authority = ("--ca-file", f"{proxied.folder}/ca.pem")
    await proxied.run("helm3", "repo", "add", "grafana", f"https://{proxied.address}/helm/grafana", *authority, *where)
    await proxied.run("helm3", "pull", "grafana/app", "--destination", str(proxied.folder), *where)
    assert (proxied.folder / "app-1.0.0.tgz").is_file()


async def test_podman_pulls_under_the_original_name(proxied: Proxied) -> None:
    """With the page's registries.conf, names of Docker Hub and quay.io come from the mirror, without asking either.

    With the lines for a network without TLS, images come from mirrord's own port.
    """
    require("podman")
    plain, written = sorted((text for text in fences("toml") if "[[registry]]" in text), key=len)
    text = plain.replace("mirror.example.com:8080", proxied.daemon) + written.replace(
        "mirror.example.com", proxied.address
    )
    (proxied.folder / "registries.conf").write_text(text)
    environ = {**proxied.environ, "CONTAINERS_REGISTRIES_CONF": f"{proxied.folder}/registries.conf"}
    async with contextlib.AsyncExitStack() as stack:
        try:
            call = await stack.enter_async_context(podman(**environ))
        except UnreachableError as error:
            pytest.skip(str(error))
        for name in ("docker.io/library/alpine:v1", "quay.io/calico/node:v1", f"{proxied.daemon}/quay/calico/node:v1"):
            pulled = await call("pull", "--platform=linux/amd64", name)
            assert pulled.status == 0, pulled.output
    assert {"/v2/library/alpine/manifests/v1", "/v2/quay/calico/node/manifests/v1"} <= proxied.asked()


async def test_containerd_asks_for_these_paths(proxied: Proxied) -> None:
    """What containerd makes of the page's hosts.toml is answered: it adds `?ns=`, `override_path` leaves /v2 out."""
    docker, quay = [tomllib.loads(text) for text in fences("toml") if text.startswith("server")]
    assert [one["server"] for one in (docker, quay)] == ["https://registry-1.docker.io", "https://quay.io"]
    ((plain, _),), ((prefixed, options),) = docker["host"].items(), quay["host"].items()
    assert options["override_path"]
    asked = (f"{plain}/v2/library/alpine/manifests/v1?ns=docker.io", f"{prefixed}/calico/node/manifests/v1?ns=quay.io")
    for url in asked:
        answer = await proxied.run("curl", "-sf", url.replace("mirror.example.com", proxied.address))
        assert json.loads(answer.output) == proxied.image.document()
