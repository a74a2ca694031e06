"""What is written to receive-pack, and what it says before and afterwards (gitprotocol-pack(5)). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mirrord import __version__
from mirrord.errors import BrokenError, ContentError
from mirrord.wire.git.changes import LONGEST_REASON, Change, Pushed, PushStatus, RefResult
from mirrord.wire.git.command import ErrorText
from mirrord.wire.git.pktline import FLUSH, lines, packet, packets
from mirrord.wire.git.refs import valid_oid

_ZERO: Final = "0" * 40
_WORDS: Final = (b"\x02", b"\x03")  # bands for people
_SILENT: Final = "remote failed to report status"


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a host says before a push."""

    refs: Mapping[str, str]  # all that it shows, and under `.have` what else it has
    capabilities: frozenset[str]


def commands(changes: Sequence[Change], offered: frozenset[str]) -> bytes:
    """Write commands; the first one says what we make use of, of what is offered."""
    report = next((name for name in ("report-status-v2", "report-status") if name in offered), "")
    taken = [name for name in (report, "side-band-64k", "quiet", "object-format=sha1") if name in offered]
    taken += [f"agent=mirrord/{__version__}"] if any(name.startswith("agent=") for name in offered) else []
    written = [f"{change.old or _ZERO} {change.new or _ZERO} {change.ref}" for change in changes]
    written[0] += f"\0 {' '.join(taken)}"
    return b"".join([*(packet(line.encode("utf-8", "surrogateescape")) for line in written), FLUSH])


def read_advertisement(body: bytes) -> Advertisement:
    """Read what comes over HTTP: the name of the service in front. Raises ContentError."""
    first = next(iter(packets(body)), b"")
    if not first.startswith(b"# service=git-receive-pack"):
        raise ContentError("the host does not say what it is about to receive")
    return read_refs(body[4 + len(first) + len(FLUSH) :])


def read_refs(body: bytes) -> Advertisement:
    """Read `<oid> <name>` lines, of which the first one has the capabilities. Raises ContentError."""
    refs, capabilities = dict[str, str](), frozenset[str]()
    for number, line in enumerate(lines(body)):
        said, _, offered = line.partition(b"\0")
        if number == 0:
            capabilities = frozenset(offered.decode("utf-8", "replace").split())
        oid, _, name = said.decode("utf-8", "surrogateescape").partition(" ")
        if valid_oid(oid) and oid != _ZERO:
            refs[oid if name == ".have" else name] = oid
        elif oid not in {"shallow", _ZERO}:
            raise ContentError(f"{oid[:80]!a} is no object id")
    return Advertisement(refs, capabilities)


def read_report(body: bytes, changes: Sequence[Change], offered: frozenset[str]) -> Pushed:
    """Read what became of each ref: `unpack ok`, then `ok <ref>` or `ng <ref> <reason>`; options say nothing to us.

    The first reason against a ref counts, whatever follows.

    Raises:
        BrokenError: it is empty or cut off.
    """
    said, found = ErrorText(), dict[str, str | None]()
    reports = bool(offered & {"report-status", "report-status-v2"})
    if reports and not body:
        raise BrokenError("git-receive-pack ended before it reported what became of the refs")
    try:
        report = _heard(body, said) if body and "side-band-64k" in offered else body
        for line in lines(report) if report else ():
            verb, _, rest = line.decode("utf-8", "surrogateescape").partition(" ")
            ref, _, reason = rest.partition(" ")
            if verb == "unpack" and rest != "ok":
                said.add(f"remote: unpack failed: {rest}\n".encode("utf-8", "replace"))
            if verb in {"ok", "ng"}:
                found[ref] = found.get(ref) or (None if verb == "ok" else reason or "failed")
    except ContentError as error:
        raise BrokenError(f"what became of a push was not reported to its end: {error}") from error
    if not reports:
        return Pushed((), said.text())
    return Pushed(tuple(_result(change, found) for change in changes), said.text())


def _heard(body: bytes, said: ErrorText) -> bytes:
    """Split what comes in bands: return the report, and add to `said` what is for people, marked as git marks it."""
    report, heard = bytearray(), bytearray()
    for payload in packets(body):
        (heard if payload[:1] in _WORDS else report).extend(payload[1:])
    for line in filter(None, heard.replace(b"\r", b"\n").split(b"\n")):
        said.add(b"remote: " + line + b"\n")
    return bytes(report)


def _result(change: Change, found: Mapping[str, str | None]) -> RefResult:
    reason = found.get(change.ref, _SILENT)
    if reason is not None:
        return RefResult(change.ref, PushStatus.REJECTED, reason[:LONGEST_REASON], remote=True)
    moved = PushStatus.MOVED if change.old else PushStatus.CREATED
    return RefResult(change.ref, moved if change.new else PushStatus.DELETED)
