"""Charts in a registry as a source: each repository is a chart, each tag a version (helm's OCI support)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from mirrord.errors import ContentError, DigestError, MirrordError, MissingError
from mirrord.model.digest import Digest
from mirrord.plan.select import is_glob
from mirrord.plan.semver import valid_version
from mirrord.syncers.helm.names import CHART_TYPES, CONFIG_TYPE, OCI, ChartVersion, Problem, valid_name
from mirrord.syncers.helm.plan.choice import choose, selected
from mirrord.syncers.helm.spec import HelmSpec
from mirrord.syncers.helm.upstream.index_schema import ENTRY, InvalidEntryError, record
from mirrord.syncers.helm.upstream.poll import Polled
from mirrord.syncers.helm.upstream.reading import Index
from mirrord.syncers.helm.upstream.yaml_events import build
from mirrord.transfer.fanout import Workers
from mirrord.wire.http.client import Http
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import Reference
from mirrord.wire.offload import offload

LARGEST_CONFIG: Final = 1 << 20
AT_ONCE: Final = 8


async def poll_registry(http: Http, url: str, spec: HelmSpec, known: Mapping[str, str], now: datetime) -> Polled:
    """List the tags; read manifest and config of those versions that the mirror may want.

    `url` is the chart's own repository, or the folder of the charts that `charts:` names one by one.

    Raises:
        MirrordError: the tags of none of them can be listed.
    """
    references = [Reference.parse(name) for name in _repositories(url, spec)]
    repositories = {reference: Repository(http, reference) for reference in references}
    found = dict(zip(references, await asyncio.gather(*map(_tags, repositories.values())), strict=True))
    failed = {reference: error for reference, error in found.items() if isinstance(error, MirrordError)}
    if failed and len(failed) == len(found):
        error = next(iter(failed.values()))
        if isinstance(error, MissingError) and all(map(is_glob, spec.charts)):
            hint = "if this is a folder of charts, name them in `charts:`"
            raise MissingError(f"{error}; {hint}", error.status) from error
        raise error
    listed = {reference: tags for reference, tags in found.items() if not isinstance(tags, MirrordError)}
    tags, digest = await asyncio.to_thread(_sorted, listed)
    if digest == known.get("digest") and not failed:
        return Polled(None, known)
    reading = _Reading(repositories, spec, now)
    for reference, error in failed.items():
        name = _name(reference)
        reading.unread.append(Problem(name, f"cannot be read now: {error}", left_out=True, chart=name, code=error.code))
    await reading.workers.each(tags.items(), lambda one: reading.read(*one))

    def polled() -> Polled:
        versions = {_name(reference): frozenset(map(_version, some)) for reference, some in tags.items()}
        return Polled(reading.index(), {"digest": str(digest)}, versions)

    return await asyncio.to_thread(polled)


def _sorted(listed: Mapping[Reference, list[str]]) -> tuple[Mapping[Reference, list[str]], Digest]:
    """Return the tags of each repository in order, and a digest of all of them."""
    tags = {reference: sorted(some) for reference, some in listed.items()}
    text = json.dumps({reference.name: some for reference, some in tags.items()}, sort_keys=True)
    return tags, Digest.of(text.encode())


async def _tags(repository: Repository) -> list[str] | MirrordError:
    try:
        return [tag async for tag in repository.tags()]
    except MirrordError as error:
        return error


class _Reading:
    """Reads what the tags stand for; collects what is wrong."""

    def __init__(self, repositories: Mapping[Reference, Repository], spec: HelmSpec, now: datetime) -> None:
        self._repositories, self._spec, self._now = repositories, _of_tags(spec), now
        self.workers = Workers(AT_ONCE)
        self._problems: list[Problem] = []
        self._found: list[list[tuple[ChartVersion, ChartVersion]]] = []  # of each chart, what is listed and what it is
        self._entries: dict[str, ChartVersion] = {}
        self.unread: list[Problem] = []

    async def read(self, reference: Reference, tags: Sequence[str]) -> None:
        """Read the versions of one chart that may be wanted."""
        charts = await asyncio.to_thread(self._wanted, reference, tags)
        found: dict[str, ChartVersion] = {}

        async def look(chart: ChartVersion) -> None:
            if entry := await self._entry(reference, chart):
                found[chart.version] = entry

        await self.workers.each(charts, look)
        self._found.append([(chart, found[chart.version]) for chart in charts if chart.version in found])

    def _wanted(self, reference: Reference, tags: Sequence[str]) -> Sequence[ChartVersion]:
        name = _name(reference)
        versions = {tag: _version(tag) for tag in tags}
        listed = [
            ChartVersion(name, version, None, (f"{OCI}{reference.with_tag(tag)}",), None, deprecated=False, entry={})
            for tag, version in versions.items()
            if valid_version(version)
        ]
        return [choice.chart for choice in choose(listed, self._spec, self._now).values()] if valid_name(name) else []

    def index(self) -> Index:
        """Return what was read; once."""
        for some in self._found:
            for chart, entry in sorted(some, key=lambda pair: pair[0].version != pair[1].version):  # own tags first
                self._take(chart, entry)
        problems, unread = (tuple(sorted(some, key=str)) for some in (self._problems, self.unread))
        return Index(tuple(self._entries.values()), problems, unread=unread)

    async def _entry(self, reference: Reference, listed: ChartVersion) -> ChartVersion | None:
        try:
            return await _entry(self._repositories[reference], listed)
        except (ContentError, MissingError, InvalidEntryError) as error:
            self._problems.append(_problem(listed, str(error)))
        except MirrordError as error:
            self.unread.append(replace(_problem(listed, f"cannot be read now: {error}"), code=error.code))
        return None

    def _take(self, listed: ChartVersion, entry: ChartVersion) -> None:
        """Let a chart be known by its own version, whatever its tag; of two tags for one version that of its name."""
        first = self._entries.setdefault(entry.item, entry)
        if first is entry:
            return
        other = first.urls[0].rpartition(":")[2]
        if first.digest == entry.digest:
            what = f"is {entry.name} {entry.version}, which tag {other} is, too"
            self._problems.append(_problem(listed, what, left_out=False))
        else:
            what = f"says that it is {entry.name} {entry.version}, and so does tag {other} with other content"
            self._problems.append(_problem(listed, what))


def _problem(listed: ChartVersion, what: str, *, left_out: bool = True) -> Problem:
    return Problem(listed.item, what, left_out, listed.name, listed.version)


def _version(tag: str) -> str:
    return tag.replace("_", "+")


def _name(reference: Reference) -> str:
    return reference.path.rpartition("/")[2]


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
    return [f"{name}/{chart}" for chart in spec.charts if not is_glob(chart) and selected(chart, spec)]


async def _entry(repository: Repository, listed: ChartVersion) -> ChartVersion:
    """Make the entry that an index would have: metadata from the config, digest of the archive, date of the push.

    The version is the chart's own. Some push v1.14.5 under tag 1.14.5 (fluxcd/helm-controller#990), and helm pulls it.
    """
    manifest = await repository.get_manifest(listed.version.replace("+", "_"))
    layer = next((blob for blob in manifest.blobs if blob.media_type in CHART_TYPES), None)
    config = next((blob for blob in manifest.blobs if blob.media_type == CONFIG_TYPE), None)
    if layer is None or config is None:
        raise ContentError("is no chart: no config or no archive of one")
    if config.size > LARGEST_CONFIG:
        raise ContentError(f"has a config of {config.size} bytes")
    try:
        body = await repository.get_blob(config)
    except DigestError as error:
        raise ContentError(f"has a config that is not {config.digest}") from error
    raw = (await offload(len(body), partial(build, strict=False), body)).value
    if not isinstance(raw, dict):
        raise ContentError("has a config that is no mapping")
    entry = record("", raw, lambda _what: None, ENTRY)
    version = str(entry.get("version", ""))
    if entry.get("name") != listed.name or not valid_version(version):
        raise ContentError(f"says that it is {str(entry.get('name', ''))!a:.80} {version!a:.80}")
    created = manifest.annotations.get("org.opencontainers.image.created")
    facts = {"urls": list(listed.urls), "digest": layer.digest.hex} | ({"created": created} if created else {})
    return replace(
        listed,
        version=version,
        digest=layer.digest,
        created=created,
        deprecated=entry.get("deprecated") is True,
        entry={**entry, **facts},
    )
