"""Quirks of registries as data. Registries without an entry follow distribution-spec."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirrord.errors import RefusedError

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """How one registry differs.

    Attributes:
        name: for people.
        hosts: domains it is reached at; `*.example.com` stands for every host below.
        why: what was observed, and where that is written down.
        missing: statuses that mean "not there" when asking before a push.
        put_limit: longest blob that may be sent as one PUT, or None.
        chunk: bytes of a PATCH when one PUT was or would be refused as too large (413), or None: never in chunks.
    """

    name: str
    hosts: tuple[str, ...]
    why: str
    missing: frozenset[int] = frozenset({404})
    put_limit: int | None = None
    chunk: int | None = 16 * MIB


PROFILES = (
    Profile(
        "acr",
        ("*.azurecr.io", "*.azurecr.cn", "*.azurecr.us"),
        why="answers 413 to a PUT above about 20 MB, and refuses bodies without Content-Length (goharbor/harbor#23015)",
        put_limit=16 * MIB,
    ),
    Profile(
        "ghcr",
        ("ghcr.io",),
        why="416 on a PATCH above 4 MiB, and reports of lost chunks below; one PUT of any size is fine",
        chunk=None,
    ),
    Profile(
        "gar",
        ("gcr.io", "*.gcr.io", "*.pkg.dev"),
        why="no chunked uploads",
        chunk=None,
    ),
    Profile(
        "artifactory",
        ("*.jfrog.io",),
        why="403 instead of 404 for what is not there yet (RTFACT-13797)",
        missing=frozenset({403, 404}),
    ),
)

DEFAULT = Profile("default", (), why="distribution-spec v1.1")


def profile_of(domain: str) -> Profile:
    """Return the profile of a reference's domain (`host` or `host:port`)."""
    host = domain.partition(":")[0]
    for profile in PROFILES:
        if any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in profile.hosts):
            return profile
    return DEFAULT


_IMMUTABLE_STATUSES = frozenset({400, 403, 405, 409, 412})
_IMMUTABLE = re.compile(
    r"immutab"  # Harbor 412, ECR and Docker Hub in sentences, TAG_IMMUTABLE
    r"|ImageTagAlreadyExists"  # ECR 400
    r"|tag\b.{0,160}\balready exists"  # ECR's sentence (moby/buildkit#3776), WORM stores (replicatedhq/kots#5940)
    r"|cannot be overwritten|overwrit\w{1,20} .{0,80}(?:not allowed|forbidden|denied|disabled)"
    r"|(?:not allow|permission)\w{0,20} .{0,80}overwrit"  # Artifactory 403
    r"|does not allow updating"  # Nexus 400 with redeploying switched off
    r"|\u4e0d\u5141\u8bb8\u8986\u76d6|\u7981\u6b62\u8986\u76d6",  # overwriting not allowed, forbidden
    re.IGNORECASE,
)


def means_immutable(error: RefusedError) -> bool:
    """Whether a registry refused a tag because it exists and may not move; there is no common code for it."""
    return error.status in _IMMUTABLE_STATUSES and _IMMUTABLE.search(str(error)) is not None
