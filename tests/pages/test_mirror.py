"""The page of a mirror: bounded in what it asks and shows, whole without script, and safe with what strangers wrote."""

from __future__ import annotations

import contextlib
import html
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from mirrord.config.load import load_folder
from mirrord.daemon.detail import add_record, add_uses
from mirrord.daemon.runtime import Snapshot
from mirrord.model.history import Behind, Day, ItemRow
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.memory import LastSeen
from mirrord.model.plan import Action, Plan, Step
from mirrord.model.run import Outcome, Receipt, Result, Run
from mirrord.pipeline import places
from mirrord.record.sql_store import SqlStore
from mirrord.record.store import open_store
from mirrord.report.mirror import ITEMS, MOVES, RUNS, MirrorDetail, Wish, plots_of
from mirrord.report.status import ErrorStatus, MirrorStatus, Status, TargetStatus
from mirrord.report.words import words
from mirrord.serve.pages.frame import Look
from mirrord.serve.pages.mirror import page
from mirrord.syncer.port import load_syncers
from mirrord.syncer.values import Usage
from tests.support.opening import open_services
from tests.support.overview import overview

T0 = datetime(2026, 11, 27, 12, tzinfo=UTC)
CONFIGURATION = """
targets: {hub: {kind: image, to: registry.example/team}}
mirrors:
  - {name: app, kind: image, to: [hub, local], from: {repository: source.example/app, tags: ['v*']}}
  - {name: charts, kind: helm, to: local, from: https://charts.example}
"""
EVIL = "<script>alert(1)</script>\x1b[31m\u202e" + "x" * 10_000


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """Give the statements that are made meanwhile."""
    heard: list[str] = []

    def hear(_: object, __: object, statement: str, *more: object) -> None:
        if not statement.startswith("BEGIN"):
            heard.append(statement)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield heard
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


@pytest.fixture
async def snapshot(tmp_path: Path) -> AsyncIterator[Snapshot]:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/a.yaml").write_text(CONFIGURATION)
    syncers = load_syncers()
    async with open_services(tmp_path) as services:
        yield Snapshot(load_folder(tmp_path / "conf.d", syncers, {}), syncers, services)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    made = await open_store(tmp_path / "mirrord.db", T0)
    yield made
    await made.close()


async def filled(snapshot: Snapshot, store: SqlStore, tags: Sequence[str]) -> None:
    """Record a run that wrote tags to both targets, with its moves."""
    mirror = snapshot.mirror("app")
    at = places(mirror, snapshot.syncer(mirror))
    steps = [
        Step(Action.COPY, tag, f"sha256:{number:064x}", target, (tag,), "new")
        for number, tag in enumerate(tags)
        for target in ("hub", "local")
    ]
    receipts = tuple(Receipt(step, Outcome.DONE, size=7 << 20, platforms=("linux/amd64",)) for step in steps)
    moves = [LedgerEntry("app", one.target, one.item, at[one.target], None, one.digest, T0, T0) for one in steps[:1000]]
    await store.intend(moves)
    await store.settle([replace(move, outcome=Settled.DONE) for move in moves])
    plan = Plan("app", "image", T0, tuple(steps))
    await store.add_run(Run("app", "image", "schedule", T0, T0 + timedelta(seconds=60), plan, receipts, places=at))


def status(**more: Any) -> MirrorStatus:
    targets = tuple(TargetStatus(name, health="ok", last_success=T0) for name in ("hub", "local"))
    return MirrorStatus("app", **{"kind": "image", "health": "ok", "targets": targets, **more})


async def read(snapshot: Snapshot, store: SqlStore, wish: Wish) -> MirrorDetail:
    detail = await add_record(MirrorDetail(status(), T0), snapshot, store, wish)
    return add_uses(detail, snapshot, "https://mirror.example", wish)


def shown(detail: MirrorDetail, wish: Wish | None = None, language: str = "en") -> str:
    return page(detail, Look(language), wish or Wish(), "1.0")


