"""`mirrord schema`: the keys of a configuration file, for editors."""

from __future__ import annotations

import json

from mirrord.cli.console import say
from mirrord.config.schema import file_schema
from mirrord.syncer.port import load_syncers


def schema_text() -> str:
    """Return the JSON Schema of a configuration file, without the end of the last line."""
    return json.dumps(file_schema(load_syncers()), indent=2, ensure_ascii=False)


def schema() -> int:
    """Run the command and return its exit code."""
    say(schema_text())
    return 0
