"""Commands for the person who writes the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from mirrord.cli.grammar.words import CONFIG, JSON, NAMES, STATE, command, flag, group, host_options, value, values

_INIT = command(
    "init",
    """Write a small commented configuration to start from. Never overwrite a file.

The file mirrors one public image into the local store, which needs no account. Comments show charts,
repositories, other targets and credentials. A JSON Schema beside it lets editors complete keys.

  $ mirrord init ./conf.d

Exit code 0 when it is written, 64 when the folder has a configuration already.
""",
    click.Argument(
        ["folder"],
        metavar="[FOLDER]",
        type=click.Path(path_type=Path),
        default=Path("conf.d"),
        help="The folder to write to; a missing one is created. Default: ./conf.d.",
    ),
)

_CHECK = command(
    "check",
    """Check the configuration and print everything that is wrong with it. Start nothing, ask no host.

Each problem is one line: file, line, key, what is wrong and what to write instead. Secrets and other
files that are not on this machine are notices: `serve`, `sync` and `plan` need them, `check` does not.

  $ mirrord check --config ./conf.d

Exit code 0 when nothing is wrong, 78 when something is.
""",
    CONFIG,
    JSON,
)

_SCHEMA = command(
    "schema",
    """Print the JSON Schema of a configuration file. Editors use it to complete keys and mark mistakes.

It has the keys of all installed kinds. Editors with a YAML language server use it when a file begins with the line
`# yaml-language-server: $schema=FILE`.

  $ mirrord schema > mirrord.schema.json

Exit code 0.
""",
)

_IMPORT = command(
    "import",
    """Write a configuration from that of another mirroring tool. Ask no host, and never overwrite a file.

FILE is a regsync.yaml, the images or the logins of image-syncer, the YAML of `skopeo sync`, a dregsy.yaml, a workflow
with hub-mirror-action, an ImageSetConfiguration or a mapping.txt of oc-mirror, a manifest of Hauler, the file of
charts-syncer, or a list of images. The format is recognised by the content. Several files become one configuration.

  $ mirrord import regsync.yaml --out conf.d/regsync.yaml
  $ mirrord import --to registry.example.com/mirror --scoped sync.yaml

What mirrord has no equivalent for is printed with file, line, key and reason, and is a comment in the output. Passwords
are not copied: the output names environment variables, and the command lists them. Variables in addresses are
replaced when they are set for this command.

Exit code 0 when everything was converted, 2 when something was not, 1 when nothing was, 64 when the format is not
known or an option is missing, 78 when a file cannot be read as YAML.
""",
    click.Argument(
        ["files"],
        metavar="FILE...",
        nargs=-1,
        required=True,
        type=click.Path(path_type=Path),
        help="Configurations of other tools.",
    ),
    click.Option(
        ["--from", "form"],
        type=click.Choice(
            [
                "regsync",
                "image-syncer",
                "skopeo",
                "dregsy",
                "hub-mirror-action",
                "oc-mirror",
                "hauler",
                "charts-syncer",
                "mapping",
                "list",
            ]
        ),
        metavar="FORMAT",
        help="Read the files as this format: regsync, image-syncer, skopeo, dregsy, hub-mirror-action, oc-mirror,"
        " hauler, charts-syncer, mapping or list. Default: recognised by the content.",
    ),
    click.Option(
        ["--out", "-o"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write the configuration to this file, which must not exist. Default: standard output.",
    ),
    values(
        "--to", "HOST/PATH", "Copy to this place; for skopeo, oc-mirror, hauler and lists, whose files do not say it."
    ),
    flag("--scoped", "With skopeo: keep host and path in the names at the target, as `skopeo sync --scoped` does."),
    JSON,
)

_COMPLETION = command(
    "completion",
    """Print a script that makes a shell complete commands, options and names of mirrors.

For bash, in ~/.bashrc (for zsh, in ~/.zshrc, with zsh instead of bash):

  eval "$(mirrord completion bash)"

For fish, once:

  $ mirrord completion fish > ~/.config/fish/completions/mirrord.fish

Exit code 0.
""",
    click.Argument(
        ["shell"], metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]), help="The shell: bash, zsh or fish."
    ),
)

_FILES = click.Argument(
    ["files"],
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE...",
    help="One or more lists of images.",
)
_FORM = click.Option(
    ["--form"],
    type=click.Choice(["tags", "patterns", "daily", "weekly", "allows"]),
    metavar="FORM",
    help="What a line is: `tags` (`image[:tag][@digest]`), `patterns` (`host/path[:regex]`), `daily` or `weekly` "
    "(names), `allows` (names, `prefix/*`, `prefix/**`). Default: by the name of the file: `mirror*.txt` is "
    "`patterns`, `*-daily.txt`, `*-weekly.txt` and `allows*.txt` are what they say, any other is `tags`.",
)

_FMT = command(
    "list fmt",
    """Sort files that list images, by bytes as `LC_ALL=C sort`, and write each image once, in its full spelling.

