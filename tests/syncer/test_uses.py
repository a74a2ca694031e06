"""How clients use what a target has: the commands and the links of the three kinds, without any network."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.syncer.port import Syncer, load_syncers
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.wire.host import HostBook, HostPolicy

URL = "https://mirror.example.org"
SYNCERS = load_syncers()
BOOK = HostBook()
CODING = "https://finops.coding.net/public-artifacts/gocrane/crane/packages"


def made(kind: str, to: str, spec: dict[str, Any], page: str = "", **options: Any) -> tuple[Syncer, Mirror, Target]:
    syncer = SYNCERS[kind]
    name = LOCAL if to == LOCAL else "there"
    target = Target(name, kind, to, syncer.target_spec.model_validate(options), page=page)
    return syncer, Mirror("crane", kind, syncer.spec.model_validate(spec), (target,)), target


def image(to: str, page: str = "", **source: Any) -> tuple[Syncer, Mirror, Target]:
    return made("image", to, {"from": {"repository": "docker.io/gocrane/craned", **source}}, page)


def charts(to: str, page: str = "", **options: Any) -> tuple[Syncer, Mirror, Target]:
    return made("helm", to, {"from": "https://charts.example"}, page, **options)


def code(to: str, page: str = "", **options: Any) -> tuple[Syncer, Mirror, Target]:
    return made("git", to, {"from": "https://github.com/gocrane/crane.git"}, page, **options)


def commands(made: tuple[Syncer, Mirror, Target], item: str = "", url: str = URL, book: HostBook = BOOK) -> list[str]:
    syncer, mirror, target = made
    return [usage.command for usage in syncer.uses_of(mirror, target, url, book, item)]


def both(name: str, flag: str = "") -> list[str]:
    return [f"docker pull {name}", f"podman pull {flag}{name}"]


IMAGES = [
    (image("ghcr.io/a"), "v1", both("ghcr.io/a/crane:v1")),
    (image("ghcr.io/a"), f"sha256:{'a' * 64}", both(f"ghcr.io/a/crane@sha256:{'a' * 64}")),
    (image(LOCAL), "v1", both("mirror.example.org/crane:v1")),
    (image("127.0.0.1:5001/a"), "v1", both("127.0.0.1:5001/a/crane:v1", "--tls-verify=false ")),
    (
        image("localhost:5001/a", tags=["v*"]),
        "",
        ["skopeo list-tags --tls-verify=false docker://localhost:5001/a/crane"],
    ),
    (image("oci:/srv/layouts"), "v1", ["podman pull oci:/srv/layouts/crane:v1"]),
    (image("oci:/srv/layouts"), f"sha256:{'a' * 64}", []),
    (
        image("ghcr.io/a", tags=["v*", "main"]),
        "",
        [*both("ghcr.io/a/crane:main"), "skopeo list-tags docker://ghcr.io/a/crane"],
    ),
    (image("ghcr.io/a", tags=["v*"]), "", ["skopeo list-tags docker://ghcr.io/a/crane"]),
    (
        image(LOCAL),
        "",
        [*both("mirror.example.org/crane:latest"), "skopeo list-tags docker://mirror.example.org/crane"],
    ),
]


@pytest.mark.parametrize(("made", "item", "wanted"), IMAGES)
def test_images(made: tuple[Syncer, Mirror, Target], item: str, wanted: list[str]) -> None:
    """An item is pulled by its full name; of the mirror as a whole, a tag that it surely has, and the list of tags."""
    assert commands(made, item) == wanted


@pytest.mark.parametrize("source", [{"registry": "docker.io", "repositories": ["library/*"]}, {"list": "images.txt"}])
def test_many_images(source: dict[str, Any]) -> None:
    """A mirror of many repositories names its items in full, whatever the item is; as a whole it has no command."""
    there = made("image", "registry.example/hub", {"from": source})
    assert commands(there, "docker.io/library/nginx:1.25") == both("registry.example/hub/docker.io/library/nginx:1.25")
    pinned = f"docker.io/library/nginx:1.25@sha256:{'a' * 64}"
    assert commands(there, pinned) == both("registry.example/hub/docker.io/library/nginx:1.25")
    assert commands(there, "no reference at all") == []
    assert commands(there) == []
    here = made("image", LOCAL, {"from": source})
    assert commands(here, "docker.io/library/nginx:1.25") == both("mirror.example.org/docker.io/library/nginx:1.25")


CHARTS = [
    (charts(LOCAL), "", ["helm repo add crane https://mirror.example.org/helm/crane"]),
    (
        charts(LOCAL),
        "cert-manager-v1.13.0+a",
        [
            "helm pull cert-manager --repo https://mirror.example.org/helm/crane --version v1.13.0+a",
            "curl -fLO https://mirror.example.org/helm/crane/charts/cert-manager-v1.13.0%2Ba.tgz",
        ],
    ),
    (
        charts("https://finops-helm.pkg.coding.net/gocrane/{mirror}", api="coding"),
        "a-1.0.0-rc.1",
        ["helm pull a --repo https://finops-helm.pkg.coding.net/gocrane/crane --version 1.0.0-rc.1"],
    ),
    (charts("oci://ghcr.io/gocrane/charts"), "a-2", ["helm pull oci://ghcr.io/gocrane/charts/a --version 2"]),
    (charts("oci://ghcr.io/gocrane/charts"), "", []),
    (charts("/srv/charts"), "a b-1.0.0", ["helm show chart '/srv/charts/charts/a b-1.0.0.tgz'"]),
    (charts(LOCAL), "noversion", []),
    (charts(LOCAL), "1" * 10_000, []),
]


@pytest.mark.parametrize(("made", "item", "wanted"), CHARTS)
def test_charts(made: tuple[Syncer, Mirror, Target], item: str, wanted: list[str]) -> None:
    """A chart version is pulled by chart and version, as its target takes it; a repository is added under a name."""
    assert commands(made, item) == wanted


REPOSITORIES = [
    (
        code(LOCAL),
        "refs/heads/feature/x",
        [
            "git clone --branch feature/x https://mirror.example.org/git/crane.git",
            "curl -fL https://mirror.example.org/raw/crane/refs/heads/feature/x/README.md",
        ],
    ),
    (
        code("git@gitee.com:finops"),
        "refs/tags/v1",
        [
            "git clone --branch v1 https://gitee.com/finops/crane.git",
            "curl -fL https://gitee.com/finops/crane/raw/v1/README.md",
        ],
    ),
    (code("git@git.corp.example:team"), "", ["git clone git@git.corp.example:team/crane"]),
    (
        code("https://e.coding.net/finops/gocrane"),
        "refs",
        ["git clone https://e.coding.net/finops/gocrane/crane.git"],
    ),
    (
        code("https://github.com/finops"),
        "",
        [
            "git clone https://github.com/finops/crane.git",
            "curl -fL https://raw.githubusercontent.com/finops/crane/HEAD/README.md",
        ],
    ),
]


@pytest.mark.parametrize(("made", "item", "wanted"), REPOSITORIES)
def test_repositories(made: tuple[Syncer, Mirror, Target], item: str, wanted: list[str]) -> None:
    """A repository is cloned over HTTPS where its host has that; a file comes by its raw URL where there is one."""
    assert commands(made, item) == wanted


@pytest.mark.parametrize("made", [image(LOCAL), charts(LOCAL), code(LOCAL)])
def test_local_without_an_address(made: tuple[Syncer, Mirror, Target]) -> None:
    """While nobody knows the address of this server, nobody is told to use it; plain HTTP is said to podman."""
    assert commands(made, url="") == []
    assert not any("--tls-verify" in command for command in commands(made))
    flags = [command for command in commands(made, url="http://127.0.0.1:8080") if "--tls-verify=false" in command]
    assert [shlex.split(command)[0] for command in flags] == (["podman", "skopeo"] if made[1].kind == "image" else [])


PLAIN = HostBook({"lab:5000": HostPolicy("lab:5000", insecure=True), "lab": HostPolicy("lab", insecure=True)})
WHOLE = HostBook({"127.0.0.1:5000": HostPolicy("127.0.0.1:5000", insecure=False)})


def test_plain_http_as_hosts_say() -> None:
    """What `hosts:` says of plain HTTP is said to each program that asks for HTTPS by itself, and nothing else is."""
    flag = "--tls-verify=false "
    assert commands(image("lab:5000/a"), "v1", book=PLAIN) == both("lab:5000/a/crane:v1", flag)
    assert commands(image("lab:5000/a", tags=["v*"]), book=PLAIN) == [
        f"skopeo list-tags {flag}docker://lab:5000/a/crane"
    ]
    assert commands(image("ghcr.io/a"), "v1", book=PLAIN) == both("ghcr.io/a/crane:v1")
    assert commands(image("127.0.0.1:5000/a"), "v1", book=WHOLE) == both("127.0.0.1:5000/a/crane:v1")
    pull = "helm pull --plain-http oci://{}/charts/a --version 2"
    assert commands(charts("oci://lab:5000/charts"), "a-2", book=PLAIN) == [pull.format("lab:5000")]
    assert commands(charts("oci://127.0.0.1:5000/charts"), "a-2") == [pull.format("127.0.0.1:5000")]
    assert "--plain-http" not in commands(charts("oci://127.0.0.1:5000/charts"), "a-2", book=WHOLE)[0]
    assert commands(code("git@lab:team", host="gitea"), "x", book=PLAIN)[0] == "git clone http://lab/team/crane.git"


LINKS = [
    (image("docker.io/gocrane"), "https://hub.docker.com/r/gocrane/crane"),
    (image("docker.io/library"), "https://hub.docker.com/_/crane"),
    (image("quay.io/gocrane"), "https://quay.io/repository/gocrane/crane"),
    (image("ghcr.io/gocrane/x"), "https://github.com/orgs/gocrane/packages/container/package/x%2Fcrane"),
    (image("finops-docker.pkg.coding.net/gocrane/crane"), CODING),
    (image("registry.corp.example/team"), ""),
    (image("oci:/srv/layouts"), ""),
    (image(LOCAL), ""),
    (image("docker.io/gocrane", "https://a.example/{mirror}/{name}?x=1"), "https://a.example/crane/crane?x=1"),
    (charts("https://finops-helm.pkg.coding.net/gocrane/{mirror}", api="coding"), CODING),
    (charts("https://museum.example/", api="chartmuseum"), "https://museum.example"),
    (charts("oci://quay.io/charts"), "https://quay.io/repository/charts"),
    (charts("/srv/charts"), ""),
    (charts("/srv/charts", "https://charts.example/"), "https://charts.example/"),
    (code("git@gitee.com:finops"), "https://gitee.com/finops/crane"),
    (code("https://e.coding.net/finops/gocrane"), "https://finops.coding.net/public/gocrane/crane/git/files"),
    (code("http://127.0.0.1:3000/team", host="gitea"), "http://127.0.0.1:3000/team/crane"),
    (code("https://git.corp.example/team"), "https://git.corp.example/team/crane"),
    (code("ssh://git@git.corp.example/team"), ""),
    (
        made("image", "docker.io/a", {"from": {"list": "a.txt"}}, "https://a.example/{mirror}"),
        "https://a.example/crane",
    ),
    (made("image", "docker.io/a", {"from": {"list": "a.txt"}}, "https://a.example/{name}"), ""),
    (made("image", "docker.io/a", {"from": {"list": "a.txt"}}), ""),
]


@pytest.mark.parametrize(("made", "wanted"), LINKS)
def test_links(made: tuple[Syncer, Mirror, Target], wanted: str) -> None:
    """A link leads to a page for people, as the host is known to have one; `page` of the target wins."""
    syncer, mirror, target = made
    assert syncer.link_of(mirror, target) == wanted


@given(st.text(max_size=200), st.sampled_from([image(LOCAL), charts(LOCAL), charts("/srv/c"), code(LOCAL)]))
def test_names_of_strangers(item: str, made: tuple[Syncer, Mirror, Target]) -> None:
    """Whatever an item is called, its commands are single lines in which a shell finds the same words."""
    for command in commands(made, item):
        assert command.isprintable()
        assert shlex.join(shlex.split(command)) == command
