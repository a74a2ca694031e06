"""Commands that bring content from one place to others."""

from __future__ import annotations

from typing import Final

import click

from mirrord.cli.grammar.words import (
    CONFIG,
    JSON,
    NAMES,
    NAMES_OR_IMAGES,
    QUIET,
    STATE,
    VERBOSE,
    command,
    flag,
    host_options,
    mirrors,
    value,
    values,
)

_COPY = command(
    "copy",
    """Copy one image, with all its platforms or some, to one or many places. Every blob is read once.

SRC and DST are references (`ghcr.io/team/app:v1`), `oci:DIR[:TAG]` for an OCI layout,
or (SRC only) `docker-archive:FILE[:NAME]`. Several images in one layout or archive are distinguished by
name (`oci:DIR:quay.io/team/app:v3`), by the tag in it (`oci:DIR:v3`) or by digest
(`oci:DIR@DIGEST`). A SRC without a tag is `latest`,
also an image in a layout or archive that has no name. A DST without a tag gets the tag of SRC.
Only an image that SRC names by digest alone is stored without a tag, and the output says so.
Needs no configuration and no state;
credentials are those of `docker login` and `podman login` (`DOCKER_CONFIG`, `DOCKER_AUTH_CONFIG`,
`REGISTRY_AUTH_FILE`, credential helpers).

  $ mirrord copy docker.io/library/nginx:1.29 ghcr.io/team/nginx oci:backup
  $ mirrord copy oci:build/app registry.example/team/app:v1 ghcr.io/team/app:v1

`--platform` copies only the platforms that it names. An index that has others, too, becomes a new index without
them, which has another digest.

  $ mirrord copy --platform linux/amd64 ghcr.io/team/app:v1 oci:backup

Signatures, attestations and SBOMs of the image come with it, unless `--without-signatures` is given.

Proxies are those of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`. `ALL_PROXY` and SOCKS proxies are not supported.
HOST is the registry as SRC or DST has it;
`--insecure`, `--tls` and `--token-realm` may be given several times.

  $ mirrord copy --ca corp.pem docker.io/library/nginx:1.29 reg.corp.example/a

Exit code 0 when every DST has the image, 1 when none could get it, 2 when some could, 64 when the command line is
wrong, 69 when nothing could be reached, 74 when the local disk failed, 75 when a registry limits the rate, 78 when
a proxy or a credential file is wrong.
""",
    click.Argument(["source"], metavar="SRC", help="The image to copy."),
    click.Argument(
        ["targets"], nargs=-1, required=True, metavar="DST...", help="One or more places to which the image is copied."
    ),
    values("--platform", "OS/ARCH", "Copy this platform, such as linux/amd64 or linux/arm/v7; may be given again."),
    flag("--without-signatures", "Copy the image without its signatures, attestations and SBOMs."),
    *host_options("SRC and DST"),
    QUIET,
    VERBOSE,
    flag("--json", "Print JSON for programs."),
)

_PLAN = command(
    "plan",
    """Show every step that `sync` would do now, each with its reason. Write to no target.

  $ mirrord plan --explain craned

Exit code 0 when everything could be planned, 2 when a step is refused or something is missing or unreadable at its
source, 1 when everything is refused. When no mirror could be planned: 69 when no source was reachable, 75 when all of
them limit the rate, else 1.
""",
    NAMES,
    CONFIG,
    STATE,
    flag("--explain", "Also show what is up to date, and for each tag of an image why it is mirrored or not."),
    flag("--sizes", "Ask the source for the size of each chart to copy: one request for each."),
    VERBOSE,
    JSON,
)

_SYNC = command(
    "sync",
    """Bring mirrors up to date now. If a daemon runs, it does the work; otherwise this command does.

  $ mirrord sync craned base

A run is refused, and changes nothing, when the source looks emptied or rewritten. When the change is
intended, run

  $ mirrord sync grafana --allow

A name with a slash, a dot, a colon or an `@` is an image, which is copied once, as `asking:` says.

Exit code 0 done, 1 failed, 2 partly, 64 no such mirror, 69 nothing reachable, 74 disk, 75 busy, 78 configuration.
""",
    NAMES_OR_IMAGES,
    CONFIG,
    STATE,
    QUIET,
    VERBOSE,
    JSON,
    flag("--allow", "Proceed even if the source looks emptied or rewritten; retry what was left out."),
    values("--platform", "OS/ARCH", "Of an image, copy this platform, such as linux/amd64; may be given again."),
)

