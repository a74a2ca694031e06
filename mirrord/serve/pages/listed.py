"""All mirrors at one time in one language, and what changed since the time before. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mirrord.report.front import FrontStatus
from mirrord.report.replicas import configurations, outdated
from mirrord.report.status import Status
from mirrord.report.words import Words, words
from mirrord.serve.pages.frame import Look
from mirrord.serve.pages.rows import BAD, MirrorRows, Row, TimedPart, filled
from mirrord.serve.pages.templates import render
from mirrord.serve.rendered import Copies, serial

MOST: Final = 100
"""Rows that are sent one by one; when more have changed, readers load the page again."""


@dataclass(frozen=True, slots=True)
class Headline:
    """All mirrors in one sentence, with its health and the numbers."""

    sentence: str
    health: str
    totals: Mapping[str, int]


@dataclass(slots=True)
class Listed:
    """A page before its filter, its look and its times.

    Attributes:
        status: what it is made from.
        rows: a row for each mirror, in the order of the page.
        headline: what is said above them.
        warnings: what is wrong with the daemon itself.
        replicas: the replicas that share the record; None for one alone.
        serial: differs from that of another one that shows something else, apart from times.
        copies: what was made of it, without a filter.
    """

    status: Status
    rows: Sequence[Row]
    headline: Headline
    warnings: Sequence[str]
    replicas: TimedPart | None = None
    serial: str = ""
    copies: Copies[Look] = field(default_factory=Copies)


def listed_of(status: Status, rows: MirrorRows, language: str, before: Listed | None) -> Listed:
    """Render what is new since the one before."""
    said = words(language)
    now = Listed(
        status, rows.of(status.mirrors), _headline(status, said), _warnings(status, said), _replicas(status, said)
    )
    same = (
        before is not None
        and now.headline == before.headline
        and now.warnings == before.warnings
        and now.replicas == before.replicas
        and len(now.rows) == len(before.rows)
        and all(one is other for one, other in zip(now.rows, before.rows, strict=True))
    )
    now.serial = before.serial if before and same else serial()
    return now


def changes(before: Listed, now: Listed, said: Words) -> str:
    """Return what a reader of the page before needs, as JSON.

    `from` and `to` are serials. With `moved` the page is to be loaded again: rows came, went or changed their group.
    Otherwise `rows` are those that changed, by the name of the mirror, and `replicas` is there when that changed.
    """
    old = {row.mirror.name: row for row in before.rows}
    fresh = [row for row in now.rows if row is not old.get(row.mirror.name)]
    moved = (
        len(fresh) > MOST
        or now.warnings != before.warnings
        or (now.replicas is None) != (before.replicas is None)
        or [(row.mirror.name, row.group) for row in now.rows] != [(row.mirror.name, row.group) for row in before.rows]
    )
    others = {}
    if now.replicas and now.replicas != before.replicas and not moved:
        others["replicas"] = filled([now.replicas], said, now.status.now)
    return json.dumps(
        {
            "from": before.serial,
            "to": now.serial,
            "moved": moved,
            "sentence": now.headline.sentence,
            "health": now.headline.health,
            "totals": now.headline.totals,
            "rows": {} if moved else {row.mirror.name: filled([row], said, now.status.now) for row in fresh},
            **others,
        },
        ensure_ascii=False,
    )


def _headline(status: Status, said: Words) -> Headline:
    totals, total = status.totals, len(status.mirrors)
    if not total:
        return Headline(said.text("overview.none"), "new", totals)
    worst = next((health for health in BAD if totals[health]), "ok")
    if worst != "ok":
        return Headline(said.text(f"verdict.{worst}", count=totals[worst], total=total), worst, totals)
    if drifted := sum(bool(one.verified and one.verified.drift) for one in status.mirrors):
        return Headline(said.text("verdict.drift", count=drifted, total=total), "stale", totals)
    health = "ok" if totals["ok"] else "new"
    return Headline(
        said.text("verdict.ok" if totals["ok"] == total else "verdict.part", count=totals["ok"], total=total),
        health,
        totals,
    )


def _warnings(status: Status, said: Words) -> list[str]:
    found = {
        "page.storage": status.storage_error,
        "page.bucket": status.bucket_error,
        "page.reload_refused": status.configuration_error,
        "page.certificate": status.certificate_error,
    }
    stopping = [said.text("page.stopping")] if status.state == "stopping" else []
    return [
        *stopping,
        *_fleet_troubles(status, said),
        *(said.text(key, error=error) for key, error in found.items() if error),
        *front_troubles(status.front, said),
    ]


def _fleet_troubles(status: Status, said: Words) -> list[str]:
    """Return a sentence for each replica that is dead, and what else is wrong with what is known of them."""
    dead = [one for one in status.replicas if not one.alive]
    found = [said.text("replicas.is_dead", name=one.name, time=said.time(one.seen)) for one in dead]
    if status.replicas_at and outdated(status.now, status.replicas_at):
        found.append(said.text("replicas.outdated", time=said.time(status.replicas_at)))
    if len(differing := configurations(status.replicas)) > 1:
        which = said.text("list.comma").join(
            said.text("replicas.has", names=said.listed(names), digest=digest) for digest, names in differing.items()
        )
        found.append(said.text("replicas.differ", which=which))
    return found


def _replicas(status: Status, said: Words) -> TimedPart | None:
    """Render the replicas, with how far each is with what it runs."""
    if not status.replicas:
        return None
    running = {mirror.name: mirror.running for mirror in status.mirrors if mirror.running}
    html = render(
        "replicas.html",
        words=said,
        replicas=status.replicas,
        here=status.replica,
        waiting=status.waiting,
        running=running,
        differ=len(configurations(status.replicas)) > 1,
        old=outdated(status.now, status.replicas_at),
    )
    return TimedPart.of(html)


def front_troubles(front: FrontStatus | None, said: Words) -> list[str]:
    """Return a sentence for each thing of the front that does not work."""
    if front is None:
        return []
    key = "front.list_missing" if front.list_missing else "front.list_kept"
    found = [said.text(key, error=error) for error in front.list_errors.values()]
    wrong = {"front.cache_error": front.cache_error, "front.shared_error": front.shared.error if front.shared else ""}
    return [*(said.text(key, error=error) for key, error in wrong.items() if error), *found]
