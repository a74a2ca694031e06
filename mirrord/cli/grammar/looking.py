"""Commands that show state and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from mirrord.cli.grammar.words import CONFIG, JSON, STATE, command, flag, host_options, mirrors, value

_STATUS = command(
    "status",
    """Show for each mirror and target when it last succeeded, what is wrong, and when it runs next.

Asks the running daemon or command. When none runs, reads the database, and NEXT shows the schedule instead of a time.
Of several replicas that share the database it lists all, and what each runs.
What fails comes first. With NAME it shows all about that mirror: source, schedule, errors and what to do about them,
items with digest, size, platforms and signatures, what each target lacks since when, and the commands by which clients
use it. A mirror succeeds when a run leaves nothing failed, refused or missing; a target when nothing failed or was
refused there.

  $ mirrord status --watch
  $ mirrord status nginx 'helm-*'

Exit code 0 when the last run of every mirror that is shown and ever ran succeeded, else 1; 64 when no mirror has that
name, or --state names a directory that has none.
""",
    click.Argument(
        ["names"],
        nargs=-1,
        metavar="[NAME]...",
        help="Names of mirrors, or globs such as 'helm-*'. Default: all mirrors in one table.",
        shell_complete=mirrors,
    ),
    CONFIG,
    STATE,
    flag("--watch", "Repeat every two seconds, until Ctrl-C."),
    click.Option(["--all", "every"], is_flag=True, help="With NAME, list all items, not only the first 20."),
    JSON,
)

_RUNS = command(
    "runs",
    """List the last runs of the mirror NAME: result, time, duration, items, bytes, and the first error.

Asks the running daemon or command; when none runs, reads the database, which keeps 1000 runs of each mirror. Items and
bytes are those of all targets together. Of several replicas it says which one carried out each run. For older runs give
the RUN of the last one to `--before`.

  $ mirrord runs nginx --limit 5

Exit code 0 when they are listed, 64 when no mirror has that name or nothing has run yet.
""",
    click.Argument(["name"], metavar="NAME", help="The name of the mirror.", shell_complete=mirrors),
    click.Option(
        ["--limit"],
        type=click.IntRange(1, 1000),
        metavar="N",
        default=20,
        help="List at most N runs, up to 1000. Default: 20.",
    ),
    click.Option(
        ["--before"], type=click.IntRange(1, (1 << 63) - 1), metavar="ID", help="List runs before this one, by its RUN."
    ),
    CONFIG,
    STATE,
    JSON,
)

_RAW_URL = command(
    "raw-url",
    """Convert the URL of a file on GitHub, Gitee, Coding, CNB… to its raw URLs at every mirror.

URL is the page of the file or its raw URL, at the origin of a mirror or at one of its targets. The mirrors are taken
from the configuration; no host is asked.

  $ mirrord raw-url https://github.com/gocrane/helm-charts/blob/main/README.md

With `--fetch` the file itself is printed. It is read through the API of the host that the URL names, with the
credential under `hosts:`. A file of an origin is read from the first target that has it, else from the origin; `local`
is read from the state directory. This
works for private repositories, and for Coding, whose raw URLs need a login.

  $ mirrord raw-url --fetch https://gitee.com/finops/api/blob/main/go.mod

Exit code 0 when there is at least one, 1 when no mirror has this repository, or the file cannot be read.
""",
    click.Argument(["url"], metavar="URL", help="The page of the file, or its raw URL."),
    flag("--fetch", "Print the file itself instead of its URLs."),
    click.Option(
        ["--output", "-o"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="With `--fetch`, write the file to this path. Default: standard output.",
    ),
    CONFIG,
    STATE,
    JSON,
)

_NAME = command(
    "name",
    """Show what an image is called at every target, in `local` and at the front, and which mirror copies it.

REF is the image at its source (`nginx`, `quay.io/calico/node:v3.30`), or what it is called at a target, in `local`, at
the front, or under one of `names.hosts`. The first line is the image at its source, with aliases applied. A name
without a mirror is what a naming would call the image; `front` stands for what clients may pull through. A tag is not
compared with `tags:`. No host is asked.

  $ mirrord name harbor.corp.example/mirror/docker.io/library/nginx:1.29

Exit code 0 when there is at least one name, else 1.
""",
    click.Argument(["reference"], metavar="REF", help="An image at its source, or a name of it elsewhere."),
    value("--at", "TARGET", "Show the name at this target only."),
    CONFIG,
    JSON,
)

_FRONT = command(
    "front",
    """Show what the front does with an image: which line allows it, what of it is here, and until when it is fresh.

