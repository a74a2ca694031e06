"""`mirrord publish`: one build to every target of a mirror, under its branch and its commit."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.ask import ask, report
from mirrord.cli.results import Show
from mirrord.commands import Publish
from mirrord.errors import UsageError
from mirrord.plan.naming import COMMIT, build_tags, pull_request_tags, short_commit
from mirrord.syncer.values import Publication


def publish(
    name: str,
    *,
    layout: str | None,
    archive: str | None,
    image: str | None,
    branch: str | None,
    commit: str | None,
    describe: str | None,
    pr: int | None,
    if_newest: bool,
    config: Path | None,
    state: Path | None,
    quiet: bool,
    verbose: bool,
    json: bool,
) -> int:
    """Run the command and return its exit code."""
    names = _names(branch, pr, commit, describe)
    given = [text for text in (layout, archive, image) if text]
    if len(given) != 1:
        raise UsageError("give the build by exactly one of --layout, --archive, --image")
    # The daemon has another working directory.
    source = image or ("oci:" if layout else "docker-archive:") + str(Path.cwd() / given[0])
    publication = Publication(source, names, if_newest=if_newest)
    run = ask(Publish(name, publication), config, state, quiet=json or quiet)
    return report(run, Show.of(quiet=quiet, verbose=verbose), json=json)


def build_name(commit: str | None, describe: str | None) -> str:
    """Return what a build is called in its tags: a commit in its first seven digits, a description as it is.

    Raises:
        UsageError: there is none, both are given, or it is no commit.
    """
    build = commit or describe
    if not build or (commit and describe):
        raise UsageError("give exactly one of --commit and --describe")
    if commit and not COMMIT.fullmatch(commit):
        raise UsageError(
            f"--commit {commit[:80]!r}: a commit is 7 to 64 hexadecimal digits; for other names use --describe"
        )
    return short_commit(build) if commit else build


def _names(branch: str | None, pr: int | None, commit: str | None, describe: str | None) -> tuple[str, str]:
    build = build_name(commit, describe)
    if branch and pr is None:
        return build_tags(branch, build)
    if pr is not None and not branch:
        return pull_request_tags(pr, build)
    raise UsageError("give exactly one of --branch and --pr")
