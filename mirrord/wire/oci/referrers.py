"""Which artifacts are about an image, at registries without the referrers API: an index under a tag.

distribution-spec, "Referrers Tag Schema": the tag is the subject's digest with `-` for `:`. A client that pushes a
manifest with a subject to such a registry MUST keep the index ("Pushing Manifests with Subject").
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from mirrord.errors import BusyError, ContentError, MissingError, TooLargeError
from mirrord.wire.oci.descriptor import IMAGES, OCI_INDEX, index_of
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.offload import offload

if TYPE_CHECKING:
    from mirrord.wire.oci.client import Repository

ATTEMPTS = 5


def entry_of(manifest: Manifest) -> dict[str, object]:
    """Return a manifest's entry in a list of referrers; its type is its own artifactType, else that of its config."""
    config = manifest.blobs[0].media_type if manifest.media_type in IMAGES else None
    kind = manifest.artifact_type or config
    return replace(manifest.descriptor, artifact_type=kind, annotations=manifest.annotations).entry()


async def add_referrer(repository: Repository, manifest: Manifest) -> None:
    """Add `manifest` to the list under its subject's tag.

    Registries have no compare-and-swap: what another client wrote at the same moment may be lost
    (google/go-containerregistry#2205). So the tag is read again after each write, until our entry stays.

    Raises:
        ContentError: the tag points to something else than an index.
        TooLargeError: the index would be larger than registries and clients take.
        BusyError: others overwrote our entry each time.
        MirrordError: as `Repository.get_manifest` and `put_manifest`.
    """
    assert manifest.subject is not None
    subject = manifest.subject.digest
    tag = f"{subject.algorithm}-{subject.hex}"[:128]
    for _ in range(ATTEMPTS):
        try:
            listed = await repository.get_manifest(tag)
        except MissingError:
            entries: list[object] = []
        else:
            if listed.media_type != OCI_INDEX:
                raise ContentError(
                    f"{repository.reference.name}:{tag} is not an index of referrers; delete that tag there"
                )
            if manifest.digest in {child.digest for child in listed.children}:
                return
            entries = (await offload(len(listed.body), json.loads, listed.body)).get("manifests") or []
        body = index_of([*entries, entry_of(manifest)])
        if len(body) > LIMIT:
            why = f"the list of what refers to it would have {len(body)} bytes, and {LIMIT} are the most"
            raise TooLargeError(f"{repository.reference.name}:{tag}: {why}; delete referrers there")
        await repository.put_manifest(await offload(len(body), Manifest.parse, body, OCI_INDEX), tag)
    raise BusyError(f"{repository.reference.name}:{tag}: others changed this list of referrers during every attempt")
