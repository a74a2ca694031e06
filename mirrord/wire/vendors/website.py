"""The page of a repository in a browser, at registries that are known to have one. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mirrord.wire.host import HUB

if TYPE_CHECKING:
    from mirrord.wire.oci.reference import Reference

_CODING: Final = re.compile(r"(?P<team>[a-z0-9-]+)-(?:docker|helm)\.pkg\.coding\.net")


def repository_page(reference: Reference) -> str:
    """Return the URL of the page about a repository, or "" where none is known."""
    domain, path = reference.domain, reference.path
    if domain == HUB:
        official = path.startswith("library/")
        return f"https://hub.docker.com/{f'_/{path[8:]}' if official else f'r/{path}'}"
    if domain == "quay.io":
        return f"https://quay.io/repository/{path}"
    if domain == "ghcr.io" and "/" in path:
        owner, _, package = path.partition("/")
        return f"https://github.com/orgs/{owner}/packages/container/package/{quote(package, safe='')}"
    return coding_page(domain, path)


def coding_page(domain: str, path: str) -> str:
    """Return the page of the artifacts below a path at Coding, `TEAM-docker.pkg.coding.net/PROJECT/REPOSITORY/…`."""
    found, words = _CODING.fullmatch(domain), path.split("/")
    if found is None or len(words) < 2:
        return ""
    return f"https://{found['team']}.coding.net/public-artifacts/{quote(words[0])}/{quote(words[1])}/packages"
