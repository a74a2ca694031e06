"""`mirrord verify`: whether the targets still have what was mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mirrord.cli.ask import ask
from mirrord.cli.console import say, say_json, shortened, table
from mirrord.cli.exits import verify_exit_code
from mirrord.commands import Verify
from mirrord.errors import UsageError
from mirrord.model.verification import Level, TargetVerification, Verification
from mirrord.printable import size
from mirrord.report.documents import adapter

_SHOWN: Final = 20  # findings of a target without `--verbose`
_DAMAGED: Final = (
    "bytes that are damaged still: many registries keep what they have under a digest;"
    " delete it on the disk of the registry, then repair again"
)


def verify(
    names: tuple[str, ...],
    *,
    config: Path | None,
    state: Path | None,
    deep: bool,
    bytes: bool,  # noqa: A002 - the option's name
    repair: bool,
    quiet: bool,
    verbose: bool,
    json: bool,
) -> int:
    """Run the command and return its exit code."""
    if deep and bytes:
        raise UsageError("--bytes looks as far as --deep and further; give one of them")
    level = Level.BYTES if bytes else Level.DEEP if deep else Level.NAMES
    found = ask(Verify(names, level, repair), config, state, quiet=json or quiet)
    if json:
        say_json({"verifications": adapter(tuple[Verification, ...]).dump_python(found, mode="json")})
    else:
        _say(found, quiet=quiet, verbose=verbose)
    return verify_exit_code(found)


def _say(found: Sequence[Verification], *, quiet: bool, verbose: bool) -> None:
    """Print a row for each target, what was repaired, and what differs or could not be found out."""
    targets = [(one, target) for one in found for target in one.targets if not (quiet and target.equal)]
    if targets:
        rows = [(one.mirror, target.target, *_row(target)) for one, target in targets]
        table(("MIRROR", "TARGET", "RESULT", "LEVEL", "CHECKED", "DIFFER", "UNKNOWN", "BYTES READ"), rows)
    for one in found:
        if refused := sum(target.refused for target in one.targets):
            say(f"{one.mirror}: {refused} refused by a rule, which is no drift")
        if one.repaired is not None and not quiet:
            say(f"{one.mirror}: {one.repaired} repaired")
        if one.repaired is not None and any(each.code == "bytes" for target in one.targets for each in target.findings):
            say(f"{one.mirror}: {_DAMAGED}")
        if one.error:
            say(f"{one.mirror}: the repair failed: {one.error}")
    for one, target in targets:
        shown = target.findings if verbose else target.findings[:_SHOWN]
        for finding in shown:
            text = finding.text if verbose else shortened(finding.text)
            about = f"{finding.item}: " if finding.item and not text.startswith(finding.item) else ""
            say(f"{one.mirror} {target.target} {finding.code}: {about}{text}")
        if more := max(len(target.findings), target.drift + target.unknown + target.refused) - len(shown):
            say(f"{one.mirror} {target.target}: and {more} more{'' if verbose else '; --verbose shows them'}")


def _row(target: TargetVerification) -> tuple[str, ...]:
    result = "equal" if target.equal else "drift" if target.drift else "unknown"
    if target.equal and any(one.code == "refused" and not one.item for one in target.findings):
        result = "refused"  # as a whole: the mirror was taken down
    share = f" of {size(target.size)}" if target.size else ""
    read = f"{size(target.read)}{share}" if target.level is Level.BYTES else ""
    return result, target.level.value, str(target.checked), str(target.drift), str(target.unknown), read
