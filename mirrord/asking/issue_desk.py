"""When the issues of a repository are looked at: when a webhook rings, and all open ones every now and then."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mirrord.asking.issues import HOUR, Conversations, Recent, time
from mirrord.errors import MirrordError, RefusedError, TooLargeError, TransportError
from mirrord.report.desks import IssueDeskStatus
from mirrord.wire.forges.issues import Issue
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
        first: page with which the next one begins: very many issues are looked at in turn.
        began: when the turn began.
        asked: `since` of this turn.
        seen: issues of this turn.
    """

    due: float = 0.0
    since: datetime | None = None
    whole: bool = True
    first: int = 1
    began: datetime | None = None
    asked: datetime | None = None
    seen: set[str] = field(default_factory=set)


class IssueDesk:
    """Looks at the issues of one repository, one after the other, and has them answered."""

    def __init__(self, conversations: Conversations) -> None:
        """Look at nothing yet."""
        self.rules, self._conversations = conversations.rules, conversations
        self._issues, self._tell, self._now = conversations.issues, conversations.tell, conversations.now
        self._look, self._stuck, self._begun = _Look(), Recent(), False
        self._rung: OrderedDict[str, None] = OrderedDict()
        self._woken = asyncio.Event()
        self._failures, self._error = 0, ""
        self._open: set[str] = set()
        self._looked: datetime | None = None
        self._failing: datetime | None = None

    @property
    def status(self) -> IssueDeskStatus:
        """How it stands."""
        answered, looked, failing = self._conversations.answered, self._looked, self._failing
        return IssueDeskStatus(self.rules.name, len(self._open), answered, looked, failing, self._error)

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
        self._failures, self._error, self._failing = 0, "", None
        return max(0.0, self._look.due - time())

    def _failed(self, error: MirrordError) -> float:
        """Say once what is wrong; return the seconds to wait: as the forge asks, else ever longer."""
        self._look.whole = False
        text = redact(str(error))
        if text != self._error:
            self._tell("warning", "issue.failed", repository=self.rules.name, error=text)
        self._error, self._failures, self._failing = text, self._failures + 1, self._failing or self._now()
        asked = error.after if isinstance(error, TransportError) else None
        return min(_FIRST * 2 ** min(self._failures - 1, 20), _SLOWEST) if asked is None else min(asked, HOUR)

    async def _round(self) -> None:
        """Answer what rang, then look at all open issues if it is time for that."""
        if not self._begun:
            await self._conversations.begin(self.ring)
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

    async def _look_at_all(self) -> None:
        """Look at some pages of the open issues; the next look goes on behind them, and behind the last it begins."""
        look = self._look
        if look.first == 1 or look.began is None:
            look.began, look.asked, look.whole = self._now(), look.since if look.whole else None, True
            look.seen.clear()
        issues: list[Issue] = []
        lost: TooLargeError | None = None
        try:
            async for issue in self._issues.opened(self.rules.label, look.asked, PAGES, look.first):
                issues.append(issue)  # noqa: PERF401 - those before an error count
        except TooLargeError as error:
            lost = error
        look.whole = look.whole and len(issues) < _MANY
        for issue in issues:
            look.seen.add(issue.number)
            await self._answer(issue)
        look.first = look.first + PAGES if self._issues.more else 1
        if lost:
            raise lost
        if look.first == 1:
            if look.asked is None:
                self._open &= look.seen
            look.since, self._looked = look.began - _OVERLAP, self._now()
        look.due = time() + self.rules.every

    async def _look_at(self, number: str) -> None:
        """Read an issue, and answer it."""
        if self._conversations.is_over(number) or self._stuck.within(number, HOUR):
            return
        try:
            issue = await self._issues.find(number)
        except (RefusedError, TooLargeError) as error:
            self._leave(number, error)
        else:
            if issue:
                await self._answer(issue)
            else:
                self._open.discard(number)

    async def _answer(self, issue: Issue) -> None:
        """Answer an issue; one that takes no answer, such as a locked one, or is too large, stops no other."""
        self._open.add(issue.number)
        if self._stuck.within(issue.number, HOUR):
            self._look.whole = False  # later it is listed, though it has not changed
            return
        try:
            if not await self._conversations.answer(issue):
                self._look.whole = False
        except (RefusedError, TooLargeError) as error:
            self._leave(issue.number, error)
        if not self._conversations.is_asked(issue):
            self._open.discard(issue.number)

    def _leave(self, number: str, error: RefusedError | TooLargeError) -> None:
        """Leave an issue alone for an hour; where the token is refused, so it is for all others: raise that."""
        if isinstance(error, RefusedError) and error.status == 401:
            raise error
        self._stuck.note(number)
        self._look.whole = False
        self._tell("warning", "issue.failed", repository=self.rules.name, number=number, error=redact(str(error)))
