"""`mirrord front`: what the front does with a reference, and why."""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.ask import ask
from mirrord.cli.console import say, say_json
from mirrord.commands import LookAtFront
from mirrord.errors import MissingError
from mirrord.printable import plain, size
from mirrord.report.documents import adapter
from mirrord.report.moments import rfc3339
from mirrord.syncer.serving import FrontLook

_FROM = {
    "local": "local, which has it from a mirror; upstream is not asked",
    "cache": "the cache",
    "upstream": "upstream",
    "moved": "the cache, after upstream was asked whether the tag has moved",
}


def front(reference: str, *, config: Path | None, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    look = ask(LookAtFront(reference), config, state, quiet=True)
    if json:
        say_json({**adapter(FrontLook).dump_python(look, mode="json"), "fresh_until": rfc3339(look.fresh_until)})
    else:
        for line in _lines(look):
            say(plain(line))
    return MissingError.exit_code if look.comes_from == "refused" else 0


def _lines(look: FrontLook) -> list[str]:
    refused = look.comes_from == "refused"
    part = "" if look.size == look.whole else f" of {size(look.whole)}"
    words = "manifest only, " if not look.blobs else "in part, " if part else ""
    kept = f"{look.digest}, {words}{size(look.size)}{part}" if look.digest else "no"
    rows = {
        "allowed": f"no: {look.reason}" if refused else "yes, with a token" if look.needs_token else "yes",
        "by": look.line,
        "comes from": ""
        if refused
        else _FROM["moved" if look.comes_from == "upstream" and kept != "no" else look.comes_from],
        "here": "" if refused else kept,
        "fresh until": rfc3339(look.fresh_until) or "",
    }
    return [look.reference, *(f"  {name:<12} {text}" for name, text in rows.items() if text)]
