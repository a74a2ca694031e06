"""Quirks of registries as data. Registries without an entry follow distribution-spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
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
        why: where each difference is written down.
        missing: statuses that mean "not there" when asking before a push.
        head: whether HEAD of a manifest tells what GET would.
        charges: method, and a part of the path, of the requests that count against its quota; "" and "" for all.
        expired: a status, without a challenge, to a token that it does not take any more, or None: 401 with one.
        put_limit: longest blob that may be sent as one PUT, or None.
        chunk: bytes of a PATCH when one PUT was or would be refused as too large (413), or None: never in chunks.
        referrers: whether it may have the referrers API; False where it is known to have none.
        deletes: what to do instead where it refuses every DELETE, or "".
        visible: who sees a repository that a push makes, as a clause, or "".
        refusals: words in its refusals, and what to do about them.
        uncreated: words of its refusal of a push into a repository or project that nobody created, all of them; () for
            one where a push creates it.
        mark: a header that only this kind sends, and what its value begins with; by it `mirrord probe` knows the kind.
    """

    name: str
    title: str
    hosts: tuple[str, ...] = ()
    why: str = ""
    missing: frozenset[int] = frozenset({404})
    head: bool = True
    charges: tuple[str, str] = ("", "")
    expired: int | None = None
    put_limit: int | None = None
    chunk: int | None = 16 * MIB
    referrers: bool = True
    deletes: str = ""
    visible: str = ""
    refusals: tuple[tuple[str, str], ...] = ()
    uncreated: tuple[str, ...] = ()
    mark: tuple[str, str] = ("", "")

    def recognised(self, headers: Mapping[str, str]) -> bool:
        """Whether an answer is from a registry of this kind for certain."""
        name, beginning = self.mark
        return name in headers and headers[name].startswith(beginning)

    def lacks(self, refusal: str) -> bool:
        """Whether a refusal means that nobody created the repository, or the project around it."""
        return bool(self.uncreated) and all(word in refusal for word in self.uncreated)

    def advice(self, refusal: str) -> str:
        """Return what to do about a refusal of this registry, or ""."""
        return next((better for words, better in self.refusals if words in refusal), "")


GENERIC: Final = Profile("generic", "a registry", why="distribution-spec v1.1")

_PLAIN_BUILD: Final = "build the image with `--provenance=false --sbom=false`"

