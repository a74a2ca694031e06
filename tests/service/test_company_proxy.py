"""Mirrors whose hosts are behind a company's proxy that wants a password."""

from __future__ import annotations

from pathlib import Path

from mirrord.testing import Registry, build_image, push, require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.commands import Desk
from tests.support.forwarding import ForwardProxy
from tests.support.tls import Authority

CONFIGURATION = """
hosts:
  reg.test: {{ca: {ca}, {proxy}}}
  charts.test: {{insecure: true, {proxy}}}
  git.test: {{insecure: true, {proxy}}}
targets:
  registry: {{kind: image, to: reg.test/copy}}
  forge: {{kind: git, to: "http://git.test/{{name}}.git"}}
mirrors:
- {{name: app, kind: image, from: {{repository: reg.test/a, tags: [v1]}}, to: [registry, local]}}
- {{name: charts, kind: helm, from: "http://charts.test", to: local}}
- {{name: code, kind: git, from: "http://git.test/up.git", to: [forge, local]}}
"""


async def test_each_kind_goes_through_it(tmp_path: Path) -> None:
    """`proxy:` and `proxy_auth:` bring images, charts, fetches and pushes to hosts that only the proxy can resolve."""
    require("git")
    desk, image, authority = Desk(tmp_path), build_image(layer_size=50_000), Authority(tmp_path)
    login = ("corp@user", "c4nary:p/w")
    async with (
        Registry(tls=authority.server("reg.test")) as registry,
        ChartRepository() as charts,
        GitHost(tmp_path / "hosted") as host,
    ):
        await push(image, registry, "a", ["v1"])
        charts.add(build_chart("app", "1.0.0"))
        Upstream(host.create("up.git")).commit("main", {"a": b"a"}, parent=None)
        forge = host.create("code.git")
        names = {"reg.test:443": registry.host, "charts.test": charts.host, "git.test": host.host}
        async with ForwardProxy(names, login) as proxy:
            keys = f"proxy: 'http://{proxy.host}', proxy_auth: {{username: {login[0]}, password: {{env: PROXY}}}}"
            desk.configure(CONFIGURATION.format(ca=authority.ca, proxy=keys))
            said = await desk.run("sync", PROXY=login[1])
            assert said.status == 0, said
            asked = {line.split("?")[0] for line in proxy.asked}
            wrong = await desk.run("sync", PROXY="wrong")
    assert registry.tags["copy/app"] == {"v1": image.digest}
    assert (forge / "refs/heads/main").exists()
    assert "CONNECT reg.test:443" in asked
    assert "GET http://charts.test/index.yaml" in asked
    assert {"POST http://git.test/up.git/git-upload-pack", "POST http://git.test/code.git/git-receive-pack"} <= asked
    assert wrong.status == 69, wrong
    assert wrong.out.count("wants other credentials than it got (status 407); correct `proxy_auth:` under hosts:") == 3
    for text in (said.out, said.err, wrong.out, wrong.err):
        assert "c4nary" not in text
