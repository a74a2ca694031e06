"""The conversation in an issue: an image is asked for, queued, copied, and the issue is closed.

The forge has the truth: an issue that is open and ours is to be answered, and what was answered to it is told by hidden
marks in our own comments. So a process that ends between a comment and anything else says nothing twice. The record has
the issues that are over, so that a person may open one again, and nobody answers.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

from mirrord.asking.asked import LATER, AskedImage, AskRefusal, AskState, ImageAsker
from mirrord.asking.rates import AskRates
from mirrord.asking.titles import Misspelt, read_platforms, read_title
from mirrord.asking.words import Answers
from mirrord.config.issues import IssueRules
from mirrord.errors import MirrordError, RefusedError
from mirrord.syncer.values import Facts
from mirrord.wire.forges.issues import Issue, IssueComment, Label
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import redact

ASKS: Final = "<!-- mirrord:ask -->"
"""A hidden mark in our templates: at Gitee and Gitea, strangers cannot set labels."""
OVER: Final = 1000
"""The most issues of a repository that are remembered as over: the newest."""
HOUR: Final = 3600.0
_KNOWN: Final = 1000  # authors and issues of which something is known
_MARK: Final = re.compile(r"<!-- mirrord:(queued|done|refused) -->\s*\Z")

Said = Literal["queued", "done", "refused"]
Tell = Callable[..., None]
"""Writes a line of the log: level, name, and fields by keyword."""


class RepositoryIssues(Protocol):
    """The issues of one repository, as `mirrord.wire.forges.issues.Issues` has them; raises `MirrordError`."""

    async def login(self) -> str:
        """Return our own login."""

    async def find(self, number: str) -> Issue | None:
        """Return an issue."""

    more: bool
    """Whether the last list of open issues went on behind what was read of it."""

    def opened(self, label: str, since: datetime | None, pages: int, first: int) -> AsyncIterator[Issue]:
        """Yield the open issues with a label."""

    def comments(self, number: str) -> AsyncIterator[IssueComment]:
        """Yield the comments of an issue."""

    async def comment(self, number: str, body: str) -> None:
        """Write a comment."""

    async def close(self, issue: Issue, label: str, *, done: bool) -> None:
        """Add a label and close an issue."""

    async def make_labels(self, labels: Sequence[Label]) -> None:
        """Make missing labels."""


async def alone() -> None:
    """Nobody else answers."""


class Recent:
    """When what happened to a key, in loop time; the oldest of many are forgotten."""

    def __init__(self) -> None:
        """Know of nothing."""
        self._times: OrderedDict[str, float] = OrderedDict()

    def note(self, key: str) -> None:
        """It happened now."""
        self._times[key] = time()
        self._times.move_to_end(key)
        if len(self._times) > _KNOWN:
            self._times.popitem(last=False)

    def within(self, key: str, seconds: float) -> bool:
        """Whether it happened in the last so many seconds."""
        return key in self._times and time() - self._times[key] < seconds


@dataclass(slots=True)
class _Memory:
    """What is known of issues.

    Attributes:
        over: the issues that are over, and when.
        asked: the images that wait, by issue: the `id` of each.
        told: authors who were told about the limit.
        counted: the issues that count for the limit of their authors.
    """

    over: dict[str, str] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    told: Recent = field(default_factory=Recent)
    counted: Recent = field(default_factory=Recent)


class Conversations:
    """Answers the issues of one repository; each call does the next thing about one issue."""

    def __init__(
        self,
        rules: IssueRules,
        issues: RepositoryIssues,
        asker: ImageAsker,
        *,
        an_hour: int,
        facts: Facts,
        tell: Tell,
        now: Callable[[], datetime],
        insist: Callable[[], Awaitable[None]] = alone,
    ) -> None:
        """Answer nothing yet.

        Args:
            rules: the repository, its label and the language.
            issues: what the forge has.
            asker: copies images.
            an_hour: issues of one author that are read in an hour.
            facts: has what is over.
            tell: writes the log.
            now: the time of the day.
            insist: raises FencedError when another replica answers by now; asked before anything is written.
        """
        self._insist = insist
        self.rules, self.issues, self.tell, self.now = rules, issues, tell, now
        self._asker, self._an_hour, self._facts = asker, an_hour, facts
        self._answers, self._rates, self._known = Answers(rules.language), AskRates(), _Memory()
        self._login, self.answered = "", 0
        self._waiters: set[asyncio.Task[None]] = set()

    async def begin(self, ring: Callable[[str], None]) -> None:
        """Learn what is over, and our own login, and make the labels.

        Args:
            ring: is called with the number of an issue when there is more to do about it.
        """
        self._ring = ring
        facts: Mapping[str, str] = {}
        with suppress(MirrordError):
            facts = await self._facts.recall("", self._name)
        self._known.over = dict(facts)
        self._login = await self.issues.login()
        await self._make_labels()

    def is_asked(self, issue: Issue) -> bool:
        """Whether an issue asks for an image and is not over."""
        labelled = self.rules.label.casefold() in map(str.casefold, issue.labels)
        return not self.is_over(issue.number) and issue.open and (labelled or ASKS in issue.body)

    def is_over(self, number: str) -> bool:
        """Whether nothing is to be done about an issue any more."""
        return number in self._known.over

    async def answer(self, issue: Issue) -> bool:
        """Do the next thing about an issue, if there is one; False if it is to be looked at again later.

        Raises:
            MirrordError: the forge, or the record.
        """
        if not self.is_asked(issue):
            self._known.asked.pop(issue.number, None)  # a person has closed it
            return True
        known = self._known.asked.get(issue.number)
        asked = await self._asker.find(known) if known else None
        if asked is not None and not asked.over:
            return True
        said = await self._said(issue)
        if ended := next((word for word in ("done", "refused") if word in said), None):
            await self._close(issue, ended)  # an earlier process ended before it did
            return True
        if not said and not self._known.counted.within(issue.number, HOUR):
            if self._rates.take([issue.author], self._an_hour, time()):
                return await self._limit(issue)
            self._known.counted.note(issue.number)
        title = read_title(issue.title)
        if isinstance(title, Reference):
            return await self._ask(issue, title, asked, queued="queued" in said)
        meant = title.suggestion if isinstance(title, Misspelt) else None
        answers = self._answers
        text = answers.misspelt(issue.title, meant) if meant else answers.no_image(issue.title)
        return await self._end(issue, "refused", text)

    async def stop(self) -> None:
        """Wait for nothing any more; what was asked for goes on."""
        for task in self._waiters:
            task.cancel()
        await asyncio.gather(*self._waiters, return_exceptions=True)

    async def _make_labels(self) -> None:
        """Make the labels; where that is refused, people make them."""
        label, answers = self.rules.label, self._answers
        wanted = (
            Label(label, "1d76db", answers.label("asked")),
            Label(result_label(label, "done"), "0e8a16", answers.label("done")),
            Label(result_label(label, "refused"), "b60205", answers.label("refused")),
        )
        try:
            await self.issues.make_labels(wanted)
        except RefusedError as error:
            self.tell("warning", "issue.failed", repository=self.rules.name, error=redact(str(error)))

    async def _ask(self, issue: Issue, image: Reference, asked: AskedImage | None, *, queued: bool) -> bool:
        platforms = read_platforms(issue.body)
        if asked is None:
            who = f"{self.rules.forge} {issue.author[:80]}"
            asked = await self._asker.ask(str(image), platforms, [who])
        if asked.state is AskState.DONE:
            return await self._end(issue, "done", self._answers.done(image, asked.places))
        if asked.reason == AskRefusal.RATE:
            return await self._limit(issue)
        if asked.reason in LATER:
            return False
        if asked.over:
            return await self._end(issue, "refused", self._answers.refused(image, asked.reason, platforms))
        if not queued:
            await self._say(issue, "queued", self._answers.queued(image, platforms or asked.platforms))
        self._known.asked[issue.number] = asked.id
        self._waiters.add(task := asyncio.create_task(self._wait(issue.number, asked.id)))
        task.add_done_callback(self._waiters.discard)
        return True

    async def _wait(self, number: str, asked: str) -> None:
        with suppress(MirrordError):
            await self._asker.wait(asked)
        self._ring(number)

    async def _said(self, issue: Issue) -> set[str]:
        """Return what we said in an issue: marks of others do not count."""
        found: set[str] = set()
        async for comment in self.issues.comments(issue.number):
            if comment.author.casefold() == self._login.casefold() and (mark := _MARK.search(comment.body)):
                found.add(mark[1])
        return found

    async def _limit(self, issue: Issue) -> bool:
        """Close an issue of somebody who has asked for too many, and say so once an hour."""
        if self._known.told.within(issue.author, HOUR):
            await self._close(issue, "refused")
            return True
        await self._end(issue, "refused", self._answers.limited(self._an_hour))
        self._known.told.note(issue.author)
        return True

    async def _say(self, issue: Issue, what: Said, text: str) -> None:
        await self._insist()
        await self.issues.comment(issue.number, f"{text}\n\n<!-- mirrord:{what} -->")

    async def _end(self, issue: Issue, what: Said, text: str) -> bool:
        await self._say(issue, what, text)
        await self._close(issue, what)
        return True

    async def _close(self, issue: Issue, what: str) -> None:
        await self._insist()
        await self.issues.close(issue, result_label(self.rules.label, what), done=what == "done")
        self.tell("info", "issue.answered", repository=self.rules.name, number=issue.number, answer=what)
        self._known.asked.pop(issue.number, None)
        self.answered += 1
        over = self._known.over
        over[issue.number] = self.now().astimezone(UTC).isoformat()
        for number in sorted(over, key=over.__getitem__)[: max(0, len(over) - OVER)]:
            del over[number]
        with suppress(MirrordError):  # what is over is closed, too
            await self._facts.note("", self._name, over)

    @property
    def _name(self) -> str:
        return f"issues.{self.rules.address.host}/{self.rules.repository}"


def result_label(label: str, what: str) -> str:
    """Return the label of an issue that is over: `sync image: done`."""
    return f"{label}: {what}"


def time() -> float:
    """Return the time of the event loop."""
    return asyncio.get_running_loop().time()
