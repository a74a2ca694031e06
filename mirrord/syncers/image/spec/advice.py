"""What to write instead of what was written."""

from __future__ import annotations

from mirrord.wire.oci.reference import valid_tag


def as_mapping(text: str) -> str:
    """Return what to write instead of a source that was written as `mirrord copy` or docker take it."""
    scheme, colon, rest = text.partition(":")
    files = {"oci": "layout", "oci-archive": "layout", "docker-archive": "archive"}
    if colon and scheme in files:
        return f"{{{files[scheme]}: {rest}}}"
    if text.startswith(("/", "./")):
        return f"{{layout: {text}}}"
    reference = rest.removeprefix("//") if rest.startswith("//") else text
    repository, _, tag = reference.rpartition(":")
    if repository and valid_tag(tag) and "@" not in repository:
        return f'{{repository: {repository}, tags: ["{tag}"]}}'
    return f"{{repository: {reference}}}"
