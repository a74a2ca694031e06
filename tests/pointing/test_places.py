"""Where images are at the mirror, by the configuration alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.config.load import Configuration, read_folder
from mirrord.errors import ConfigError, UsageError
from mirrord.pointing.places import Direct, Left, MirrorPlace, Places
from mirrord.syncer.port import load_syncers
from mirrord.wire.oci.reference import Reference

SYNCERS = load_syncers()
DIGEST = f"sha256:{'ab' * 32}"
OTHER = f"sha256:{'cd' * 32}"
FRONT = "front: {image: {upstreams: [docker.io, quay.io], allow: [docker.io/*, quay.io/calico/**]}}"
CONFIGURATION = f"""
settings: {{url: "https://m.example"}}
names: {{aliases: {{k8s.gcr.io: registry.k8s.io}}, hosts: {{docker.m.example: docker.io}}, naming: path}}
{FRONT}
targets:
  harbor: {{kind: image, to: harbor.example/m}}
  hub: {{kind: image, to: docker.io/corp, naming: flat}}
  each: {{kind: image, to: "each.example/{{mirror}}/{{name}}"}}
  files: {{kind: image, to: "oci:/srv/x"}}
mirrors:
  - {{name: nginx, kind: image, from: {{repository: nginx, tags: ["1.*", stable]}}, to: [harbor, local, files]}}
  - {{name: pause, kind: image, from: {{repository: "k8s.gcr.io/pause:3.9"}}, to: [harbor]}}
  - {{name: pinned, kind: image, from: {{repository: "ghcr.io/a/b:1@{DIGEST}"}}, to: [harbor]}}
  - {{name: listed, kind: image, from: {{list: mirror.txt}}, to: [harbor]}}
  - name: team
    kind: image
    from: {{registry: team.example, repositories: ["app/*"], tags: {{newest: 3}}}}
    to: [each]
  - {{name: built, kind: image, from: {{layouts: /srv/y}}, to: [harbor, local]}}
"""
LIST = "registry.k8s.io/ingress-nginx/controller\nquay.io/calico/node:^v3\\.\n"


@pytest.fixture
def read(tmp_path: Path) -> Configuration:
    """The configuration, with its list."""
    (tmp_path / "mirror.txt").write_text(LIST)
    return configured(tmp_path, CONFIGURATION)


def configured(folder: Path, text: str) -> Configuration:
    (folder / "a.yaml").write_text(text)
    return read_folder(folder, SYNCERS, {})


def found(places: Places, text: str) -> str:
    """Return `WHERE NAME MIRROR` of the image, or the reason why it is left."""
    reference = places.read(text)
    place = places.of(reference) if isinstance(reference, Reference) else reference
    if isinstance(place, MirrorPlace):
        return f"{place.where} {place.reference} {place.mirror}"
    return place.reason if isinstance(place, Left) else f"direct {place.text}"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nginx:1.29", "harbor harbor.example/m/docker.io/library/nginx:1.29 nginx"),
        (f"docker.io/nginx:stable@{DIGEST}", f"harbor harbor.example/m/docker.io/library/nginx:stable@{DIGEST} nginx"),
        ("nginx:mainline", "unlisted"),
        ("nginx", "unlisted"),
        (f"nginx@{DIGEST}", "unlisted"),
        ("k8s.gcr.io/pause:3.9", "harbor harbor.example/m/registry.k8s.io/pause:3.9 pause"),
        ("registry.k8s.io/pause:3.9", "harbor harbor.example/m/registry.k8s.io/pause:3.9 pause"),
        ("registry.k8s.io/pause:3.10", "unlisted"),
        (f"ghcr.io/a/b@{DIGEST}", f"harbor harbor.example/m/ghcr.io/a/b@{DIGEST} pinned"),
        (f"ghcr.io/a/b@{OTHER}", "unlisted"),
        (f"ghcr.io/a/b:1@{OTHER}", "unlisted"),
        ("ghcr.io/a/b:1", "harbor harbor.example/m/ghcr.io/a/b:1 pinned"),
        ("quay.io/calico/node:v3.30.1", "harbor harbor.example/m/quay.io/calico/node:v3.30.1 listed"),
        ("quay.io/calico/node:v2", "unlisted"),
        (
            "registry.k8s.io/ingress-nginx/controller:v1.8.1",
            "harbor harbor.example/m/registry.k8s.io/ingress-nginx/controller:v1.8.1 listed",
        ),
        ("registry.k8s.io/ingress-nginx/controller:v1.8.1-alpha1", "unlisted"),
        ("team.example/app/a:1.2", "each each.example/team/team.example/app/a:1.2 team"),
        ("team.example/other/a:1.2", "unlisted"),
        ("harbor.example/m/docker.io/library/nginx:1.29", "at_mirror"),
        ("harbor.example/other:1", "unlisted"),
        ("docker.io/corp/docker.io__library__nginx:1", "at_mirror"),
        ("m.example/docker.io/library/nginx:1.29", "at_mirror"),
        ("docker.m.example/library/nginx:1.29", "at_mirror"),
        ("each.example/team/x:1", "at_mirror"),
        ("harbor.example/m:1", "at_mirror"),
        ("direct.to/nginx:1.29", "direct nginx:1.29"),
        ("{{ .Values.image }}", "template"),
        ("nginx:${TAG}", "template"),
        ("nginx:::", "invalid"),
        ("", "invalid"),
    ],
)
def test_images_of_mirrors(read: Configuration, image: str, expected: str) -> None:
    """Only what a mirror names with this tag is pointed at its target; tag and digest are kept."""
    assert found(Places(read, to=["harbor", "each"], policy="listed"), image) == expected


def test_the_front(read: Configuration) -> None:
    """What the front's list allows is there with every tag; it is where users are pointed by default."""
    places = Places(read, policy="listed")
    assert places.to == ("front",)
    assert found(places, "nginx:whatever") == "front m.example/docker.io/library/nginx:whatever None"
    assert found(places, f"quay.io/calico/cni@{DIGEST}") == f"front m.example/quay.io/calico/cni@{DIGEST} None"
    assert found(places, "quay.io/other/x:1") == "unnamed"
    assert found(places, "ghcr.io/a/b:1") == "unnamed"


