"""Files that name images: spellings, places and names of services, without a run."""

from __future__ import annotations

import json

import pytest
import yaml

from mirrord.pointing.client.clients import IMAGE_FILES
from mirrord.pointing.client.images import MirroredImage, by_service, ordered, repositories
from mirrord.wire.oci.reference import Reference


def images(*pairs: tuple[str, str]) -> list[MirroredImage]:
    return [*ordered(MirroredImage(Reference.parse(source), Reference.parse(place)) for source, place in pairs)]


NGINX = ("docker.io/library/nginx:1.29", "m.example/docker.io/library/nginx:1.29")
APP = ("docker.io/grafana/grafana:12.0.1", "m.example/docker.io/grafana/grafana:12.0.1")
QUAY = ("quay.io/calico/node:v3.30", "m.example/quay.io/calico/node:v3.30")


def test_spellings_of_docker_hub() -> None:
    """Kustomize compares letter by letter, so that each way to write an image is there, and each once."""
    (file,) = IMAGE_FILES["kustomize"].setup(images(NGINX, APP), {}).files
    entries = yaml.safe_load(file.text)["images"]
    official = ["nginx", "docker.io/nginx", "library/nginx", "docker.io/library/nginx"]
    assert [one["name"] for one in entries] == ["grafana/grafana", "docker.io/grafana/grafana", *official]
    assert {one["newName"] for one in entries[2:]} == {"m.example/docker.io/library/nginx"}


@pytest.mark.parametrize(
    ("pairs", "registry"),
    [
        ((NGINX, APP, QUAY), "m.example/docker.io"),
        ((NGINX, ("docker.io/a/b:1", "other.example/a/b:1")), None),
        ((QUAY,), None),
        ((("docker.io/library/nginx:1", "m.example/web:1"),), None),
    ],
)
def test_one_registry_for_a_chart(pairs: tuple[tuple[str, str], ...], registry: str | None) -> None:
    """`global.imageRegistry` is written where it is true of all images of Docker Hub."""
    (file,) = IMAGE_FILES["helm-values"].setup(images(*pairs), {}).files
    values = yaml.safe_load(file.text)
    assert values == (registry and {"global": {"imageRegistry": registry}})


@pytest.mark.parametrize(
    ("tags", "last"),
    [
        (["v9", "v10", "latest"], "v10"),
        (["9", "10", "edge"], "10"),
        (["alpine", "latest"], "latest"),
    ],
)
def test_the_last_of_its_tags(tags: list[str], last: str) -> None:
    """The last version in natural order; a word is none."""
    found = [*repositories(images(*((f"quay.io/a/b:{tag}", f"m.example/b:{tag}") for tag in tags)))]
    assert [one.source.tag for one in found] == [last]


def test_by_digest_alone() -> None:
    """An image without a tag is named by its digest."""
    digest = f"sha256:{'ab' * 32}"
    (file,) = IMAGE_FILES["ecs"].setup(images((f"quay.io/a/b@{digest}", f"m.example/b@{digest}")), {}).files
    assert json.loads(file.text)["containerDefinitions"] == [{"name": "b", "image": f"m.example/b@{digest}"}]


@pytest.mark.parametrize(
    ("host", "noted"),
    [
        ("1.dkr.ecr.eu-west-1.amazonaws.com", False),
        ("1.dkr.ecr.cn-north-1.amazonaws.com.cn", False),
        ("m.example", True),
        ("harbor.example.cn", True),
    ],
)
def test_a_login_for_ecs(host: str, noted: bool) -> None:
    """Amazon's own registry needs no credentials in the file, in China neither; every other one may."""
    notes = IMAGE_FILES["ecs"].setup(images(("quay.io/a/b:1", f"{host}/b:1")), {}).notes
    assert any("repositoryCredentials" in note for note in notes) is noted


def test_names_of_services() -> None:
    """Each service has a name of its own, also where the last parts of paths are alike."""
    same = [(f"quay.io/{team}/app:1", f"m.example/{team}/app:1") for team in ("a", "b", "c")]
    named = by_service(images(*same, ("quay.io/z/app-2:1", "m.example/z:1")))
    assert len(named) == 4
    assert "app" in named