async def test_runs_are_bounded(snapshot: Snapshot, store: SqlStore) -> None:
    """Of many runs the page shows the last ones, the newest first, and none where there were none."""
    assert 'id="runs"' not in shown(await read(snapshot, store, Wish()))
    for minute in range(RUNS + 2):
        at = T0 + timedelta(minutes=minute)
        await store.add_run(Run("app", "image", "schedule", at, at + timedelta(seconds=9)))
    text = shown(await read(snapshot, store, Wish()), language="zh")
    times = re.findall(r'<th scope="row"><time [^>]*>(.*?)</time>', text)
    last = T0 + timedelta(minutes=RUNS + 1)
    assert times == [f"{last - timedelta(minutes=ago):%Y-%m-%d %H:%M:%S} UTC" for ago in range(RUNS)]
    assert text.count("<td>定时</td>") == RUNS


def rows(text: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r'<th scope="row"><a [^>]*>(.*?)</a>', text)]


async def test_many_tags_cost_as_much_as_few(snapshot: Snapshot, store: SqlStore) -> None:
    """A page of 20 000 tags asks the record as often as a page of three, and has no more rows than fit."""
    await filled(snapshot, store, ["v1", "v2", "v3"])
    with counted() as few:
        await read(snapshot, store, Wish())
    await filled(snapshot, store, [f"v{number}" for number in range(20_000)])
    with counted() as many:
        detail = await read(snapshot, store, Wish())
    assert len(many) == len(few)
    assert len(many) < 12
    text = shown(detail)
    assert len(rows(text)) == ITEMS
    assert len(text) < 250_000
    assert (len(detail.moves), detail.older) == (MOVES, True)


async def test_pages_of_items(snapshot: Snapshot, store: SqlStore) -> None:
    """Links lead through all items once, a search finds a part of a name, and a link back leads to the first page."""
    tags = [f"v{number:03}" for number in range(250)]
    await filled(snapshot, store, tags)
    seen, wish = list[str](), Wish()
    for _ in range(3):
        text = shown(await read(snapshot, store, wish), wish)
        seen += rows(text)
        following = re.search(r'<a href="[^"]*[?&;]after=(v[0-9]+)#items" rel="next"', text)
        assert ("First page" in text) is bool(wish.after)
        wish = Wish(after=following[1] if following else "")
    assert seen == tags
    assert not wish.after
    found = Wish(find="v24")
    assert rows(shown(await read(snapshot, store, found), found)) == [f"v24{digit}" for digit in range(10)]
    nothing = Wish(find="no such")
    assert "No item has that in its name." in shown(await read(snapshot, store, nothing), nothing)


async def test_the_item_whose_commands_are_shown(snapshot: Snapshot, store: SqlStore) -> None:
    """It is the one that was asked for; else the one that changed last; a name that the mirror has not is ignored."""
    await filled(snapshot, store, ["v1", "v2", "v3"])
    for asked, wanted in (("v2", "v2"), ("", "v3"), ("v9; rm -rf /", "v3")):
        detail = await read(snapshot, store, Wish(item=asked))
        assert detail.item == wanted
        assert [usage.command for usage in detail.uses["local"]] == [
            f"docker pull mirror.example/app:{wanted}",
            f"podman pull mirror.example/app:{wanted}",
        ]


async def test_a_chart_that_moved(snapshot: Snapshot, store: SqlStore) -> None:
    """A chart moves as NAME:VERSION, and its item is a file: the commands are for the item with that content."""
    charts = snapshot.mirror("charts")
    files = [("app-1.9.0", "a"), ("app-1.10.0", "b"), ("lib-0.1.0", "c")]
    steps = [Step(Action.COPY, name, f"sha256:{digest * 64}", "local", (name,), "new") for name, digest in files]
    at = places(charts, snapshot.syncer(charts))
    plan, receipts = Plan("charts", "helm", T0, tuple(steps)), tuple(Receipt(step, Outcome.DONE) for step in steps)
    await store.add_run(Run("charts", "helm", "schedule", T0, T0, plan, receipts, places=at))
    moved = LedgerEntry("charts", "local", "app:1.10.0", at["local"], None, steps[1].digest, T0, T0)
    await store.intend([moved])
    await store.settle([replace(moved, outcome=Settled.DONE)])
    targets = (TargetStatus("local", health="ok", last_success=T0),)
    detail = MirrorDetail(MirrorStatus("charts", kind="helm", targets=targets), T0)
    detail = add_uses(await add_record(detail, snapshot, store, Wish()), snapshot, "https://mirror.example", Wish())
    assert detail.item == "app-1.10.0"
    assert detail.uses["local"][0].command.endswith("--version 1.10.0")


