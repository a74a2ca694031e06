"""`mirrord check`: is the configuration right?"""

from __future__ import annotations

from mirrord.cli.ask import configuration
from mirrord.cli.console import note, say, say_json, table
from mirrord.cli.options import Config, Json, config_folder
from mirrord.errors import ConfigError
from mirrord.syncer.loader import load_syncers
from mirrord.syncer.values import Mirror

HELP = """Read the configuration and say everything that is wrong with it; start nothing.

Each problem is one line: file, line, key, what is wrong and what to write instead.

  $ mirrord check --config ./conf.d

Exit code 0 when all is well, 78 when not.
"""


def check(config: Config = None, json: Json = False) -> int:  # noqa: FBT002 - a flag
    """Run the command and return its exit code."""
    folder = config_folder(config)
    try:
        found = configuration(folder)
    except ConfigError as error:
        if not json:
            raise
        say_json({"ok": False, "problems": list(error.problems)})
        return error.exit_code
    for notice in found.notices:
        note(notice)
    if json:
        mirrors = [{"name": mirror.name, "kind": mirror.kind, **_places(mirror)} for mirror in found.mirrors]
        say_json({"ok": True, "files": [str(file) for file in found.files], "mirrors": mirrors})
        return 0
    if found.mirrors:
        rows = [(mirror.name, mirror.kind, *_row(mirror)) for mirror in found.mirrors]
        table(("MIRROR", "KIND", "FROM", "TO"), rows)
    say(f"{folder}: {len(found.files)} files, {len(found.mirrors)} mirrors, no problem")
    return 0


def _places(mirror: Mirror) -> dict[str, object]:
    origin, targets = load_syncers()[mirror.kind].places(mirror)
    return {"from": origin, "to": dict(targets)}


def _row(mirror: Mirror) -> tuple[str, str]:
    origin, targets = load_syncers()[mirror.kind].places(mirror)
    return origin, ", ".join(targets.values())