def test_what_people_may_ask_for(tmp_path: Path) -> None:
    """It has the name under which it is copied when somebody asks, after those of mirrors; no mirror names it."""
    asking = "asking: {to: [harbor], allow: [docker.io/library/*, ghcr.io/a/*]}\n"
    read = configured(tmp_path, CONFIGURATION.replace("list: mirror.txt", "repository: quay.io/x/y") + asking)
    assert found(Places(read, to=["harbor"]), "nginx:9") == "unlisted"
    always = Places(read, to=["harbor"], policy="always")
    assert found(always, "redis:7") == "harbor harbor.example/m/docker.io/library/redis:7 asked"
    assert found(always, "ghcr.io/a/c:1") == "harbor harbor.example/m/ghcr.io/a/c:1 asked"
    assert found(Places(read, to=["local"], policy="always"), "redis:7").endswith(" None")
    places = always.candidates(Reference.parse("nginx:9"))
    assert not isinstance(places, Left)
    assert [(one.mirror, one.listed) for one in places] == [("nginx", False), ("asked", False)]


def test_the_preferred_place_comes_first(read: Configuration) -> None:
    """What the first place does not have comes from the next one; mirrorless names are the last resort of `always`."""
    places = Places(read, to=["local", "hub", "harbor"], policy="listed")
    assert found(places, "nginx:1.1") == "local m.example/docker.io/library/nginx:1.1 nginx"
    assert found(places, f"ghcr.io/a/b@{DIGEST}").startswith("harbor ")
    always = Places(read, to=["hub", "harbor"], policy="always")
    assert found(always, "ghcr.io/x/y") == "hub docker.io/corp/ghcr.io__x__y None"
    candidates = Places(read, to=["hub", "front", "harbor"]).candidates(Reference.parse("nginx:9"))
    assert not isinstance(candidates, Left)
    assert [(place.where, place.listed) for place in candidates] == [("hub", False), ("front", True), ("harbor", False)]


def test_a_folder_is_no_place(read: Configuration) -> None:
    """Nobody pulls from a layout, so an image that is only there stays where it is."""
    assert found(Places(read, to=["files"], policy="always"), "nginx:1.1") == "unnamed"


def test_twice_is_once(read: Configuration) -> None:
    """What was pointed at any place is at the mirror, so that it is never pointed again."""
    for to in ("front", "local", "harbor", "hub", "each"):
        places = Places(read, to=[to], policy="always")
        for text in ("nginx:1.1", "quay.io/calico/node:v3.1", "team.example/app/a:1", "k8s.gcr.io/pause:3.9"):
            place = places.of(Reference.parse(text))
            if isinstance(place, MirrorPlace):
                assert found(places, str(place.reference)) == "at_mirror"