_KNOWN: Final = (
    Profile(
        "hub",
        "Docker Hub",
        ("docker.io",),
        why=(
            "405 to every DELETE (docker/hub-feedback#1759, #2360); new repositories are public (docker/cli#4977); GETs"
            " of manifests are pulls (docs.docker.com, Docker Hub usage and limits)"
        ),
        charges=("GET", "/manifests/"),
        deletes="delete the tag on its page at hub.docker.com, or with Docker Hub's own API",
        visible="are public, unless the account's default is private",
    ),
    Profile(
        "ghcr",
        "GitHub's registry",
        ("ghcr.io",),
        why=(
            "416 to a PATCH above 4 MiB, one PUT of any size is fine (oras-project/rust-oci-client#35); 404, or a web"
            " page, instead of referrers (rtvkiz/minimal#7, artifacthub/hub#4785); 405 to every DELETE"
            " (skopeo#1880); new packages are private (docs.github.com, access control and visibility)"
        ),
        chunk=None,
        referrers=False,
        deletes="delete the version on the page of the package, or with GitHub's packages API",
        visible="are private until somebody makes them public in the settings of the package",
    ),
    Profile(
        "gar",
        "Google's registry",
        ("gcr.io", "*.gcr.io", "*.pkg.dev"),
        why="no uploads in chunks (cloud.google.com/artifact-registry/docs/reference/docker-api; skopeo#1101)",
        chunk=None,
    ),
    Profile(
        "acr",
        "Azure's registry",
        ("*.azurecr.io", "*.azurecr.cn", "*.azurecr.us"),
        why="413 to a PUT above about 20 MB (goharbor/harbor#23015, #21640)",
        put_limit=16 * MIB,
    ),
    Profile(
        "ecr",
        "Amazon ECR",
        (
            "*.dkr.ecr.*.amazonaws.com",
            "*.dkr.ecr-fips.*.amazonaws.com",
            "*.dkr.ecr.*.amazonaws.com.cn",
            "*.dkr.ecr.*.amazonaws.eu",
            "*.dkr-ecr.*.on.aws",
            "*.dkr-ecr-fips.*.on.aws",
            "*.dkr-ecr.*.on.amazonwebservices.com.cn",
        ),
        why=(
            "404 NAME_UNKNOWN to a push into a repository that nobody created (plexsystems/sinker#55,"
            " regclient/regclient#869); images are deleted by its own API only"
        ),
        deletes="run `aws ecr batch-delete-image`",
        uncreated=("NAME_UNKNOWN",),
    ),
    Profile(
        "ecr-public",
        "Amazon ECR Public",
        ("public.ecr.aws",),
        why="as Amazon ECR (aws-actions/amazon-ecr-login#202); 400 to an expired token (aws/containers-roadmap#2835)",
        expired=400,
        deletes="run `aws ecr-public batch-delete-image`",
        visible="are public",
        uncreated=("NAME_UNKNOWN",),
    ),
    Profile(
        "quay",
        "Quay",
        ("quay.io",),
        why="new repositories are private (docs.quay.io, create a repository)",
        visible="are private until somebody makes them public in their settings",
    ),
    Profile(
        "gitlab",
        "GitLab",
        ("registry.gitlab.com",),
        why="404 to every request for referrers (oras-project/oras-go#1396)",
        referrers=False,
    ),
    Profile(
        "harbor",
        "Harbor",
        why=(
            "401 and `project NAME not found` to a push into a project that nobody created"
            " (goharbor/harbor, src/server/middleware/v2auth/auth.go)"
        ),
        uncreated=("project ", " not found"),
    ),
    Profile(
        "artifactory",
        "Artifactory",
        ("*.jfrog.io",),
        why="403 instead of 404 for what is not there yet (RTFACT-13797; google/go-containerregistry#1691)",
        missing=frozenset({403, 404}),
        mark=("x-jfrog-version", "Artifactory/"),  # containerd/containerd#6339
    ),
    Profile(
        "nexus",
        "Nexus",
        why="404 to HEAD of a manifest that GET has (crazy-max/diun#1614; andrey-pohilko/registry-cli#14, #43)",
        head=False,
        mark=("server", "Nexus/"),  # estesp/manifest-tool#191
    ),
    Profile(
        "coding",
        "Coding",
        ("*.pkg.coding.net",),
        why="versions are deleted on its pages only (coding.net/docs/artifacts)",
        deletes="delete the version on the page of the artifact repository",
    ),
    Profile(
        "aliyun",
        "Alibaba Cloud's registry",
        ("registry.*.aliyuncs.com", "*.cr.aliyuncs.com"),
        why=(
            "403 to OCI artifacts such as BuildKit's attestations (matrixorigin/matrixone-operator#613,"
            " koordinator-sh/koordinator#3194)"
        ),
        refusals=(
            (
                "unknown manifest class",
                f"this registry takes no attestations and no other OCI artifacts; {_PLAIN_BUILD}",
            ),
        ),
    ),
    Profile(
        "swr",
        "Huawei Cloud SWR",
        ("swr.*.myhuaweicloud.com",),
        why=(
            "400 to OCI indexes and to BuildKit's attestations (AliyunContainerService/image-syncer#161, #163;"
            " regclient/regclient#720; openbkn-ai/bkn-studio#153)"
        ),
        refusals=(
            (
                "fail to parse 'manifest.json'",
                f"this registry takes no OCI index and no attestations; {_PLAIN_BUILD} and `oci-mediatypes=false`",
            ),
        ),
    ),
    Profile(
        "distribution",
        "docker-registry",
        why="404 to every request for referrers in 2.8 and 3.0 (distribution/distribution#3859, #4828)",
        referrers=False,
    ),
)

PROFILES: Final[Mapping[str, Profile]] = {profile.name: profile for profile in (GENERIC, *_KNOWN)}


@lru_cache(512)
def profile_of(domain: str, word: str | None = None) -> Profile:
    """Return the profile of a registry: what `word` (`profile:` under `hosts:`) says, else by its `host[:port]`."""
    if word:
        return PROFILES[word]
    host = domain.partition(":")[0]
    return next((one for one in _KNOWN if any(_is(host, pattern) for pattern in one.hosts)), GENERIC)


def _is(host: str, pattern: str) -> bool:
    """Whether a pattern with asterisks means a host; no process has to compile regular expressions for that."""
    first, *others = pattern.split("*")
    if not others or not host.startswith(first):
        return host == pattern
    *middle, last = others
    at = len(first)
    for part in middle:
        if (found := host.find(part, at)) < 0:
            return False
        at = found + len(part)
    return host.endswith(last) and len(host) - len(last) >= at


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
