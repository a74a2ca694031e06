"""`mirrord init`: a configuration to start from."""

from __future__ import annotations

import shlex
from pathlib import Path

from mirrord.cli.console import say
from mirrord.cli.schema import schema_text
from mirrord.errors import UsageError
from mirrord.files import storage_errors

_FILE = "mirrord.yaml"
_SCHEMA = "mirrord.schema.json"
_TEXT = """\
# yaml-language-server: $schema=mirrord.schema.json
# What mirrord copies, from where to where. After each change: mirrord check
# All keys: docs/reference/configuration.md. Editors complete them by the schema beside this file.

settings:
  # Address of the status page, the metrics, and all that is kept in `local`.
  listen: 127.0.0.1:8080

# How to talk to a host, as a source and as a target. Secrets are not written here, only where they are:
# {env: NAME}, {file: /path} with mode 0400, or {credential: name} of systemd. Without `auth`, docker's login is used.
hosts:
#  ghcr.io:
#    auth: {username: robot, password: {env: GHCR_TOKEN}}

# Where copies go. The target `local` needs no entry: mirrord keeps the copies and serves them.
targets:
#  ghcr: {kind: image, to: ghcr.io/team}
#  gitee: {kind: git, to: "https://gitee.com/team/{name}.git"}

# What clients may pull besides: mirrord reads it when they ask for it, and keeps it in a cache.
front:
#  image:
#    upstreams: [docker.io, quay.io]
#    allow: [docker.io/library/*, quay.io/calico/**]

# What is copied. Without `every` or `cron` a mirror runs only when it is asked to: mirrord sync NAME
mirrors:
  - name: alpine
    kind: image
    from: {repository: docker.io/library/alpine, tags: ["3.22"]}
    to: [local]
    every: 6h
#  - name: tools
#    kind: image
#    from: {repository: quay.io/team/tools, tags: ["v1.*"]}
#    to: [ghcr, local]
#    every: 1h
#  - name: grafana
#    kind: helm
#    from: https://grafana.github.io/helm-charts
#    to: [local]
#    every: 6h
#  - name: crane
#    kind: git
#    from: https://github.com/gocrane/crane.git
#    to: [gitee, local]
#    cron: "17 3 * * *"
"""

_NEXT = {
    "check": "finds mistakes, and asks no host",
    "plan": "shows what would be copied",
    "serve": "copies, now and by the schedule",
}


def init(*, folder: Path) -> int:
    """Run the command and return its exit code."""
    file = folder / _FILE
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a folder")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if found := sorted(folder.glob("*.yaml")):
            other = shlex.quote(str(_free(folder)))
            what = "exists already, and nothing is overwritten"
            raise UsageError(f"{found[0]}: {what}; for another folder run `mirrord init {other}`")
        with file.open("x", encoding="utf-8") as out:
            out.write(_TEXT)
        if not (folder / _SCHEMA).exists():
            (folder / _SCHEMA).write_text(f"{schema_text()}\n", encoding="utf-8")
    where = shlex.quote(str(folder))
    say(f"{file} is written: it mirrors one public image into the local store, and shows the rest as comments.")
    say("Next:")
    for command, what in _NEXT.items():
        say(f"  mirrord {command} --config {where}   # {what}")
    return 0


def _free(folder: Path) -> Path:
    """Return a folder beside this one that has no configuration: `my.d`, else `my-2.d`, `my-3.d`."""
    names = (folder.absolute().parent / f"my{number}.d" for number in ("", *(f"-{count}" for count in range(2, 100))))
    free = next((one for one in names if not any(one.glob("*.yaml"))), folder / "new")
    return folder.parent / free.name
