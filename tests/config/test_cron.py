"""Cron lines and schedules (bad inputs 71 and 72)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from apscheduler.triggers.cron import CronTrigger

from mirrord.config.load import Configuration
from mirrord.config.schedules import longest_gap, parse_cron
from mirrord.syncer.values import Schedule

Load = Callable[..., Configuration]
Refusal = Callable[..., tuple[str, ...]]

GOOD = {
    "17 3 * * *": "17 3 * * *",
    "*/15 * * * *": "*/15 * * * *",
    "0,30 8-18/2 1 JAN,jul *": "0,30 8-18/2 1 jan,jul *",
    "0 0 29 2 *": "0 0 29 2 *",
    "0 0 31 1-12 *": "0 0 31 1-12 *",
    "0 6 * * 0": "0 6 * * sun",
    "0 6 * * 7": "0 6 * * sun",
    "0 6 * * 1-5": "0 6 * * mon,tue,wed,thu,fri",
    "0 6 * * fri-7": "0 6 * * sun,fri,sat",
    "0 6 * * */2": "0 6 * * sun,tue,thu,sat",
    "  5   4 * * Sun ": "5 4 * * sun",
}


@pytest.mark.parametrize("text", GOOD)
def test_good_lines(text: str) -> None:
    """Good lines pass, days of the week become names, and the scheduler takes the result."""
    assert parse_cron(text) == GOOD[text]
    CronTrigger.from_crontab(parse_cron(text), timezone="UTC")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "61 * * * *", "field 1 (minute): 61 is outside 0-59; write for example *, 0, 0-59 or */2", id="71-minute"
        ),
        pytest.param("0 24 * * *", "field 2 (hour): 24 is outside 0-23", id="71-hour"),
        pytest.param("0 0 0 * *", "field 3 (day of month): 0 is outside 1-31", id="71-day"),
        pytest.param("0 0 * 13 *", "field 4 (month): 13 is outside 1-12", id="71-month"),
        pytest.param("0 0 * * 8", "field 5 (day of week): 8 is outside 0-7", id="71-weekday"),
        pytest.param("* * * * * *", "has 6 fields; write five", id="71-seconds"),
        pytest.param("* * * *", "has 4 fields; write five", id="71-four"),
        pytest.param("", "has 0 fields", id="71-empty"),
        pytest.param("@reboot", "'@reboot' is a nickname; write five fields", id="71-reboot"),
        pytest.param("0 0 30 2 *", "field 3 (day of month): 30 does not exist in month 2", id="71-30-feb"),
        pytest.param("0 0 31 4,jun *", "field 3 (day of month): 31 does not exist in month 4,jun", id="71-31-april"),
        pytest.param("0 0 13 * 5", "are both restricted", id="71-both-days"),
        pytest.param("5-1 * * * *", "field 1 (minute): '5-1' ends before it begins", id="71-backwards"),
        pytest.param("1,,2 * * * *", "field 1 (minute): '' cannot be read", id="71-comma"),
        pytest.param("*/0 * * * *", "field 1 (minute): step 0 is outside 1-60", id="71-step-0"),
        pytest.param("*/61 * * * *", "field 1 (minute): step 61 is outside", id="71-step"),
        pytest.param("*-5 * * * *", "'*-5' cannot be read", id="71-star-range"),
        pytest.param("-1 * * * *", "'-1' cannot be read", id="71-negative"),
        pytest.param("? * * * *", "'?' cannot be read", id="71-question-mark"),
        pytest.param("0 0 L * *", "field 3 (day of month): 'l' cannot be read", id="71-last"),
        pytest.param("0 0 * foo *", "field 4 (month): 'foo' is not a number or name", id="71-word"),
        pytest.param("٣ * * * *", "field 1 (minute): '٣' cannot be read", id="71-digits"),
    ],
)
def test_bad_lines(text: str, said: str) -> None:
    """Each bad line is refused with the position and the name of its field."""
    with pytest.raises(ValueError, match=r"; (write|leave)") as caught:
        parse_cron(text)
    assert said in str(caught.value)


DAY = 86400
GAPS = {
    "* * * * *": 60,
    "17 3 * * *": DAY,
    "0 8,18 * * *": 14 * 3600,
    "0,10 8 * * *": DAY - 600,
    "*/15 9-17 * * 1-5": 2 * DAY + 15 * 3600 + 900,  # Friday 17:45 to Monday 9:00
    "0 0 1 * *": 31 * DAY,
    "0 0 31 * *": 61 * DAY,  # May to July
    "0 0 29 2 *": (4 * 365 + 1) * DAY,
    "0 0 * 2 *": (365 - 27) * DAY,  # 28 February to 1 February
}


@pytest.mark.parametrize("text", GAPS)
def test_the_longest_time_between_two_starts(text: str) -> None:
    """It is exact over day, week, month and leap year, so that a mirror is not stale on a weekend."""
    assert longest_gap(Schedule(cron=parse_cron(text))) == GAPS[text]


@pytest.mark.parametrize(
    ("settings", "keys", "stale"),
    [
        ("", "every: 6h", 18 * 3600),
        ("", "every: 10s", 3600),
        ("", "cron: '0 3 * * 1-5'", 9 * DAY),
        ("", "trust: 1h", None),
        ("", "stale: 2h", 7200),
        ("stale: 2d", "every: 6h", 2 * DAY),
        ("stale: 2d", "every: 6h, stale: 1d", DAY),
        ("stale: 2d", "trust: 1h", None),
    ],
)
def test_when_a_mirror_is_stale(load: Load, settings: str, keys: str, stale: float | None) -> None:
    """Its own key decides, then that of the settings, then its schedule; without a schedule only its own key."""
    mirror = f"{{name: m, kind: image, from: {{layouts: /x}}, to: local, {keys}}}"
    assert load(f"settings: {{{settings}}}\nmirrors: [{mirror}]").mirrors[0].stale == stale


def schedule(load: Load, text: str) -> Schedule | None:
    return load(f"mirrors: [{{name: m, kind: image, from: {{layouts: /x}}, to: local, {text}}}]").mirrors[0].schedule


def test_schedules(load: Load, folder: Path) -> None:
    """A mirror runs every so often, by cron in its time zone, or only when asked."""
    assert schedule(load, "trust: 1h") is None
    every = schedule(load, "every: 6h, jitter: 5m")
    assert every
    assert (every.every, every.cron, every.jitter) == (21600, None, 300)
    cron = schedule(load, "cron: '17 3 * * 1', timezone: Asia/Shanghai")
    assert cron
    assert (cron.every, cron.cron, cron.timezone) == (None, "17 3 * * mon", "Asia/Shanghai")
    utc = schedule(load, "cron: '17 3 * * *', timezone: UTC")
    assert utc
    assert utc.timezone == "UTC"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("every: 0s", ".every: 0s is outside 10s to 366d", id="72-zero"),
        pytest.param("every: 9s", ".every: 9s is outside 10s to 366d", id="72-floor"),
        pytest.param("every: -5m", ".every: '-5m' is not a duration", id="72-negative"),
        pytest.param("every: 1ms", ".every: '1ms' is not a duration", id="72-millisecond"),
        pytest.param("every: 1000000000s", ".every: 1000000000s is outside 10s to 366d", id="72-ceiling"),
        pytest.param("cron: '61 * * * *'", ".cron: field 1 (minute): 61 is outside 0-59", id="71-minute"),
        pytest.param("every: 1h, cron: '* * * * *'", ": `every` and `cron` are both given", id="both"),
        pytest.param("stale: 59s", ".stale: 59s is outside 1m to 3660d", id="stale-short"),
        pytest.param("stale: never", ".stale: 'never' is not a duration", id="stale-word"),
        pytest.param("timezone: UTC", ": `timezone` needs `cron`", id="zone-alone"),
        pytest.param("jitter: 1m", ": `jitter` needs `every` or `cron`", id="jitter-alone"),
        pytest.param(
            "cron: '* * * * *', timezone: Mars/Base", ".timezone: 'Mars/Base' is not a time zone", id="71-zone"
        ),
        pytest.param(
            "cron: '* * * * *', timezone: ../etc", ".timezone: '../etc' is not a time zone", id="71-zone-path"
        ),
        pytest.param(
            "cron: '* * * * *', timezone: America", ".timezone: 'America' is not a time zone", id="71-zone-folder"
        ),
        pytest.param(
            "cron: '* * * * *', timezone: Asia/Shangai",
            "not a time zone; did you mean 'Asia/Shanghai'?",
            id="71-zone-typo",
        ),
    ],
)
def test_bad_schedules(refusal: Refusal, text: str, said: str) -> None:
    """A time that cannot be kept, or two that contradict, are refused at load."""
    (problem,) = refusal(f"mirrors: [{{name: m, kind: image, from: {{layouts: /x}}, to: local, {text}}}]")
    assert problem.startswith("main.yaml:1: mirrors.m")
    assert said in problem
