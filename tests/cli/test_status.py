"""What people read of a status: counts beside each target, and below the table what went wrong there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mirrord.cli.status import _show
from mirrord.model.history import LastRun, Noted, Standing
from mirrord.model.run import Result
from mirrord.report.board import Board
from mirrord.report.desks import IssueDeskStatus
from mirrord.report.front import FrontStatus, SharedCacheStatus
from mirrord.report.mirror import MirrorDetail
from mirrord.report.status import ReceiverStatus, Running
from mirrord.syncer.values import Mirror, Schedule, Target
from mirrord.syncers.image.spec import ImageSpec, ImageTarget

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SPEC = ImageSpec.model_validate({"from": {"repository": "a/b"}})
MIRROR = Mirror("crane", "image", SPEC, (Target("gitee", "image", "x", ImageTarget()),))


def cells(line: str) -> list[str]:
    """Return the cells of a row in a pipe."""
    return re.split(r"  +", line)


def shown(capsys: pytest.CaptureFixture[str], last: LastRun | None, error: str = "") -> Sequence[str]:
    """Return the lines about a mirror `crane` with one target `gitee`."""
    result, code = (Result.PARTIAL, "refused") if error else (Result.NOOP, "")
    items = last.done + last.kept if last else 1
    standing = [
        Standing("crane", "", NOW, NOW, 0, result, code, error),
        Standing("crane", "gitee", NOW, NOW, 0, result, code, error, items, last),
    ]
    _show(Board(standing).status("1", NOW, [MIRROR], started=NOW))
    return capsys.readouterr().out.splitlines()


def test_counts_are_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    """A target's row ends with what the last run did there, without what it did not do; nothing follows the table."""
    totals, head, whole, there = shown(capsys, LastRun(3, 1, 3221))
    assert totals == "1 mirror: 1 ok"
    assert there[head.index("LAST RUN") :] == "3 written · 1 deleted · 3221 up to date"
    assert head[: head.index("ITEMS")].rstrip().endswith("  LAST SUCCESS")  # beside `failed` its age is not that of it
    assert (head.endswith("LAST RUN"), cells(whole)[:3]) == (True, ["ok", "crane", "-"])
    assert cells(there)[:3] == ["ok", "crane", "gitee"]
    assert whole[head.index("ITEMS") :].split()[0] == there[head.index("ITEMS") :].split()[0] == "3224"
    assert len(cells(head)) == len(cells(whole)) == len(cells(there)) == 9


def test_every_trouble_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """All that was refused is listed in the host's words, once; how many are not listed is said."""
    troubles = ("refs/heads/wild: GE007: protected branch", "refs/tags/v1: file too large")
    lines = shown(capsys, LastRun(refused=2, troubles=troubles), troubles[0])
    assert lines[4:] == [f"crane: gitee: {text}" for text in troubles]
    lines = shown(capsys, LastRun(refused=4, failed=1, troubles=troubles), troubles[0])
    assert lines[6:] == ["crane: gitee: and 3 more refused or failed"]
    one = "v1 and 2 more: holds something else than an OCI layout"
    assert shown(capsys, LastRun(failed=3, troubles=(one,)), "partial")[4:] == [f"crane: gitee: {one}"]


def test_a_cause_that_targets_share_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong at the source is one line for all targets; what one target says is a line of its own."""
    targets = tuple(replace(MIRROR.targets[0], name=name) for name in ("gitee", "coding", "local"))
    shared, own = "app-1.0.0: is damaged", "app-1.1.0: denied"
    standing = [
        Standing("crane", name, None, NOW, 1, Result.FAILED, "content", shared, 0, LastRun(failed=2, troubles=told))
        for name, told in (("gitee", (shared, own)), ("coding", (shared,)), ("local", (shared,)))
    ]
    _show(Board(standing).status("1", NOW, [replace(MIRROR, targets=targets)], started=NOW))
    assert capsys.readouterr().out.splitlines()[6:] == [
        f"crane: all targets: {shared}",
        f"crane: gitee: {own}",
        "crane: coding, local: and 1 more refused or failed",
    ]


def test_without_counts_the_error_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a target whose last run is not known in items, the error is told as ever."""
    lines = shown(capsys, None, "v1: denied")
    assert lines[4:] == ["crane: gitee: v1: denied"]


