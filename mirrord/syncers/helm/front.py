"""The `local` store as a classic chart repository, below `/helm/<mirror>/`.

Every name is looked up among those that the mirror's last publication linked, all of them in one step: who has read
an index finds every archive that it lists. Of what a client sends, only a mirror's name gets into a path.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from mirrord.blobs.repositories import RepositoryState
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.syncer.serving import Request, Response, refusal
from mirrord.syncer.values import Services
from mirrord.syncers.helm.names import INDEX, PROVENANCE

_ROUTE = re.compile(r"(?P<mirror>[a-z0-9][a-z0-9-]{0,127})/(?P<name>[^/]+|charts/[^/]+)")
prefixes = ("/helm/",)
_LONGEST = 1024  # characters of a path; a chart's name has at most 250, and a file name 255
_TYPES = {
    ".tgz": "application/gzip",
    ".gz": "application/gzip",
    PROVENANCE: "text/plain; charset=utf-8",
    ".yml": "application/yaml",
    ".asc": "application/pgp-keys",
    ".gpg": "application/pgp-keys",
}


async def respond(request: Request, services: Services) -> Response:
    """Map what follows `/helm/` to content."""
    if request.method == "POST":
        return refusal(405, "this repository is read-only")
    route = _ROUTE.fullmatch(unquote(request.path)) if len(request.path) <= _LONGEST else None
    if not route:
        return refusal(404, "no such file; a repository is added by `helm repo add NAME …/helm/MIRROR`")
    try:
        linked = services.repositories.get(f"_helm/{route['mirror']}") if services.repositories else None
        if linked is None:
            return refusal(404, f"no charts of {route['mirror']} are kept here")
        return _named(route["name"], linked, services)
    except StorageError:
        return refusal(500, "the store cannot be read; the log says why")


def _named(name: str, linked: RepositoryState, services: Services) -> Response:
    digest = linked.tags.get(name)
    if digest is None:
        return refusal(404, "no such file in this repository")
    file = services.blobs.path(digest) if services.blobs else None
    if file is None:
        return refusal(404, "this file was lost; the next run brings it back")
    headers = {"Content-Type": _media_type(name, digest, linked), "ETag": f'"{digest}"'}
    if name != INDEX:
        return Response(200, headers, file=file)
    packed = linked.tags.get(f"{INDEX}.gz")
    gzipped = services.blobs.path(packed) if services.blobs and packed else None
    return Response(200, {**headers, "Cache-Control": "no-cache"}, file=file, gzipped=gzipped)


def _media_type(name: str, digest: Digest, linked: RepositoryState) -> str:
    """Return a type by which no browser shows or runs it as a page; helm itself looks at none (helm/helm#12245)."""
    if name == INDEX:
        return linked.manifests[digest].media_type if digest in linked.manifests else "application/yaml"
    return _TYPES.get(f".{name.rpartition('.')[2]}", "application/octet-stream")
