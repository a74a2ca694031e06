"""One look at a classic repository: one request when nothing changed, and then nothing is parsed either."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mirrord.errors import ContentError, MirrordError, MissingError, RefusedError
from mirrord.gunzip import gunzip
from mirrord.model.digest import Digest
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.helm.kept import files_of
from mirrord.syncers.helm.names import INDEX, LARGEST_INDEX, is_oci, repository_of, source_of
from mirrord.syncers.helm.plan.choice import concerns
from mirrord.syncers.helm.plan.survey import HelmSurvey
from mirrord.syncers.helm.spec import HelmSpec
from mirrord.syncers.helm.upstream.location import locate
from mirrord.syncers.helm.upstream.reading import Index, read_index
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import KIB, HttpRequest

LARGEST_EXTRA: Final = 256 * KIB
EXTRAS: Final = ("artifacthub-repo.yml", "pubkey.gpg")
"""What repositories keep beside their index for people and for Artifact Hub; most have none of it."""


@dataclass(frozen=True, slots=True)
class Polled:
    """What a look brought."""

    index: Index | None  # what upstream lists, or None when it is the same as before
    facts: Mapping[str, str] = field(default_factory=dict)  # by which the next look will know whether something changed
    # of charts in a registry, all versions by chart: the index has only those that may be wanted
    versions: Mapping[str, Collection[str]] = field(default_factory=dict)


async def poll(http: Http, repository: str, known: Mapping[str, str]) -> Polled:
    """Ask for the index, unless it is as `known` has it (the facts of an earlier look; {} asks in any case).

    Raises:
        MissingError: there is no index.
        ContentError: the answer is no index; the message says what it is.
        TooLargeError: it is made to be too much.
        MirrordError: it cannot be had.
    """
    location = locate(repository, INDEX, http.book)
    headers = {"Accept-Encoding": "gzip", "Accept": "application/yaml, application/json, */*;q=0.5"}
    asked = {"If-None-Match": known.get("etag"), "If-Modified-Since": known.get("modified")}
    headers |= {name: value for name, value in asked.items() if value}
    call = HttpRequest(
        "GET", location.url, location.host, headers=headers, ok=(200, 304), cap=LARGEST_INDEX, encoded=True
    )
    try:
        answer = await http.fetch(call)
    except MissingError as error:
        without = f"{repository} has no {INDEX} (status {error.status}); write the URL that `helm repo add` takes"
        raise MissingError(f"{without}, or look whether {location.host} wants credentials", error.status) from error
    if answer.status == 304:
        return Polled(None, known)
    encoding = answer.headers.get("content-encoding", "").lower()
    try:
        data = await asyncio.to_thread(_unpacked, answer.body, encoding)
        digest = Digest.of(data)
        validators = {"etag": answer.headers.get("etag", ""), "modified": answer.headers.get("last-modified", "")}
        facts = {"digest": str(digest)} | {name: value for name, value in validators.items() if value}
        if digest == known.get("digest"):
            return Polled(None, {**known, **facts})
        return Polled(await asyncio.to_thread(read_index, data), facts)
    except ContentError as error:
        raise type(error)(f"{location}: {error}; what was mirrored before stays") from error


def _unpacked(body: bytes, encoding: str) -> bytes:
    """Undo the Content-Encoding, never beyond the limit (800 x bombs exist: CVE-2025-32386)."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise ContentError(f"{INDEX} comes with Content-Encoding {encoding[:40]!r}, which was not asked for")
    try:
        return b"".join(gunzip((body,), LARGEST_INDEX))
    except ContentError as error:
        raise type(error)(f"{INDEX}: {error}") from error


@dataclass(frozen=True, slots=True)
class Extras:
    """The small files beside an index."""

    files: Mapping[str, bytes] = field(default_factory=dict)  # those that exist, by name
    # name → why it is not known now whether there is one
    unknown: Mapping[str, MirrordError] = field(default_factory=dict)


async def extras(http: Http, repository: str, index: Index) -> Extras:
    """Ask for the small files beside the index; none of them is worth failing for."""
    keys = [key for key in index.public_keys if key.isascii() and key.replace("-", "").replace(".", "").isalnum()]
    names = dict.fromkeys((*EXTRAS, *keys[:20]))
    found = await asyncio.gather(*(_extra(http, repository, name) for name in names))
    pairs = list(zip(names, found, strict=True))
    return Extras(
        {name: data for name, data in pairs if isinstance(data, bytes) and data},
        {name: error for name, error in pairs if isinstance(error, MirrordError)},
    )


async def _extra(http: Http, repository: str, name: str) -> bytes | MirrordError:
    try:
        location = locate(repository, name, http.book)
        answer = await http.fetch(HttpRequest("GET", location.url, location.host, cap=LARGEST_EXTRA))
    except RefusedError:
        return b""
    except MirrordError as error:  # of a server in trouble, or one that answers 500 for what is not there
        return error
    html = answer.body.lstrip()[:1] == b"<"  # many servers answer 200 with a page
    return b"" if html else answer.body


async def extras_of(mirror: Mirror, services: Services, index: Index) -> tuple[Mapping[str, bytes], tuple[str, ...]]:
    """Return the files beside the index, and a sentence for each that is the one of before, since it cannot be had."""
    url = source_of(mirror)
    if is_oci(url):
        return {}, ()
    found = await extras(services.http, url, index)
    files, stale, kept = dict(found.files), [], files_of(services, repository_of(mirror))
    for name, error in found.unknown.items():
        data = await kept.read(name) if kept else None
        if data is not None:
            files[name] = data
            stale.append(f"{name}: cannot be had now, the one of before stays: {error}")
    return files, tuple(stale)


def with_troubles(survey: HelmSurvey, index: Index, spec: HelmSpec) -> HelmSurvey:
    """Say what is wrong with an index, as far as it concerns what is wanted of it."""
    hidden = (*index.left_out, *index.unread)
    wrong = [problem for problem in index.problems if concerns(problem.chart, problem.version, spec)]
    missing = [problem for problem in index.unread if concerns(problem.chart, problem.version, spec)]
    codes = {problem.code for problem in missing}
    return replace(
        survey,
        problems=(*(str(problem) for problem in wrong if problem.left_out), *survey.problems),
        remarks=tuple(str(problem) for problem in wrong if not problem.left_out),
        missing=tuple(map(str, missing)),
        code=codes.pop() if len(codes) == 1 else "",
        unread=frozenset(item for problem in hidden for item in problem.items),
        unknown=("",) if index.more else tuple(f"{one.chart}-" for one in hidden if one.chart and not one.version),
        public_keys=index.public_keys,
        annotations=dict(index.annotations),
    )
