"""The queue of a fleet, over procrastinate: runs that are due, each carried out by one replica.

What procrastinate does not promise is kept here (reliability.md §5.4, its issues 1518 and 1543): one open run of each
mirror, by an index of our own; no `queueing_lock` and no retry of its own; the runs of replicas that died are given to
others by a sweep outside the queue, as a new attempt. Two replicas may believe that they carry out the same run: the
lease of the mirror decides (`fleet`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from mirrord.errors import StorageError
from mirrord.record.fleet import Fleet
from mirrord.record.fleet_database import SOON, stopped_when_cancelled

if TYPE_CHECKING:
    import procrastinate  # noqa: TID251 - this is the door

TASK: Final = "mirrord.run"
"""The name of the only task."""
KEPT: Final = 20
"""Ended runs kept of each mirror."""
_LEFTOVERS: Final = 1000  # jobs, the newest, in which those of dead workers are kept
_ANYBODY: Final = "any"  # the queue of all replicas
_AGAIN: Final = 5.0  # seconds until a worker that ended begins anew
_SCHEMA: Final = 0x6D697272  # number of the advisory lock under which the tables of the queue are made

_TURN: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%(mirror)s, 0))"
_DEFER: Final = """
INSERT INTO queued_runs (mirror, trigger, state, prefers)
SELECT %(mirror)s, %(trigger)s, 'queued', %(prefers)s WHERE NOT EXISTS (
  SELECT 1 FROM queued_runs WHERE mirror = %(mirror)s AND trigger = %(trigger)s
  AND at > now() - make_interval(secs => %(quiet)s))
ON CONFLICT (mirror) WHERE state <> 'ended' DO NOTHING RETURNING id
"""
_OVERLAPS: Final = """
SELECT 1 FROM queued_runs WHERE mirror = %(mirror)s AND state <> 'ended'
AND at <= now() - make_interval(secs => %(quiet)s)
"""
_WAITS: Final = "SELECT 1 FROM queued_runs WHERE mirror = %(mirror)s AND state = 'queued'"
_GONE: Final = """
SELECT 1 FROM queued_runs WHERE mirror = %(mirror)s AND state = 'running'
AND at < now() - make_interval(secs => %(stale)s) AND NOT EXISTS (
  SELECT 1 FROM replicas WHERE seen >= now() - make_interval(secs => %(stale)s)
  AND configuration IS DISTINCT FROM %(configuration)s)
"""
_PRUNE: Final = """
DELETE FROM queued_runs WHERE mirror = %(mirror)s AND state = 'ended' AND id <= (
  SELECT id FROM queued_runs WHERE mirror = %(mirror)s ORDER BY id DESC LIMIT 1 OFFSET %(kept)s)
"""
_HAS_JOB: Final = "UPDATE queued_runs SET job = %(job)s WHERE id = %(id)s AND job IS NULL RETURNING 1"
_BEGIN: Final = """
UPDATE queued_runs SET state = 'running', boot = %(boot)s, job = %(job)s
WHERE id = %(id)s AND state <> 'ended' AND (job = %(job)s OR job IS NULL) RETURNING mirror, trigger
"""
_END: Final = "UPDATE queued_runs SET state = 'ended' WHERE id = %(id)s AND boot = %(boot)s AND job = %(job)s"
_BACK: Final = """
UPDATE queued_runs SET state = 'queued', prefers = '', job = NULL
WHERE id = %(id)s AND boot = %(boot)s AND job = %(job)s
"""
_BEGUN: Final = "SELECT id FROM queued_runs WHERE boot = %(boot)s AND state = 'running'"
_OVER: Final = """
UPDATE queued_runs SET state = 'ended' WHERE boot = %(boot)s AND state = 'running' AND id = ANY(%(over)s) RETURNING job
"""
_LEFT: Final = """
UPDATE queued_runs AS left_behind SET state = 'queued', prefers = '', job = NULL
FROM (
  SELECT id, job FROM queued_runs AS one WHERE
    (state = 'running' AND boot NOT IN (
      SELECT boot FROM replicas WHERE seen >= now() - make_interval(secs => %(stale)s)))
    OR (id = ANY(%(owed)s) AND (state = 'queued' OR (state = 'running' AND boot = %(boot)s)))
    OR (state = 'queued' AND prefers <> '' AND prefers NOT IN (
      SELECT replica FROM replicas WHERE seen >= now() - make_interval(secs => %(stale)s)))
    OR (state = 'queued' AND job IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM procrastinate_jobs AS queued
      WHERE queued.id = one.job AND lock IS NOT NULL AND status IN ('todo', 'doing')))
  FOR UPDATE SKIP LOCKED) AS found
