"""Quirks of registries as data. Registries without an entry follow distribution-spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from mirrord.errors import RefusedError

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Profile:
    """How one kind of registry differs from distribution-spec.

    Attributes:
        name: the word in `profile:` under `hosts:`.
        title: for people.
        hosts: patterns of the domains that are known to be of this kind.
        why: what was observed, and where that is written down.
        missing: statuses that mean "not there" when asking before a push.
        put_limit: longest blob that may be sent as one PUT, or None.
        chunk: bytes of a PATCH when one PUT was or would be refused as too large (413), or None: never in chunks.
        referrers: whether it has the referrers API; None: that has to be found out.
    """

    name: str
    title: str
    hosts: tuple[str, ...] = ()
    why: str = ""
    missing: frozenset[int] = frozenset({404})
    put_limit: int | None = None
    chunk: int | None = 16 * MIB
    referrers: bool | None = None


GENERIC: Final = Profile("generic", "a registry", why="distribution-spec v1.1")

_KNOWN: Final = (
    Profile("hub", "Docker Hub", ("docker.io",)),
    Profile(
        "ghcr",
        "GitHub's registry",
        ("ghcr.io",),
        why=(
            "416 on a PATCH above 4 MiB, and reports of lost chunks below; one PUT of any size is fine"
            " (oras-project/rust-oci-client#37); no referrers API (rtvkiz/minimal#7)"
        ),
        chunk=None,
        referrers=False,
    ),
    Profile(
        "gar",
        "Google's registry",
        ("gcr.io", "*.gcr.io", "*.pkg.dev"),
        why="no chunked uploads",
        chunk=None,
    ),
    Profile(
        "acr",
        "Azure's registry",
        ("*.azurecr.io", "*.azurecr.cn", "*.azurecr.us"),
        why="answers 413 to a PUT above about 20 MB, and refuses bodies without Content-Length (goharbor/harbor#23015)",
        put_limit=16 * MIB,
    ),
    Profile("quay", "Quay", ("quay.io",)),
    Profile("gitlab", "GitLab", ("registry.gitlab.com",)),
    Profile("harbor", "Harbor"),
    Profile(
        "artifactory",
        "Artifactory",
        ("*.jfrog.io",),
        why="403 instead of 404 for what is not there yet (RTFACT-13797)",
        missing=frozenset({403, 404}),
    ),
)

PROFILES: Final[Mapping[str, Profile]] = {profile.name: profile for profile in (GENERIC, *_KNOWN)}


def profile_of(domain: str, word: str | None = None) -> Profile:
    """Return the profile of a registry: what `word` (`profile:` under `hosts:`) says, else by its `host[:port]`."""
    if word:
        return PROFILES[word]
    host = domain.partition(":")[0]
    return next((one for one in _KNOWN if any(fnmatchcase(host, pattern) for pattern in one.hosts)), GENERIC)


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
