"""What a registry double holds, as plain dictionaries that a test may read and change."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mirrord.model.digest import Digest

FOREIGN = ("foreign.diff", "nondistributable")


@dataclass(slots=True, eq=False)
class Content:
    """Blobs, manifests and tags; blobs are kept once and linked into repositories.

    Attributes:
        blobs: all blobs by digest.
        links: which blobs a repository has.
        manifests: by repository and digest: media type and bytes.
        tags: by repository and tag.
    """

    blobs: dict[str, bytes | bytearray] = field(default_factory=dict)
    links: dict[str, set[str]] = field(default_factory=dict)
    manifests: dict[str, dict[str, tuple[str, bytes]]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def put_blob(self, repository: str, data: bytes | bytearray, digest: str | None = None) -> str:
        """Keep a blob and link it into a repository; `digest` may lie."""
        name = digest or Digest.of(bytes(data))
        self.blobs[name] = data
        self.links.setdefault(repository, set()).add(name)
        return name

    def put_manifest(self, repository: str, media_type: str, body: bytes, *tags: str, digest: str | None = None) -> str:
        """Keep a manifest under its digest (`digest` may lie) and set tags to it; references are not checked."""
        name = digest or Digest.of(body)
        self.manifests.setdefault(repository, {})[name] = (media_type, body)
        for tag in tags:
            self.tags.setdefault(repository, {})[tag] = name
        return name

    def blob(self, repository: str, digest: str) -> bytes | bytearray | None:
        """Return a blob that the repository has."""
        return self.blobs.get(digest) if digest in self.links.get(repository, ()) else None

    def resolve(self, repository: str, reference: str) -> tuple[str, str, bytes] | None:
        """Return digest, media type and bytes of what a tag or a digest stands for."""
        digest = reference if ":" in reference else self.tags.get(repository, {}).get(reference, "")
        found = self.manifests.get(repository, {}).get(digest)
        return None if found is None else (digest, *found)

    def knows(self, repository: str) -> bool:
        """Whether anything was ever put there."""
        return any(repository in shelf for shelf in (self.links, self.manifests, self.tags))

    def lacking(self, repository: str, document: Mapping[str, Any]) -> list[str]:
        """Name what a manifest refers to and the repository does not have; foreign layers may be missing."""
        held = self.links.get(repository, set())
        children = self.manifests.get(repository, {})
        missing = [entry["digest"] for entry in parts(document) if entry["digest"] not in held]
        entries = document.get("manifests", ())
        return missing + [e["digest"] for e in entries if e["digest"] not in children and e["digest"] not in held]

    def dangling(self) -> list[str]:
        """Name every tag and reference that points at nothing, as `repository@digest`; empty in a sound registry."""
        missing = [
            f"{repository}@{digest}"
            for repository, tags in self.tags.items()
            for digest in tags.values()
            if digest not in self.manifests.get(repository, {})
        ]
        for repository, manifests in self.manifests.items():
            for _, body in manifests.values():
                missing += [f"{repository}@{digest}" for digest in self.lacking(repository, json.loads(body))]
        return missing


def parts(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Iterate over the descriptors of config, layers and artifact blobs that must be in the registry."""
    if isinstance(document.get("config"), dict):
        yield document["config"]
    for layer in (*document.get("layers", ()), *document.get("blobs", ())):
        if not any(word in layer.get("mediaType", "") for word in FOREIGN):
            yield layer