WHERE left_behind.id = found.id RETURNING left_behind.id, found.job
"""
_JOBLESS: Final = """
SELECT id, mirror, prefers FROM queued_runs
WHERE state = 'queued' AND job IS NULL AND at < now() - make_interval(secs => %(sweep)s)
"""
_UNLOCK: Final = "UPDATE procrastinate_jobs SET lock = NULL WHERE id = ANY(%(jobs)s) AND lock IS NOT NULL"
_FORGET: Final = """
DELETE FROM procrastinate_jobs WHERE status = 'doing' AND lock IS NULL AND worker_id IS NULL
AND id < (SELECT max(id) - %(kept)s FROM procrastinate_jobs)
"""


class FleetQueue:
    """The runs that are due in a fleet."""

    def __init__(self, fleet: Fleet, carry_out: Callable[[str, str], Awaitable[bool]], places: int) -> None:
        """Begin nothing yet.

        Args:
            fleet: this replica among the others.
            carry_out: runs a mirror for a trigger; returns False for a run that was not carried out, or that others
                are to go on with: it stays owed.
            places: runs at the same time in this process.
        """
        import procrastinate  # noqa: PLC0415, TID251 - 0.5 s, for those who have replicas

        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # what matters is said by the runs themselves
        self._fleet, self._carry_out, self._places = fleet, carry_out, places
        self._running = set[int]()
        self._owed = set[int]()  # of which nobody else knows yet that they did not end here
        connector = procrastinate.PsycopgConnector(
            conninfo="",
            kwargs=fleet.database.keys,
            min_size=1,
            max_size=4,
            timeout=fleet.pace.stale / 2,
            reconnect_timeout=SOON,
        )
        self._app: procrastinate.App = procrastinate.App(connector=connector)
        self._app.task(name=TASK, pass_context=True)(self._run)

    async def open(self) -> None:
        """Connect, and make the tables of the queue where there are none; StorageError as `SharedDatabase.do`."""
        import psycopg  # noqa: PLC0415, TID251 - only who has replicas loads it

        try:
            async with AsyncExitStack() as undo:
                undo.push_async_callback(self.close)
                async with asyncio.timeout(self._fleet.database.patience):
                    await self._app.open_async()
                async with asyncio.timeout(self._fleet.pace.stale):
                    await self._make()
                undo.pop_all()
        except (psycopg.OperationalError, TimeoutError) as error:  # that of the pool, too
            raise StorageError(
                "the queue in the database of the record cannot be reached; look whether the server is there,"
                " and whether its max_connections leaves 15 for each mirrord"
            ) from error
        except psycopg.Error as error:
            raise StorageError(f"the tables of the queue cannot be made: {error}") from error

    async def _make(self) -> None:
        there = "SELECT to_regclass('procrastinate_jobs') IS NOT NULL AS there"
        async with self._fleet.database.pool.connection() as link, link.transaction():
            await link.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA,))
            if not (await (await link.execute(there)).fetchone() or {})["there"]:
                await link.execute(self._app.schema_manager.get_schema())

    async def close(self) -> None:
        """Disconnect."""
        await self._app.close_async()

    async def defer(self, mirror: str, trigger: str = "schedule", *, quiet: float = 0.0, sticky: bool = False) -> bool:
        """Let some replica run a mirror; return False if it waits for one, runs, or was deferred for `quiet` seconds.

        With `sticky` the replica that ran it last is preferred while it is alive. StorageError as `SharedDatabase.do`.
        """
        prefers = await self._fleet.ran_last(mirror) if sticky else ""
        about = {"mirror": mirror, "trigger": trigger, "quiet": quiet, "prefers": prefers, "kept": KEPT}
        made = await self._fleet.database.do(_DEFER, about, after=_TURN)
        if made:
            await self._hand_over(made[0]["id"], mirror, prefers)
            await self._fleet.database.do(_PRUNE, about)
        return bool(made)

    async def again(self, mirror: str) -> bool:
        """Let some replica run a mirror from now on; return False while a run that has begun has not ended.

        One that waits already is enough. StorageError as `SharedDatabase.do`.
        """
        return await self.defer(mirror) or bool(await self._fleet.database.do(_WAITS, {"mirror": mirror}))

    async def overlaps(self, mirror: str, *, quiet: float) -> bool:
        """Tell whether a run deferred before `quiet` seconds has not ended; StorageError as `SharedDatabase.do`."""
        return bool(await self._fleet.database.do(_OVERLAPS, {"mirror": mirror, "quiet": quiet}))

    async def gone(self, mirror: str) -> bool:
        """Tell whether no replica has the mirror of a run that was given to this one, which does not have it.

        Others may have it while replicas are reloaded one after another: those whose configuration differs, or who
        deferred the run before their next sign of life said so. StorageError as `SharedDatabase.do`.
        """
        me, pace = self._fleet.me, self._fleet.pace
        about = {"mirror": mirror, "stale": pace.stale, "configuration": me.configuration()}
        return bool(await self._fleet.database.do(_GONE, about))

    async def _hand_over(self, number: int, mirror: str, prefers: str) -> None:
        """Give a run to the queue; one that gets no job here gets one by the sweep."""
        from procrastinate.exceptions import ProcrastinateException  # noqa: PLC0415, TID251 - only who has replicas loads it

        task = self._app.configure_task(TASK, lock=mirror, queue=prefers or _ANYBODY)
        try:
            with stopped_when_cancelled():
                job = await task.defer_async(number=number)
        except ProcrastinateException as error:
            raise StorageError("the queue cannot be reached") from error
        await self._fleet.database.do(_HAS_JOB, {"id": number, "job": job})

    async def work(self) -> None:
        """Carry out what is due until it is cancelled; runs under way then go on."""
        while True:
            worker: Any = self._app._worker(  # noqa: SLF001 - as run_worker_async does
                queues=[_ANYBODY, self._fleet.me.name],
                concurrency=self._places,
                install_signal_handlers=False,
                update_heartbeat_interval=self._fleet.pace.beat,
                stalled_worker_timeout=self._fleet.pace.stale,
                delete_jobs="always",
            )
            running = asyncio.create_task(worker.run())
            try:
                await asyncio.wait([running])
            finally:
                worker.stop()  # while it begins it may forget that it is cancelled: see `stopped_when_cancelled`
                running.cancel()
                running.add_done_callback(lambda done: done.cancelled() or done.exception())
                await asyncio.wait([running], timeout=self._fleet.shortly)  # what is left ends with the connections
            # The database was away for long: begin anew.
            await asyncio.sleep(_AGAIN)

    async def _run(self, context: procrastinate.JobContext, number: int) -> None:
        about = {"id": number, "boot": self._fleet.me.boot, "job": context.job.id}
        self._running.add(number)
        self._owed.add(number)  # perhaps it begins, and we do not hear of it
        try:
            begun = await self._fleet.database.do(_BEGIN, about)
            self._owed.discard(number)
            if not begun:
                return  # somebody else has it by now
            if await self._carry_out(begun[0]["mirror"], begun[0]["trigger"]):
                await self._fleet.database.do(_END, about)
                return
            self._owed.add(number)
            await self._fleet.database.do(_BACK, about)
            self._owed.discard(number)
        finally:
            self._running.discard(number)

    async def sweep(self) -> None:
        """Give the runs of dead replicas to others, again and again; never returns."""
        while True:
            with suppress(StorageError):
                await self.sweep_once()
            await asyncio.sleep(self._fleet.pace.sweep)

    async def sweep_once(self) -> None:
        """Give the runs of dead replicas to others, and those we owe, as new attempts, and runs without a job one."""
        from procrastinate.exceptions import ProcrastinateException  # noqa: PLC0415, TID251 - only who has replicas loads it

        owed = self._owed - self._running
        about = {
            "stale": self._fleet.pace.stale,
            "sweep": self._fleet.pace.sweep,
            "boot": self._fleet.me.boot,
            "owed": list(owed),
        }
        left = [row["job"] for row in await self._fleet.database.do(_LEFT, about)]
        begun = {row["id"] for row in await self._fleet.database.do(_BEGUN, about)}
        over = begun - self._running - self._owed  # not what begins, or is owed, from now on
        left += [row["job"] for row in await self._fleet.database.do(_OVER, {**about, "over": list(over)})]
        self._owed -= owed - self._running
        with suppress(ProcrastinateException), stopped_when_cancelled():
            stalled = await self._app.job_manager.get_stalled_jobs(seconds_since_heartbeat=self._fleet.pace.stale)
            left += [job.id for job in stalled]
        if left:  # whoever has such a job, and wakes up, may end it; it holds up nobody else
            await self._fleet.database.do(_UNLOCK, {"jobs": left})
            await self._fleet.database.do(_FORGET, {"kept": _LEFTOVERS})
        for row in await self._fleet.database.do(_JOBLESS, about):
            await self._hand_over(row["id"], row["mirror"], row["prefers"])
