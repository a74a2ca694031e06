"""`mirrord webhook certificate`: what the API server of Kubernetes has to trust."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

from mirrord.cli.console import note, say, say_json
from mirrord.cli.folders import configuration, state_folder
from mirrord.errors import UsageError
from mirrord.serve.own_certificate import OwnCertificate
from mirrord.syncer.port import load_syncers
from mirrord.wire.certificate import expiry


def webhook_certificate(*, config: Path | None, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    keys = configuration(config, load_syncers()).webhook
    if keys and keys.certificate:
        whose = f"webhook: has certificate: {keys.certificate}, so the caBundle is the certificate of its issuer"
        raise UsageError(f"{whose}; leave certificate: and key: out for one of mirrord")
    authority = OwnCertificate(state_folder(state, config)).authority(datetime.now(UTC))
    bundle, expires = base64.b64encode(authority).decode(), expiry(authority)
    if json:
        say_json({"caBundle": bundle, "expires": expires.isoformat() if expires else None})
        return 0
    say(bundle)
    if expires:
        note(f"the authority lasts until {expires:%Y-%m-%d}; write this once as caBundle of the webhook")
    return 0
