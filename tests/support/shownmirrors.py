"""A server of pages over a board that a test writes to: as the daemon shows it, but without a daemon and its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from mirrord.model.history import LastRun, Standing
from mirrord.model.run import Result
from mirrord.report.board import Board
from mirrord.report.mirror import MirrorDetail, Wish
from mirrord.report.replicas import ReplicaStatus
from mirrord.report.status import Running, Status
from mirrord.syncer.values import Addresses, Mirror, Schedule, Target
from tests.support.frontserver import Shown


class Nothing(BaseModel):
    """No keys."""


NOW = datetime(2026, 11, 27, 16, 39, 5, tzinfo=UTC)


def mirror(name: str, *targets: str, kind: str = "image", every: float | None = 6 * 3600.0) -> Mirror:
    """Return a mirror with these targets, stale after a day."""
    schedule = Schedule(every=every) if every else None
    places = tuple(Target(target, kind, target, Nothing()) for target in targets or ("local",))
    return Mirror(name, kind, Nothing(), places, schedule, stale=86_400.0)


class ShownMirrors(Shown):
    """Fulfils `serve.status.View`: mirrors, how they stand, and what runs, as a test has set it."""

    def __init__(self) -> None:
        """Begin without mirrors."""
        super().__init__(None)  # type: ignore[arg-type]  # no front needs services
        self.now = NOW
        self.mirrors: dict[str, Mirror] = {}
        self.addresses: dict[str, Addresses] = {}
        self.next_runs: dict[str, datetime] = {}
        self.running: dict[str, Running] = {}
        self.more: dict[str, Any] = {}
        self.about: dict[str, Any] = {}  # other fields of the status
        self.details: dict[str, dict[str, Any]] = {}  # by mirror, fields of its `MirrorDetail`
        self.wishes: list[Wish] = []  # what was asked for of mirrors
        self._board, self._edition = Board(), 0

    def add(self, one: Mirror, source: str = "", places: Mapping[str, str] | None = None, **pages: str) -> None:
        """Configure a mirror: its origin, the addresses of its targets, and their pages by name."""
        found = places or {target.name: f"{target.name}.example/{one.name}" for target in one.targets}
        self.mirrors[one.name] = one
        self.addresses[one.name] = Addresses(source or f"origin.example/{one.name}", found, "", pages)
        self._edition += 1

    def stand(
        self, name: str, result: Result = Result.NOOP, *, ago: float = 720.0, failed: Iterable[str] = (), **more: Any
    ) -> None:
        """Say how a mirror and its targets stand: the last success `ago` seconds ago, errors at those that `failed`."""
        bad = result in (Result.FAILED, Result.PARTIAL)
        error: dict[str, Any] = (
            {"failures": 3, "code": "denied", "error": "ghcr.io: status 401: no"} | more if bad else {}
        )
        success, last = self.now - timedelta(seconds=ago), LastRun(kept=14)
        rows = [Standing(name, "", success, self.now, result=result, items=14, **error)]
        for target in self.mirrors[name].targets:
            own = error if target.name in failed or not failed else {}
            state = result if own or not bad else Result.NOOP
            good = success if own or not bad else self.now
            rows.append(Standing(name, target.name, good, self.now, result=state, items=14, last=last, **own))
        self._board.learn(rows)
        self._edition += 1

    def run(self, name: str, steps: int = 0, done: int = 0, **more: Any) -> None:
        """Let a mirror run, with so many steps and so many of them done; without steps, no longer."""
        self.running.pop(name, None)
        if steps:
            self.running[name] = Running("schedule", self.now, steps, done, **more)
        self._edition += 1

    def edition(self) -> int:
        """Return a number that grows with each change."""
        return self._edition

    async def detail(self, name: str, wish: Wish) -> MirrorDetail | None:
        """Return what is known of a mirror: how it stands, and what `details` has besides."""
        self.wishes.append(wish)
        found = next((one for one in (await self.status()).mirrors if one.name == name), None)
        return MirrorDetail(found, self.now, **self.details.get(name, {})) if found else None

    async def status(self) -> Status:
        """Return it."""
        status = self._board.status(
            "1.0",
            self.now,
            self.mirrors.values(),
            running=self.running,
            next_runs=self.next_runs,
            addresses=self.addresses,
            started=self.now,
            **self.more,
        )
        return replace(status, **self.about)

    def share(self, *replicas: ReplicaStatus, **about: Any) -> None:
        """Let replicas share the record; `about` has other fields of the status."""
        self.about |= {"replicas": replicas, **about}
        self._edition += 1
