"""Quirks of registries as data."""

from dataclasses import replace

import pytest

from mirrord.errors import RefusedError
from mirrord.wire.oci.profiles import GENERIC, PROFILES, means_immutable, profile_of


@pytest.mark.parametrize(
    ("domain", "name"),
    [
        ("docker.io", "hub"),
        ("team.azurecr.io", "acr"),
        ("azurecr.io", "generic"),
        ("evilazurecr.io", "generic"),
        ("ghcr.io", "ghcr"),
        ("ghcr.io.evil.test", "generic"),
        ("europe-docker.pkg.dev", "gar"),
        ("gcr.io", "gar"),
        ("eu.gcr.io:443", "gar"),
        ("acme.jfrog.io", "artifactory"),
        ("127.0.0.1:5000", "generic"),
    ],
)
def test_hosts_find_their_profile(domain: str, name: str) -> None:
    """A profile is found by whole labels of the host, whatever the port."""
    assert profile_of(domain).name == name


def test_a_profile_by_hand() -> None:
    """What is written under `hosts:` counts before the name, also `generic`."""
    assert profile_of("registry.example", "artifactory").missing == {403, 404}
    assert profile_of("ghcr.io", "generic") is GENERIC


def test_every_quirk_has_its_reason() -> None:
    """What differs from the specification has a reason with its source."""
    for profile in PROFILES.values():
        plain = replace(GENERIC, name=profile.name, title=profile.title, hosts=profile.hosts, why=profile.why)
        assert profile.why or profile == plain, profile.name


@pytest.mark.parametrize(
    ("status", "text", "immutable"),
    [
        (400, "TAG_INVALID: The image tag 'v1' already exists in the 'a' repository and cannot be overwritten", True),
        (400, "ImageTagAlreadyExistsException", True),
        (412, "PRECONDITION: Failed to process request due to 'a:v1' configured as immutable.", True),
        (409, "TAG_IMMUTABLE: no", True),
        (403, "DENIED: not enough permissions to overwrite artifact 'a/v1/manifest.json'", True),
        (400, "Repository does not allow updating assets: docker-hosted", True),
        (403, "DENIED: 该版本不允许覆盖", True),
        (403, "DENIED: requested access to the resource is denied", False),
        (404, "MANIFEST_BLOB_UNKNOWN: blob unknown; the tag is immutable", False),
        (400, "MANIFEST_INVALID: manifest invalid", False),
        (413, "already exists", False),
    ],
)
def test_refusals_to_overwrite_are_recognised(status: int, text: str, immutable: bool) -> None:
    """The sentences in which registries refuse to move a tag are told from other refusals."""
    assert means_immutable(RefusedError(text, status)) is immutable
