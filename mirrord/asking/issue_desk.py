"""When the issues of a repository are looked at: when a webhook rings, and all open ones every now and then."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mirrord.asking.asked import ImageAsker
from mirrord.asking.issues import HOUR, Conversations, Recent, RepositoryIssues, Tell, result_label, time
from mirrord.asking.words import Answers
from mirrord.config.issues import IssueRules
from mirrord.errors import MirrordError, RefusedError, TooLargeError, TransportError
from mirrord.syncer.values import Facts
from mirrord.wire.forges.issues import Issue, Label
from mirrord.wire.secret import bug, redact

RUNG: Final = 200
"""The most issues that wait to be looked at; of more, the next look at all open issues finds the rest."""
PAGES: Final = 5
"""The most pages of open issues of one look."""
_MANY: Final = 50  # issues of one look, from which on there may be more of them
_OVERLAP: Final = timedelta(minutes=5)  # by which clocks may differ
_FIRST: Final = 10.0  # seconds after the first failure of a forge
_SLOWEST: Final = 1800.0


@dataclass(slots=True)
class _Look:
    """Looks at all open issues.

    Attributes:
        due: loop time of the next one.
        since: what changed since then is asked for; None for all.
        whole: whether nothing was left for later since the last one began.
    """

    due: float = 0.0
    since: datetime | None = None
    whole: bool = True


class IssueDesk:
    """Looks at the issues of one repository, one after the other, and has them answered."""

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
    ) -> None:
        """Look at nothing yet; arguments as those of `Conversations`."""
        self.rules = rules
        self._issues, self._tell, self._now = issues, tell, now
        self._conversations = Conversations(
            rules, issues, asker, an_hour=an_hour, facts=facts, tell=tell, ring=self.ring, now=now
        )
        self._look, self._stuck, self._begun = _Look(), Recent(), False
        self._rung: OrderedDict[str, None] = OrderedDict()
        self._woken = asyncio.Event()
        self._failures, self._error = 0, ""

    def ring(self, number: str) -> None:
        """Look at an issue soon."""
        if len(self._rung) < RUNG:
            self._rung[number] = None
        else:
            self._look.whole = False
        self._woken.set()

    async def work(self) -> None:
        """Answer issues; never returns. Cancelling it leaves nothing half said."""
        try:
            while True:
                wait = await self._turn()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._woken.wait()
        finally:
            await self._conversations.stop()

    async def _turn(self) -> float:
        """Do what is due; return the seconds until something is due again. A forge that refuses is left alone."""
        try:
            await self._round()
        except MirrordError as error:
            await asyncio.sleep(self._failed(error))  # a bell does not make it answer
            return 0.0
        except Exception as error:  # noqa: BLE001 - a bug must not end this for good
            self._failed(MirrordError(bug(error)))
            await asyncio.sleep(_SLOWEST)
            return 0.0
        self._failures, self._error = 0, ""
        return max(0.0, self._look.due - time())

    def _failed(self, error: MirrordError) -> float:
        """Say once what is wrong; return the seconds to wait: as the forge asks, else ever longer."""
        self._look.whole = False
        text = redact(str(error))
        if text != self._error:
            self._tell("warning", "issue.failed", repository=self.rules.hook, error=text)
        self._error, self._failures = text, self._failures + 1
        asked = error.after if isinstance(error, TransportError) else None
        return min(_FIRST * 2 ** min(self._failures - 1, 20), _SLOWEST) if asked is None else min(asked, HOUR)

    async def _round(self) -> None:
        """Answer what rang, then look at all open issues if it is time for that."""
        if not self._begun:
            await self._conversations.begin()
            await self._make_labels()
            self._begun = True
        self._woken.clear()
        while self._rung:
            number, _ = self._rung.popitem(last=False)
            try:
                await self._look_at(number)
            except MirrordError:
                self._rung[number] = None
                raise
        if time() >= self._look.due:
            await self._look_at_all()

    async def _make_labels(self) -> None:
        """Make the labels; where that is refused, people make them."""
        label, answers = self.rules.label, Answers(self.rules.language)
        wanted = (
            Label(label, "1d76db", answers.label("asked")),
            Label(result_label(label, "done"), "0e8a16", answers.label("done")),
            Label(result_label(label, "refused"), "b60205", answers.label("refused")),
        )
        try:
            await self._issues.make_labels(wanted)
        except RefusedError as error:
            self._tell("warning", "issue.failed", repository=self.rules.hook, error=redact(str(error)))

    async def _look_at_all(self) -> None:
        began, look = self._now(), self._look
        since, look.whole = look.since if look.whole else None, True
        issues = [issue async for issue in self._issues.opened(self.rules.label, since, PAGES)]
        look.whole = len(issues) < _MANY
        for issue in issues:
            await self._answer(issue)
        look.since, look.due = began - _OVERLAP, time() + self.rules.every

    async def _look_at(self, number: str) -> None:
        """Read an issue, and answer it."""
        if self._conversations.is_over(number) or self._stuck.within(number, HOUR):
            return
        try:
            issue = await self._issues.find(number)
        except TooLargeError as error:
            self._leave(number, error)
        else:
            if issue:
                await self._answer(issue)

    async def _answer(self, issue: Issue) -> None:
        """Answer an issue; one that takes no answer, such as a locked one, or is too large, stops no other."""
        if self._stuck.within(issue.number, HOUR):
            self._look.whole = False  # later it is listed, though it has not changed
            return
        try:
            if not await self._conversations.answer(issue):
                self._look.whole = False
        except (RefusedError, TooLargeError) as error:
            if isinstance(error, RefusedError) and error.status == 401:  # so will be all others
                raise
            self._leave(issue.number, error)

    def _leave(self, number: str, error: MirrordError) -> None:
        """Leave an issue alone for an hour."""
        self._stuck.note(number)
        self._look.whole = False
        self._tell("warning", "issue.failed", repository=self.rules.hook, number=number, error=redact(str(error)))
