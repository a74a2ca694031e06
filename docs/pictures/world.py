"""The servers of pages.py: registries, chart repositories and Git hosts under the names of public ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web

from mirrord.testing import Registry, build_image, push
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.server import Server

PLATFORMS = ("linux/amd64", "linux/arm64")
IMAGES = {
    "docker.io/gocrane/craned": ("v0.9.0", "v0.10.0", "v0.11.0"),
    "docker.io/gocrane/crane-agent": ("v0.9.0", "v0.10.0", "v0.11.0"),
    "docker.io/library/nginx": ("1.28", "1.29"),
    "docker.io/library/redis": ("7.4", "8.2"),
    "docker.io/library/postgres": ("16", "17", "18"),
    "docker.io/library/python": ("3.12", "3.13", "3.14"),
    "docker.io/library/golang": ("1.24", "1.25"),
    "docker.io/library/node": ("22", "24"),
    "docker.io/library/alpine": ("3.21", "3.22"),
    "docker.io/library/debian": ("12", "13"),
    "docker.io/grafana/grafana": ("12.1.0", "12.2.0"),
    "docker.io/rancher/k3s": ("v1.33.5-k3s1", "v1.34.1-k3s1"),
    "quay.io/prometheus/prometheus": ("v3.5.0", "v3.6.0", "v3.7.0"),
    "quay.io/prometheus/alertmanager": ("v0.27.0", "v0.28.1"),
    "quay.io/prometheus/node-exporter": ("v1.8.2", "v1.9.1"),
    "quay.io/calico/node": ("v3.30.3", "v3.31.0"),
    "quay.io/calico/cni": ("v3.30.3", "v3.31.0"),
    "quay.io/cilium/cilium": ("v1.17.8", "v1.18.2"),
    "quay.io/argoproj/argocd": ("v3.0.16", "v3.1.8"),
    "quay.io/jetstack/cert-manager-controller": ("v1.18.2", "v1.19.0"),
    "registry.k8s.io/pause": ("3.9", "3.10"),
    "registry.k8s.io/kube-apiserver": ("v1.33.5", "v1.34.1"),
    "registry.k8s.io/coredns/coredns": ("v1.11.3", "v1.12.1"),
    "registry.k8s.io/metrics-server/metrics-server": ("v0.7.2", "v0.8.0"),
    "ghcr.io/fluxcd/source-controller": ("v1.6.2", "v1.7.0"),
    "ghcr.io/kedacore/keda": ("2.17.2", "2.18.0"),
    "ghcr.io/external-secrets/external-secrets": ("v0.19.2", "v0.20.1"),
    "ghcr.io/dexidp/dex": ("v2.43.1", "v2.44.0"),
}
CHARTS = {
    "grafana": ("grafana.github.io", "/helm-charts", ("grafana", "loki", "tempo")),
    "jetstack": ("charts.jetstack.io", "/stable", ("cert-manager",)),
    "ingress-nginx": ("kubernetes.github.io", "/ingress-nginx", ("ingress-nginx",)),
    "prometheus": ("prometheus-community.github.io", "/helm-charts", ("kube-prometheus-stack", "alertmanager")),
    "crane": ("gocrane.github.io", "/helm-charts", ("crane", "crane-agent")),
    "argo": ("argoproj.github.io", "/argo-helm", ("argo-cd", "argo-rollouts")),
    "cilium-charts": ("helm.cilium.io", "/stable", ("cilium",)),
}
CODE = ("gocrane/crane", "gocrane/crane-scheduler", "gocrane/helm-charts", "grafana/dashboards", "acme/platform")
ELSEWHERE = {"coding": "acme-docker.pkg.coding.net", "aliyun": "registry.cn-hangzhou.aliyuncs.com"}


def name_of(image: str) -> str:
    """Return the name of an image's mirror."""
    return image.removeprefix("quay.io/").replace("/", "-") if "calico" in image else image.rpartition("/")[2]


