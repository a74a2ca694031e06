"""`mirrord check`: is the configuration right?"""

from __future__ import annotations

from mirrord.cli.ask import Config, Json, config_folder, configuration
from mirrord.cli.console import note, say, say_json, table
from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers

HELP = """Read the configuration and say everything that is wrong with it; start nothing.

Each problem is one line: file, line, key, what is wrong and what to write instead.

  $ mirrord check --config ./conf.d

Exit code 0 when all is well, 78 when not.
"""


def check(config: Config = None, json: Json = False) -> int:  # noqa: FBT002 - a flag
    """Run the command and return its exit code."""
    folder = config_folder(config)
    try:
        read = configuration(folder)
    except ConfigError as error:
        if not json:
            raise
        say_json({"ok": False, "problems": list(error.problems)})
        return error.exit_code
    for notice in read.notices:
        note(notice)
    syncers = load_syncers()
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
