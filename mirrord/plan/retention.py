"""Which names of a repository in `local` stay, and why. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from mirrord.model.digest import Digest
from mirrord.model.keep import Keep, Ranked, Ranks
from mirrord.plan.tags import COMMIT, TagVersion, read_tag
from mirrord.wire.oci.reference import ABOUT_TAGS

READING: Final = 3600.0
"""Seconds for which content that a client asked for stays, whatever the rules: an image is pulled in many requests."""
DAY: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Clients:
    """What is known of the clients that read content.

    Attributes:
        used: returns when a manifest was last asked for, or a later time, in seconds since 1970; 0 if nobody knows.
        reading: returns whether part of it was asked for a moment ago (`READING`), or nobody knows that.
    """

    used: Callable[[Digest], float] = lambda _: 0.0
    reading: Callable[[Digest], bool] = lambda _: False


NOBODY: Final = Clients()


@dataclass(frozen=True, slots=True)
class Retained:
    """Whether a name stays.

    Attributes:
        stays: whether it does.
        why: one clause.
    """

    stays: bool
    why: str


def by_tag(tags: Mapping[str, Digest], tagged: Mapping[str, int]) -> Mapping[str, Ranked]:
    """Rank tags of images: builds by when they came, versions as versions. Those of signatures go with their image."""
    found = dict[str, Ranked]()
    for name in tags:
        if name.startswith(ABOUT_TAGS):
            continue
        version = read_tag(name)
        numbers, release, identifiers, revision, text = version.order
        found[name] = Ranked(
            (bool(version.numbers), version.variant),
            (numbers, release, identifiers, revision, tagged.get(name, 0), text),
            version.variant,
            "it is a moving name" if _moves(version) else "",
        )
    return found


def retained(
    tags: Mapping[str, Digest],
    tagged: Mapping[str, int],
    keep: Keep,
    now: float,
    clients: Clients = NOBODY,
    *,
    ranks: Ranks = by_tag,
) -> Mapping[str, Retained]:
    """Decide about each name that `ranks` returns; others go with one of these, or stay.

    Args:
        tags: all names of the repository.
        tagged: when each name got its digest, in seconds since 1970; one whose time is unknown stays.
        keep: the rules. Each of them is a reason to stay.
        now: the present time.
        clients: who reads what.
        ranks: what the names mean.
    """
    ranked = ranks(tags, tagged)
    lasting = {tags[name]: name for name, one in ranked.items() if one.stays}
    places = _places(ranked)
    found = dict[str, Retained]()
    for name, one in ranked.items():
        digest, at = tags[name], tagged.get(name)
        if keep.everything:
            found[name] = Retained(stays=True, why="everything is kept")
        elif one.stays:
            found[name] = Retained(stays=True, why=one.stays)
        elif digest in lasting:
            found[name] = Retained(stays=True, why=f"{lasting[digest]} names the same content")
        elif at is None:
            found[name] = Retained(stays=True, why="it is not known when it came")
        else:
            found[name] = _judged((places[name], one.called), at, keep, now, partial(clients.used, digest))
            if not found[name].stays and clients.reading(digest):
                found[name] = Retained(stays=True, why="clients are reading it")
    return found


def expired(lost: Mapping[Digest, int], keep: Keep, now: float, clients: Clients = NOBODY) -> Mapping[Digest, str]:
    """Return which manifests go that lost their tag, and why; the caller leaves out those that are needed.

    A manifest that never lost a tag is pinned by its digest, or is part of an image: it is not in `lost`.
    """
    if keep.everything:
        return {}
    found = dict[Digest, str]()
    for digest, at in lost.items():
        if now - at < max((keep.days or 0) * DAY, READING) or clients.reading(digest):
            continue
        if keep.unused is None or now - (clients.used(digest) or at) >= keep.unused:
            found[digest] = f"no tag names it since {_date(at)}"
    return found


def not_kept(
    tags: Mapping[str, Digest],
    tagged: Mapping[str, int],
    dropped: Mapping[str, tuple[Digest, int]],
    keep: Keep,
    now: float,
    *,
    ranks: Ranks = by_tag,
) -> Mapping[str, tuple[Digest, str]]:
    """Return which of the dropped names would go again at once, with their content and why."""
    all_tags = {name: digest for name, (digest, _) in dropped.items()} | dict(tags)
    times = {name: at for name, (_, at) in dropped.items()} | dict(tagged)
    verdicts = retained(all_tags, times, keep, now, ranks=ranks)
    return {
        name: (dropped[name][0], verdicts[name].why)
        for name in dropped
        if name in verdicts and not verdicts[name].stays
    }


def _judged(rank: tuple[int, str], at: int, keep: Keep, now: float, used: Callable[[], float]) -> Retained:
    place, group = rank[0], f" of {rank[1]}" if rank[1] else ""
    why = [f"came {_date(at)}"]
    if keep.newest is not None:
        if place < keep.newest:
            return Retained(stays=True, why=f"among the newest {keep.newest}{group}")
        why.insert(0, f"not among the newest {keep.newest}{group}")
    if keep.days is not None and now - at < keep.days * DAY:
        return Retained(stays=True, why=f"younger than {keep.days} days")
    if keep.unused is not None:
        last = max(used(), float(at))
        if now - last < keep.unused:
            return Retained(stays=True, why=f"used {_date(last)}")
        why.append(f"not used since {_date(last)}")
    return Retained(stays=False, why=", ".join(why))


def _moves(version: TagVersion) -> bool:
    """Whether a tag says neither a version nor a commit: a branch, or `latest`."""
    return not version.numbers and version.early != COMMIT


def _places(ranked: Mapping[str, Ranked]) -> Mapping[str, int]:
    """Return the place of each name in its group, the newest being 0."""
    groups = defaultdict[Hashable, list[str]](list)
    for name, one in ranked.items():
        groups[one.group].append(name)
    found = dict[str, int]()
    for names in groups.values():
        found |= {name: at for at, name in enumerate(sorted(names, key=lambda one: ranked[one].order, reverse=True))}
    return found


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