`nginx` becomes `docker.io/library/nginx`, and `k8s.gcr.io` becomes `registry.k8s.io`. In an allow list, names that a
wildcard covers are removed. A comment stays with the line below it. A comment at the top that has a blank line below it
stays at the top. A file with a wrong line is not changed.

  $ mirrord list fmt mirror.txt required-images.txt

Exit code 0 when every file is formatted, 1 when a line is wrong, or with `--check` when a file would change, 64 when a
file cannot be read as a list, 74 when it cannot be written.
""",
    _FILES,
    _FORM,
    click.Option(
        ["--config", "-c"],
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Use the aliases under `names:` in this folder, instead of `k8s.gcr.io: registry.k8s.io`.",
    ),
    flag("--check", "Change nothing; name the first line of each file that would change."),
)

_LIST_CHECK = command(
    "list check",
    """Check lists of images, and print what is wrong as FILE:LINE: what is wrong; what to write instead.

Finds lines that are no image, images that are listed twice, and in allow lists what a wildcard covers. With `--exists`
asks the registries: an image with a tag or digest needs its manifest, a name needs a tag, and a pattern needs a tag in
which it is found. Credentials are those of `docker login` and `podman login`, as for `mirrord copy`. Options about
hosts need `--exists`.

  $ mirrord list check --exists mirror.txt

In a pipeline `--format github` prints annotations, and `--since` leaves out lines that the branch did not add.

  $ mirrord list check --format github --exists --since origin/main mirror.txt

Exit code 0 when nothing is wrong, 1 when something is, 64 when a file cannot be read as a list or REV is no commit, 69
when nothing else is wrong than that registries cannot be reached, 75 when they limit the rate.
""",
    _FILES,
    _FORM,
    click.Option(
        ["--format", "shape"],
        type=click.Choice(["text", "github"]),
        metavar="FORMAT",
        default="text",
        help="Print problems as `text`, or for GitHub Actions (`github`). Default: text.",
    ),
    flag("--exists", "Ask the registries whether each image exists."),
    value("--since", "REV", "Check only lines that were added since HEAD left this commit, branch or tag."),
    *host_options("registries"),
)

_IMAGES = command(
    "list images",
    """Print the images that Kubernetes objects, compose files and values of charts name, as a formatted list.

Reads YAML (several documents, too) or JSON, such as the output of `kubectl get -o json` and of `helm template`. Finds
`image:` of containers, volumes, services and custom resources, `{registry, repository, tag}` of values, and
`RELATED_IMAGE_` variables of operators. What stands below `status:` is ignored. Without FILE, or for `-`, reads
standard input.

  $ kubectl get deploy,sts,ds -A -o json | mirrord list images > images.txt
  $ mirrord list images compose.yaml values.yaml > images.txt

What cannot be used is named on standard error, and the other images are printed.

Exit code 0 when every document could be read, 1 when one could not or an image has a template such as `{{ .Values.x }}`
or `${TAG}`, 64 when a file cannot be read.
""",
    click.Argument(
        ["files"],
        nargs=-1,
        type=click.Path(path_type=Path),
        metavar="[FILE]...",
        help="Files of YAML or JSON, each at most 64 MiB. Default: standard input.",
    ),
)

_MIRRORED = command(
    "list mirrored",
    """Print what is mirrored where: the name at the source, the name at the target, and the digest, one a line.

Asks the running daemon; when none runs, reads the database. Charts are named by the address of their repository, `#`,
and their own name. A Git repository is one line: its digest is that of all its refs, and it is listed once a run found
them all in place. The formats `json` and `csv` also have the mirror, its kind, the item, the target,
and when the target last confirmed it. The daemon serves the same at /api/v1/catalog.txt, .json and .csv.

  $ mirrord list mirrored
  $ mirrord list mirrored --format csv nginx > mirrored.csv

Exit code 0 when it is printed, 64 when no mirror has that name or nothing has run yet, 75 when a command holds the
state.
""",
    NAMES,
    CONFIG,
    STATE,
    click.Option(
        ["--format", "shape"],
        type=click.Choice(["txt", "json", "csv"]),
        metavar="FORMAT",
        default="txt",
        help="Print `txt`, `json` or `csv`. Default: txt.",
    ),
)

_LIST = group("list", "Format, check and make files that list images.", _FMT, _LIST_CHECK, _IMAGES, _MIRRORED)

SETTING_UP: Final = (_INIT, _IMPORT, _CHECK, _SCHEMA, _LIST, _COMPLETION)
