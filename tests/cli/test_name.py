"""`mirrord name`: from an image to its names everywhere and back, by the configuration alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord import garbage
from mirrord.cli import main

ECR = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn"
HARBOR = "harbor.corp.example/mirror"
LISTED = "reg.example/listed/x-quay.io/calico/node"
DIGEST = f"sha256:{'ab' * 32}"
CONFIGURATION = f"""
settings: {{url: "https://mirror.corp.example"}}
hosts: {{{ECR}: {{auth: {{username: x, password: {{env: NOWHERE}}}}}}}}
names:
  aliases: {{k8s.gcr.io: registry.k8s.io, old.example: new.example}}
  hosts: {{docker.m.example: docker.io, m.example: "*"}}
  naming: path
targets:
  harbor: {{kind: image, to: {HARBOR}}}
  ecr: {{kind: image, to: {ECR}, naming: nwcd}}
  hub: {{kind: image, to: docker.io/corp, naming: flat}}
  braces: {{kind: image, to: "reg.example/{{mirror}}/x-{{name}}"}}
  files: {{kind: image, to: "oci:/srv/x"}}
  code: {{kind: git, to: https://git.example/x}}
mirrors:
  - {{name: nginx, kind: image, from: {{repository: docker.io/library/nginx}}, to: [harbor, ecr, local, files]}}
  - {{name: pause, kind: image, from: {{repository: k8s.gcr.io/pause}}, to: [ecr, hub]}}
  - {{name: mine, kind: image, from: {{layouts: /srv/y}}, to: [ecr, local]}}
  - {{name: own, kind: image, from: {{repository: ghcr.io/a/b}}, as: team/own, to: [hub]}}
  - {{name: taken, kind: image, from: {{repository: ghcr.io/a/c}}, as: new.example/taken, to: [harbor]}}
  - {{name: listed, kind: image, from: {{list: images.txt}}, to: [braces]}}
  - {{name: many, kind: image, from: {{registry: many.example, repositories: ["team/*"]}}, to: [braces]}}
  - {{name: old, kind: image, from: {{registry: old.example, repositories: ["*"]}}, to: [harbor]}}
  - name: part
    kind: image
    from: {{registry: part.example, repositories: {{match: ["/[a-z]+/app/"], exclude: ["scratch/*"]}}}}
    to: [harbor]
"""
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Run the command over the configuration; returns exit code, output and errors."""
    (tmp_path / "main.yaml").write_text(CONFIGURATION)
    (tmp_path / "images.txt").write_text("quay.io/calico/node:v3\n")
    monkeypatch.setattr(garbage, "look_briefly", lambda: None)
    monkeypatch.delenv("MIRRORD_LISTEN", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["name", *arguments, "--config", str(tmp_path)])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def named(typed: Typed, *arguments: str) -> dict[str, list[tuple[str, str | None]]]:
    """Return the names by target, each with its mirror."""
    code, out, _ = typed(*arguments, "--json")
    assert code == 0
    found: dict[str, list[tuple[str, str | None]]] = {}
    for row in json.loads(out)["names"]:
        found.setdefault(row["target"], []).append((row["name"], row["mirror"]))
    return found


def image(typed: Typed, reference: str) -> tuple[str | None, str | None]:
    """Return the image that a reference is, and why."""
    document = json.loads(typed(reference, "--json")[1])
    return document["image"], document["why"]


def test_an_image_has_a_name_at_every_target(typed: Typed) -> None:
    """Where a mirror copies it that is named; elsewhere it is what the naming says. No secret is needed."""
    assert named(typed, "nginx:1.29") == {
        "harbor": [(f"{HARBOR}/docker.io/library/nginx:1.29", "nginx")],
        "ecr": [(f"{ECR}/dockerhub/library/nginx:1.29", "nginx")],
        "hub": [("docker.io/corp/docker.io__library__nginx:1.29", None)],
        "files": [("oci:/srv/x/docker.io/library/nginx:1.29", "nginx")],
        "local": [("mirror.corp.example/docker.io/library/nginx:1.29", "nginx")],
    }


def test_an_alias_and_a_name_of_its_own(typed: Typed) -> None:
    """An image is called after what an alias stands for; `as:` comes before every naming."""
    assert named(typed, f"k8s.gcr.io/pause:3.9@{DIGEST}", "--at", "hub") == {
        "hub": [(f"docker.io/corp/registry.k8s.io__pause:3.9@{DIGEST}", "pause")]
    }
    assert named(typed, "registry.k8s.io/pause", "--at", "ecr") == {"ecr": [(f"{ECR}/registryk8sio/pause", "pause")]}
    assert named(typed, "ghcr.io/a/b", "--at", "hub") == {"hub": [("docker.io/corp/team/own", "own")]}


def test_mirrors_of_many_repositories(typed: Typed) -> None:
    """What a list names, and what a glob matches, is mirrored; what they leave out is not."""
    assert named(typed, "quay.io/calico/node")["braces"] == [(LISTED, "listed")]
    assert named(typed, "many.example/team/a")["braces"] == [("reg.example/many/x-many.example/team/a", "many")]
    assert "braces" not in named(typed, "many.example/other/a")
    assert typed("part.example/team/app", "--at", "harbor")[1].split()[-1] == "part"
    for left_out in ("part.example/scratch/app", "part.example/team/app/x"):
        assert typed(left_out, "--at", "harbor")[1].split()[-1] == "-"
    assert named(typed, "old.example/a", "--at", "harbor") == {"harbor": [(f"{HARBOR}/new.example/a", "old")]}


def test_a_name_that_is_taken(typed: Typed) -> None:
    """A repository that a run leaves out, because another image has its name, has no mirror here either."""
    code, out, err = typed("old.example/taken", "--at", "harbor")
    assert (code, out.splitlines()[-1].split()) == (0, ["harbor", f"{HARBOR}/new.example/taken", "-"])
    assert f"old.example/taken is called {HARBOR}/new.example/taken, and so is ghcr.io/a/c (" in err
    assert err.count("\n") == 1
    assert image(typed, f"{HARBOR}/new.example/taken:1") == ("ghcr.io/a/c:1", f"{HARBOR}/new.example/taken at harbor")


def test_a_list_that_cannot_be_read_is_named_once(typed: Typed, tmp_path: Path) -> None:
    """The other mirrors answer."""
    (tmp_path / "images.txt").unlink()
    code, out, err = typed("quay.io/calico/node", "--at", "harbor")
    assert (code, out.splitlines()[-1].split()[-1]) == (0, "-")
    assert (err.count("\n"), err.count("images.txt")) == (1, 1)


@pytest.mark.parametrize(
    ("written", "meant", "why"),
    [
        (f"{HARBOR}/ghcr.io/a/b:7", "ghcr.io/a/b:7", f"{HARBOR}/ghcr.io/a/b at harbor"),
        (f"{ECR}/gcr/a/b", "gcr.io/a/b", f"{ECR}/gcr/a/b at ecr"),
        (f"{ECR}/registryk8sio/pause", "registry.k8s.io/pause", f"{ECR}/registryk8sio/pause at ecr"),
        ("docker.io/corp/team/own:1", "ghcr.io/a/b:1", "docker.io/corp/team/own at hub"),
        (f"docker.io/corp/quay.io__a__b@{DIGEST}", f"quay.io/a/b@{DIGEST}", "docker.io/corp/quay.io__a__b at hub"),
        (LISTED, "quay.io/calico/node", f"{LISTED} at braces"),
        ("mirror.corp.example/quay.io/a/b", "quay.io/a/b", "mirror.corp.example/quay.io/a/b at local"),
        ("docker.m.example/nginx", "docker.io/library/nginx", "names.hosts has docker.m.example"),
        ("m.example/k8s.gcr.io/pause:3", "registry.k8s.io/pause:3", "names.hosts has m.example"),
        ("k8s.gcr.io/pause", "registry.k8s.io/pause", "names.aliases for k8s.gcr.io/pause"),
        ("index.docker.io/nginx", "docker.io/library/nginx", None),
        (f"{ECR}/elsewhere/x", f"{ECR}/elsewhere/x", None),
    ],
)  # fmt: skip
def test_a_name_elsewhere_leads_back(typed: Typed, written: str, meant: str, why: str | None) -> None:
    """Names at targets, in `local` and under our own hosts are the image that they are a name of."""
    assert image(typed, written) == (meant, why)


def test_what_has_no_source_at_a_registry(typed: Typed) -> None:
    """The image of a mirror of layouts is known by its mirror."""
    code, out, _ = typed(f"{ECR}/mine:main")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["image", "of", "mirror", "'mine'", f"({ECR}/mine", "at", "ecr)"],
        ["TARGET", "NAME", "MIRROR"],
        ["ecr", f"{ECR}/mine:main", "mine"],
        ["local", "mirror.corp.example/mine:main", "mine"],
    ]


def test_a_name_that_a_registry_refuses_is_none(typed: Typed) -> None:
    """What no mirror can be called is left out, with the reason."""
    code, out, err = typed(f"quay.io/{'a' * 230}", "--at", "harbor")
    assert (code, out) == (1, "")
    assert "at most 255" in err


def test_what_people_may_ask_for(typed: Typed, tmp_path: Path) -> None:
    """An image that no mirror copies has the name under which it is copied when somebody asks for it."""
    asking = "asking: {to: [harbor], allow: [ghcr.io/a/*]}\n"
    (tmp_path / "asking.yaml").write_text(asking)
    found = named(typed, "ghcr.io/a/new:1")
    assert found["harbor"] == [(f"{HARBOR}/ghcr.io/a/new:1", "asked")]
    assert found["hub"] == [("docker.io/corp/ghcr.io__a__new:1", None)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nginx", "--at", "hubb"), 64, "--at 'hubb' is not an image target; did you mean 'hub'?"),
        (("nginx", "--at", "code"), 64, "--at 'code' is not an image target"),
        (("Nginx",), 64, "a repository is lower case"),
        (("nginx", "--at", "braces"), 1, "docker.io/library/nginx has no name at 'braces': no mirror copies it there"),
    ],
)
def test_mistakes(typed: Typed, arguments: tuple[str, ...], code: int, words: str) -> None:
    """What is wrong, and what to write."""
    found, out, err = typed(*arguments)
    assert (found, out) == (code, "")
    assert words in err


