"""A forge and somebody who copies images, in memory, at the ports of conversations in issues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from mirrord.asking.asked import AskedImage, AskRefusal, AskState
from mirrord.asking.issue_desk import IssueDesk
from mirrord.asking.issues import Conversations
from mirrord.config.issues import IssueRules
from mirrord.errors import MirrordError
from mirrord.wire.forges.issues import Issue, IssueComment, Label
from mirrord.wire.git.address import Address
from mirrord.wire.secret import Secret

BOT = "mirror-bot"
LABEL = "sync image"
RULES = IssueRules(
    "github", Address.parse("https://github.com/acme/mirror"), Secret("a-token-123"), None, LABEL, "en", 0.01
)


class MemoryForge:
    """Issues of one repository. What is written is counted, and may fail on order before or after it was done.

    Attributes:
        issues: by number.
        said: author and text of the comments of each.
        labels: of the repository.
        writes: what was written, in order: `comment 1`, `close 1`.
        faults: by write, an exception that is raised when it was done.
        locked: issues that take no comment.
        down: why nothing can be listed, or None.
        large: why not all can be listed, or None.
        listed: since when each list was asked for.
        pages: with which page each list began.
        page: how many issues are on one.
        more: whether the last list went on.
        read: how often single issues, and comments, were asked for.
        unread: issues that cannot be read alone.
    """

    def __init__(self) -> None:
        self.issues: dict[str, Issue] = {}
        self.said: dict[str, list[IssueComment]] = {}
        self.labels: list[str] = []
        self.writes: list[str] = []
        self.faults: dict[str, BaseException] = {}
        self.locked: dict[str, MirrordError] = {}
        self.down: MirrordError | None = None
        self.large: MirrordError | None = None
        self.unread: dict[str, MirrordError] = {}
        self.listed: list[datetime | None] = []
        self.pages: list[int] = []
        self.page, self.more = 64, False
        self.read = {"issue": 0, "comments": 0}
        self._changed = asyncio.Event()

    def open(self, title: str, author: str = "octocat", body: str = "", labels: Sequence[str] = (LABEL,)) -> str:
        number = str(len(self.issues) + 1)
        self.issues[number] = Issue(number, title, body, author, True, tuple(labels))
        self.said[number] = []
        return number

    def ours(self, number: str) -> list[str]:
        """Return what we said in an issue."""
        return [one.body for one in self.said[number] if one.author == BOT]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so; it is looked at after each write and list."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def login(self) -> str:
        return BOT

    async def find(self, number: str) -> Issue | None:
        self.read["issue"] += 1
        if number in self.unread:
            raise self.unread[number]
        return self.issues.get(number)

    async def opened(self, label: str, since: datetime | None, pages: int, first: int) -> AsyncIterator[Issue]:
        self.listed.append(since)
        self.pages.append(first)
        self._changed.set()
        if self.down:
            raise self.down
        found = [issue for issue in self.issues.values() if issue.open]
        begin, end = (first - 1) * self.page, (first - 1 + pages) * self.page
        self.more = end <= len(found)
        for issue in found[begin:end]:
            yield issue
        if self.large:
            raise self.large

    async def comments(self, number: str) -> AsyncIterator[IssueComment]:
        self.read["comments"] += 1
        for comment in [*self.said[number]]:
            yield comment

    async def comment(self, number: str, body: str) -> None:
        if number in self.locked:
            raise self.locked[number]
        self.said[number].append(IssueComment(BOT, body))
        self._wrote(f"comment {number}")

    async def close(self, issue: Issue, label: str, *, done: bool) -> None:
        now = self.issues[issue.number]
        self.issues[issue.number] = replace(now, open=False, labels=(*now.labels, label))
        self._wrote(f"close {issue.number}")

    async def make_labels(self, labels: Sequence[Label]) -> None:
        self.labels += [label.name for label in labels if label.name not in self.labels]

    def _wrote(self, what: str) -> None:
        self.writes.append(what)
        self._changed.set()
        if fault := self.faults.pop(what, None):
            raise fault


@dataclass
class MemoryAsker:
    """Copies images when it is told to.

    Attributes:
        refuses: by image, why.
        asked: image, platforms and who asked, in order.
        known: by id.
    """

    refuses: dict[str, AskRefusal] = field(default_factory=dict)
    asked: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)
    known: dict[str, AskedImage] = field(default_factory=dict)
    _ended: dict[str, asyncio.Event] = field(default_factory=dict)

    async def ask(self, image: str, platforms: Sequence[str], who: Sequence[str]) -> AskedImage:
        self.asked.append((image, tuple(platforms), tuple(who)))
        if reason := self.refuses.get(image):
            return AskedImage("", image, tuple(platforms), AskState.REFUSED, reason, "because")
        if image not in self.known:
            self.known[image] = AskedImage(
                image, image, tuple(platforms), AskState.QUEUED, places=(f"m.example/{image}",)
            )
            self._ended[image] = asyncio.Event()
        return self.known[image]

    async def find(self, number: str) -> AskedImage | None:
        return self.known.get(number)

    async def follow(self, number: str) -> AsyncIterator[AskedImage]:
        yield self.known[number]

    async def wait(self, number: str) -> AskedImage | None:
        await self._ended[number].wait()
        return self.known[number]

    def end(self, image: str, state: AskState = AskState.DONE, reason: str = "") -> None:
        self.known[image] = replace(self.known[image], state=state, reason=reason)
        self._ended[image].set()


class MemoryFacts:
    """Facts as the record has them."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Mapping[str, str]] = {}

    async def recall(self, mirror: str, name: str) -> Mapping[str, str]:
        return self.kept.get((mirror, name), {})

    async def note(self, mirror: str, name: str, facts: Mapping[str, str]) -> None:
        self.kept[mirror, name] = dict(facts)


@dataclass
class Scene:
    """A forge, an asker, a record, and the desks of one process after the other."""

    forge: MemoryForge = field(default_factory=MemoryForge)
    asker: MemoryAsker = field(default_factory=MemoryAsker)
    facts: MemoryFacts = field(default_factory=MemoryFacts)
    lines: list[tuple[str, str, Mapping[str, object]]] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, an_hour: int = 30, rules: IssueRules = RULES, **more: Any) -> IssueDesk:
        """Begin to work, as a new process does."""
        conversations = Conversations(
            rules, self.forge, self.asker,
            an_hour=an_hour, facts=self.facts, tell=self.tell, now=lambda: datetime.now(UTC), **more,
        )  # fmt: skip
        desk = IssueDesk(conversations)
        self.tasks.append(asyncio.create_task(desk.work()))
        return desk

    def tell(self, level: str, name: str, **fields: object) -> None:
        self.lines.append((level, name, fields))

    async def stop(self) -> None:
        """End it as a signal does."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()
