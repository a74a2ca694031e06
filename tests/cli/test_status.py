"""What people read of a status: counts beside each target, and below the table what went wrong there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from mirrord.cli.status import _show
from mirrord.model.history import LastRun, Noted, Standing
from mirrord.model.run import Result
from mirrord.report.status import Board
from mirrord.syncer.values import Mirror, Target
from mirrord.syncers.image.spec import ImageSpec, ImageTarget

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def shown(capsys: pytest.CaptureFixture[str], last: LastRun | None, error: str = "") -> Sequence[str]:
    """Return the lines about a mirror `crane` with one target `gitee`."""
    spec = ImageSpec.model_validate({"from": {"repository": "a/b"}})
    mirror = Mirror("crane", "image", spec, (Target("gitee", "image", "x", ImageTarget()),))
    result, code = (Result.PARTIAL, "refused") if error else (Result.NOOP, "")
    standing = [
        Standing("crane", "", NOW, NOW, 0, result, code, error),
        Standing("crane", "gitee", NOW, NOW, 0, result, code, error, 1, last),
    ]
    _show(Board(standing).status("1", NOW, [mirror]))
    return capsys.readouterr().out.splitlines()


def test_counts_are_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    """A target's row ends with what the last run did there, without what it did not do; nothing follows the table."""
    head, whole, there = shown(capsys, LastRun(3, 1, 3221))
    assert there[head.index("LAST RUN") :] == "3 written · 1 deleted · 3221 up to date"
    assert (head.endswith("LAST RUN"), whole.split()[0]) == (True, "crane")
    assert whole[head.index("ITEMS") :].split()[0] == there[head.index("ITEMS") :].split()[0] == "3224"


def test_every_trouble_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """All that was refused is listed in the host's words, once; how many are not listed is said."""
    troubles = ("refs/heads/wild: GE007: protected branch", "refs/tags/v1: file too large")
    lines = shown(capsys, LastRun(refused=2, troubles=troubles), troubles[0])
    assert lines[3:] == [f"crane: gitee: {text}" for text in troubles]
    lines = shown(capsys, LastRun(refused=4, failed=1, troubles=troubles), troubles[0])
    assert lines[5:] == ["crane: gitee: and 3 more refused or failed"]
    one = "v1 and 2 more: holds something else than an OCI layout"
    assert shown(capsys, LastRun(failed=3, troubles=(one,)), "partial")[3:] == [f"crane: gitee: {one}"]


def test_without_counts_the_error_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a target whose last run is not known in items, the error is told as ever."""
    lines = shown(capsys, None, "v1: denied")
    assert lines[3:] == ["crane: gitee: v1: denied"]


def test_nothing_is_next_without_a_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    """What the record alone says about a schedule is that nobody runs it; a daemon has mirrors that run when asked."""
    spec = ImageSpec.model_validate({"from": {"repository": "a/b"}})
    mirror = Mirror("crane", "image", spec, (Target("gitee", "image", "x", ImageTarget()),))
    for started, resting in ((None, "no daemon"), (NOW, "when asked")):
        _show(Board().status("1", NOW, [mirror], started=started))
        head, whole, there = capsys.readouterr().out.splitlines()
        assert whole[head.index("NEXT") :].rstrip() == resting
        assert len(there) <= head.index("NEXT")


def test_a_configuration_that_was_not_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """After a reload that was refused, whoever looks at the status sees why."""
    _show(Board().status("1", NOW, [], configuration_error="z.yaml:1: settings.bogus: unknown"))
    assert "z.yaml:1: settings.bogus: unknown" in capsys.readouterr().out


def test_problems_are_counted_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """What was left out is counted beside a good result, and follows the table, also how many are not listed."""
    spec = ImageSpec.model_validate({"from": {"repository": "a/b"}})
    mirror = Mirror("crane", "image", spec, (Target("gitee", "image", "x", ImageTarget()),))
    problems, remarks = Noted(3, ("v1: is no image", "v2: is no image")), Noted(1, ("v3: put right",))
    standing = [Standing("crane", "", NOW, NOW, 0, Result.SUCCESS, problems=problems, remarks=remarks)]
    _show(Board(standing).status("1", NOW, [mirror]))
    _, whole, _, *told = capsys.readouterr().out.splitlines()
    assert "success, 3 problems" in whole
    assert told == [
        "crane: problem: v1: is no image",
        "crane: problem: v2: is no image",
        "crane: problem: and 1 more",
        "crane: remark: v3: put right",
    ]