REF is what a client pulls (`m.example/docker.io/library/nginx:1.27`), or the image at its source (`nginx`). Asks the
daemon; when none runs, reads configuration and cache. Upstream is not asked, so it may say `upstream` of an image that
does not exist.

  $ mirrord front quay.io/calico/node:v3.30

Exit code 0 when it may be pulled, 1 when it is refused.
""",
    click.Argument(["reference"], metavar="REF", help="An image, as a client pulls it or at its source."),
    CONFIG,
    STATE,
    JSON,
)

_DOCS = command(
    "docs",
    """Write a page about the mirrors for their users, as Markdown or HTML, in English or Chinese.

The page has for each kind and target the origins, the mirrors and their schedule, and the commands to use them. It is
made from the configuration alone; no host is asked. Places on this machine are left out, and `local` where others
cannot reach it. The Markdown is for MkDocs with tabs and admonitions.

  $ mirrord docs --output site/docs

With `--live` the page also has what the running daemon knows, or when none runs the database: digests, sizes and
platforms of the items, and when each target last succeeded.

Exit code 0 when it was written, 64 when there is no state for `--live`, 74 when a file cannot be written.
""",
    click.Option(
        ["--format", "shape"],
        type=click.Choice(["markdown", "html"]),
        metavar="FORMAT",
        default="markdown",
        help="Write `markdown` or `html`. Default: markdown.",
    ),
    click.Option(
        ["--language"],
        type=click.Choice(["en", "zh"]),
        metavar="LANGUAGE",
        help="Write in this language, `en` or `zh`. Default: `en`; with `--output` a file for each.",
    ),
    flag("--live", "Show also what the targets have."),
    click.Option(
        ["--output", "-o"],
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Write `mirrors.en.md`, `mirrors.zh.md` (or `.html`) into this folder. Default: standard output.",
    ),
    CONFIG,
    STATE,
)

_TAGS = command(
    "tags",
    """List the tags of a repository, or try which of them rules would choose, and why.

REF is a repository, such as `quay.io/calico/node`. Needs no configuration; credentials and proxies are those of
`mirrord copy`. The rules are those of `from.tags` in a configuration.

  $ mirrord tags registry.k8s.io/pause --choose '{newest: 1, of: minor}'

Exit code 0 when there is a tag, with `--choose` a chosen one, 1 when there is none, 64 when the command line is wrong,
69 when the registry could not be reached, 75 when it limits the rate.
""",
    click.Argument(["reference"], metavar="REF", help="The repository."),
    value("--choose", "RULES", "Choose by these rules, a YAML mapping."),
    *host_options("the registry"),
    flag("--verbose", "Print a line for each tag.", "-v"),
    JSON,
)

_PROBE = command(
    "probe",
    """Find out what the registry of a repository can do, and what mirrord needs to know about it.

REF is a repository, such as `registry.example/team/app`. Asks for what is there, and begins an upload that it cancels.
With --push it also pushes two small blobs, manifests of them and, where they can be deleted again, two tags that
begin with `mirrord-probe-`. All of it is deleted in the end, also after Ctrl-C; what the registry does not delete is
named. Prints the keys that are missing under `hosts:`. Credentials and proxies are those of `mirrord copy`.

  $ mirrord probe registry.example/team/app
  $ mirrord probe --push registry.example/team/probe

Exit code 0 when the registry answered, 2 when something stays there, 64 when the command line is wrong, 69 when the
registry could not be reached, 75 when it limits the rate.
""",
    click.Argument(["reference"], metavar="REF", help="The repository."),
    flag("--push", "Try pushes and deletions, too."),
    *host_options("the registry"),
    JSON,
)

_HEALTHCHECK = command(
    "healthcheck",
    """Ask a running daemon whether it is alive; exit code 0 when it is, 1 when not.

Asks the address in `MIRRORD_LISTEN`, else 127.0.0.1:8080. Reads no configuration.

  $ mirrord healthcheck --listen 127.0.0.1:8080
""",
    click.Option(
        ["--listen"],
        metavar="HOST:PORT",
        help="Ask the daemon at this address.",
        envvar="MIRRORD_LISTEN",
        show_envvar=True,
        default="127.0.0.1:8080",
        show_default=True,
    ),
    JSON,
)

LOOKING: Final = (_STATUS, _RUNS, _NAME, _FRONT, _RAW_URL, _TAGS, _PROBE, _DOCS, _HEALTHCHECK)
