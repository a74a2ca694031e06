"""What receivers are told, and how it is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema

from mirrord.report.notices import notification_schema

SCHEMA = Path(__file__).parents[2] / "docs/reference/notification.schema.json"


def test_the_schema_is_made_from_the_model() -> None:
    """docs/reference/notification.schema.json is a schema, and that of the values that are sent."""
    wanted = json.dumps(notification_schema(), indent=2) + "\n"
    if os.environ.get("MIRRORD_WRITE_DOCS"):
        SCHEMA.write_text(wanted)
    assert SCHEMA.read_text() == wanted
    jsonschema.Draft202012Validator.check_schema(notification_schema())
