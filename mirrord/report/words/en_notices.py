"""Messages to receivers of notifications in English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TEXTS: Final[Mapping[str, str | tuple[str, str]]] = {
    "notice.title": "mirrord: {what}",
    "notice.title.at": "mirrord at {url}: {what}",
    "notice.count.guard": ("{count} mirror stopped by a guard", "{count} mirrors stopped by a guard"),
    "notice.count.failure": ("{count} mirror fails", "{count} mirrors fail"),
    "notice.count.stale": ("{count} mirror is stale", "{count} mirrors are stale"),
    "notice.count.budget": ("{count} host or mirror out of requests", "{count} hosts or mirrors out of requests"),
    "notice.count.recovery": ("{count} mirror works again", "{count} mirrors work again"),
    "notice.guard": "{subject}: stopped by a guard before anything was lost: {error}",
    "notice.failure": "{subject} fails since {since}: {error} ({code})",
    "notice.stale": "{subject} is stale: its last success was {span} ago, at {since}",
    "notice.never": "{subject} is stale: no run of it has succeeded yet",
    "notice.budget": "{subject}: no more requests for now: {error}",
    "notice.continues": "{error}; {continues}",
    "notice.recovery": "{subject} works again; it was broken for {span}, since {since}",
    "notice.advised": "{text} → {advice}",
    "notice.exhausted": "the host reports that no request is left",
    "notice.more": ("and {count} more", "and {count} more"),
    "notice.test": "This is a test: what mirrord reports to {receiver} arrives here.",
    "notice.test.title": "a test",
}
