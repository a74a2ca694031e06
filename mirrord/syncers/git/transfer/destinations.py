"""One repository at one host, as a run writes to it: made, pushed to, switched, and looked at afterwards."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mirrord.errors import BrokenError, MirrordError, MissingError, RefusedError
from mirrord.failpoints import hit
from mirrord.wire.forges.port import Forge
from mirrord.wire.git.address import Address
from mirrord.wire.git.changes import Change, PushStatus, RefResult
from mirrord.wire.git.command import Git
from mirrord.wire.git.failures import advised, per_ref, words
from mirrord.wire.git.lsrefs import ls_refs
from mirrord.wire.git.receive_pack import push
from mirrord.wire.git.refs import HEADS, Refs
from mirrord.wire.http.client import Http

SETTLES: Final = 2.0
"""Seconds for a host to settle: Gitea processes a push in the background, and only then switches."""
ALONE: Final = 8  # refs that failed together are tried one by one up to this many: each may send all content again
PAUSES: Final = (0.5, 1.0, 2.0, 4.0)  # seconds for hosts whose API says what Git does not show yet
_PASSES: Final = re.compile(r"failed to (?:report|update)|lock|unable to|cannot|internal|time", re.IGNORECASE)
_HOOK: Final = re.compile(r"hook|declined|denied|unpack|report status", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GitDestination:
    """Where a mirror's refs go."""

    address: Address  # of the repository
    forge: Forge  # the kind of host it is on
    git: Git  # starts git
    http: Http  # asks hosts
    folder: Path  # the cache that is pushed from

    async def look(self) -> Refs | None:
        """Return what is there, or None when there is no such repository. Raises MirrordError: it cannot be asked."""
        try:
            return await ls_refs(self.git, self.http, self.address)
        except MissingError:
            return None

    async def make(self, visibility: str, description: str) -> str:
        """Make the repository, empty, and wait until Git sees it: its API can be ahead. Return what people should know.

        Raises:
            MirrordError: it could not be made.
        """
        note = await self.forge.create(self.http, self.address, visibility, description)
        for pause in PAUSES:
            if await self.look() is not None:
                break
            await asyncio.sleep(pause)
        return note

    def explained(self, error: MirrordError) -> MirrordError:
        """Return the error with the next step that this kind of host is known for, where it is known for one."""
        step = self.forge.explain(str(error))
        return error if step is None else advised(error, step)


