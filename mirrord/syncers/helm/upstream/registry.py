"""Charts in a registry as a source: each repository is a chart, each tag a version (helm's OCI support)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from mirrord.errors import ContentError, MirrordError
from mirrord.model import Digest
from mirrord.plan.select import is_glob
from mirrord.plan.semver import valid_version
from mirrord.syncers.helm.names import OCI, ChartVersion, Problem, valid_name
from mirrord.syncers.helm.plan import choose
from mirrord.syncers.helm.spec import HelmSpec
from mirrord.syncers.helm.upstream.events import build
from mirrord.syncers.helm.upstream.fetch import CHART_LAYERS
from mirrord.syncers.helm.upstream.fields import ENTRY, RefusedError, record
from mirrord.syncers.helm.upstream.plain import Plain
from mirrord.syncers.helm.upstream.poll import Polled
from mirrord.syncers.helm.upstream.reading import Index
from mirrord.wire.http import Http
from mirrord.wire.message import MIB
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.reference import Reference

CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"
LARGEST_CONFIG: Final = MIB
AT_ONCE: Final = 8


async def poll_registry(http: Http, url: str, spec: HelmSpec, known: Mapping[str, str], now: datetime) -> Polled:
    """List the tags; read manifest and config of those versions that the mirror may want.

    `url` is the chart's own repository, or the folder of the charts that `charts:` names one by one.

    Raises:
        MirrordError: the tags cannot be listed.
    """
    references = map(Reference.parse, _repositories(url, spec))
    repositories = {reference: Repository(http, reference, http.book) for reference in references}
    tags = {reference: [tag async for tag in one.tags()] for reference, one in repositories.items()}
    text = json.dumps({reference.name: sorted(found) for reference, found in tags.items()}, sort_keys=True)
    digest = Digest.of(text.encode())
    if digest == known.get("digest"):
        return Polled(None, known)
    free, problems, entries = asyncio.Semaphore(AT_ONCE), list[Problem](), list[ChartVersion]()

    async def read(reference: Reference, listed: ChartVersion) -> ChartVersion | None:
        try:
            async with free:
                return await _entry(repositories[reference], listed)
        except (MirrordError, RefusedError) as error:
            problems.append(Problem(listed.item, str(error), left_out=True))
            return None

    tagged = _of_tags(spec)
    for reference, found in tags.items():
        name = reference.path.rpartition("/")[2]
        listed = [_listed(reference, name, tag) for tag in sorted(found) if valid_version(tag.replace("_", "+"))]
        wanted = choose(listed, tagged, now).values() if valid_name(name) else ()
        entries += filter(None, await asyncio.gather(*(read(reference, choice.chart) for choice in wanted)))
    problems.sort(key=str)
    return Polled(Index(tuple(entries), tuple(problems)), {"digest": str(digest)})


def _of_tags(spec: HelmSpec) -> HelmSpec:
    """Return what of `spec` can be decided by a tag alone: nothing about age and deprecation, nor what follows them."""
    known = {"charts": ("*",), "min_age": 0.0, "deprecated": True}
    if spec.newest is None or (not spec.min_age and spec.deprecated):
        return spec.model_copy(update=known)
    return spec.model_copy(update={**known, "newest": None, "prereleases": bool(spec.prereleases)})


def _repositories(url: str, spec: HelmSpec) -> Sequence[str]:
    name = url[len(OCI) :].rstrip("/")
    if all(map(is_glob, spec.charts)):
        return (name,)
    return [f"{name}/{chart}" for chart in spec.charts if not is_glob(chart)]


def _listed(reference: Reference, name: str, tag: str) -> ChartVersion:
    version = tag.replace("_", "+")
    return ChartVersion(name, version, None, (f"{OCI}{reference.with_tag(tag)}",), None, deprecated=False, entry={})


async def _entry(repository: Repository, listed: ChartVersion) -> ChartVersion:
    """Make the entry that an index would have: metadata from the config, digest of the archive, date of the push."""
    manifest = await repository.get_manifest(listed.version.replace("+", "_"))
    layer = next((blob for blob in manifest.blobs if blob.media_type in CHART_LAYERS), None)
    config = next((blob for blob in manifest.blobs if blob.media_type == CONFIG), None)
    if layer is None or config is None:
        raise ContentError("is no chart: no config or no archive of one")
    raw = await _config(repository, config)
    entry = record("", raw, lambda _what: None, ENTRY)
    if (entry.get("name"), entry.get("version")) != (listed.name, listed.version):
        raise ContentError(f"says that it is {entry.get('name')!a:.80} {entry.get('version')!a:.80}")
    created = manifest.annotations.get("org.opencontainers.image.created")
    facts = {"urls": list(listed.urls), "digest": layer.digest.hex} | ({"created": created} if created else {})
    return replace(
        listed,
        digest=layer.digest,
        created=created,
        deprecated=entry.get("deprecated") is True,
        entry={**entry, **facts},
    )


async def _config(repository: Repository, config: Descriptor) -> dict[str, Plain]:
    if config.size > LARGEST_CONFIG:
        raise ContentError(f"has a config of {config.size} bytes")
    body = b""
    async with repository.open_blob(config) as chunks:
        async for chunk in chunks:
            body += chunk
    if Digest.of(body, config.digest.algorithm) != config.digest:
        raise ContentError(f"has a config that is not {config.digest}")
    found = build(body).value
    if not isinstance(found, dict):
        raise ContentError("has a config that is no mapping")
    return found
