"""Which place an image has for its users, by the record: the preferred one at which it is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrord.config.load import Configuration, read_folder
from mirrord.model.catalog import CatalogEntry
from mirrord.pointing.mirrored import mirrored_images, other_names
from mirrord.pointing.places import Places
from mirrord.syncer.port import load_syncers

NOW = datetime(2026, 11, 28, tzinfo=UTC)
CONFIGURATION = """
names: {aliases: {k8s.gcr.io: registry.k8s.io}, naming: path}
targets: {near: {kind: image, to: near.example/m}, far: {kind: image, to: far.example/m}}
pointing: {to: [near, far], except: [registry.k8s.io/secret]}
mirrors:
  - {name: k8s, kind: image, to: [near, far], from: {registry: registry.k8s.io, repositories: ["*"]}}
"""


@pytest.fixture
def read(tmp_path: Path) -> Configuration:
    (tmp_path / "a.yaml").write_text(CONFIGURATION)
    return read_folder(tmp_path, load_syncers(), {})


def entry(source: str, target: str, kind: str = "image") -> CatalogEntry:
    return CatalogEntry("k8s", kind, "x", source, target, "", "", NOW)


@pytest.mark.parametrize(
    ("entries", "places"),
    [
        ([("registry.k8s.io/pause:3.9", "near"), ("registry.k8s.io/pause:3.9", "far")], ["near.example"]),
        ([("registry.k8s.io/pause:3.9", "far")], ["far.example"]),
        (
            [("registry.k8s.io/pause:3.9", "far"), ("registry.k8s.io/pause:3.10", "near")],
            ["near.example", "far.example"],
        ),
        ([("k8s.gcr.io/pause:3.9", "near")], ["near.example"]),
        ([("registry.k8s.io/secret:1", "near"), ("/srv/layouts:1", "near")], []),
    ],
)
def test_the_preferred_place(read: Configuration, entries: list[tuple[str, str]], places: list[str]) -> None:
    """An image is named where a run has left it; what is excepted or has no source at a registry is left out."""
    found = mirrored_images((entry(*one) for one in entries), Places(read), read.names)
    assert [one.place.domain for one in found] == places
    assert [one.place.tag for one in found] == [one.source.tag for one in found]


def test_charts_are_no_images(read: Configuration) -> None:
    """Entries of other kinds are left out."""
    assert not mirrored_images([entry("registry.k8s.io/pause:3.9", "near", "helm")], Places(read), read.names)


def test_other_names(read: Configuration) -> None:
    """An alias is another name of a repository, which manifests may have."""
    images = mirrored_images([entry("registry.k8s.io/pause:3.9", "near")], Places(read), read.names)
    assert other_names(images, read.names) == {"registry.k8s.io/pause": ["k8s.gcr.io/pause"]}
