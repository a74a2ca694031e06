"""What is reported to receivers of notifications, and when: each thing once, until it is over or changes. Pure.

Compares the state of a mirror with what was reported to a receiver. So nothing is reported twice, however often a run
fails or the daemon starts, and a message that could not be sent is made again from the same state.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from mirrord.errors import GuardError, ThrottledError
from mirrord.model.notice import Notice, Occasion
from mirrord.model.run import Result
from mirrord.report.documents import adapter
from mirrord.report.moments import At
from mirrord.report.status import MirrorStatus
from mirrord.report.words import Words
from mirrord.wire.notify.message import Message
from mirrord.wire.secret import redact

MOST: Final = 500
"""Notices in the document of a webhook."""
CODES: Final = 20
"""Error codes of one failure that are remembered as reported."""
BUDGET_RESTS: Final = timedelta(hours=6)
"""How long nothing is said again of a host that was out of requests: its budget may be used up many times a day."""
_ERROR: Final = 500  # characters
_DETAILED: Final = 5  # notices up to which each has its advice
_WORST: Final = tuple(Occasion)
_BAD: Final = (Result.FAILED, Result.PARTIAL)
_GOOD: Final = (Result.SUCCESS, Result.NOOP)


@dataclass(frozen=True, slots=True)
class Reported:
    """What was reported to a receiver of a mirror that is not well.

    Attributes:
        since: since when it is broken.
        codes: error codes that were reported.
        stale: whether it was reported that it is stale.
    """

    since: datetime
    codes: tuple[str, ...] = ()
    stale: bool = False

    def written(self) -> str:
        """Return it as text for the record."""
        return json.dumps({"since": self.since.isoformat(), "codes": self.codes, "stale": self.stale})

    @classmethod
    def read(cls, text: str) -> Reported | None:
        """Return what a text of the record says; None for one that cannot be read."""
        try:
            found: Any = json.loads(text)
            since = datetime.fromisoformat(found["since"])
            codes = tuple(str(code) for code in found["codes"])
            return cls(since, codes, stale=bool(found["stale"])) if since.tzinfo else None
        except (ValueError, TypeError, KeyError):
            return None


def mirror_notices(
    mirror: MirrorStatus,
    reported: Reported | None,
    on: Collection[Occasion],
    now: datetime,
) -> tuple[Sequence[Notice], Reported | None]:
    """Return what is to be reported of a mirror to a receiver, and all that was reported afterwards.

    Args:
        mirror: its state.
        reported: what was reported to the receiver.
        on: what is reported to it.
        now: the time.
    """
    stale = mirror.stale_at is not None and mirror.stale_at <= now
    at = mirror.last_attempt or now
    if mirror.result in _GOOD and not stale:
        return _recovered(mirror, reported, on, at), None
    found: list[Notice] = []
    bad = _trouble(mirror, reported.since if reported else mirror.failing_since or at, at)
    if bad and bad.occasion in on and (reported is None or bad.code not in reported.codes):
        found.append(bad)
        reported = reported or Reported(bad.since or at)
        reported = replace(reported, codes=(*reported.codes, bad.code)[-CODES:])
    if stale and Occasion.STALE in on and not (reported and reported.stale):
        found.append(_about(mirror, Occasion.STALE, now, mirror.last_success))
        reported = replace(reported or Reported(mirror.last_success or mirror.stale_at or at), stale=True)
    return found, reported


def budget_notices(host: str, reported: Reported | None, now: datetime) -> tuple[Sequence[Notice], Reported | None]:
    """Return what is to be reported of a host that has no request left, and all that was reported afterwards."""
    if reported and now - reported.since < BUDGET_RESTS:
        return (), reported
    return [Notice(Occasion.BUDGET, host, now, code=ThrottledError.code)], Reported(now, (ThrottledError.code,))


def _recovered(
    mirror: MirrorStatus, reported: Reported | None, on: Collection[Occasion], at: datetime
) -> Sequence[Notice]:
    if reported is None or Occasion.RECOVERY not in on:
        return ()
    if not reported.stale and set(reported.codes) == {ThrottledError.code}:  # a budget fills up by itself
        return ()
    return [_about(mirror, Occasion.RECOVERY, at, reported.since)]


def _trouble(mirror: MirrorStatus, since: datetime, at: datetime) -> Notice | None:
    """Return what the last run says, None if that is nothing new: an interrupted run says nothing."""
    error = mirror.last_error
    code, text = (error.code, error.message) if error else ("error", "")
    if mirror.result is Result.DEFERRED:
        notice = _about(mirror, Occasion.BUDGET, at, since, code=ThrottledError.code, error=text)
        return replace(notice, until=mirror.deferred_until)
    if mirror.result not in _BAD:
        return None
    occasion = Occasion.GUARD if code == GuardError.code else Occasion.FAILURE
    return _about(mirror, occasion, at, since, code=code, error=text)


def _about(
    mirror: MirrorStatus, occasion: Occasion, at: datetime, since: datetime | None, *, code: str = "", error: str = ""
) -> Notice:
    text = redact(error)
    text = f"{text[:_ERROR]}…" if len(text) > _ERROR else text
    return Notice(occasion, mirror.name, at, since, mirror.kind, mirror.source[:_ERROR], code, text)


@dataclass(frozen=True, slots=True)
class NoticeDocument:
    """One notice.

    Attributes:
        occasion: `guard`, `failure`, `stale`, `budget` or `recovery`; `test` for that of `mirrord notify test`.
        subject: name of the mirror; of a `budget` it may be a host.
        kind: kind of the mirror; empty for a host.
        source: where the mirror reads; empty for a host.
        at: when it happened.
        since: since when the mirror is, or of a `recovery` was, broken; of `stale` its last success, or null.
        code: error code, see exit-codes.md, or empty.
        error: one sentence, or empty.
        until: when a mirror that is out of requests continues, or null.
    """

    occasion: str
    subject: str
    kind: str
    source: str
    at: At
    since: At | None
    code: str
    error: str
    until: At | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """What a webhook gets.

    Attributes:
        version: of this format, 1. Keys may be added to it.
        id: the same whenever this notification is sent again; also in the header `X-Mirrord-Delivery`.
        sent: when it was sent.
        receiver: name of the receiver in the configuration.
        url: address of the page, or empty.
        title: one line for people.
        text: all of it for people, a line a notice.
        count: number of notices; at most 500 of them are in `notices`.
        notices: the most important first.
    """

    version: int
    id: str
    sent: At
    receiver: str
    url: str
    title: str
    text: str
    count: int
    notices: tuple[NoticeDocument, ...]


@dataclass(frozen=True, slots=True)
class Correspondence:
    """From whom a message is, to whom, in which language.

    Attributes:
        receiver: name of the receiver.
        words: of its language.
        url: address of the page, "" if only this machine can open it.
    """

    receiver: str
    words: Words
    url: str = ""

    def message(self, notices: Iterable[Notice], now: datetime) -> Message:
        """Write notices as one message, for people and for programs."""
        words = self.words
        ordered = sorted(notices, key=lambda one: (_WORST.index(one.occasion), one.subject))
        counts = Counter(one.occasion for one in ordered)
        what = words.listed([words.text(f"notice.count.{one}", count=counts[one]) for one in _WORST if counts[one]])
        lines = [_line(one, words, now, advised=len(ordered) <= _DETAILED) for one in ordered]
        documents = [NoticeDocument(**asdict(one)) for one in ordered[:MOST]]
        same = [(one.occasion, one.subject, one.code, one.at.isoformat()) for one in ordered]
        return self._written(what, lines, documents, same, now)

    def trial(self, now: datetime) -> Message:
        """Write what `mirrord notify test` sends."""
        lines = [self.words.text("notice.test", receiver=self.receiver)]
        documents = [NoticeDocument("test", self.receiver, "", "", now, None, "", "")]
        return self._written(self.words.text("notice.test.title"), lines, documents, now.isoformat(), now)

    def _written(
        self, what: str, lines: Sequence[str], documents: Sequence[NoticeDocument], same: object, now: datetime
    ) -> Message:
        """Make a message of its parts; its id follows from what is the `same` when it is sent again."""
        words, url = self.words, self.url
        title = words.text("notice.title.at", url=url, what=what) if url else words.text("notice.title", what=what)
        identity = hashlib.sha256(json.dumps([self.receiver, same]).encode()).hexdigest()[:32]
        text = "\n".join([title, *lines[:MOST]])
        whole = Notification(1, identity, now, self.receiver, url, title, text, len(lines), tuple(documents))
        document: Mapping[str, object] = adapter(Notification).dump_python(whole, mode="json")
        return Message(identity, title, lines, lambda left: words.text("notice.more", count=left), url, document)


def _line(notice: Notice, words: Words, now: datetime, *, advised: bool) -> str:
    error = notice.error or (words.text("notice.exhausted") if notice.occasion is Occasion.BUDGET else notice.code)
    if notice.until is not None:
        error = words.text("notice.continues", error=error, continues=words.continues(now, notice.until))
    values: Mapping[Occasion, Mapping[str, object]] = {
        Occasion.GUARD: {"error": error},
        Occasion.FAILURE: {"error": error, "code": notice.code, "since": words.time(notice.since)},
        Occasion.STALE: {"since": words.time(notice.since), "span": _span(notice, now, words)},
        Occasion.BUDGET: {"error": error},
        Occasion.RECOVERY: {"since": words.time(notice.since), "span": _span(notice, notice.at, words)},
    }
    never = notice.occasion is Occasion.STALE and notice.since is None
    text = words.text(
        "notice.never" if never else f"notice.{notice.occasion}", subject=notice.subject, **values[notice.occasion]
    )
    advice = words.advice(notice.code).replace("NAME", notice.subject) if advised and notice.code else ""
    return words.text("notice.advised", text=text, advice=advice) if advice else text


def _span(notice: Notice, until: datetime, words: Words) -> str:
    return words.lasted((until - (notice.since or until)).total_seconds())
