"""`mirrord check`: is the configuration right?"""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.console import note, say, say_json, table
from mirrord.cli.folders import config_folder, configuration
from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers


def check(*, config: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    folder, syncers = config_folder(config), load_syncers()
    try:
        read = configuration(folder, syncers)
    except ConfigError as error:
        if not json:
            raise
        say_json({"ok": False, "problems": list(error.problems)})
        return error.exit_code
    for notice in read.notices:
        note(notice)
    mirrors = [(mirror, *syncers[mirror.kind].places(mirror)) for mirror in read.mirrors]
    if json:
        rows = [{"name": one.name, "kind": one.kind, "from": origin, "to": dict(to)} for one, origin, to in mirrors]
        say_json({"ok": True, "files": [str(file) for file in read.files], "mirrors": rows})
        return 0
    if mirrors:
        lines = [(mirror.name, mirror.kind, origin, ", ".join(to.values())) for mirror, origin, to in mirrors]
        table(("MIRROR", "KIND", "FROM", "TO"), lines)
    sizes = ((len(read.files), "file"), (len(read.mirrors), "mirror"))
    counted = ", ".join(f"{size} {what}" if size == 1 else f"{size} {what}s" for size, what in sizes)
    say(f"{folder}: {counted}, no problem")
    return 0
