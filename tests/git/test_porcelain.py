"""What git prints about each ref of a push."""

from __future__ import annotations

import pytest

from mirrord.errors import ContentError
from mirrord.wire.git.changes import PushStatus, RefResult
from mirrord.wire.git.push import parse_porcelain

LINES = b"""\
To http://127.0.0.1:1/app.git
=\trefs/heads/same:refs/heads/same\t[up to date]
*\trefs/heads/a;b$(id):refs/heads/a;b$(id)\t[new branch]
*\trefs/heads/--upload-pack=x:refs/heads/--upload-pack=x\t[new branch]
 \trefs/heads/main:refs/heads/main\tf589a75..f57e847
+\tf589a75dea47fea6109bcfe2f16d4571a212a690:refs/heads/old\tf589a75...def5a44 (forced update)
-\t:refs/tags/t1\t[deleted]
!\t:refs/heads/master\t[remote rejected] (deletion of the current branch prohibited)
!\trefs/heads/dev:refs/heads/dev\t[rejected] (stale info)
!\trefs/heads/main (x):refs/heads/odd\t[remote rejected] (protected (by rule))
!\trefs/heads/far:refs/heads/far\t[remote failure] (remote failed to report status)
Done
"""


def test_every_ref_has_its_result() -> None:
    """Each flag of git-push(1) is understood, with the reason in the host's own words."""
    assert parse_porcelain(LINES) == (
        RefResult("refs/heads/same", PushStatus.SAME),
        RefResult("refs/heads/a;b$(id)", PushStatus.CREATED),
        RefResult("refs/heads/--upload-pack=x", PushStatus.CREATED),
        RefResult("refs/heads/main", PushStatus.MOVED),
        RefResult("refs/heads/old", PushStatus.MOVED),
        RefResult("refs/tags/t1", PushStatus.DELETED),
        RefResult("refs/heads/master", PushStatus.REJECTED, "deletion of the current branch prohibited", remote=True),
        RefResult("refs/heads/dev", PushStatus.REJECTED, "stale info"),
        RefResult("refs/heads/odd", PushStatus.REJECTED, "protected (by rule)", remote=True),
        RefResult("refs/heads/far", PushStatus.REJECTED, "remote failed to report status", remote=True),
    )


@pytest.mark.parametrize(
    "output",
    [b"", b"Everything up-to-date\n", b"To https://host/app.git\nDone\n", b"error: RPC failed; HTTP 413 curl 22\n"],
)
def test_what_is_no_result_is_passed_over(output: bytes) -> None:
    """Headers, `Done` and `Everything up-to-date` (which git prints even after a failure) say nothing of a ref."""
    assert parse_porcelain(output) == ()


@pytest.mark.parametrize("line", [b"?\trefs/heads/a:refs/heads/a\t[what]\n", b"*\tnonsense\t[new branch]\n", b"*\t\n"])
def test_an_unknown_result_is_an_error(line: bytes) -> None:
    """A result that git-push(1) does not know is not taken for good."""
    with pytest.raises(ContentError, match="no result of a ref"):
        parse_porcelain(line)


def test_a_name_that_is_not_utf_8_survives() -> None:
    """A ref is bytes to git: what cannot be decoded comes back as it was."""
    (result,) = parse_porcelain(b"*\trefs/heads/\xff:refs/heads/\xff\t[new branch]\n")
    assert result.ref.encode(errors="surrogateescape") == b"refs/heads/\xff"


def test_an_endless_reason_is_cut() -> None:
    """What a host says about one ref is kept to a sentence."""
    (result,) = parse_porcelain(b"!\ta:refs/heads/a\t[remote rejected] (" + b"x" * 9000 + b")\n")
    assert len(result.reason) == 400
    assert result.ok is False
