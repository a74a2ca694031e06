"""The lists of `front.image` in use: what clients may pull, what they may not, and what is never evicted.

The file of `allow:` is read again when it changes. A bad, empty or vanished one is refused: the list before it stays,
also over a restart, since the last good one is kept in the state directory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Final

from mirrord.config.files import AbsentError, UnreadableError, read_file, text_of
from mirrord.errors import MirrordError, UsageError
from mirrord.events import Events, ListRead
from mirrord.names.allows import AllowEntry, AllowList, parse_allow, parse_allows
from mirrord.names.book import ANY, NameBook, begins_path
from mirrord.names.lists import MAX_BYTES, ListLine
from mirrord.syncer.through import CheckedFront
from mirrord.syncer.values import FrontRules
from mirrord.syncers.image.spec.front import FrontKeys, check_literal
from mirrord.syncers.image.upstream.kept_list import KeptList, keep_list, kept_list
from mirrord.wire.oci.reference import Reference

LOOK_EVERY: Final = 1.0
"""Least seconds between two looks at the file."""
_SHOWN = 5  # bad lines in the error about a list
_ALLOW = "front.image.allow"


@dataclass(frozen=True, slots=True)
class FrontLists:
    """What may be pulled, in names to which aliases were applied.

    Attributes:
        allow: what may be pulled.
        deny: what may not be pulled, whatever `allow` says.
        pinned: what is never evicted.
        file: where the lines of `allow` are; None for the configuration.
        unusable: why there is no list at all, so that nothing may be pulled; "" where there is one.
    """

    allow: AllowList = field(default_factory=AllowList)
    deny: AllowList = field(default_factory=AllowList)
    pinned: AllowList = field(default_factory=AllowList)
    file: Path | None = None
    unusable: str = ""

    def allowed_by(self, reference: Reference) -> str:
        """Return which line allows a reference in canonical form, `FILE:LINE` or its key; "" if none does."""
        entry = self.allow.line(reference)
        return _place(entry, self.file) if entry else ""

    def denied_by(self, reference: Reference) -> str:
        """Return the key of the line that denies a reference in canonical form; "" if none does."""
        entry = self.deny.line(reference)
        return f"front.image.deny[{entry.line}]" if entry else ""


class ListsInUse:
    """Follows the configuration in use and its list file; a bad file never takes away what was allowed before."""

    def __init__(self, events: Events, kept: Path, *, clock: Callable[[], float] = monotonic) -> None:
        """Allow nothing yet; `kept` is where the last good list is kept."""
        self.errors: Mapping[str, str] = {}  # why the list of the configuration in use is not in use, by file
        self.keeping_error = ""  # why the list in use could not be kept
        self._events, self._kept, self._clock = events, kept, clock
        self._lists = FrontLists()
        self._read_for: tuple[FrontRules, NameBook] | None = None
        self._stamp: tuple[int, ...] = ()
        self._until = 0.0
        self._reading = asyncio.Lock()

    async def current(self, front: FrontRules, names: NameBook) -> FrontLists:
        """Return the lists of a configuration. Looks at the file, in a thread, at most once a second for all callers.

        While a changed file is read, callers get the list before it.
        """
        if self._knows(front, names) and (self._reading.locked() or self._clock() < self._until):
            return self._lists
        async with self._reading:
            if not self._knows(front, names) or self._clock() >= self._until:
                await self._look(front, names)
                self._until = self._clock() + LOOK_EVERY
        return self._lists

    @property
    def missing(self) -> bool:
        """Whether there is no list at all, so that nothing may be pulled."""
        return bool(self.errors) and bool(self._lists.unusable)

    def forget_errors(self) -> None:
        """Report nothing more: the configuration in use names no list."""
        self.errors = {}

    def _knows(self, front: FrontRules, names: NameBook) -> bool:
        return self._read_for is not None and self._read_for[0] is front and self._read_for[1] is names

    async def _look(self, front: FrontRules, names: NameBook) -> None:
        file = list_file(front)
        stamp = await asyncio.to_thread(_stamp, file) if file else ()
        if self._knows(front, names) and stamp == self._stamp:
            return
        lists, count, problems = await asyncio.to_thread(read_lists, front, names)
        if problems:
            lists, problems = await asyncio.to_thread(self._instead, lists, problems, _opted_in(front))
            count = len(lists.allow.entries())
        else:
            await asyncio.to_thread(self._keep, lists)
        self._lists, self._stamp, self._read_for = lists, stamp, (front, names)
        place, error = str(file or _ALLOW), _in_one_line(problems)
        if error != self.errors.get(place, "") or (file and not error):
            self._events.emit(ListRead(place, count, error))
        self.errors = {place: error} if error else {}

    def _instead(
        self, lists: FrontLists, problems: Sequence[str], opted_in: frozenset[str]
    ) -> tuple[FrontLists, Sequence[str]]:
        """Return the list that was in use before, from whatever file or start, in place of a bad one. Blocks."""
        before: KeptList | None = None
        if self._read_for and not self._lists.unusable:
            before = KeptList(self._lists.file, tuple(self._lists.allow.entries()))
        elif not self._read_for:
            try:
                before = kept_list(self._kept)
            except (ValueError, MirrordError) as error:
                problems = [*problems, str(error)]
        if before is None:
            return replace(lists, allow=AllowList(), unusable=_in_one_line(problems)), problems
        kept = AllowList(entry for entry in before.entries if not _refused(entry, opted_in))
        return replace(lists, allow=kept, file=before.file), problems

    def _keep(self, lists: FrontLists) -> None:
        """Keep a list for the next start. Blocks."""
        try:
            keep_list(self._kept, KeptList(lists.file, tuple(lists.allow.entries())))
            self.keeping_error = ""
        except MirrordError as error:  # it is in use all the same
            self.keeping_error = str(error)


def list_file(front: FrontRules) -> Path | None:
    """Return the file of `allow:`, or None where its lines are in the configuration."""
    keys: FrontKeys = front.keys
    return Path(front.origin.file).parent / keys.allow if isinstance(keys.allow, str) else None


def read_lists(front: FrontRules, names: NameBook) -> tuple[FrontLists, int, Sequence[str]]:
    """Return the lists, the number of lines of `allow`, and what is wrong with those. Blocks."""
    keys: FrontKeys = front.keys
    deny, pinned = (AllowList(_entries(lines, names)) for lines in (keys.deny, keys.cache.pinned))
    file = list_file(front)
    problems: list[str] = []
    entries: Sequence[AllowEntry] = ()
    try:
        entries, problems = _of_file(file, names) if file else (_entries(keys.allow, names), [])
        if not entries and not problems:
            problems = [f"{file or front.place(_ALLOW)}: allows nothing; write one repository a line"]
    except UnreadableError as error:
        problems = [f"{file}:{error.line}: {error}"]
    except ValueError as error:
        problems = [f"{file}: {error}"]
    except UsageError as error:
        problems = [str(error)]
    opted_in = _opted_in(front)
    problems += [f"{_written(entry, front, file)}: {why}" for entry in entries if (why := _refused(entry, opted_in))]
    return FrontLists(AllowList(entries), deny, pinned, file), len(entries), problems


def check_lists(front: FrontRules, names: NameBook) -> CheckedFront:
    """Check the lists; see `PullThrough.check`. Blocks."""
    keys: FrontKeys = front.keys
    file = list_file(front)
    if file and (absent := _absent(file)):
        return CheckedFront((), (f"{file}: {absent}; until then nothing may be pulled through",), 0, keys.cache.size)
    lists, count, problems = read_lists(front, names)
    notices = [
        *_of_others(front, lists.allow, lambda entry: _written(entry, front, file), "it has no effect"),
        *_of_others(
            front,
            lists.pinned,
            lambda entry: front.place(f"front.image.cache.pinned[{entry.line}]"),
            "nothing of it is pulled",
        ),
        *_unnamed(front, names),
        *_unlisted(front, names),
    ]
    return CheckedFront(problems, () if problems else notices, count, keys.cache.size)


def _of_others(front: FrontRules, lines: AllowList, place: Callable[[AllowEntry], str], effect: str) -> Iterator[str]:
    """Yield one notice about all lines of registries that clients cannot read."""
    others = [entry for entry in lines.entries() if entry.name.partition("/")[0] not in front.upstreams]
    if others:
        rest = len(others) - 1
        more = f"; the same goes for {rest} more line{'s' if rest > 1 else ''}" if rest else ""
        what = f"{others[0].text} is of a registry that is not under upstreams:, so {effect}{more}"
        yield f"{place(others[0])}: {what}"


def _unnamed(front: FrontRules, names: NameBook) -> Iterator[str]:
    """Yield a notice for each upstream that neither a path nor a host of ours can name."""
    places = [place for alias, place in names.aliases.items() if begins_path(alias.partition("/")[0])]
    meant = {names.registry(place.partition("/")[0]) for place in (*places, *names.hosts.values())}
    for host in front.upstreams:
        if not begins_path(host) and host not in meant:
            bare = host.rpartition(":")[0]
            alias = bare if "." in bare else "registry.example.com"
            what = f"no path can name {host}, so only containerd can pull from it, which sends the registry as ns="
            yield f"{front.place('front.image.upstreams')}: {what}; write names: {{aliases: {{{alias}: '{host}'}}}}"


def _unlisted(front: FrontRules, names: NameBook) -> Iterator[str]:
    """Yield a notice for each host of ours that stands for a registry that clients cannot read."""
    for host, meant in names.hosts.items():
        registry = names.registry(meant.partition("/")[0])
        if meant != ANY and registry not in front.upstreams:
            what = f"stands for {registry}, which is not under upstreams:, so clients get only what is in local"
            yield f"{front.place('front.image.upstreams')}: {host} of names.hosts {what}; add it, or remove the host"


def _opted_in(front: FrontRules) -> frozenset[str]:
    return frozenset(host for host, ours in front.upstreams.items() if ours)


def _written(entry: AllowEntry, front: FrontRules, file: Path | None) -> str:
    """Return where a line of `allow` is written: `FILE:LINE`, with its key if that is the configuration."""
    place = _place(entry, file)
    return place if file else front.place(place)


def _place(entry: AllowEntry, file: Path | None) -> str:
    return f"{file}:{entry.line}" if file else f"{_ALLOW}[{entry.line}]"


def _absent(file: Path) -> str:
    """Return why a file is not on this machine, where it may be on the one that serves; else ""."""
    try:
        read_file(file, MAX_BYTES)
    except AbsentError as error:
        return str(error)
    except ValueError:
        return ""
    return ""


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError as error:
        return (error.errno or 0,)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _of_file(file: Path, names: NameBook) -> tuple[Sequence[AllowEntry], list[str]]:
    text = text_of(read_file(file, MAX_BYTES)[0])
    entries, problems = parse_allows(text, str(file), names.canonical)
    return entries, [str(problem) for problem in problems]


def _entries(lines: Sequence[str], names: NameBook) -> Sequence[AllowEntry]:
    return [parse_allow(ListLine(number, line.strip(), ""), names.canonical) for number, line in enumerate(lines)]


def _refused(entry: AllowEntry, opted_in: frozenset[str]) -> str:
    """Return why a line may not be used with our credentials, or ""."""
    try:
        check_literal(entry, opted_in)
    except ValueError as error:
        return str(error)
    return ""


def _in_one_line(problems: Sequence[str]) -> str:
    more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return "; ".join([*problems[:_SHOWN], *more])
