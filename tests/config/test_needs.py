"""Entries of `hosts:` that nobody needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mirrord.config.load import Configuration, load_folder, read_folder
from mirrord.syncer.port import Syncer, load_syncers

USED = """
targets:
  corp: {kind: image, to: registry.corp.example:5000/mirror}
  spare: {kind: image, to: spare.example/mirror}
  shop: {kind: helm, to: "https://charts.shop.example/{mirror}", api: chartmuseum}
  lab: {kind: git, to: "ssh://git@lab.example:2222/team/{name}", host: gitea}
mirrors:
  - {name: app, kind: image, from: {repository: nginx, tags: ["1.29"]}, to: [corp, local]}
  - {name: built, kind: image, from: {layouts: /srv/builds}, to: local}
  - {name: charts, kind: helm, from: oci://ghcr.io/team/app, to: [shop, local]}
  - {name: code, kind: git, from: "https://git.example/team/code.git", to: [lab, local]}
"""
NAMED = (
    *("docker.io", "index.docker.io", "registry.corp.example:5000", "spare.example", "GHCR.io"),
    *("charts.shop.example", "git.example", "lab.example:2222", "lab.example"),
)


def load(folder: Path, hosts: tuple[str, ...], syncers: Mapping[str, Syncer] | None = None) -> Configuration:
    (folder / "a.yaml").write_text(f"hosts: {{{', '.join(f'{host!r}: {{requests: 2}}' for host in hosts)}}}{USED}")
    return load_folder(folder, syncers or load_syncers(), {})


def of_hosts(configuration: Configuration) -> list[str]:
    return [notice for notice in configuration.notices if ": hosts." in notice]


@pytest.mark.parametrize("host", NAMED)
def test_hosts_that_are_named(tmp_path: Path, host: str) -> None:
    """A source, a target, the pages of an SSH host, and a target without mirrors need their host: no notice."""
    assert of_hosts(load(tmp_path, (host,))) == []


@pytest.mark.parametrize(
    ("host", "rest"),
    [
        ("registry.corp.exmaple:5000", "did you mean 'registry.corp.example:5000'?"),
        ("registry.corp.example", "did you mean 'registry.corp.example:5000'?"),
        ("gchr.io", "did you mean 'ghcr.io'?"),
        ("docker.com", "it applies only where another host redirects to it"),
        ("cdn.git.example", "it applies only where another host redirects to it"),
        ("ci.example", "it applies only where another host redirects to it"),
    ],
)
def test_hosts_that_nobody_names(tmp_path: Path, host: str, rest: str) -> None:
    """A host that no mirror and no target names is a notice with its place, and with what was meant if that is near."""
    (notice,) = of_hosts(load(tmp_path, (host, "ghcr.io")))
    assert notice == f"{tmp_path}/a.yaml:1: hosts.{host}: no mirror and no target names this host; {rest}"


def test_the_api_of_a_registry_is_needed(tmp_path: Path) -> None:
    """GitLab's own host has rules for lists of its registry; for Docker Hub those of docker.io count."""
    text = """
hosts:
  gitlab.com: {requests: 2}
  hub.docker.com: {requests: 2}
  r.example: {profile: gitlab, token_realms: [https://gitlab.example, https://old.example]}
  gitlab.example: {requests: 2}
  old.example: {requests: 2}
mirrors:
  - {name: a, kind: image, from: {repository: docker.io/library/nginx}, to: local}
  - {name: b, kind: image, from: {registry: registry.gitlab.com, repositories: [team/*]}, to: local}
  - {name: c, kind: image, from: {registry: r.example, repositories: [team/*]}, to: local}
"""
    (tmp_path / "a.yaml").write_text(text)
    notices = of_hosts(load_folder(tmp_path, load_syncers(), {}))
    unused = [notice.partition(": no mirror")[0].rpartition("hosts.")[2] for notice in notices]
    assert unused == ["hub.docker.com", "old.example"]


def test_targets_that_nobody_names(tmp_path: Path) -> None:
    """A target that no mirror writes to is a notice with its place."""
    unused = "no mirror writes to this target, so its `to` was not checked"
    assert load(tmp_path, ()).notices == (f"{tmp_path}/a.yaml:4: targets.spare: {unused}",)


def test_kinds_that_cannot_tell(load: Callable[..., Configuration]) -> None:
    """Where a kind does not say which hosts it needs, none is reported."""
    text = "hosts: {a.example: {requests: 2}}\nmirrors: [{name: m, kind: image, from: {layouts: /b}, to: local}]"
    assert load(text).notices == ()


@pytest.mark.parametrize(
    ("hosts", "environ", "told"),
    [
        ((), {"HTTPS_PROXY": "http://p.example:3128"}, "HTTPS_PROXY"),
        (("ghcr.io",), {"http_proxy": "p.example:3128", "no_proxy": "ghcr.io"}, "http_proxy"),
        ((), {"HTTPS_PROXY": "", "NO_PROXY": "*"}, ""),
    ],
)
def test_a_proxy_of_the_environment(
    tmp_path: Path, hosts: tuple[str, ...], environ: Mapping[str, str], told: str
) -> None:
    """Mirrors use the proxies of `hosts:` alone; where there are none, a proxy of the environment is a notice."""
    (tmp_path / "a.yaml").write_text(f"hosts: {{{', '.join(f'{host}: {{requests: 2}}' for host in hosts)}}}{USED}")
    said = [notice for notice in load_folder(tmp_path, load_syncers(), environ).notices if "`proxy:`" in notice]
    fix = "is set, and only `mirrord copy` uses it; for mirrors write `proxy:` under hosts:, at each host"
    assert said == ([f"{told} {fix}"] if told else [])


def test_a_proxy_that_no_mirror_needs(tmp_path: Path) -> None:
    """Where `hosts:` names a proxy, or all is on this machine, the environment is no notice."""
    environ = {"HTTPS_PROXY": "http://p.example:3128"}
    (tmp_path / "a.yaml").write_text("hosts: {docker.io: {proxy: 'http://q.example:3128'}}" + USED)
    assert not any("HTTPS_PROXY" in notice for notice in load_folder(tmp_path, load_syncers(), environ).notices)
    here = "{name: a, kind: image, from: {repository: '127.0.0.1:5000/a'}, to: local}"
    (tmp_path / "a.yaml").write_text(f"mirrors: [{here}]")
    assert load_folder(tmp_path, load_syncers(), environ).notices == ()


def test_a_list_may_need_every_host(tmp_path: Path) -> None:
    """The registries of a list are known to its run only: no host is unused, and it needs every absent secret."""
    auth = "{auth: {username: a, password: {env: NOWHERE}}}"
    text = (
        f"hosts: {{ghcr.io: {auth}, other.example: {{requests: 2}}}}\nmirrors:\n"
        "  - {name: one, kind: image, from: {repository: ghcr.io/a/b}, to: local}\n"
        "  - {name: two, kind: image, from: {repository: quay.io/a/b}, to: local}\n"
        "  - {name: many, kind: image, from: {list: images.txt}, to: local}\n"
    )
    (tmp_path / "a.yaml").write_text(text)
    read = read_folder(tmp_path, load_syncers(), {})
    assert [notice for notice in read.notices if "hosts." in notice] == []
    assert [one.mirrors for one in read.absent] == [frozenset({"one", "many"})]