def test_plots_follow_days_and_midnight() -> None:
    """Plots that were drawn before are used again for the same days, and drawn anew after a run, and at midnight."""
    ran = [Day(T0.date(), 1, 0, 5.0, 5.0, 0, 7, 1, 0, Result.SUCCESS)]
    drawn = plots_of(ran, T0, words("en"))
    assert plots_of(list(ran), T0 + timedelta(hours=11), words("en")) is drawn
    assert plots_of(ran, T0, words("zh")) != drawn
    assert plots_of(ran, T0 + timedelta(hours=12), words("en"))[0].svg != drawn[0].svg
    again = plots_of([replace(ran[0], runs=2, done=2)], T0, words("en"))
    assert (drawn[3].summary, again[3].summary) == ("1 written", "2 written")


async def test_what_is_recorded_of_other_places_is_left_out(
    snapshot: Snapshot, store: SqlStore, tmp_path: Path
) -> None:
    """After a change of `to`, the page does not say that the new place has what the old one had."""
    await filled(snapshot, store, ["v1"])
    (tmp_path / "conf.d/a.yaml").write_text(CONFIGURATION.replace("registry.example", "other.example"))
    syncers = load_syncers()
    moved = Snapshot(load_folder(tmp_path / "conf.d", syncers, {}), syncers, snapshot.services)
    (row,) = (await read(moved, store, Wish())).items
    assert set(row.at) == {"local"}


async def test_a_record_that_cannot_be_read(snapshot: Snapshot, store: SqlStore) -> None:
    """The page shows how the mirror stands, and says what is wrong with the record."""
    await store.close()
    text = shown(await read(snapshot, store, Wish()))
    assert 'role="alert"' in text
    assert "record is closed" in text


