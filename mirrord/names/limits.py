"""What registries accept as the name of a repository, where that is less than the distribution specification allows."""

from __future__ import annotations

import re

from mirrord.wire.host import HUB
from mirrord.wire.oci.reference import Reference

_ECR_HOST = re.compile(r"public\.ecr\.aws|[0-9]{12}\.dkr\.ecr[a-z-]*\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")
_ECR_WORD = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"
_ECR = re.compile(rf"(?=.{{2,256}}\Z){_ECR_WORD}(?:/{_ECR_WORD})*")
"""`repositoryName` of ECR's CreateRepository: one separator at a time, and at least two characters."""


def misfit(place: Reference) -> str | None:
    """Return why the registry would refuse a repository of this name, and what to write instead, or None."""
    if place.domain == HUB and place.path.count("/") > 1:
        return f"{place.name} has more than two levels, and Docker Hub takes two; write naming: flat"
    if _ECR_HOST.fullmatch(place.domain) and not _ECR.fullmatch(place.path):
        return f"{place.name} is no repository of ECR, which takes one of . _ - at a time; write naming: path or nwcd"
    return None
