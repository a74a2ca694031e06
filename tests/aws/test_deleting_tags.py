"""Tags deleted at Amazon ECR by BatchDeleteImage: a success that may hold failures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mirrord.errors import DeniedError
from mirrord.model.digest import Digest
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.reference import Reference
from mirrord.wire.vendors.deleting import tag_deleter
from tests.support.ecr import Ecr, backend

DIGEST = Digest.of(b"an image")


def fill(**tags: str) -> None:
    """Put images with these layers under tags."""
    backend().create_repository("mirror/app", None, None, None, None, None, None)
    for tag, layer in tags.items():
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 2},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 2}],
        }
        backend().put_image("mirror/app", json.dumps(manifest), tag)


def tags() -> set[str]:
    return {tag for image in backend().repositories["mirror/app"].images for tag in image.image_tags}


async def delete(ecr: Ecr, *names: str) -> dict[str, Any]:
    async with Http(HostBook({ecr.host: ecr.policy})) as http:
        deleter = await tag_deleter(http, Reference.parse(f"{ecr.host}/mirror/app"))
        assert deleter
        return dict(await deleter.delete(dict.fromkeys(names, DIGEST)))


async def test_tags_go_alone(ecr: Ecr) -> None:
    """Of two tags of one image the other one stays; what is not there is gone, though the answer calls it a failure."""
    fill(v1="sha256:1", same="sha256:1", v2="sha256:2")
    assert await delete(ecr, "v1", "v9") == {"v1": None, "v9": None}
    assert tags() == {"same", "v2"}
    assert ecr.asked == []


async def test_a_failure_in_a_success(ecr: Ecr, monkeypatch: pytest.MonkeyPatch) -> None:
    """`failures` in an answer with status 200 is an error of that tag, with the words of AWS; many go in batches."""
    fill(v1="sha256:1")
    batches: list[int] = []

    def refuse(self: Any, repository_name: str, registry_id: Any = None, image_ids: Any = ()) -> Any:
        batches.append(len(image_ids))
        failure = {
            "imageId": {"imageTag": "v1"},
            "failureCode": "ImageReferencedByManifestList",
            "failureReason": "Requested image referenced by manifest list",
        }
        return {"imageIds": [], "failures": [failure] if {"imageTag": "v1"} in image_ids else []}

    monkeypatch.setattr(type(backend()), "batch_delete_image", refuse)
    ends = await delete(ecr, "v1", *(f"n{number}" for number in range(249)))
    assert batches == [100, 100, 50]
    assert "ImageReferencedByManifestList: Requested image referenced by manifest list" in str(ends.pop("v1"))
    assert not any(ends.values())


async def test_a_failure_that_names_no_tag(ecr: Ecr, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be that of any tag which the answer does not call deleted: none of these counts as gone."""
    failure = {"imageId": {"imageDigest": DIGEST}, "failureCode": "KmsError", "failureReason": "no key"}
    answer = {"imageIds": [{"imageDigest": DIGEST, "imageTag": "v2"}], "failures": [failure]}
    fill(v1="sha256:1", v2="sha256:2")
    monkeypatch.setattr(type(backend()), "batch_delete_image", lambda *_, **__: answer)
    ends = await delete(ecr, "v1", "v2")
    assert "v1: AWS: KmsError: no key" in str(ends["v1"])
    assert ends["v2"] is None


async def test_who_may_not(ecr: Ecr, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal says which action to allow."""
    fill(v1="sha256:1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    ends = await delete(ecr, "v1")
    assert isinstance(ends["v1"], DeniedError)
    assert tags() == {"v1"}