_PUBLISH = command(
    "publish",
    """Publish one build to every target of the mirror NAME.

A branch build gets the tag `<branch>-<commit>`, which never moves, and the tag `<branch>`, which
moves to it; a pull request gets `pr-<n>-<build>` and `pr-<n>`. Content is sent first, by digest;
then each target gets both tags together. A commit is cut to seven digits; a branch `feature/x`
becomes `feature-x`.

The moving tag is always moved, as `docker push` does. With `--if-newest` it is not moved at targets
where it names an image that was created later; the exit code is still 0.

  $ mirrord publish craned --layout out --branch main --commit $SHA --if-newest
  $ mirrord publish craned --archive craned.tar --pr 7 --commit $SHA

Exit code 0 when every target has the build, 2 when some have, 1 when none, 64 when the names do not fit.
""",
    click.Argument(["name"], metavar="NAME", help="The mirror whose targets are written.", shell_complete=mirrors),
    value("--layout", "DIR[:NAME]", "Publish this OCI layout, a folder or a tar file."),
    value("--archive", "FILE[:NAME]", "Publish this archive, which `docker save` wrote."),
    value("--image", "REF", "Publish this image of a registry."),
    value("--branch", "B", "Publish it as a build of this branch."),
    value("--commit", "C", "Say which commit was built: 7 to 64 hexadecimal digits."),
    value("--describe", "D", "Say it with the output of `git describe`, or any other name, instead of `--commit`."),
    click.Option(["--pr"], type=click.IntRange(min=1), metavar="N", help="Publish it as a build of this pull request."),
    flag("--if-newest", "Do not move the tag of the branch where it names a newer build."),
    CONFIG,
    STATE,
    QUIET,
    VERBOSE,
    JSON,
)

_PRUNE = command(
    "prune",
    """Show which tags and chart versions at targets nobody wants any more, or remove them.

A tag or a version is removed only if the record says that this mirror wrote it and it still stands for what was
written; if two prunes at least `prune.after` apart (a day by default) agree that the source does not have it, or the
mirror does not select it any more; and if its content can be brought back from the source, from `local` or from
another target. Nothing is removed when the source cannot be listed, when it lost more than `prune.max_loss` of what it
had, or when the configuration no longer names so much of it. `local` itself is not pruned.

  $ mirrord prune craned
  $ mirrord prune craned --apply

Without `--apply` it only shows what would be removed, and notes what is not wanted. Exit code 0 done or nothing to
do, 1 failed, 2 partly or when something could not be looked at, 64 no such mirror, 69 nothing reachable.
""",
    click.Argument(
        ["names"], nargs=-1, required=True, metavar="NAME...", help="Names of mirrors.", shell_complete=mirrors
    ),
    CONFIG,
    STATE,
    flag("--apply", "Remove what is shown without it."),
    flag("--adopt", "Also prune what this mirror did not write, and builds that were published."),
    flag("--irrecoverable", "Also remove what no other place keeps, so that it could not be brought back."),
    QUIET,
    VERBOSE,
    JSON,
)

_RESTORE = command(
    "restore",
    """List what runs of the mirror NAME overwrote or deleted, or restore some of it.

What is restored overrides the source, at every target, until it is released with `--release`.
Several names, and all that globs match, are restored by one run. When a name or a glob matches nothing, nothing is
restored.

For Git, BACKUP is a backup or a glob of backups, as the list names them. For images it is a tag, which gets the digest
that it had last, or TAG@DIGEST, where the first seven digits of the digest are enough. For charts it is CHART-VERSION
or CHART-VERSION@DIGEST, likewise. The list says where each digest can still be read: at the source, in `local`, at a
target.

  $ mirrord restore crane
  $ mirrord restore crane 20261121T030000Z/heads/main
  $ mirrord restore crane '20261121T030000Z/*'
  $ mirrord restore crane refs/heads/main --release
  $ mirrord restore craned v1.0 --dry-run
  $ mirrord restore craned v1.0@sha256:0d3e2a5
  $ mirrord restore craned --run 17
  $ mirrord restore charts tetragon-1.2.0

The exit code is that of the following run: 0 done, 1 failed, 2 partly.
""",
    click.Argument(["name"], metavar="NAME", help="The name of the mirror.", shell_complete=mirrors),
    click.Argument(
        ["backups"],
        nargs=-1,
        metavar="[BACKUP]...",
        help="What to restore, as named in the list, or globs; with `--release`, the refs, tags or chart versions.",
    ),
    CONFIG,
    STATE,
    QUIET,
    VERBOSE,
    JSON,
    flag("--release", "Let the mirror follow the source again."),
    click.Option(
        ["--run"],
        type=click.IntRange(min=1),
        metavar="ID",
        help="Restore what all names had before this run, a number of `mirrord runs`. For images and charts.",
    ),
    flag("--dry-run", "Show what would be done, and from where, without doing it. For images and charts."),
)

