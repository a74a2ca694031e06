"""Tells pull requests of builds that were published, each in ONE comment. It never delays a run, nor fails one.

Of several replicas one at a time looks for the comment of a repository and writes it, under a lease.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

from mirrord.asking.built import book_of, built_images, look_for
from mirrord.asking.issues import Tell
from mirrord.asking.pull_comment import comment_once
from mirrord.config.pull_requests import PullRequestRules
from mirrord.daemon.runtime import Runtime, now, open_http
from mirrord.errors import BusyError, MirrordError, StorageError, TransportError
from mirrord.events import Events
from mirrord.model.run import Run
from mirrord.plan.naming import pull_request_tags
from mirrord.pointing.image_mirrors import KIND
from mirrord.record.leases import RunLease
from mirrord.report.build import MARK
from mirrord.report.build import comment as text_of
from mirrord.report.words import words
from mirrord.wire.forges.notes import pull_comments_of
from mirrord.wire.secret import bug, redact

ATTEMPTS: Final = 3
"""How often a comment is tried before it is given up; the next build of the pull request writes it anyway."""
_PAUSE: Final = 10.0  # seconds before the second attempt
_LONGEST: Final = 600.0
_TURN: Final = 30.0
"""Seconds for which an attempt waits for other replicas; the last of three outlives the lease of a dead one."""
_TAG: Final = re.compile(r"pr-([1-9][0-9]{0,17})")


class PullBuild(NamedTuple):
    """A build of a pull request that a run published.

    Attributes:
        number: of the pull request.
        build: a shortened commit, or a description.
        mirror: to which it was published.
        publish: its number, as `NamedBuild.number`.
    """

    number: str
    build: str
    mirror: str
    publish: int


class PullDesk:
    """What is still to be told: of each pull request its newest build."""

    def __init__(self, runtime: Runtime, tell: Tell) -> None:
        """Tell nothing yet; `tell` writes the log."""
        self._runtime, self._tell = runtime, tell
        self._wanted: dict[str, dict[str, PullBuild]] = {}  # by entry, the build of each pull request
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def built(self, run: Run) -> None:
        """Take note of a run that ended; one that published a build of a pull request is told."""
        if (build := build_of(run)) is None:
            return
        for rules in self._runtime.snapshot.configuration.pull_requests:
            if any(one.mirror.name == run.mirror for one in rules.built):
                self._wanted.setdefault(rules.name, {})[build.number] = build
                if rules.name not in self._tasks:
                    self._tasks[rules.name] = asyncio.create_task(self._work(rules.name))

    async def close(self, patience: float) -> None:
        """Tell what there is to tell, as far as that takes no longer than `patience` seconds."""
        if tasks := [*self._tasks.values()]:
            await asyncio.wait(tasks, timeout=patience)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, name: str) -> None:
        """Write the comments of one repository, one after the other."""
        wanted = self._wanted[name]
        try:
            while wanted:
                number = next(iter(wanted))
                await self._write(name, wanted.pop(number))
        finally:
            del self._wanted[name], self._tasks[name]

    async def _write(self, name: str, build: PullBuild) -> None:
        """Write one comment; try again a few times if the forge or the record is away, or other replicas write.

        Not when something newer was built.
        """
        for attempt in range(1, ATTEMPTS + 1):
            configured = self._runtime.snapshot.configuration.pull_requests
            rules = next((one for one in configured if one.name == name), None)
            if rules is None or build.number in self._wanted[name]:
                return
            try:
                await self._say(rules, build)
                return
            except MirrordError as error:
                self._warn(rules, build.number, redact(str(error)))
                if not (error.passing or isinstance(error, StorageError)) or attempt == ATTEMPTS:
                    return
                after = error.after if isinstance(error, TransportError) else None
                await asyncio.sleep(min(_PAUSE * attempt if after is None else after, _LONGEST))
            except Exception as error:  # noqa: BLE001 - a bug must not end this for good
                self._warn(rules, build.number, bug(error))
                return

    async def _say(self, rules: PullRequestRules, wanted: PullBuild) -> None:
        number, build = wanted.number, wanted.build
        read, syncer = self._runtime.snapshot.configuration, self._runtime.snapshot.syncers[KIND]
        tag, _ = pull_request_tags(int(number), build)
        images = [*built_images(read, syncer, rules.built, tag)]
        async with open_http(book_of(read), Events()) as http:
            found = await look_for(http, images, lambda text: self._warn(rules, number, text))
            text = text_of(found, build, now(), words(rules.language), rules.helm)
            pulls = pull_comments_of(http, rules.forge, rules.address, rules.token)
            async with self._turn(rules) as lease:
                if lease.fence and await self._newer(wanted):
                    return
                check = partial(self._runtime.runner.leases.check, lease)
                fresh = await comment_once(pulls, number, MARK, text, check=check)
        fields = {"repository": rules.place, "number": number, "build": build, "new": fresh}
        self._tell("info", "pull_request.commented", **fields)

    @asynccontextmanager
    async def _turn(self, rules: PullRequestRules) -> AsyncIterator[RunLease]:
        """Let no other replica write a comment of the repository meanwhile. BusyError: one does so for long."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_TURN):
                    lease = await stack.enter_async_context(self._runtime.runner.leases.hold(f"~pulls {rules.place}"))
            except TimeoutError:
                raise BusyError(f"another replica has commented there for {_TURN:.0f} s") from None
            yield lease

    async def _newer(self, wanted: PullBuild) -> bool:
        """Whether a later publish has moved the name of the pull request, at any replica; that one tells it."""
        names = (await self._runtime.store.memory(wanted.mirror)).names.values()
        return any(one.name == f"pr-{wanted.number}" and one.number > wanted.publish for one in names)

    def _warn(self, rules: PullRequestRules, number: str, text: str) -> None:
        self._tell("warning", "pull_request.failed", repository=rules.place, number=number, error=text)


def build_of(run: Run) -> PullBuild | None:
    """Return the build of a pull request that a run published, by its tags; None for a run of another kind."""
    for step in run.plan.steps if run.plan and run.trigger == "publish" else ():
        for name in step.names:
            if found := _TAG.fullmatch(name):
                builds = [one.removeprefix(f"{name}-") for one in step.names if one.startswith(f"{name}-")]
                publish = max((one.number for one in step.named if one.name == name), default=0)
                return PullBuild(found[1], builds[0], run.mirror, publish) if builds else None
    return None
