"""Registries that differ from distribution-spec, each as its users and makers describe it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mirrord.testing import Exchange, Registry
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply, refusal
from mirrord.wire.host import HostBook, HostPolicy

Quirk = Callable[[Registry, Exchange], Reply | None]
_UNSUPPORTED: Final = refusal(405, "UNSUPPORTED", "The operation is unsupported.")
_EMPTY: Final = b"application/vnd.oci.empty.v1+json"


class Quirky(Registry):
    """A registry double that answers some requests by `quirk`, before it does anything; it may look at manifests."""

    def __init__(self, quirk: Quirk, **options: Any) -> None:
        """Prepare; `options` as `Registry` takes them."""
        super().__init__(**options)
        self._quirk = quirk

    async def _reply(self, exchange: Exchange, intake: Intake) -> Reply:
        return self._quirk(self, exchange) or await super()._reply(exchange, intake)


def hub(_: Registry, exchange: Exchange) -> Reply | None:
    """Docker Hub: 405 UNSUPPORTED to every DELETE of a manifest (docker/hub-feedback#1759, #2360)."""
    return _UNSUPPORTED if exchange.matches("DELETE", "/manifests/") else None


def ghcr(registry: Registry, exchange: Exchange) -> Reply | None:
    """GHCR: 416 to a PATCH above 4 MiB (oras-project/rust-oci-client#35), no referrers (rtvkiz/minimal#7), no DELETE.

    A redirect to a web page instead of referrers was seen, too (artifacthub/hub#4785). DELETE: containers/skopeo#1880.
    """
    if exchange.method == "PATCH" and _length(exchange) > 4 << 20:
        why = "the request body is too large and exceeds the maximum permissible limit of 4.00MiB"
        return refusal(416, "REQUESTED_RANGE_NOT_SATISFIABLE", why)
    if "/referrers/" in exchange.path:
        return Reply(404, {"Content-Type": "text/plain"}, b"404 page not found")
    return hub(registry, exchange)


def acr(_: Registry, exchange: Exchange) -> Reply | None:
    """Azure: 413 to a PUT above about 20 MB (goharbor/harbor#23015, #21640)."""
    if exchange.matches("PUT", "/blobs/uploads/") and _length(exchange) > 20_000_000:
        return Reply(413, {"Content-Type": "text/html"}, b"413 Request Entity Too Large")
    return None


def ecr_public(registry: Registry, exchange: Exchange) -> Reply | None:
    """ECR Public: 400 without a challenge to a token that ran out (aws/containers-roadmap#2835, oras-go#1227)."""
    sent = exchange.headers.get("authorization", "")
    assert registry.auth is not None
    if exchange.path == "/token" or not sent.startswith("Bearer ") or registry.auth.check(sent, (), "") is None:
        return None
    return refusal(400, "DENIED", "Your Authorization Token is invalid.")


def gar(_: Registry, exchange: Exchange) -> Reply | None:
    """Google: no uploads in chunks (cloud.google.com/artifact-registry/docs/reference/docker-api; skopeo#1101)."""
    return _UNSUPPORTED if exchange.method == "PATCH" else None


def artifactory(registry: Registry, exchange: Exchange) -> Reply | None:
    """Artifactory: 403 for a manifest that is not there (RTFACT-13797; google/go-containerregistry#1691)."""
    name, _, reference = exchange.path.removeprefix("/v2/").partition("/manifests/")
    if reference and exchange.method in ("HEAD", "GET") and registry.content.resolve(name, reference) is None:
        return refusal(403, "DENIED", "You do not have permission to read this image")
    return None


def nexus(_: Registry, exchange: Exchange) -> Reply | None:
    """Nexus: 404 to every HEAD of a manifest (crazy-max/diun#1614, andrey-pohilko/registry-cli#14, #43)."""
    return Reply(404, {"Content-Type": "text/html"}) if exchange.matches("HEAD", "/manifests/") else None


def gitlab(registry: Registry, exchange: Exchange) -> Reply | None:
    """GitLab: no referrers, and `sha256-<hex>` is read as the digest (oras-project/oras-go#1396)."""
    if "/referrers/" in exchange.path:
        return Reply(404, {"Content-Type": "text/plain"}, b"404 page not found")
    name, _, reference = exchange.path.removeprefix("/v2/").partition("/manifests/sha256-")
    found = (
        registry.content.resolve(name, f"sha256:{reference}")
        if exchange.method in ("GET", "HEAD") and reference
        else None
    )
    tagged = registry.content.tags.get(name, {}).get(f"sha256-{reference}")
    if found is None or tagged:
        return None
    digest, media_type, body = found
    return Reply(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, body)


class Manifests(Registry):
    """A registry double that refuses manifests which contain some words.

    Alibaba's: OCI artifacts, "unknown manifest class" (matrixorigin/matrixone-operator#613, koordinator#3194).
    Huawei's: OCI indexes and attestations, "fail to parse" (AliyunContainerService/image-syncer#161; regclient#720).
    """

    def __init__(self, refused: Mapping[bytes, Reply], **options: Any) -> None:
        """Prepare; `options` as `Registry` takes them."""
        super().__init__(**options)
        self._refused = refused

    async def _reply(self, exchange: Exchange, intake: Intake) -> Reply:
        reply = await super()._reply(exchange, intake)
        if reply.status == 201 and exchange.matches("PUT", "/manifests/"):
            _, _, body = self.content.resolve(*_manifest(reply.headers["Location"])) or ("", "", b"")
            return next((refused for word, refused in self._refused.items() if word in body), reply)
        return reply


ALIYUN: Final = {_EMPTY: refusal(403, "DENIED", f"unknown manifest class for {_EMPTY.decode()}")}
SWR: Final = {
    b"application/vnd.oci.image.index.v1+json": refusal(400, "UNKNOWN", "Invalid image, fail to parse 'manifest.json'")
}


def book(registry: Registry, profile: str) -> HostBook:
    """Return the rules that say of what kind a registry is."""
    return HostBook({registry.host: HostPolicy(registry.host, profile=profile)})


def _length(exchange: Exchange) -> int:
    return int(exchange.headers.get("content-length", "0"))


def _manifest(location: str) -> tuple[str, str]:
    name, _, reference = location.partition("/v2/")[2].partition("/manifests/")
    return name, reference
