"""Texts for people: complete in both languages, and written as people write."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Formatter

import pytest

from mirrord import errors
from mirrord.model.run import Result
from mirrord.report.words import LANGUAGES, TEXTS, negotiated, words
from mirrord.syncer.port import load_syncers
from mirrord.syncer.values import Schedule

NOW = datetime(2026, 11, 27, 16, 39, 5, tzinfo=UTC)
CODES = sorted(errors.KINDS)


def placeholders(form: str | tuple[str, str]) -> list[set[str | None]]:
    """Return the names of the values of each form."""
    return [{name for _, name, _, _ in Formatter().parse(one) if name is not None} for one in forms(form)]


def forms(form: str | tuple[str, str]) -> tuple[str, ...]:
    return (form,) if isinstance(form, str) else form


def test_both_languages_say_everything() -> None:
    """Each language has the same keys, in the same order, and no text is empty."""
    assert list(TEXTS) == list(LANGUAGES)
    assert list(TEXTS["en"]) == list(TEXTS["zh"])
    assert all(one.strip() for texts in TEXTS.values() for form in texts.values() for one in forms(form) if one != ", ")


@pytest.mark.parametrize("key", sorted(TEXTS["en"]))
def test_each_text_takes_the_same_values(key: str) -> None:
    """A text has the same placeholders in both languages; the form for one may leave out the count."""
    whole = placeholders(TEXTS["en"][key])[-1]
    assert placeholders(TEXTS["zh"][key])[-1] == whole
    assert all(placeholders(texts[key])[0] | {"count"} == whole | {"count"} for texts in TEXTS.values())
    assert all(name and name.isidentifier() for name in whole)
    if not isinstance(TEXTS["en"][key], str):
        assert "count" in whole


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code", CODES)
def test_each_error_has_an_advice(code: str, language: str) -> None:
    """For each code of `mirrord.errors` both languages say what to do."""
    assert words(language).advice(code)[-1] in ".。"


def test_an_unknown_error_has_no_advice() -> None:
    """A code of another version gets no advice, and no error."""
    assert words("en").advice("of_tomorrow") == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_result_and_kind_has_a_word(language: str) -> None:
    """Results and installed kinds have words; others are shown as they are, without control characters."""
    said = words(language)
    assert all(said.result(result) != result.value or language == "en" for result in Result)
    assert all(f"result.{result}" in TEXTS[language] for result in Result)
    assert all(said.kind(kind) != kind for kind in load_syncers())
    assert said.kind("of\nmine") == r"of\nmine"


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (-30, "just now", "刚刚"),
        (9, "just now", "刚刚"),
        (12, "12 seconds ago", "12 秒前"),
        (60, "1 minute ago", "1 分钟前"),
        (12 * 60 + 59, "12 minutes ago", "12 分钟前"),
        (3600, "1 hour ago", "1 小时前"),
        (2 * 86400, "2 days ago", "2 天前"),
        (59 * 86400, "59 days ago", "59 天前"),
        (60 * 86400, "2 months ago", "2 个月前"),
        (800 * 86400, "2 years ago", "2 年前"),
    ],
)
def test_freshness_as_people_say_it(seconds: int, english: str, chinese: str) -> None:
    """How long ago something was is said in one unit, rounded down."""
    at = NOW - timedelta(seconds=seconds)
    assert (words("en").ago(NOW, at), words("zh").ago(NOW, at)) == (english, chinese)


def test_a_time_far_ahead_is_said_as_it_is() -> None:
    """What a wrong clock noted years ahead is not "just now"."""
    assert words("en").ago(NOW, datetime(2100, 1, 1, tzinfo=UTC)) == "2100-01-01 00:00:00 UTC"


def test_what_has_not_been_and_what_will_be() -> None:
    """A time that never was, one that has come, and one in the future."""
    soon = NOW + timedelta(minutes=5, seconds=20)
    assert [words(language).ago(NOW, None) for language in LANGUAGES] == ["never", "从未"]
    assert [words(language).until(NOW, soon) for language in LANGUAGES] == ["in 5 minutes", "5 分钟后"]
    assert [words(language).until(NOW, NOW) for language in LANGUAGES] == ["now", "即将"]
    assert words("zh").time(soon) == "2026-11-27 16:44:25 UTC"
    assert words("zh").time(None) == ""


@pytest.mark.parametrize(
    ("schedule", "english", "chinese"),
    [
        (None, "on demand", "手动触发"),
        (Schedule(21600), "every six hours", "每六小时"),
        (Schedule(7200), "every two hours", "每两小时"),
        (Schedule(60), "every minute", "每分钟"),
        (Schedule(900), "every 15 minutes", "每 15 分钟"),
        (Schedule(86400), "every day", "每天"),
        (Schedule(14 * 86400), "every two weeks", "每两周"),
        (Schedule(90), "every 90 seconds", "每 90 秒"),
        (Schedule(cron="17 3 * * *"), "daily at 03:17 UTC", "每天 03:17 UTC"),
        (
            Schedule(cron="0 3 * * *", timezone="Asia/Shanghai"),
            "daily at 03:00 (Asia/Shanghai)",
            "每天 03:00 (Asia/Shanghai)",
        ),
        (Schedule(cron="17 15,3 * * *"), "daily at 03:17 and 15:17 UTC", "每天 03:17、15:17 UTC"),
        (Schedule(cron="17 3 * * mon,thu"), "every Monday and Thursday at 03:17 UTC", "每周一、周四 03:17 UTC"),
        (Schedule(cron="0 3 * * mon,tue,wed,thu,fri"), "Monday to Friday at 03:00 UTC", "周一至周五 03:00 UTC"),
        (Schedule(cron="17 3 1 * *"), "monthly on day 1 at 03:17 UTC", "每月 1 日 03:17 UTC"),
        (Schedule(cron="5 * * * *"), "hourly at minute 5", "每小时第 5 分"),
        (Schedule(cron="*/15 * * * *"), "every 15 minutes", "每 15 分钟"),
        (Schedule(cron="17 */6 * * *"), "every six hours, from 00:17 UTC", "自 00:17 UTC 起每六小时"),
        (Schedule(cron="17 */24 * * *"), "daily at 00:17 UTC", "每天 00:17 UTC"),
        (Schedule(cron="17 */7 * * *"), "17 */7 * * * UTC", "17 */7 * * * UTC"),
        (Schedule(cron="*/7 * * * *"), "*/7 * * * * UTC", "*/7 * * * * UTC"),
        (Schedule(cron="17 3 1-7 * *"), "17 3 1-7 * * UTC", "17 3 1-7 * * UTC"),
        (Schedule(cron="17 3 * feb *"), "17 3 * feb * UTC", "17 3 * feb * UTC"),
        (Schedule(cron="1,2 3 * * *"), "1,2 3 * * * UTC", "1,2 3 * * * UTC"),
    ],
)
def test_schedules_in_words(schedule: Schedule | None, english: str, chinese: str) -> None:
    """Intervals and simple cron lines are said in words, others as they were written."""
    assert (words("en").schedule(schedule), words("zh").schedule(schedule)) == (english, chinese)


@pytest.mark.parametrize(
    ("schedule", "english", "chinese"),
    [
        (Schedule(21600), "every six hours", "每六小时"),
        (Schedule(cron="17 3 * * *"), "every day", "每天"),
        (Schedule(cron="17 3 * * mon"), "every week", "每周"),
        (Schedule(cron="17 3 * * mon,thu"), "every Monday and Thursday at 03:17 UTC", "每周一、周四 03:17 UTC"),
        (Schedule(cron="17 3,15 * * *"), "daily at 03:17 and 15:17 UTC", "每天 03:17、15:17 UTC"),
        (Schedule(cron="17 3 1 * *"), "monthly on day 1 at 03:17 UTC", "每月 1 日 03:17 UTC"),
        (Schedule(cron="17 */6 * * *"), "every six hours, from 00:17 UTC", "自 00:17 UTC 起每六小时"),
        (Schedule(cron="5 * * * *"), "hourly at minute 5", "每小时第 5 分"),
        (None, "on demand", "手动触发"),
    ],
)
def test_how_often(schedule: Schedule | None, english: str, chinese: str) -> None:
    """How often a mirror runs is said without the time of day where that is once a day or a week."""
    assert (words("en").often(schedule), words("zh").often(schedule)) == (english, chinese)


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (0.4, "under 1 s", "不到 1 秒"),
        (12, "12 s", "12 秒"),
        (185, "3 min 5 s", "3 分 5 秒"),
        (7200, "2 h", "2 小时"),
        (7205, "2 h", "2 小时"),
        (90061, "1 d 1 h", "1 天 1 小时"),
    ],
)
def test_durations(seconds: float, english: str, chinese: str) -> None:
    """A duration has at most two units that follow each other."""
    assert (words("en").lasted(seconds), words("zh").lasted(seconds)) == (english, chinese)


def test_numbers_and_lists() -> None:
    """Sizes, rates, counts with their plural, and lists of names."""
    english, chinese = words("en"), words("zh")
    assert english.size(260_046_848) == chinese.size(260_046_848) == "248.0 MiB"
    assert [english.size(3 << shift) for shift in (0, 40, 50, 60)] == ["3 B", "3.0 TiB", "3.0 PiB", "3072.0 PiB"]
    assert (english.size(None), chinese.size(None)) == ("unknown", "未知")
    assert english.rate(2048) == "2.0 KiB/s"
    assert [english.text("span.day", count=count) for count in (1, 3221)] == ["1 day", "3,221 days"]
    assert chinese.text("span.day", count=1) == "1 天"
    assert [english.listed(["a", "b", "c"][:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert chinese.listed(["a", "b", "c"]) == "a、b、c"


def test_values_of_strangers_stay_text() -> None:
    """Control characters of a value are escaped, and braces in it are no placeholders."""
    said = words("en").text("time.in", span="\x1b[31m{count}\n")
    assert said == r"in \x1b[31m{count}\n"


@pytest.mark.parametrize(
    ("header", "asked", "language"),
    [
        ("", "", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "", "zh"),
        ("zh-Hans-CN", "", "zh"),
        ("en-US, en;q=0.5, zh;q=0.6", "", "en"),
        ("fr-FR, zh;q=0.3", "", "zh"),
        ("fr, de;q=0.5", "", "en"),
        ("zh;q=0, en;q=0.1", "", "en"),
        ("zh;q=0", "", "en"),
        ("*", "", "en"),
        ("ZH ; q=1", "", "zh"),
        ("zh;q=nan, \x00, ;;;", "", "en"),
        ("zh", "en", "en"),
        ("en", "zh-CN", "zh"),
        ("zh", "klingon", "zh"),
        ("fr," * 21 + "zh", "", "en"),
        ("zh" * 100_000, "zh" * 100_000, "en"),
    ],
)
def test_the_language_of_a_reader(header: str, asked: str, language: str) -> None:
    """What the reader chose wins, then the best of Accept-Language; nonsense and endless fields mean English."""
    assert negotiated(header, asked) == language


def test_texts_are_texts() -> None:
    """No text holds markup: who writes HTML or Markdown escapes what the words say."""
    assert not [key for texts in TEXTS.values() for key, form in texts.items() if re.search(r"[<>&]", "".join(form))]


ROOT = Path(__file__).parents[2] / "mirrord"
WRITTEN = re.compile(r"""["']([a-z_]+(?:\.[a-z_0-9]+)*)["']""")
MADE = re.compile(r"""f"([a-z_.]+)\.\{|["']([a-z_.]+)\.["'] ~|_of\("([a-z_]+)",""")
IN_FULL = {"front", "mirror", "overview", "page", "site", "badge"}  # the keys of these are written in full
OUTCOMES = {"local", "hit", "revalidated", "stale", "miss"}  # of the front: the exception


def sources() -> str:
    """Return all that may ask for a text, without the texts themselves."""
    files = [*ROOT.rglob("*.py"), *ROOT.rglob("*.html")]
    return "\n".join(file.read_text() for file in files if not re.match(r"(en|zh)(_\w+)?\.py", file.name))


def test_each_text_is_used() -> None:
    """Each key stands in the program, or its last word is put together there: no translator works for nothing."""
    text = sources()
    named, families = set(WRITTEN.findall(text)), {next(filter(None, found)) for found in MADE.findall(text)}
    made = {key for key in TEXTS["en"] if key.rpartition(".")[0] in families - IN_FULL}
    made |= {f"front.{outcome}" for outcome in OUTCOMES if "front" in families}
    assert set(TEXTS["en"]) - named - made == set()