@dataclass(slots=True)
class Push:
    """Changes refs at one destination, and keeps what became of each."""

    to: GitDestination  # where
    on_sent: Callable[[int], None]  # called with the bytes of packs as they are sent
    after: Refs = field(default_factory=lambda: Refs({}))  # what the destination showed when it was last looked at
    results: dict[str, RefResult] = field(default_factory=dict)  # what git said, by ref
    errors: dict[str, MirrordError] = field(default_factory=dict)  # why a ref (or `HEAD`) is not as wanted
    sent: int = 0  # bytes of packs that went

    async def carry_out(self, held: Refs, changes: Sequence[Change], head: str | None = None) -> None:
        """Push what is new, switch the default branch, delete what it was: a host keeps its default branch.

        The target was seen to have `held`; `head` becomes its default branch, unless it is None. Raises
        MirrordError: what came of it could not be seen.
        """
        self.after = held
        gone = {change.ref for change in changes if change.new is None}
        leaving = gone & {held.head} if head else set[str]()
        await self._bring([one for one in changes if one.ref not in leaving])
        if head and self.after.head != head:
            await self._switch(head, leaving)
        last = [one for one in changes if one.ref in leaving and one.ref not in self.errors]
        await self._bring(last)
        if head and any(one.ref in self.errors for one in last):
            await asyncio.sleep(SETTLES)
            await self._switch(head, leaving)
            await self._bring([one for one in last if not self.arrived(one)])

    async def _switch(self, branch: str, leaving: Collection[str]) -> None:
        try:
            if branch not in self.after.refs:
                missing = RefusedError(f"{branch} is not there, so it cannot become the default branch")
                raise self.errors.get(branch, missing)
            await self._insist(branch)
        except MirrordError as error:
            for name in ("HEAD", *leaving):
                self.errors[name] = error

    async def _insist(self, branch: str) -> None:
        """Switch until Git shows it: after a first push Gitea accepts the switch and does nothing yet.

        Raises:
            BrokenError: it never shows it.
            MirrordError: the host did not, or cannot be asked.
        """
        for pause in (0.0, *PAUSES):
            if pause:
                await asyncio.sleep(pause)
            await self.to.forge.set_default_branch(self.to.http, self.to.address, branch.removeprefix(HEADS))
            await self._see()
            if self.after.head in (branch, None):  # old servers do not show HEAD
                return
        message = f"{self.to.address.host} accepted {branch} as the default branch, and still shows {self.after.head}"
        raise BrokenError(f"{message}; may this account change the repository's settings?")

    async def _bring(self, changes: Sequence[Change]) -> None:
        """Push, look, and push once more what failed and may work alone."""
        if not changes:
            return
        await self._push(changes)
        await self._see()
        again = self._again([one for one in changes if not self.arrived(one)], changes)
        for batch in again:
            await self._push(batch)
        if again:
            await self._see()

    async def _push(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.errors.pop(change.ref, None)
        to = self.to
        try:
            pushed = await push(to.git, to.http, to.folder, to.address, changes, on_sent=self._went)
        except MirrordError as error:
            why = self.to.explained(error)
            self.errors |= dict.fromkeys((change.ref for change in changes), why)
            return
        hit("git.pushed")
        named = {change.ref for change in changes}
        said = "\n".join(line for line in pushed.words.splitlines() if line.startswith("remote:"))
        for result in pushed.results:
            if result.ref in named:
                self.results[result.ref] = result
                if result.ok:
                    continue
                reason = result.reason
                if said and _HOOK.search(reason):  # `pre-receive hook declined` gives no reason; the host's words do
                    reason = f"{reason}: {words(said)}"
                self.errors[result.ref] = self.to.explained(per_ref(result.ref, reason))
        if pushed.error is not None:
            left = named - {result.ref for result in pushed.results}
            self.errors |= dict.fromkeys(left, self.to.explained(pushed.error))

    def _went(self, count: int) -> None:
        self.sent += count
        self.on_sent(count)

    async def _see(self) -> None:
        self.after = await self.to.look() or Refs({})

    def arrived(self, change: Change) -> bool:
        """Whether the destination shows the change."""
        return self.after.refs.get(change.ref) == change.new

    def _again(self, left: Sequence[Change], changes: Sequence[Change]) -> Sequence[Sequence[Change]]:
        """Return what to push once more: what failed in passing together, what was refused all together one by one.

        A hook refuses all refs of a push for one of them; the others go through alone (gitaly#2451).
        """
        if not left:
            return ()
        passing = []
        for one in left:
            error, result = self.errors.get(one.ref), self.results.get(one.ref)
            if result is not None and not result.ok:
                again = bool(_PASSES.search(result.reason))
            else:
                again = error is None or error.retry
            passing += [one] if again else []
        if passing:
            return (passing,)
        refused = all(one.ref in self.results and self.results[one.ref].remote for one in left)
        if refused and len(left) == len(changes) and 1 < len(left) <= ALONE:
            return [[one] for one in left]
        return ()

    def error_of(self, change: Change) -> MirrordError | None:
        """Return why a change is not there, or None when it is."""
        if self.arrived(change):
            return None
        return self.errors.get(change.ref) or BrokenError(
            f"{change.ref}: {self.to.address.host} accepted it, and does not show it; the next run tries again"
        )

    def was_there(self, change: Change) -> bool:
        """Whether the destination had it already when the push came."""
        result = self.results.get(change.ref)
        return result is not None and result.became is PushStatus.SAME