def evil() -> MirrorDetail:
    """Return a mirror in which everything that comes from elsewhere is hostile."""
    error = ErrorStatus("denied", EVIL, permanent=True)
    target = TargetStatus("hub", Result.FAILED, T0, T0, 3, error, health="failing")
    target = replace(target, place=EVIL, link="javascript:alert(1)")
    item = ItemRow(EVIL, {"hub": LastSeen(EVIL, T0, size=-1, platforms=(EVIL,))})
    return MirrorDetail(
        MirrorStatus("app", kind=EVIL, health="failing", source=EVIL, targets=(target,), last_error=error),
        T0,
        items=[item],
        item=EVIL,
        uses={"hub": [Usage("docker", EVIL)]},
        whole={"hub": [Usage("docker", EVIL)]},
        days=[Day(T0.date(), 1, 1, 1e12, 1e12, 5, 10**30, 1, 1, Result.FAILED)],
        behind=[Behind("hub", EVIL, "", T0, "denied", EVIL)] * 30,
        moves=[LedgerEntry("app", "hub", EVIL, EVIL, EVIL, None, T0, T0, Settled.DONE, 7)],
        trouble=EVIL,
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_texts(language: str) -> None:
    """Markup, control characters and long texts of strangers are text, of bounded length (bad inputs 81 to 84)."""
    text = shown(evil(), language=language)
    assert "<script>alert" not in text
    assert "javascript:" not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert len(text) < 250_000
    assert re.findall(r"<script\b[^>]*>", text) == re.findall(r'<script src="/static/[^"]*" defer>', text)
    assert " style=" not in text
    for svg in re.findall(r"<svg class=\"plot.*?</svg>", text, re.DOTALL):
        ET.fromstring(svg)


def test_errors_say_what_to_do_in_the_language_of_the_reader() -> None:
    """An error that two targets share is shown once, with both, with how often it happened and with an advice."""
    error = ErrorStatus("denied", "status 403", permanent=True)
    one = TargetStatus("a", consecutive_failures=3, last_error=error, health="failing")
    targets = (one, replace(one, name="b"))
    detail = MirrorDetail(status(health="failing", targets=targets, last_error=error), T0)
    text = shown(detail)
    assert text.count("status 403") == 1
    assert "<b>a</b> <b>b</b> <code>denied</code> <small>failed 3 times in a row</small>" in text
    assert "Check the credential for this host" in text
    assert "请检查该主机的凭据" in shown(detail, language="zh")


def test_what_a_target_lacks_stands_beside_the_reason() -> None:
    """Items that a target lacks for one reason are one line with it; another reason is another line."""
    reasons = {"v2": "is not signed", "v3": "is signed by another key", "v4": "is not signed"}
    behind = [Behind("hub", item, "", T0, "unsigned", reason) for item, reason in reasons.items()]
    lines = re.findall(r"<li><b>hub</b> (.*?)</li>", shown(MirrorDetail(status(), T0, behind=behind)), re.DOTALL)
    assert [re.findall(r"<code>(v\d)</code>", line) for line in lines] == [["v2", "v4"], ["v3"]]
    assert [line.rpartition("</span> ")[2] for line in lines] == ["is not signed", "is signed by another key"]


def test_the_nearest_healthy_target_is_first() -> None:
    """Healthy targets stand before failing ones, `local` before others; one that lacks the item offers no command."""
    health = {"far": "ok", "bad": "failing", "local": "ok", "lacks": "ok"}
    targets = tuple(TargetStatus(name, health=word) for name, word in health.items())  # type: ignore[arg-type]  # words of health
    row = ItemRow("v1", {name: LastSeen("sha256:1", T0) for name in health if name != "lacks"})
    uses = {name: [Usage.of("docker", "pull", f"{name}/app:v1")] for name in health}
    text = shown(MirrorDetail(status(targets=targets), T0, items=[row], item="v1", uses=uses))
    assert re.findall(r"docker pull (\w+)/app:v1</code>", text) == ["local", "far", "bad"]
    assert re.findall(r"<h3><svg.*?</svg>(\w+)</h3>", text) == ["local", "far", "bad", "lacks"]


def test_changes_at_several_targets_are_one() -> None:
    """A name that moved at two targets in one run is one line; a move that was not made is none."""
    move = LedgerEntry("app", "a", "main", "", "sha256:1111", "sha256:2222", T0, T0, Settled.DONE, 3)
    moves = [move, replace(move, target="b", id=2), replace(move, target="c", outcome=Settled.UNDONE, id=1)]
    text = shown(MirrorDetail(status(), T0, moves=moves))
    assert text.count("<b>main</b>") == 1
    assert '<span class="soft">a, b</span>' in text


@pytest.mark.parametrize(("hours", "word"), [(2, "Continues"), (1, "Next run")])
def test_when_a_deferred_mirror_goes_on(hours: int, word: str) -> None:
    """Its page and its row say so, unless the schedule comes first."""
    following = {"next_run": T0 + timedelta(hours=hours), "deferred_until": T0 + timedelta(hours=2)}
    mirror = status(health="deferred", **following)
    row = overview(Status("1", "ready", T0, T0, "", (mirror,), totals=Counter([mirror.health])))
    assert re.findall(r"(Continues|Next run) <time", row) == [word]
    assert re.findall(r"<dt>(Continues|Next run)</dt>", shown(MirrorDetail(mirror, T0))) == [word]


@pytest.mark.parametrize("health", ["deferred", "failing"])
def test_a_deferred_mirror_is_shown_as_waiting(health: str) -> None:
    """What a registry put off is no failure: its reason stands under another title, and is not red."""
    text = shown(MirrorDetail(status(health=health, last_error=ErrorStatus("throttled", "429", permanent=False)), T0))
    title = {"deferred": "Waiting for a registry", "failing": "Last errors"}[health]
    assert re.findall(r'class="panel (\w+)"[^>]*>\s*<h2 id="errors-title">([^<]*)<', text) == [(health, title)]
