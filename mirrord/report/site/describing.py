"""Decides what a site says of mirrors, as texts in one language. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mirrord.model.about import Imprint
from mirrord.model.catalog import CatalogEntry
from mirrord.names.natural import natural_key
from mirrord.report.site import Cell, Group, KindPart, MirrorPart, Site, Tab, Table
from mirrord.report.status import Status
from mirrord.report.words import Words
from mirrord.syncer.addresses import addresses_of
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL, Addresses, Mirror, Schedule, Target, Usage

if TYPE_CHECKING:
    from mirrord.wire.host import HostBook

NEWEST: Final = 100
"""Items of a mirror that are listed, the highest names first."""
MOST: Final = 1000
"""Rows of the table of a target."""
_NO_PARTS: Mapping[str, Sequence[Mirror]] = MappingProxyType({})
_PAGE = 3  # column of a row with the link to the page of the target
_HOSTS: Final = {
    "docker.io": "Docker Hub",
    "ghcr.io": "GitHub Container Registry",
    "quay.io": "Quay",
    "coding.net": "Coding",
    "gitee.com": "Gitee",
    "github.com": "GitHub",
    "gitlab.com": "GitLab",
    "cnb.cool": "CNB",
}
"""What people call hosts, and all below them."""


@dataclass(frozen=True, slots=True)
class SiteData:
    """What is known beyond the configuration."""

    status: Status
    entries: Sequence[CatalogEntry]


def described(
    mirrors: Sequence[Mirror],
    syncers: Mapping[str, Syncer],
    words: Words,
    *,
    url: str,
    book: HostBook,
    parts: Mapping[str, Sequence[Mirror]] = _NO_PARTS,
    live: SiteData | None = None,
    operator: Imprint | None = None,
) -> Site:
    """Describe mirrors for their users. Places on this machine are left out: nobody else can use them.

    Args:
        mirrors: those of the configuration.
        syncers: by kind.
        words: those of the language.
        url: where clients reach this server; "" leaves out what it has itself.
        book: the rules for hosts.
        parts: by name of a mirror of many sources, a mirror of each that is known.
        live: what the daemon or the record knows, or None for the configuration alone.
        operator: what the operator says of the mirrors.
    """
    about = [words.text("site.about")]
    if live:
        about.append(words.text("site.as_of", time=words.time(live.status.now)))
    by_kind = defaultdict[str, list[Mirror]](list)
    for mirror in mirrors:
        by_kind[mirror.kind].append(mirror)
    writer = _Writer(syncers, words, url=url, book=book, parts=parts, live=live)
    order = sorted(by_kind, key=lambda kind: (kind != "image", kind != "helm", kind))  # as people look for them
    kinds = tuple(part for part in (writer.kind(kind, by_kind[kind]) for kind in order) if part.groups)
    title, description = words.text("page.title"), words.text("site.description")
    said = operator or Imprint()
    takedown = (words.text("page.takedown"), Cell(said.takedown, said.link)) if said.takedown else None
    texts = said.said(words.language), takedown
    return Site(words.language, title, description, tuple(about), words.text("site.tip"), kinds, *texts)


def host_title(host: str) -> str:
    """Return what people call a host: `Docker Hub`; the host itself where it has no other name."""
    return next((title for name, title in _HOSTS.items() if f".{host}".endswith(f".{name}")), host)


class _Writer:
    def __init__(
        self,
        syncers: Mapping[str, Syncer],
        words: Words,
        *,
        url: str,
        book: HostBook,
        parts: Mapping[str, Sequence[Mirror]],
        live: SiteData | None,
    ) -> None:
        self._syncers, self._url, self._book, self._parts, self._words = syncers, url, book, parts, words
        self._found: dict[int, Addresses] = {}  # by the mirror itself: sources of one mirror share its name
        self._standing = {mirror.name: mirror for mirror in live.status.mirrors} if live else None
        self._entries = defaultdict[str, list[CatalogEntry]](list)
        for entry in live.entries if live else ():
            self._entries[entry.mirror].append(entry)

    def kind(self, kind: str, mirrors: Sequence[Mirror]) -> KindPart:
        """Describe the mirrors of a kind."""
        titles = self._titles(mirrors)
        often = {self._words.often(mirror.schedule) for mirror in mirrors}
        same = len({mirror.schedule for mirror in mirrors}) == 1
        tip = self._tip(mirrors[0].schedule) if len(often) == 1 else ""
        groups = [
            Group(title, self._table(kind, target, mirrors, same=same and bool(tip)))
            for target, title in titles.items()
        ]
        shown = [mirror for mirror in mirrors if any(self._public(mirror))]
        parts = [part for part in (self._mirror(mirror, titles) for mirror in shown) if part.tabs or part.items]
        return KindPart(self._words.kind(kind), tip, tuple(groups), self._words.text("mirror.use"), tuple(parts))

    def _tip(self, schedule: Schedule | None) -> str:
        if schedule is None:
            return self._words.text("site.demand")
        return self._words.text("site.schedule", schedule=self._words.often(schedule))

    def _titles(self, mirrors: Sequence[Mirror]) -> Mapping[str, str]:
        """Return what the targets are called, in the order of the configuration; two of one host by their names."""
        found: dict[str, str] = {}
        for mirror in mirrors:
            for target in self._public(mirror):
                found.setdefault(target.name, self._host(mirror, target))
        often = Counter(found.values())
        return {name: title if often[title] == 1 else f"{title} ({name})" for name, title in found.items()}

    def _host(self, mirror: Mirror, target: Target) -> str:
        place = self._url if target.name == LOCAL else self._place(mirror, target)
        host = place.partition("://")[2] or place
        host = host.partition("/")[0].rpartition("@")[2]
        return host_title(host)

    def _addresses(self, mirror: Mirror) -> Addresses:
        if (found := self._found.get(id(mirror))) is None:
            found = self._found[id(mirror)] = addresses_of([mirror], self._syncers, self._url)[mirror.name]
        return found

    def _place(self, mirror: Mirror, target: Target) -> str:
        return self._addresses(mirror).shown(target.name)

    def _sources(self, mirror: Mirror) -> Sequence[Mirror]:
        """Return what has a row: of a list each of its sources, of a registry besides what it is as a whole."""
        parts = self._parts.get(mirror.name, ())
        return parts if parts and self._addresses(mirror).source.startswith("/") else (mirror, *parts)

    def _public(self, mirror: Mirror) -> Iterator[Target]:
        """Yield the targets that others can use."""
        for target in mirror.targets:
            if self._url if target.name == LOCAL else not self._place(mirror, target).startswith("/"):
                yield target

    def _table(self, kind: str, target: str, mirrors: Sequence[Mirror], *, same: bool) -> Table:
        say = self._words.text
        head = [say("overview.origin"), say("site.place"), say("overview.kind"), say("overview.public")]
        head += [] if same else [say("overview.schedule")]
        head += [say("overview.state"), say("overview.success")] if self._standing is not None else []
        there = [mirror for one in mirrors for mirror in self._sources(one)]
        found = [(mirror, one) for mirror in there for one in self._public(mirror) if one.name == target]
        rows = [list(self._row(kind, *one, same=same)) for one in found[:MOST]]
        if not any(row[_PAGE].link for row in rows):
            del head[_PAGE]  # a column that is empty says nothing
            for row in rows:
                del row[_PAGE]
        return Table(tuple(head), tuple(map(tuple, rows)), self._more(len(found) - MOST))

    def _more(self, count: int) -> str:
        return self._words.text("site.more", count=count) if count > 0 else ""

    def _row(self, kind: str, mirror: Mirror, target: Target, *, same: bool) -> Iterator[Cell]:
        yield self._origin(mirror)
        yield Cell(self._place(mirror, target), code=True)
        yield Cell(self._words.type(kind))
        link = self._syncers[kind].link_of(mirror, target)
        link = link if link.startswith(("https://", "http://")) else ""  # whatever a plugin returns
        yield Cell(self._words.text("overview.public") if link else "", link)
        if not same:
            yield Cell(self._words.schedule(mirror.schedule))
        if self._standing is not None:
            own = self._standing.get(mirror.name)
            at = next((one for one in own.targets if one.name == target.name), None) if own else None
            yield Cell(self._words.health(at.health if at else "new"))
            yield Cell(self._words.time(at.last_success if at else None) or self._words.text("time.never"))

    def _origin(self, mirror: Mirror) -> Cell:
        source = self._addresses(mirror).source
        if source.startswith("/"):  # a path of this machine says nothing to others
            many = self._syncers[mirror.kind].parts_of(mirror) is not None
            return Cell(self._words.text("site.list" if many else "site.own"))
        return Cell(source, code=True)

    def _mirror(self, mirror: Mirror, titles: Mapping[str, str]) -> MirrorPart:
        whole = self._addresses(mirror).source  # what has the name of the mirror itself is all of it, and no item
        entries = self._entries.get(mirror.name, ())
        found = [entry for entry in entries if entry.source != whole]
        syncer, newest = self._syncers[mirror.kind], ""
        for entry in found:
            newest = max(newest, entry.item, key=natural_key)
        tabs = []
        for target in self._public(mirror):
            usages = [*syncer.uses_of(mirror, target, self._url, self._book)]
            usages += syncer.uses_of(mirror, target, self._url, self._book, newest or syncer.example)
            commands = [*_chosen(usages)] if newest or mirror.name not in self._parts else self._each(mirror, target)
            tabs.append(Tab(titles[target.name], tuple(commands)))
        return MirrorPart(mirror.name, tuple(tab for tab in tabs if tab.commands), self._items(mirror, found, titles))

    def _each(self, mirror: Mirror, target: Target) -> Sequence[str]:
        """Return the first command for each source of many."""
        parts = self._parts[mirror.name][:NEWEST]
        uses = (self._syncers[mirror.kind].uses_of(part, target, self._url, self._book) for part in parts)
        return [usages[0].command for usages in uses if usages]

    def _items(self, mirror: Mirror, entries: Sequence[CatalogEntry], titles: Mapping[str, str]) -> Table | None:
        if not entries:
            return None
        say, found = self._words.text, defaultdict[str, list[CatalogEntry]](list)
        for entry in entries:
            found[entry.item].append(entry)
        order = sorted(found, key=natural_key, reverse=True)
        targets = [target.name for target in self._public(mirror)]
        rows = [self._item(item, found[item], targets, titles) for item in order[:NEWEST]]
        columns = ("mirror.item", "mirror.digest", "mirror.size", "mirror.platforms", "overview.targets")
        return Table(tuple(map(say, columns)), tuple(rows), self._more(len(order) - NEWEST))

    def _item(
        self, item: str, entries: Sequence[CatalogEntry], targets: Sequence[str], titles: Mapping[str, str]
    ) -> tuple[Cell, ...]:
        """Describe an item: its newest content, and which targets have that."""
        newest = max(entries, key=lambda entry: entry.at)
        having = {entry.target for entry in entries if entry.digest == newest.digest}
        names = [titles[target] for target in targets if target in having]
        everywhere = self._words.text("site.everywhere") if having.issuperset(targets) else ""
        return (
            Cell(item, code=True),
            Cell(newest.digest, code=True),
            Cell(self._words.size(newest.size) if newest.size is not None else ""),
            Cell(", ".join(newest.platforms)),
            Cell(everywhere or self._words.listed(names)),
        )


def _chosen(usages: Iterable[Usage]) -> Iterator[str]:
    """Yield the first command of each sort; podman takes what docker takes."""
    found: dict[tuple[str, ...], Usage] = {}
    for usage in usages:
        found.setdefault(tuple(usage.command.split()[:2]), usage)
    tools = {usage.tool for usage in found.values()}
    for usage in sorted(found.values(), key=lambda usage: usage.tool == "skopeo"):  # it lists, others use
        if not (usage.tool == "podman" and "docker" in tools):
            yield usage.command