_VERIFY = command(
    "verify",
    """Compare what the targets have with what was mirrored. The sources are not asked.

Without an option each name is looked up: it has to stand for the digest that was recorded. With `--deep` everything
below it has to be there, too: manifests and blobs, archives, objects. With `--bytes` content is read and hashed as
well, another part of it each time, until all of it was read.

  $ mirrord verify --deep craned

With `--repair` what is missing or damaged is sent again, and nothing else; then it is looked at once more.

Exit code 0 when everything is as recorded, 1 when something differs, 2 when that could not be found out, for example
because a target could not be reached.
""",
    NAMES,
    CONFIG,
    STATE,
    flag("--deep", "Also look for all content below each name."),
    flag("--bytes", "Also read and hash content, as much as `verify.bytes` allows."),
    flag("--repair", "Send again what is missing or damaged."),
    QUIET,
    VERBOSE,
    JSON,
)

_GC = command(
    "gc",
    """Remove from `local` what `keep` does not keep, and content that no name needs.

`settings.local.keep`, and `keep` of a mirror, say what stays. Without them every name stays. A daemon does this
by itself after runs. It is safe while clients pull and builds are published.

  $ mirrord gc --dry-run

The list has each name that goes, why, and how many bytes only it needs. Exit code 0 when all of it was done, 1 when
something could not be removed.
""",
    CONFIG,
    STATE,
    flag("--dry-run", "Only say what would be removed."),
    QUIET,
    VERBOSE,
    JSON,
)

_TAKEDOWN = command(
    "takedown",
    """Take down an image, chart version or mirror: remove it everywhere, and never mirror, serve or restore it again.

WHAT is a reference at its source or at a target, with a tag, with a digest, or without (all tags); a wildcard as in
allow lists (`quay.io/acme/**`); or the name of a mirror, of charts also with one version. What is denied is first
written into the file `settings.denied`, with its digests: another tag or another name does not bring it back. Then it
is removed from the cache of the front, and from `local` and every target as far as the ledger says that mirrord wrote
it there: from neither after the database was lost. Clients get the status 451 with the reason.

What could not be removed is listed. The same command again, without `--reason`, removes what is left; run it also when
a takedown was cut short. Without WHAT it lists what is denied, and where it may still be.

  $ mirrord takedown quay.io/acme/app:1.2 --reason 'ticket 4711'
  $ mirrord takedown quay.io/acme/app:1.2 --lift
  $ mirrord takedown charts app-1.2.3 --reason 'ticket 4712'

Exit code 0 when nothing is left, 2 when something could not be removed, 64 when WHAT is wrong, 74 when the file cannot
be written or the database cannot be opened (then nothing was denied or removed), 78 when the file is wrong.
""",
    click.Argument(["what"], required=False, metavar="[WHAT]", help="What is taken down.", shell_complete=mirrors),
    click.Argument(["item"], required=False, metavar="[CHART-VERSION]", help="One version of the mirror WHAT."),
    value("--reason", "TEXT", "Say why, in one line; clients see it."),
    flag("--adopt", "Also remove what the ledger does not have: of `local` and folders, and denied images elsewhere."),
    flag("--lift", "Deny it no longer: its line in the file becomes a comment. The next run mirrors it again."),
    CONFIG,
    STATE,
    VERBOSE,
    JSON,
)

MIRRORING: Final = (_COPY, _PLAN, _SYNC, _PUBLISH, _VERIFY, _PRUNE, _RESTORE, _GC, _TAKEDOWN)
