"""Surveys many repositories: those of a list or of a registry, each as a mirror of one repository would."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile

from mirrord.config.files import AbsentError, UnreadableError, read_file, text_of
from mirrord.errors import (
    ConfigError,
    ContentError,
    MirrordError,
    TransportError,
    UnreachableError,
    UsageError,
)
from mirrord.model.memory import NO_MEMORY, Memory
from mirrord.model.origin import ConfigOrigin
from mirrord.names.lists import MAX_BYTES, ListEntry, form_of, parse_list
from mirrord.plan.repositories import RepositoryChoice
from mirrord.plan.restored import NOTHING, Restored
from mirrord.syncer.restoring import FACTS
from mirrord.syncer.values import Mirror, MirrorParts, Services, Target
from mirrord.syncers.image.names import AskedImages, Source, is_many, list_file, spec_of
from mirrord.syncers.image.plan.listed import listed_in
from mirrord.syncers.image.plan.many import (
    ManySurvey,
    RepositoryPart,
    about,
    apart,
    by_part,
    chosen,
    derived,
    pinned,
    prefix,
    with_key,
)
from mirrord.syncers.image.plan.steps import ImageSurvey, shared_code
from mirrord.syncers.image.upstream.losses import lost, refuse_loss
from mirrord.syncers.image.upstream.survey import names_held, survey
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.reference import Reference
from mirrord.wire.vendors.known import repositories_for

REGISTRIES = 16  # that are read at once, so that a slow one does not delay the others
REPOSITORIES = 4
"""Of one registry, read at once; the host's `requests` limits requests. So many that fail in a row end its turn."""
_SHOWN = 20  # bad lines in the error about a list without a good one


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a mirror names; attributes as in `ManySurvey`."""

    parts: Sequence[RepositoryPart]
    problems: Sequence[str] = ()
    repeated: Sequence[str] = ()  # lines that another one makes needless
    listed: Sequence[str] | None = None
    remarks: Sequence[str] = ()
    lost: str = ""


async def survey_many(mirror: Mirror, services: Services, memory: Memory, now: datetime) -> ManySurvey:
    """Survey all repositories; one that cannot be read is missing, and the others go on.

    Raises:
        MirrordError: it is not known which are meant, or none of them can be read.
    """
    wanted = await wanted_parts(mirror, services)
    memories = await asyncio.to_thread(by_part, memory)
    facts = await services.facts.recall(mirror.name, FACTS) if services.facts else {}
    restored = await asyncio.to_thread(lambda: Restored.read(facts).apart())
    dead: dict[str, UnreachableError] = {}  # targets
    found: dict[str, ImageSurvey | MirrordError] = {}
    gone: dict[str, TransportError] = {}  # registries
    failing = Counter[str]()  # registries: images in a row that it did not answer for, or throttled

    async def look(part: RepositoryPart) -> None:
        domain = part.reference.domain
        if domain in gone:
            return
        try:
            known = memories.get(part.key, NO_MEMORY)
            ours = restored.get(prefix(part), NOTHING)
            found[part.key] = await survey(part.mirror, services, known, now, dead=dead, restored=ours)
        except UnreachableError as error:
            gone.setdefault(domain, error)
        except TransportError as error:
            found[part.key] = error
            failing[domain] += 1
            if failing[domain] >= REPOSITORIES:
                gone.setdefault(domain, error)
        except MirrordError as error:
            found[part.key] = error
        if not isinstance(found.get(part.key), TransportError):
            failing[domain] = 0

    async def read(parts: Sequence[RepositoryPart]) -> None:
        await Workers(REPOSITORIES).each(parts, look)

    registries = defaultdict[str, list[RepositoryPart]](list)
    for part in wanted.parts:
        registries[part.reference.domain].append(part)
    await Workers(REGISTRIES).each(registries.values(), read)
    return await asyncio.to_thread(_joined, wanted, found, gone)


async def wanted_parts(mirror: Mirror, services: Services) -> Wanted:
    """Return the repositories that a mirror of many names, those that have their places for themselves.

    Raises:
        MirrordError: it is not known which are meant.
    """
    if isinstance(mirror.spec, AskedImages):
        wanted = of_asked(mirror, mirror.spec)
    elif spec_of(mirror).source.listing is not None:
        wanted = await asyncio.to_thread(of_file, mirror)
    else:
        wanted = await _of_registry(mirror, services)
    parts, clashes = await asyncio.to_thread(lambda: apart(wanted.parts, _others(mirror, services)))
    return replace(wanted, parts=parts, problems=(*wanted.problems, *clashes))


def _others(mirror: Mirror, services: Services) -> Iterator[Mirror]:
    """Yield the mirrors of one source, and the parts of mirrors of many that come before this one. Blocking."""
    mirrors = services.mirrors.get(mirror.kind, ())
    yield from (one for one in mirrors if not is_many(one))
    for one in takewhile(lambda one: one.name != mirror.name, mirrors):
        yield from parts_of(one).mirrors if is_many(one) else ()


def _joined(
    wanted: Wanted, found: Mapping[str, ImageSurvey | MirrordError], gone: Mapping[str, TransportError]
) -> ManySurvey:
    surveyed: list[tuple[RepositoryPart, ImageSurvey]] = []
    lost = Counter(part.reference.domain for part in wanted.parts if part.key not in found)
    missing = [
        f"{about(domain, str(error))}; images that were not read: {lost[domain]}"
        for domain, error in gone.items()
        if lost[domain]
    ]
    for part in wanted.parts:
        one = found.get(part.key)
        if one is None:
            continue
        if isinstance(one, MirrordError):
            missing.append(about(part.key, str(one)))
        else:
            surveyed.append((part, one))
    errors = (*gone.values(), *(one for one in found.values() if isinstance(one, MirrordError)))
    if errors and not surveyed:
        raise errors[0]
    known = wanted.remarks, wanted.listed, wanted.lost, shared_code(errors), pinned(wanted.parts)
    return ManySurvey(surveyed, wanted.problems, missing, *known)


async def _of_registry(mirror: Mirror, services: Services) -> Wanted:
    """Return the repositories of a registry: those that are named, and listed ones that match a pattern.

    Raises:
        GuardError: the registry lists none that are wanted, and did before.
        MirrordError: the registry does not list its repositories, or lists none that are wanted.
    """
    source = spec_of(mirror).source
    registry, rules = source.registry or "", source.repositories or RepositoryChoice()
    whole: list[str] = []
    listed: Sequence[str] = ()
    fewer = ""
    remarks: list[str] = []
    if rules.patterns:
        whole = [path async for path in repositories_for(services.http, registry, rules.patterns)]
        seen = f"{len(whole)} repositories seen; correct from.repositories"
        idle = await asyncio.to_thread(rules.idle, whole)
        remarks = [f"{registry}: no repository matches {pattern}; {seen}" for pattern in idle]
        if len(remarks) == len(rules.match):
            await refuse_loss(mirror, services)
            raise ContentError("; ".join(remarks))
        listed = await asyncio.to_thread(rules.matching, whole)
        fewer = await lost(mirror, services, listed)
    sources = await asyncio.to_thread(lambda: [*chosen(mirror, listed)])
    if not sources:
        nothing = f"{registry}: exclude leaves out every repository that match has; correct from.repositories"
        raise ContentError("; ".join((*remarks, nothing)))
    parts, wrong = await asyncio.to_thread(_parts, mirror, sources)
    accepted = None if fewer or not rules.patterns else listed
    return Wanted(parts, wrong, listed=accepted, remarks=remarks, lost=fewer)


def of_file(mirror: Mirror) -> Wanted:
    """Return the repositories that a list file names. Blocking.

    Raises:
        ConfigError: it cannot be read, or names nothing: an emptied list is an accident.
    """
    file, source = list_file(mirror), spec_of(mirror).source
    form = source.form or form_of(file.name)
    try:
        found = parse_list(text_of(read_file(file, MAX_BYTES)[0]), str(file), form)
    except UnreadableError as error:
        raise ConfigError(f"{file}:{error.line}: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    except UsageError as error:
        raise ConfigError(str(error)) from error
    problems = [str(problem) for problem in found.problems]
    if not found.entries:
        nothing = f"{file}: names no image, so nothing is changed; write one a line"
        raise ConfigError("; ".join((nothing, *problems[:_SHOWN])))  # one line, as the error of a run
    sources, unclear = listed_in(found.entries, str(file), source)
    parts, wrong = _parts(mirror, sources)
    return Wanted(parts, (*problems, *unclear, *wrong), [str(one) for one in found.repeated])


def of_asked(mirror: Mirror, spec: AskedImages) -> Wanted:
    """Return the repositories of images that were asked for."""
    entries = [ListEntry(number, Reference.parse(text)) for number, text in enumerate(spec.images, start=1)]
    sources, unclear = listed_in(entries, mirror.name, spec.source)
    parts, wrong = _parts(mirror, sources)
    return Wanted(parts, (*unclear, *wrong))


def parts_of(mirror: Mirror) -> MirrorParts:
    """Return the mirrors that a mirror of many consists of; see `Syncer.parts`. Blocking."""
    if spec_of(mirror).source.listing is None:
        parts, problems = _parts(mirror, chosen(mirror, ()))
        return MirrorParts([part.mirror for part in parts], problems)
    try:
        wanted = of_file(mirror)
    except ConfigError as error:
        absent = isinstance(error.__cause__, AbsentError)
        return MirrorParts(notices=error.problems) if absent else MirrorParts(problems=error.problems)
    return MirrorParts([part.mirror for part in wanted.parts], wanted.problems, wanted.repeated)


def _parts(
    mirror: Mirror, sources: Iterable[tuple[Source, ConfigOrigin]]
) -> tuple[Sequence[RepositoryPart], Sequence[str]]:
    """Return the parts of a mirror, and a sentence for each source that cannot be one."""
    parts: list[RepositoryPart] = []
    problems: list[str] = []
    for source, origin in sources:
        try:
            parts.append(derived(mirror, source, origin))
        except MirrordError as error:
            bare = str(error).removeprefix(f"{origin}: ").removeprefix(f"mirrors.{mirror.name}.from.repository: ")
            problems.append(f"{origin}: {bare}")
    return parts, problems


async def names_of_many(
    mirror: Mirror, target: Target, services: Services, names: Collection[str]
) -> Mapping[str, str | None]:
    """Return the digests of names, `host/path:tag`, at a target. Raises as `names_held`."""
    tags = defaultdict[str, list[str]](list)
    for name in names:
        repository, _, tag = name.rpartition(":")
        tags[repository].append(tag)
    found: dict[str, str | None] = {}

    async def look(repository: str) -> None:
        part = derived(replace(mirror, targets=(target,)), Source(repository=repository))
        held = await names_held(part.mirror, target, services, tags[repository])
        found.update({with_key(repository, tag): digest for tag, digest in held.items()})

    await Workers(REPOSITORIES).each(tags, look)
    return found
