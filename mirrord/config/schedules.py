"""When a mirror runs: `every`, `cron`, `timezone`, `jitter`."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, model_validator

from mirrord.config.check import Strict
from mirrord.config.cron import parse_cron
from mirrord.config.lines import nearest
from mirrord.config.units import Duration, between
from mirrord.syncer.values import Schedule


def _timezone(name: str) -> str:
    if name == "UTC":
        return name  # also where the system has no time zones at all
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        known = nearest(name, available_timezones())
        hint = known if known.startswith("did") else "write an IANA name, such as Asia/Shanghai, or UTC"
        raise ValueError(f"{name[:60]!r} is no time zone; {hint}") from error
    return name


class Timing(Strict):
    """The keys of a mirror that say when it runs."""

    every: Annotated[Duration, AfterValidator(between("10s", "366d"))] | None = None
    cron: Annotated[str, AfterValidator(parse_cron), Field(examples=["'17 3 * * *'"])] | None = None
    timezone: Annotated[str, AfterValidator(_timezone), Field(examples=["Asia/Shanghai"])] | None = None
    jitter: Annotated[Duration, AfterValidator(between("0s", "1d"))] | None = None

    @model_validator(mode="after")
    def _agree(self) -> Timing:
        if self.every is not None and self.cron is not None:
            raise ValueError("`every` and `cron` are both given; keep one of them")
        if self.timezone and not self.cron:
            raise ValueError("`timezone` says what `cron` means, and there is none; write `cron:`, or take it out")
        if self.jitter is not None and self.every is None and self.cron is None:
            raise ValueError("`jitter` spreads scheduled starts, and there are none; write `every:` or `cron:`")
        return self

    @property
    def schedule(self) -> Schedule | None:
        """The schedule, or None when the mirror runs only when asked."""
        if self.every is None and self.cron is None:
            return None
        return Schedule(self.every, self.cron, self.timezone or "UTC", self.jitter or 0.0)