class Names(Server):
    """A proxy that leads each name to the server that has it."""

    def __init__(self, servers: Mapping[str, Server]) -> None:
        super().__init__()
        self._servers = servers

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        server = self._servers.get(request.host)
        return await server._handle(request) if server else web.Response(status=502)  # noqa: SLF001 - one server behind another


class World:
    """The servers that there are, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registries = {host: Registry(name=host) for host in {image.split("/")[0] for image in IMAGES}}
        self.places = {name: Registry(name=host) for name, host in ELSEWHERE.items()}
        self.charts = {name: ChartRepository(path=path) for name, (_, path, _) in CHARTS.items()}
        self.code = GitHost(folder / "git")
        self.dead = Registry()
        self.servers: dict[str, Server] = {"github.com": self.code}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Fill and start all of them; yields the address of the proxy."""
        await asyncio.to_thread(self._fill_code)
        for image, tags in IMAGES.items():
            host, _, path = image.partition("/")
            for tag in tags:
                size = 30_000 + hash(image + tag) % 60_000
                await push(
                    build_image(PLATFORMS, layer_size=size, seed=image + tag), self.registries[host], path, [tag]
                )
        for name, (host, _, charts) in CHARTS.items():
            for chart in charts:
                for version in ("1.4.0", "1.4.1", "2.0.0"):
                    self.charts[name].add(build_chart(chart, version))
            self.servers[host] = self.charts[name]
        self.servers |= {one.name: one for one in (*self.registries.values(), *self.places.values())}
        self.servers["registry-1.docker.io"] = self.registries["docker.io"]
        async with AsyncExitStack() as stack:
            for server in (*self.servers.values(), self.dead):
                if not server.host:
                    await stack.enter_async_context(server)
            yield (await stack.enter_async_context(Names(self.servers))).host

    def _fill_code(self) -> None:
        for name in CODE:
            upstream = Upstream(self.code.create(f"{name}.git"))
            upstream.commit("main", {"README.md": name.encode()})
            upstream.tag("v1.0.0", "main", annotated=True)
            upstream.commit("main", {"README.md": b"more"})

    def configuration(self, proxy: str) -> str:
        """Write the mirrors of everything."""
        hosts = {*self.servers, *self.registries} - {"registry-1.docker.io"}
        lines = [
            "settings: {listen: '127.0.0.1:0', url: 'https://mirror.example.com', stale: 30d}",
            "hosts:",
            *(f"  {host}: {{insecure: true, proxy: 'http://{proxy}'}}" for host in sorted(hosts)),
            "targets:",
            f"  coding: {{kind: image, to: {ELSEWHERE['coding']}/crane, page: 'https://acme.coding.net/{{mirror}}'}}",
            f"  aliyun: {{kind: image, to: {ELSEWHERE['aliyun']}/acme}}",
            f"  backup: {{kind: image, to: {self.dead.host}/backup}}",
            "front: {image: {upstreams: [docker.io, quay.io, ghcr.io], allow: ['docker.io/**', 'quay.io/**']}}",
            "mirrors:",
        ]
        for number, (image, tags) in enumerate(IMAGES.items()):
            name = name_of(image)
            targets = "[coding, aliyun, local]" if number < 2 else "[aliyun, local]" if number % 3 else "local"
            targets = "[backup, local]" if name == "kube-apiserver" else targets
            every = ("6h", "6h", "12h", "1d")[number % 4] if number > 1 else "1h"
            found = f"{{repository: {image}, tags: {[*tags]}}}"
            lines.append(f"  - {{name: {name}, kind: image, from: {found}, to: {targets}, every: {every}}}")
        for name, (host, path, _) in CHARTS.items():
            lines.append(f"  - {{name: {name}-charts, kind: helm, from: 'http://{host}{path}', to: local, every: 6h}}")
        for name in CODE:
            short = name.replace("/", "-")
            source = f"http://github.com/{name}.git"
            lines.append(f"  - {{name: {short}, kind: git, from: '{source}', to: local, cron: '17 3 * * *'}}")
        return "\n".join(lines) + "\n"