def test_exceptions_and_what_was_taken_down(tmp_path: Path) -> None:
    """Neither is pointed anywhere, also under an alias, whatever the policy."""
    denied = tmp_path / "denied.yml"
    denied.write_text("- {image: quay.io/bad/x, reason: gone}\n")
    denied.chmod(0o600)
    text = f"""
settings: {{url: "https://m.example", denied: {denied}}}
names: {{aliases: {{k8s.gcr.io: registry.k8s.io}}}}
pointing: {{to: t, policy: always, except: [registry.k8s.io/*, ghcr.io/corp/**]}}
targets: {{t: {{kind: image, to: reg.example, naming: path}}}}
"""
    places = Places(configured(tmp_path, text))
    for image in ("k8s.gcr.io/pause:3.9", "ghcr.io/corp/a/b"):
        assert found(places, image) == "excepted"
    assert found(places, "quay.io/bad/x:1") == "denied"
    assert found(places, "quay.io/good/x:1") == "t reg.example/quay.io/good/x:1 None"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("mirrors: [{name: a, kind: image, from: {repository: a/b}, to: [t]}]", ("t",)),
        ("mirrors: [{name: a, kind: image, from: {repository: a/b}, to: local}]", ("local",)),
        (f"{FRONT}\nmirrors: [{{name: a, kind: image, from: {{repository: a/b}}, to: [t, u]}}]", ("front",)),
    ],
)
def test_the_usual_place(tmp_path: Path, more: str, expected: tuple[str, ...]) -> None:
    """Without `to` it is the front, else the only place that mirrors write to."""
    targets = "targets: {t: {kind: image, to: reg.example/t}, u: {kind: image, to: reg.example/u}}"
    assert Places(configured(tmp_path, f"{targets}\n{more}")).to == expected


def test_several_places_are_no_usual_one(tmp_path: Path) -> None:
    """Then the error says what to write; so it does where no place has images at all."""
    text = """
targets: {t: {kind: image, to: reg.example/t}, u: {kind: image, to: reg.example/u}}
mirrors: [{name: a, kind: image, from: {repository: a/b}, to: [t, u]}]
"""
    with pytest.raises(UsageError, match=r"several places have images \(t, u\); write pointing: {to: \[t, u\]}"):
        Places(configured(tmp_path, text))
    with pytest.raises(UsageError, match="there is no place to point at; add a target"):
        Places(configured(tmp_path, ""))


def test_an_address_that_nobody_knows(tmp_path: Path) -> None:
    """Who is to be pointed at mirrord itself needs its address; one without a dot gets its port."""
    mirrors = "mirrors: [{name: a, kind: image, from: {repository: a/b}, to: local}]"
    with pytest.raises(ConfigError, match=r"settings.url: is not set"):
        Places(configured(tmp_path, f"settings: {{listen: '127.0.0.1:0'}}\n{mirrors}"))
    places = Places(configured(tmp_path, f"settings: {{url: 'http://mirror'}}\n{mirrors}"), policy="always")
    assert found(places, "a/b") == "local mirror:80/a a"
    target = "targets: {t: {kind: image, to: reg.example, naming: path}}"
    places = Places(configured(tmp_path, f"settings: {{url: 'http://mirror'}}\n{target}"), to=["t"], policy="always")
    assert found(places, "mirror:80/a") == "at_mirror"


def test_lists_are_read_once(tmp_path: Path) -> None:
    """10 000 images of a list of 2 000 cost one reading of it."""
    lines = [f"quay.io/team/app{number}:v1" for number in range(2000)]
    (tmp_path / "images.txt").write_text("\n".join(lines))
    text = """
targets: {t: {kind: image, to: reg.example/t}}
mirrors: [{name: a, kind: image, from: {list: images.txt}, to: t}]
"""
    places = Places(configured(tmp_path, text), policy="listed")
    (tmp_path / "images.txt").unlink()
    assert all(isinstance(places.of(Reference.parse(line)), MirrorPlace) for line in lines * 5)
    assert places.problems == []


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    """A list that cannot be read is a problem, and the other mirrors answer."""
    text = """
targets: {t: {kind: image, to: reg.example/t}}
mirrors:
  - {name: a, kind: image, from: {list: images.txt}, to: t}
  - {name: b, kind: image, from: {repository: quay.io/a/b}, to: t}
"""
    places = Places(configured(tmp_path, text), policy="listed")
    assert [problem.count("images.txt") for problem in places.problems] == [1]
    assert found(places, "quay.io/a/b") == "t reg.example/t/b b"
    assert isinstance(places.read("direct.to/x"), Direct)


def test_what_the_front_denies(tmp_path: Path) -> None:
    """It has a reason of its own, which names the key; a place behind the front has it nevertheless."""
    front = "front: {image: {upstreams: [quay.io], allow: ['quay.io/**'], deny: [quay.io/bad/*]}}"
    target = "targets: {t: {kind: image, to: reg.example, naming: path}}"
    read = configured(tmp_path, f"settings: {{url: 'https://m.example'}}\n{front}\n{target}")
    left = Places(read, to=["front"], policy="always").of(Reference.parse("quay.io/bad/x:1"))
    assert left == Left("denied", "is not served: front.image.deny[0] has it")
    assert found(Places(read, to=["front", "t"], policy="always"), "quay.io/bad/x:1").startswith("t reg.example/")
    assert found(Places(read, to=["front"], policy="always"), "docker.io/bad/x:1") == "unnamed"