FRONT = """
front:
  image:
    upstreams: [docker.io, quay.io, "port.example:5000", "dark.example:5000", "hosted.example:5000"]
    allow: allows.txt
    deny: [quay.io/bad/**]
"""


@pytest.fixture
def fronted(typed: Typed, tmp_path: Path) -> Typed:
    """Add a front, and an alias and a host for two of its upstreams that have a port."""
    text = CONFIGURATION.replace("aliases: {", 'aliases: {up.example: "port.example:5000", ')
    text = text.replace("hosts: {docker.m", 'hosts: {in.m.example: "hosted.example:5000", docker.m')
    (tmp_path / "main.yaml").write_text(text + FRONT)
    hosts = ("docker.io/library/*", "quay.io/**", "*.example:5000/**")
    lines = [*hosts[:2], *(hosts[2].replace("*", name, 1) for name in ("port", "dark", "hosted"))]
    (tmp_path / "allows.txt").write_text("".join(f"{line}\n" for line in lines))
    return typed


@pytest.mark.parametrize(
    ("image_at_source", "called"),
    [
        ("nginx:1.29", "mirror.corp.example/docker.io/library/nginx:1.29"),
        (f"quay.io/a/b@{DIGEST}", f"mirror.corp.example/quay.io/a/b@{DIGEST}"),
        ("port.example:5000/a/b:1", "mirror.corp.example/up.example/a/b:1"),
        ("hosted.example:5000/a/b:1", "in.m.example/a/b:1"),
        ("dark.example:5000/a/b", None),  # only containerd's ns= can name it
        ("docker.io/other/nginx", None),  # no line
        ("quay.io/bad/x", None),  # denied
        ("ghcr.io/a/b", None),  # no upstream
    ],
)
def test_what_clients_pull_through_the_front(fronted: Typed, image_at_source: str, called: str | None) -> None:
    """An image that the front allows has a name there, which leads back to the image."""
    assert named(fronted, image_at_source).get("front") == ([(called, None)] if called else None)
    assert "front" not in named(fronted, image_at_source, "--at", "harbor")
    if called:
        first, back = json.loads(fronted(image_at_source, "--json")[1]), json.loads(fronted(called, "--json")[1])
        assert (back["image"], back["names"]) == (first["image"], first["names"])


def test_a_bad_list_of_the_front_is_a_notice(fronted: Typed, tmp_path: Path) -> None:
    """The names at the targets are shown all the same."""
    (tmp_path / "allows.txt").write_text("quay.io/a/b:v1\n")
    code, out, err = fronted("quay.io/a/b")
    assert (code, "front" in out, "harbor" in out) == (0, False, True)
    assert err.startswith(f"notice: {tmp_path}/allows.txt:1: ")


def test_an_address_of_one_word(typed: Typed, tmp_path: Path) -> None:
    """It gets its port, as references need it: without one the word is the beginning of a path at Docker Hub."""
    (tmp_path / "main.yaml").write_text(CONFIGURATION.replace("mirror.corp.example", "mirror"))
    place = "mirror:443/docker.io/library/nginx"
    assert named(typed, "nginx")["local"] == [(place, "nginx")]
    assert named(typed, place) == named(typed, "nginx")
