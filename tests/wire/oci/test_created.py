"""When an image was made: what is read for it, in which order, and what says nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from mirrord.errors import ServerError
from mirrord.events import Events
from mirrord.model.digest import Digest
from mirrord.testing import Image, Registry, build_image, push
from mirrord.testing.images import OCI_CONFIG, OCI_MANIFEST, Builder
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.created import CREATED, created_at, moment
from mirrord.wire.oci.reference import Reference

ONE = ["linux/amd64"]
MAY = "2024-05-17T12:00:00Z"
AT = datetime(2024, 5, 17, 12, tzinfo=UTC)
LATER = "2024-06-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (MAY, AT),
        ("2024-05-17T14:00:00+02:00", AT),
        ("2024-05-17T12:00:00.123456789Z", AT.replace(microsecond=123456)),
        ("2024-05-17T12:00:00", AT),
        ("1970-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("1980-01-01T00:00:01Z", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("yesterday", None),
        ("", None),
        ("2" * 1000, None),
        (None, None),
        (17, None),
    ],
)
def test_moments(text: object, found: datetime | None) -> None:
    """RFC 3339 in any zone; what is no date, and the dates of builds that are the same each time, say nothing."""
    assert moment(text) == found


def with_config(config: Mapping[str, Any] | bytes, size: int | None = None) -> Image:
    """Build an image with this config and no layers."""
    builder = Builder()
    described = builder.blob(OCI_CONFIG, config if isinstance(config, bytes) else json.dumps(config).encode())
    described["size"] = size or described["size"]
    return builder.image(
        builder.manifest({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": []})
    )


async def ask(image: Image, registry: Registry) -> datetime | None:
    async with Http(HostBook(), Events(), jitter=lambda: 0.0) as http:
        repository = Repository(http, Reference(registry.host, "a"), push=True)
        return await created_at(repository, Digest(image.digest))


@pytest.mark.parametrize(
    ("image", "found", "gets"),
    [
        (build_image(ONE, annotations={CREATED: MAY}, created=LATER), AT, 1),
        (build_image(index_annotations={CREATED: MAY}, annotations={CREATED: LATER}), AT, 1),
        (build_image(annotations={CREATED: MAY}), AT, 2),
        (build_image(created=MAY), None, 2),
        (build_image(ONE, created=MAY), AT, 2),
        (with_config({"created": LATER, "config": {"Labels": {CREATED: MAY}}}), AT, 2),
        (with_config({"created": MAY, "config": {"Labels": None}}), AT, 2),
        (with_config({"config": []}), None, 2),
        (with_config(b"no JSON"), None, 2),
        (with_config(b'{"a":' * 5000), None, 2),
        (with_config({"created": MAY, "x": "x" * 300_000}), AT, 2),
        (with_config({"created": MAY}, size=5 << 20), None, 1),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_read(image: Image, found: datetime | None, gets: int) -> None:
    """Annotation, else the first image's, else label and field of the config: never more than two GETs."""
    async with Registry(strict=False) as registry:
        await push(image, registry, "a")
        assert await ask(image, registry) == found
        assert registry.count("GET", "") == gets


async def test_what_cannot_be_read_says_nothing() -> None:
    """A manifest or a config that is refused, missing or other than its digest says is as good as silent."""
    image = build_image(ONE, created=MAY)
    async with Registry() as registry:
        assert await ask(image, registry) is None
        await push(image, registry, "a")
        for status in (401, 403, 404):
            registry.faults.on("GET", "/blobs/").status(status)
            assert await ask(image, registry) is None
        registry.faults.on("GET", "/blobs/").status(200, b"x" * len(image.blobs[image.document()["config"]["digest"]]))
        assert await ask(image, registry) is None
        assert await ask(image, registry) == AT


async def test_a_registry_in_trouble_is_no_answer() -> None:
    """A registry that fails is not taken for one that says nothing: nothing newer is overwritten for that."""
    image = build_image(ONE, created=MAY)
    async with Registry() as registry:
        await push(image, registry, "a")
        registry.faults.on("GET", "/blobs/", times=None).status(503)
        with pytest.raises(ServerError):
            await ask(image, registry)
