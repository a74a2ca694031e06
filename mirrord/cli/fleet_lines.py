"""The replicas that share a record, for a terminal or a pipe: who runs the mirrors, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mirrord.report.replicas import configurations, outdated
from mirrord.report.status import Status
from mirrord.report.words import words

_SAID: Final = words("en")


def offline_of(status: Status) -> Iterator[str]:
    """Yield that no daemon runs, and what runs the mirrors then; nothing where one runs."""
    if status.state == "offline" and any(one.alive for one in status.replicas):
        yield "no daemon is running with this state directory; living replicas run the mirrors"
    elif status.state == "offline":
        yield "no daemon is running: mirrors run by `mirrord sync` alone; `mirrord serve` runs them by their schedule"


def replicas_of(status: Status) -> Iterator[str]:
    """Yield a line for each replica, and what is wrong with all of them; nothing for one alone."""
    differ = len(configurations(status.replicas)) > 1
    if status.replicas_at and outdated(status.now, status.replicas_at):
        since = _SAID.ago(status.now, status.replicas_at)
        yield f"the record was last reached {since}: what is said here of other replicas and their runs is as of then"
    for one in status.replicas:
        seen = _SAID.ago(status.now, one.seen)
        if not one.alive:
            yield f"replica {one.name} is dead: last sign of life {seen}; others take over what it ran"
            continue
        about = [*(["leads"] if one.leads else []), f"mirrord {one.version}", f"last sign of life {seen}"]
        about += [f"configuration {one.configuration}"] if differ and one.configuration else []
        about.append(f"runs {', '.join(one.running)}" if one.running else "runs nothing")
        yield f"replica {one.name}: {', '.join(about)}"
    if differ:
        yield "replicas have different configurations: give all the same one, and reload"
    if status.waiting:
        yield _SAID.text("replicas.waiting", count=status.waiting)
