"""`mirrord publish`: one build to every target of a mirror, under its branch and its commit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mirrord.cli.ask import Config, Json, State, ask, report
from mirrord.commands import Publish
from mirrord.errors import UsageError
from mirrord.plan.naming import build_tags, pull_request_tags
from mirrord.syncer.values import Publication

HELP = """Publish one build to every target of the mirror NAME.

A branch build gets the tag [cyan]<branch>-<commit>[/cyan], which never moves, and the tag [cyan]<branch>[/cyan], which
moves to it; a pull request gets [cyan]pr-<n>-<build>[/cyan] and [cyan]pr-<n>[/cyan]. Content goes first, by digest;
then each target gets both tags in one go. Full commit hashes are cut to seven digits; a branch
[cyan]feature/x[/cyan] becomes [cyan]feature-x[/cyan].

The tag that moves is always moved, as [cyan]docker push[/cyan] does. With [cyan]--if-newest[/cyan] each target is asked
what stands there: something created later stays, and that is no failure.

  $ mirrord publish craned --layout build/craned --branch main --commit $SHA --if-newest
  $ mirrord publish craned --archive craned.tar --pr 7 --commit $SHA

Exit code 0 when every target has the build, 2 when some have, 1 when none, 64 when the names do not fit.
"""


def publish(  # noqa: PLR0917 - each one is an option of the command line
    name: Annotated[str, typer.Argument(metavar="NAME", help="The mirror whose targets are written.")],
    layout: Annotated[str | None, typer.Option(metavar="DIR[:NAME]", help="An OCI layout, folder or tar.")] = None,
    archive: Annotated[str | None, typer.Option(metavar="FILE[:NAME]", help="An archive of `docker save`.")] = None,
    image: Annotated[str | None, typer.Option(metavar="REF", help="An image in a registry.")] = None,
    branch: Annotated[str | None, typer.Option(metavar="B", help="The branch that was built.")] = None,
    commit: Annotated[str | None, typer.Option(metavar="C", help="Its commit.")] = None,
    describe: Annotated[str | None, typer.Option(metavar="D", help="Or what `git describe` says.")] = None,
    pr: Annotated[int | None, typer.Option(metavar="N", min=1, help="The pull request that was built.")] = None,
    if_newest: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--if-newest", help="Leave the tag that moves alone where it stands for a newer build.")
    ] = False,
    config: Config = None,
    state: State = None,
    json: Json = False,  # noqa: FBT002 - a flag
) -> int:
    """Run the command and return its exit code."""
    names = _names(branch, pr, commit, describe)
    given = [text for text in (layout, archive, image) if text]
    if len(given) != 1:
        raise UsageError("name the build by exactly one of --layout, --archive, --image")
    # A daemon works in another directory than the one in which the path was typed.
    source = image or ("oci:" if layout else "docker-archive:") + str(Path.cwd() / given[0])
    publication = Publication(source, names, if_newest=if_newest)
    return report(ask(Publish(name, publication), config, state, quiet=json), json=json)


def _names(branch: str | None, pr: int | None, commit: str | None, describe: str | None) -> tuple[str, str]:
    build = commit or describe
    if not build or (commit and describe):
        raise UsageError("say which build it is by exactly one of --commit and --describe")
    if branch and pr is None:
        return build_tags(branch, build)
    if pr is not None and not branch:
        return pull_request_tags(pr, build)
    raise UsageError("say where it comes from by exactly one of --branch and --pr")
