"""`mirrord webhook policy`: objects with which the API server points images by itself."""

from __future__ import annotations

import json as json_
from pathlib import Path

from mirrord.cli.console import note, say
from mirrord.cli.folders import configuration
from mirrord.config.webhook import UNTOUCHED
from mirrord.pointing.admission.policy import name_policy, policy_objects
from mirrord.pointing.places import Places
from mirrord.syncer.port import load_syncers


def webhook_policy(*, config: Path | None) -> int:
    """Run the command and return its exit code."""
    read = configuration(config, load_syncers())
    places = Places(read, policy="always")
    policy = name_policy(read, places)
    namespaces = read.webhook.except_ if read.webhook else UNTOUCHED
    objects = policy_objects(policy, namespaces)
    say(json_.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=2))
    for line in policy.left:
        note(f"left out: {line}")
    return 0
