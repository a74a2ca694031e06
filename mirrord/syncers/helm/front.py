"""The `local` store as a classic chart repository, below `/helm/<mirror>/`.

Every name is looked up among those that the mirror's last publication linked, all of them in one step: who has read
an index finds every archive that it lists. Of what a client sends, only a mirror's name gets into a path.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from urllib.parse import unquote

from mirrord.blobs.named import NamedFiles
from mirrord.blobs.store import own
from mirrord.errors import StorageError
from mirrord.model.digest import Digest
from mirrord.model.objects import BucketAwayError
from mirrord.syncer.serving import Request, Response, check_local, refusal, taken_down
from mirrord.syncer.values import Services
from mirrord.syncers.helm.kept import files_of
from mirrord.syncers.helm.names import CHARTS, INDEX, PROVENANCE, item_of

_ROUTE = re.compile(r"(?P<mirror>[a-z0-9][a-z0-9-]{0,127})/(?P<name>[^/]+|charts/[^/]+)")
prefixes = ("/helm/",)
_LONGEST = 1024  # characters of a path; a chart's name has at most 250, and a file name 255
_TYPES = {  # by which no browser shows or runs it as a page; helm itself looks at none (helm/helm#12245)
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
    if denied := taken_down(route["mirror"], services, item_of(route["name"])):
        return denied
    try:
        response = await _named(f"_helm/{route['mirror']}", route["name"], services)
        return response or refusal(404, _nothing(route["mirror"]))
    except BucketAwayError:
        away = refusal(503, "the bucket with what is kept here does not answer; try again later")
        return replace(away, headers={**away.headers, "Retry-After": "10"})
    except StorageError:
        return refusal(500, "the store cannot be read; the log says why")


def _nothing(mirror: str) -> str:
    return (
        f"no charts of {mirror} are kept here: no mirror of charts with `local` as target is called so, or it never ran"
    )


def _used(services: Services, name: str, digest: Digest) -> None:
    """Note that a client asks for an archive: `keep` leaves it for a while. Everybody asks for the index."""
    if services.uses and name.startswith(f"{CHARTS}/"):
        services.uses.note(digest, manifest=True)


async def _named(repository: str, name: str, services: Services) -> Response | None:
    """Return what a name stands for, or None when there is no such repository."""
    check_local(services)
    files = files_of(services, repository)
    found = await files.find(name, partial(_used, services, name)) if files else None
    if files is None or (found is None and not await files.exists()):
        return None
    if found is None:
        return refusal(404, "no such file in this repository; its index.yaml lists all that there are")
    if services.denied and (entry := services.denied.manifest("", await _archive(files, name, found.digest))):
        return refusal(451, f"{item_of(name)} was taken down: {entry.reason}{services.objection}")
    if found.stored is None:
        return refusal(404, "this file was lost; the next run fetches it again")
    by_name = _TYPES.get(f".{name.rpartition('.')[2]}", "application/octet-stream")
    headers = {"Content-Type": found.media_type if name == INDEX else by_name, "ETag": f'"{found.digest}"'}
    if name != INDEX:
        return Response(200, headers, found.stored)
    packed = await files.find(f"{INDEX}.gz")
    gzipped = own(packed.stored) if packed and packed.stored else None
    return Response(200, {**headers, "Cache-Control": "no-cache"}, own(found.stored), gzipped=gzipped)


async def _archive(files: NamedFiles, name: str, digest: Digest) -> Digest:
    """Return the digest of the archive that a name is about."""
    archive = await files.find(name.removesuffix(PROVENANCE)) if name.endswith(PROVENANCE) else None
    return archive.digest if archive else digest
