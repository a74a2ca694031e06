"""What pages, documents, badges and messages say, in English and Chinese.

A language is a module with one mapping, `TEXTS`; `tests/report/test_words.py` holds both to the same keys and
placeholders.
All methods return plain text: who writes markup escapes it like any other text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from mirrord import printable
from mirrord.report.words import en, zh
from mirrord.report.words.calendar import Clockwork, read_cron
from mirrord.syncer.values import Schedule

LANGUAGES: Final[Mapping[str, str]] = MappingProxyType({"en": "English", "zh": "中文"})
"""What each language is called in itself; the first one is used where none is asked for."""
TEXTS: Final = {"en": en.TEXTS, "zh": zh.TEXTS}

_LONGEST = 1000  # characters of Accept-Language that are read
_RANGES = 20  # languages of it
_RANGE = re.compile(r"([A-Za-z]{1,8}|\*)(?:-[A-Za-z0-9]{1,8}){0,5}(?:;q=([01](?:\.[0-9]{0,3})?))?")
_UNITS = (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
_INTERVALS = (("week", 604_800), *_UNITS[2:])
_ENOUGH = {"year": 2, "month": 2}  # as many, else the smaller unit: 45 days, not one month
_MOMENT = 10.0  # seconds that are "just now"
_DAY = 86_400.0
_AHEAD = 3600.0  # seconds by which clocks may differ


def words(language: str) -> Words:
    """Return the words of a language of `LANGUAGES`."""
    return _ALL[language]


def negotiated(accept_language: str, asked: str = "") -> str:
    """Return the language of `LANGUAGES` to answer in.

    Args:
        accept_language: the field of the request (RFC 9110, 12.5.4), or "".
        asked: what the reader chose, such as `zh`; anything unknown is ignored.
    """
    if (chosen := asked[:35].partition("-")[0].lower()) in LANGUAGES:
        return chosen
    wanted: dict[str, float] = {}
    for part in accept_language[:_LONGEST].split(",")[:_RANGES]:
        found = _RANGE.fullmatch(part.replace(" ", "").replace("\t", ""))
        if found:
            language = next(iter(LANGUAGES)) if found[1] == "*" else found[1].lower()
            weight = float(found[2]) if found[2] else 1.0
            wanted[language] = max(weight, wanted.get(language, 0.0))
    known = {language: weight for language, weight in wanted.items() if language in LANGUAGES and weight}
    return max(known, key=known.__getitem__, default=next(iter(LANGUAGES)))  # of equal ones the first


class Words:
    """The words of one language."""

    def __init__(self, language: str, texts: Mapping[str, str | tuple[str, str]]) -> None:
        """Speak a language by its texts."""
        self.language = language
        self._texts = texts

    def text(self, key: str, **values: object) -> str:
        """Return a text with its values; a text with two forms takes the first one where `count` is 1.

        Control characters in values are escaped, and whole numbers get separators of thousands.
        """
        form = self._texts[key]
        if not isinstance(form, str):
            form = form[0] if values.get("count") == 1 else form[1]
        return form.format_map({name: self._value(value) for name, value in values.items()}) if values else form

    def number(self, count: int) -> str:
        """Format a whole number: `3,221`."""
        return f"{count:,}"

    def ago(self, now: datetime, at: datetime | None) -> str:
        """Say how long ago a time was: `12 minutes ago`; `never` for None, the time itself if it is hours ahead."""
        if at is None:
            return self.text("time.never")
        seconds = (now - at).total_seconds()
        if seconds < -_AHEAD:  # the clock was wrong
            return self.time(at)
        return self.text("time.now") if seconds < _MOMENT else self.text("time.ago", span=self.span(seconds))

    def until(self, now: datetime, at: datetime) -> str:
        """Say when a time will be: `in 5 minutes`; `now` once it has come."""
        seconds = (at - now).total_seconds()
        return self.text("time.due") if seconds < 1 else self.text("time.in", span=self.span(seconds))

    def continues(self, now: datetime, at: datetime) -> str:
        """Say when a deferred run goes on: `continues at 14:20 UTC, in 12 minutes`."""
        moment = f"{at.astimezone(UTC):%H:%M} UTC" if abs((at - now).total_seconds()) < _DAY else self.time(at)
        return self.text("time.continues", at=moment, when=self.until(now, at))

    def span(self, seconds: float) -> str:
        """Say a length of time in its largest unit, rounded down: `12 minutes`."""
        whole = max(0, int(seconds))
        unit, length = next(
            ((unit, length) for unit, length in _UNITS if whole >= length * _ENOUGH.get(unit, 1)), _UNITS[-1]
        )
        return self.text(f"span.{unit}", count=whole // length)

    def lasted(self, seconds: float) -> str:
        """Say a duration in at most two units: `3 min 5 s`."""
        whole = max(0, round(seconds))
        if whole < 1:
            return self.text("lasted.moment")
        parts = []
        for unit, length in _UNITS[2:]:
            if whole >= length:
                parts.append(self.text(f"lasted.{unit}", count=whole // length))
            elif parts:
                break
            whole %= length
            if len(parts) == 2:
                break
        return " ".join(parts)

    def size(self, count: float | None) -> str:
        """Format a number of bytes: `248.0 MiB`; `unknown` for None."""
        return self.text("unknown") if count is None else printable.size(count)

    def rate(self, bytes_per_second: float) -> str:
        """Format a rate: `12.0 MiB/s`."""
        return f"{printable.size(bytes_per_second)}/s"

    def time(self, at: datetime | None) -> str:
        """Format an exact time: `2026-11-27 16:39:05 UTC`; "" for None."""
        return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    def listed(self, names: Sequence[str]) -> str:
        """Join names: `a, b and c`."""
        if len(names) < 2:
            return "".join(names)
        return self.text("list.last", first=self.text("list.comma").join(names[:-1]), last=names[-1])

    def health(self, word: str) -> str:
        """Say the health of a mirror, or `running`."""
        return self._of("health", word)

    def result(self, word: str) -> str:
        """Say the result of a run."""
        return self._of("result", word)

    def trigger(self, word: str) -> str:
        """Say what started a run; the word itself for one of a plugin."""
        return self._of("trigger", word)

    def refusal(self, word: str) -> str:
        """Say why the front refused a client; the word itself for one of a plugin."""
        return self._of("refusal", word)

    def kind(self, kind: str) -> str:
        """Return what things of a kind are called, as a heading; the kind itself for one of a plugin."""
        return self._of("kind", kind)

    def type(self, kind: str) -> str:
        """Return what a thing of a kind is called, in a table; the kind itself for one of a plugin."""
        return self._of("type", kind)

    def advice(self, code: str) -> str:
        """Say what to do about an error with this code of `mirrord.errors`; "" where it is unknown."""
        return self.text(f"advice.{code}") if f"advice.{code}" in self._texts else ""

    def schedule(self, schedule: Schedule | None) -> str:
        """Say when a mirror runs: `every six hours`, `daily at 03:17 UTC`, else its cron expression."""
        if schedule is None:
            return self.text("schedule.demand")
        if schedule.every is not None:
            return self._every(round(schedule.every))
        cron, zone = schedule.cron or "", schedule.timezone if schedule.timezone == "UTC" else f"({schedule.timezone})"
        return self._cron(read_cron(cron), zone) or f"{cron} {zone}"

    def often(self, schedule: Schedule | None) -> str:
        """Say how often a mirror runs, without the time of day: `every day`."""
        read = read_cron(schedule.cron or "") if schedule else None
        if read and len(read.times) == 1 and not (read.every or read.day or len(read.weekdays) > 1):
            return self.text("every.one.week" if read.weekdays else "every.one.day")
        return self.schedule(schedule)

    def _every(self, seconds: int) -> str:
        unit, length = next((unit for unit in _INTERVALS if not seconds % unit[1]), _INTERVALS[-1])
        count = seconds // length
        if count == 1:
            return self.text(f"every.one.{unit}")
        number = self._texts.get(f"every.number.{count}")
        return self.text(f"every.{unit}" if number else f"every.digits.{unit}", number=number or str(count))

    def _cron(self, read: Clockwork | None, zone: str) -> str:
        """Say a cron expression; "" for one that is not simple."""
        if read is None:
            return ""
        if read.every:
            every = self._every(read.every)
            return every if not read.times else self.text("cron.from", every=every, time=read.times[0], zone=zone)
        if not read.times:
            return self.text("cron.hourly", minute=str(read.minute))
        when = {"times": self.listed(read.times), "zone": zone}
        if read.weekdays:
            days = self.listed([self.text(f"day.{day}") for day in read.weekdays])
            working = read.weekdays == ("mon", "tue", "wed", "thu", "fri")
            return self.text("cron.weekdays" if working else "cron.weekly", days=days, **when)
        return self.text("cron.monthly", day=str(read.day), **when) if read.day else self.text("cron.daily", **when)

    def _of(self, family: str, word: str) -> str:
        key = f"{family}.{word}"
        return self.text(key) if key in self._texts else printable.plain(word)

    def _value(self, value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            return self.number(value)
        return printable.plain(str(value))


_ALL = {language: Words(language, texts) for language, texts in TEXTS.items()}