@pytest.mark.parametrize(
    ("schedule", "without", "with_daemon"),
    [
        (None, "on demand", "on demand"),
        (Schedule(every=6 * 3600.0), "every 6 h", "in 5 minutes"),
        (Schedule(every=90.0), "every 90 s", "in 5 minutes"),
        (Schedule(every=86400.0), "every 1 d", "in 5 minutes"),
        (Schedule(cron="17 3 * * *", timezone="Asia/Shanghai"), "17 3 * * * Asia/Shanghai", "in 5 minutes"),
    ],
)
def test_what_is_next(
    capsys: pytest.CaptureFixture[str], schedule: Schedule | None, without: str, with_daemon: str
) -> None:
    """F9: without a daemon the schedule is shown, and that nobody follows it; a daemon has a time for it."""
    mirror = replace(MIRROR, schedule=schedule)
    times = {"crane": NOW + timedelta(minutes=5)} if schedule else {}
    for started, following in ((None, without), (NOW, with_daemon)):
        _show(Board().status("1", NOW, [mirror], started=started, next_runs=times if started else {}))
        _, *notes, head, whole, there = capsys.readouterr().out.splitlines()
        assert cells(whole)[cells(head).index("NEXT")] == following
        assert cells(there)[cells(head).index("NEXT")] == "-"
        assert [note.partition(":")[0] for note in notes] == ([] if started else ["no daemon is running"])


