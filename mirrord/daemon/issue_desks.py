"""The repositories in whose issues people ask for images, of the configuration in use."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from mirrord.asking.asked import ImageAsker
from mirrord.asking.issue_desk import IssueDesk
from mirrord.asking.issues import Conversations, Tell, alone
from mirrord.daemon.notifying import open_notify
from mirrord.daemon.runtime import Runtime, now
from mirrord.report.desks import IssueDeskStatus
from mirrord.serve.hooks import IssueHook
from mirrord.wire.forges.issues import issues_of
from mirrord.wire.http.client import Http


class IssueDesks:
    """One desk for each entry of `asking.issues`; what they said is at the forge, so any of them may be made anew."""

    def __init__(self, runtime: Runtime, asker: ImageAsker, tell: Tell) -> None:
        """Answer nothing before `follow`; `tell` writes the log."""
        self._runtime, self._asker, self._tell = runtime, asker, tell
        self._desks: dict[str, IssueDesk] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._http: Http | None = None
        self._begun: object = None  # what they were made of

    async def follow(self) -> None:
        """Answer the issues of the configuration in use; where it says the same about them, nothing is interrupted."""
        configuration = self._runtime.snapshot.configuration
        asking = configuration.asking
        wanted = (configuration.book, asking.issues, asking.an_hour) if asking and asking.issues else None
        wanted = wanted if self._runtime.leads else None  # others would answer the same
        if wanted == self._begun:
            return
        await self.close()
        self._begun = wanted
        if asking is None or wanted is None:
            return
        self._http, fleet = open_notify(configuration), self._runtime.fleet
        for rules in asking.issues:
            conversations = Conversations(
                rules,
                issues_of(self._http, rules.forge, rules.address, rules.token),
                self._asker,
                an_hour=asking.an_hour,
                facts=self._runtime.store,
                tell=self._tell,
                now=now,
                insist=fleet.insist if fleet else alone,
            )
            desk = self._desks[rules.name] = IssueDesk(conversations)
            self._tasks.append(asyncio.create_task(desk.work()))

    def hook(self, name: str) -> IssueHook | None:
        """Return the webhook called `FORGE/OWNER/NAME`, or `FORGE/HOST/OWNER/NAME` where several hosts have one.

        None for none, for several, and for one without a secret.
        """
        desks = [one for one in self._desks.values() if name == one.rules.name]
        desks = desks or [one for one in self._desks.values() if name == one.rules.hook]
        desk = desks[0] if len(desks) == 1 else None
        if desk is None or desk.rules.secret is None:
            return None
        return IssueHook(desk.rules.forge, desk.rules.repository, desk.rules.secret, desk.ring)

    def standing(self) -> tuple[IssueDeskStatus, ...]:
        """Return how the repositories stand."""
        return tuple(desk.status for desk in self._desks.values())

    async def close(self) -> None:
        """Answer no more; what was asked for goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._desks.clear()
        self._begun = None
        if self._http is not None:
            with suppress(OSError):
                await self._http.aclose()
            self._http = None
