"""Named places where a test may crash or fail the program; no-ops in production.

A durable step calls `hit("room.step")`. Nothing happens unless a test armed that name, in
process with `arm`, or for a child process through the environment variable
`MIRRORD_FAILPOINTS` (`name=exit[:skip]`, `name=fail[:skip]` or `name=stop[:skip]`, comma-separated; `skip` hits
pass before the one that acts). Names are declared here, so that a crash test can walk them all.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

NAMES = frozenset(
    {
        "spool.chunk",  # a chunk of a blob was written to its spool
        "spool.verified",  # size and digest were checked, the file is not yet kept
        "store.linked",  # a blob has its name in the store, the folder is not yet synced
        "links.written",  # a repository's new log is complete beside what was there before
        "links.renamed",  # a repository's new log is in place
        "links.appended",  # a publication is in a repository's log, not yet flushed
        "gc.dropped",  # names of one repository were dropped by retention, their content is still there
        "gc.swept",  # content of one folder that nothing links is removed
        "notes.written",  # a syncer's note is complete beside the old one
        "notes.renamed",  # a syncer's note is in place
        "git.fetched",  # upstream's refs are in the incoming namespace
        "git.packed",  # a new list of refs is complete beside the old one
        "git.backed_up",  # what is about to be overwritten has its backup refs
        "git.adopted",  # the served refs are moved
        "push.blob",  # a blob is whole at a target
        "push.manifest",  # a manifest is at a target by digest
        "push.referrer",  # what is about an image is at a target, where the names of the image are not set
        "push.tag",  # one of the tags of an item was set at a target
        "denied.written",  # the file `settings.denied` has one more entry, and nothing is removed yet
        "takedown.manifest",  # a manifest that was taken down is gone at a target
        "takedown.blob",  # a file of it is gone from an OCI layout
        "remove.tag",  # one of the names that are removed is gone at a target
        "git.pushed",  # a push of Git refs ended, nobody has looked yet what came of it
        "restore.held",  # it is written down which names are set back, and none of them is
        "verify.found",  # what a verification found is in the record, and not yet how far it read
        "facts.noted",  # what a kind remembers is replaced, and not yet durable
        "ledger.intended",  # it is written down what is moved, and nothing is moved yet
        "ledger.settled",  # what came of moves is written to the database
        "record.days",  # all that is derived from a run is written to the database, and not yet durable
        "record.receipts",  # what a run's receipts prove is written to the database, and not yet durable
    }
)

CRASH_STATUS = 137  # as if killed by signal 9

_armed: dict[str, Callable[[], None]] = {}


def hit(name: str) -> None:
    """Act as armed, else do nothing.

    Raises:
        OSError: when armed to fail.
    """
    if _armed and name in _armed:
        _armed[name]()


def arm(name: str, action: Callable[[], None]) -> None:
    """Call `action` each time `name` is hit, until `disarm`."""
    if name not in NAMES:
        raise LookupError(f"no such failpoint: {name}")
    _armed[name] = action


def disarm() -> None:
    """Forget all actions."""
    _armed.clear()


def crash() -> None:
    """End the process at once, as a kill -9 would: no cleanup, no flush."""
    os._exit(CRASH_STATUS)


def fail() -> None:
    """Fail as a broken disk would."""
    raise OSError("failpoint")


def stop() -> None:
    """Stop the process, once, until somebody continues it."""
    disarm()
    os.kill(os.getpid(), signal.SIGSTOP)


def after(skip: int, action: Callable[[], None]) -> Callable[[], None]:
    """Let `skip` hits pass, then act on each further one."""
    left = skip

    def counted() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            action()

    return counted


def arm_from(text: str) -> None:
    """Arm what `MIRRORD_FAILPOINTS` names."""
    for entry in filter(None, text.split(",")):
        name, _, action = entry.partition("=")
        verb, _, skip = action.partition(":")
        arm(name, after(int(skip or 0), {"exit": crash, "fail": fail, "stop": stop}[verb]))


arm_from(os.environ.get("MIRRORD_FAILPOINTS", ""))