def test_what_runs_now(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a run under way: steps done of how many, how many failed, bytes sent or first read, rate, time left."""
    for running, words in (
        (Running("schedule", NOW), "running"),
        (Running("schedule", NOW, 12, 3), "running, 3 of 12 done"),
        (Running("schedule", NOW, 12, 3, 2), "running, 3 of 12 done, 2 failed"),
        (
            Running("schedule", NOW, 12, 3, 0, 1 << 30, 4 << 30, 12 << 20, 330),
            "running, 3 of 12 done, 1.0 GiB of 4.0 GiB, 12.0 MiB/s, 5 min 30 s left",
        ),
        (
            Running("schedule", NOW, 1, 0, 0, 0, 114 << 20, None, 74, read=40 << 20, read_rate=1 << 20),
            "running, 0 of 1 done, 0 B of 114.0 MiB, read 40.0 MiB at 1.0 MiB/s, 1 min 14 s left",
        ),
        (
            Running("schedule", NOW, 1, 0, 0, 300, 114 << 20, 30, read=40 << 20, read_rate=0),
            "running, 0 of 1 done, 300 B of 114.0 MiB, read 40.0 MiB at 0 B/s",
        ),
        (
            Running("schedule", NOW, 1, 0, 0, 20 << 20, 114 << 20, 2 << 20, read=40 << 20, read_rate=1 << 20),
            "running, 0 of 1 done, 20.0 MiB of 114.0 MiB, 2.0 MiB/s",
        ),
    ):
        _show(Board().status("1", NOW, [MIRROR], started=NOW, running={"crane": running}))
        totals, head, whole, *_ = capsys.readouterr().out.splitlines()
        assert totals == "1 mirror: 1 new; 1 running"
        assert cells(whole)[cells(head).index("NEXT")] == words


def test_a_time_that_has_come(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that is due, and has not begun, is next now: never in a time that is over."""
    _show(Board().status("1", NOW, [MIRROR], started=NOW, next_runs={"crane": NOW - timedelta(seconds=3)}))
    _, head, whole, *_ = capsys.readouterr().out.splitlines()
    assert cells(whole)[cells(head).index("NEXT")] == "now"


def test_a_configuration_that_was_not_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """After a reload that was refused, whoever looks at the status sees why."""
    _show(Board().status("1", NOW, [], configuration_error="z.yaml:1: settings.bogus: unknown"))
    assert "z.yaml:1: settings.bogus: unknown" in capsys.readouterr().out


def test_a_receiver_that_is_not_reached_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Who waits for notifications sees that they do not arrive, and why; a receiver that gets them is no line."""
    status = Board().status("1", NOW, [MIRROR], started=NOW)
    good = ReceiverStatus("ops", "slack", "hooks.example", ("failure",), ("*",))
    _show(replace(status, notify=(good, replace(good, name="night", last_error="status 403: no_service"))))
    _, *notes, _, _, _ = capsys.readouterr().out.splitlines()
    assert notes == ["notifications do not reach night (hooks.example): status 403: no_service"]


def test_issues_that_cannot_be_read_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Who looks at the status sees that a forge refuses, and why; a repository that is well is no line."""
    status = Board().status("1", NOW, [MIRROR], started=NOW)
    desks = IssueDeskStatus("gitea/git.example/acme/app"), IssueDeskStatus("github/acme/app", last_error="status 401")
    _show(replace(status, issues=desks))
    _, *notes, _, _, _ = capsys.readouterr().out.splitlines()
    assert notes == ["issues of github/acme/app cannot be read or answered: status 401"]


def test_the_front_is_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Answers, refusals, the cache and refused lists of the front are lines; a front that did nothing is none."""
    board = Board()
    _show(board.status("1", NOW, [MIRROR], started=NOW, front=FrontStatus()))
    assert "front" not in capsys.readouterr().out
    front = FrontStatus(
        {"hit": 3, "revalidated": 1},
        {"pulls": 2},
        cache_bytes=2048,
        cache_entries=4,
        cache_error="disk full",
        list_errors={"a": "a.txt:1: bad"},
        cache_limit=3 << 30,
        shared=SharedCacheStatus(NOW, 4096, 5, 6, error="uses/b is damaged"),
    )
    _show(board.status("1", NOW, [MIRROR], started=NOW, front=front))
    assert capsys.readouterr().out.splitlines()[-6:] == [
        (
            "front: answers since the start: 3 from the cache, 1 from the cache after upstream said that the tag has"
            " not moved; refused: 2 pulls"
        ),
        "front: cache: 2.0 KiB of 3.0 GiB, 4 blobs and manifests",
        "front: shared cache: 4.0 KiB, 5 blobs and manifests, 6 evicted; counted just now",
        "front: shared cache: uses/b is damaged",
        "front: disk full",
        "front: an allow list was refused, the one before it stays in use: a.txt:1: bad",
    ]


def test_problems_are_counted_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """What was left out is counted beside a good result, and follows the table, also how many are not listed."""
    problems, remarks = Noted(3, ("v1: is no image", "v2: is no image")), Noted(1, ("v3: put right",))
    standing = [Standing("crane", "", NOW, NOW, 0, Result.SUCCESS, problems=problems, remarks=remarks)]
    _show(Board(standing).status("1", NOW, [MIRROR], started=NOW))
    _, _, whole, _, *told = capsys.readouterr().out.splitlines()
    assert "success, 3 problems" in whole
    assert told == [
        "crane: problem: v1: is no image",
        "crane: problem: v2: is no image",
        "crane: problem: and 1 more",
        "crane: remark: v3: put right",
    ]


def test_a_remark_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """What is to be known of one mirror has a heading of its own, behind what went wrong; without, there is none."""
    problems, remarks = Noted(1, ("v1: is no image",)), Noted(2, ("v3: put right",))

    def headed(problems: Noted = Noted(), remarks: Noted = Noted()) -> list[str]:  # noqa: B008 - frozen
        standing = [Standing("crane", "", NOW, NOW, 0, Result.SUCCESS, problems=problems, remarks=remarks)]
        status = Board(standing).status("1", NOW, [MIRROR], started=NOW)
        _show([MirrorDetail(status.mirrors[0], NOW)])
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if re.search("error|remark|problem|more|put right", line, re.IGNORECASE)]

    wrong, noted = ["Last errors", "  problem: v1: is no image"], ["Remarks", "  v3: put right", "  and 1 more"]
    assert headed(problems=problems, remarks=remarks) == [*wrong, *noted]
    assert headed(problems=problems) == wrong
    assert headed(remarks=remarks) == noted
