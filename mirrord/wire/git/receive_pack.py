"""Speaks with receive-pack over HTTP: commands and the pack that they need in one POST (gitprotocol-http(5)).

`git push` hands every ref to a helper by name, and that one compares each with all that are here and there: 10 000 refs
take it 50 s of CPU before the first byte goes out. Here they are looked up, and git makes the pack alone. The host
compares each ref with what it was seen to be before it moves it, so that no lease has to be kept here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mirrord import __version__
from mirrord.errors import BrokenError, ContentError, MirrordError, RefusedError
from mirrord.wire.git.address import Address, check
from mirrord.wire.git.cache.bare import batch_check
from mirrord.wire.git.changes import LONGEST_REASON, Change, Pushed, PushStatus, RefResult, batches, joined
from mirrord.wire.git.command import ErrorText, Git
from mirrord.wire.git.failures import classify
from mirrord.wire.git.lsrefs import LARGEST, REDIRECTS, authorization
from mirrord.wire.git.pktline import FLUSH, lines, packet, packets
from mirrord.wire.git.refs import valid_oid
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import MIB, HttpRequest, HttpResponse, Upload
from mirrord.wire.offload import offload

BATCH: Final = 2000  # refs of one POST: when a host gives up on one, the others are there
BUFFER: Final = MIB  # bytes that are sent with their length, as git does (`http.postBuffer`); more goes in chunks
_ANSWER: Final = 64 * MIB
_ZERO: Final = "0" * 40
_PACK: Final = ("pack-objects", "--revs", "--stdout", "-q")
_WORDS: Final = (b"\x02", b"\x03")  # bands for people (gitprotocol-pack(5))
_SILENT: Final = "remote failed to report status"

Read = Callable[[], Awaitable[bytes]]
"""Returns the next bytes of a pack, b"" at its end."""


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a host says before a push."""

    refs: Mapping[str, str]  # all that it shows, and under `.have` what else it has
    capabilities: frozenset[str]


async def receive_pack(
    git: Git,
    http: Http,
    folder: Path,
    address: Address,
    changes: Sequence[Change],
    *,
    on_sent: Callable[[int], None],
    deadline: float | None = None,
) -> Pushed:
    """Bring the changes, and nothing else, from the repository in `folder` to a host; see `push`."""
    check(address, git.book.policy(address.host))
    host = _Host(git, http, folder, address, on_sent, deadline)
    offered = await host.advertised()
    todo, done = _decided(changes, offered)
    haves = set(await _known(git, folder, offered.refs.values())) if any(one.new for one in todo) else set[str]()
    for batch in batches(todo, BATCH):
        try:
            done.append(await host.send(batch, offered, haves))
        except MirrordError as error:
            if len(done) == 1 and not done[0].results:
                raise
            return joined(done, error)
        sent = {change.ref: change.new for change in batch}
        haves |= {new for result in done[-1].results if result.ok and (new := sent[result.ref])}
    return joined(done)


def _decided(changes: Sequence[Change], offered: Advertisement) -> tuple[Sequence[Change], list[Pushed]]:
    """Split changes into what is to be sent, and what came of the others."""
    todo, results = list[Change](), list[RefResult]()
    for change in changes:
        now = offered.refs.get(change.ref)
        if now == change.new:
            results.append(RefResult(change.ref, PushStatus.SAME))
        elif now != change.old:
            results.append(RefResult(change.ref, PushStatus.REJECTED, "stale info"))
        elif change.new is None and "delete-refs" not in offered.capabilities:
            results.append(RefResult(change.ref, PushStatus.REJECTED, "remote does not support deleting refs"))
        else:
            todo.append(change)
    return todo, [Pushed(tuple(results))]


async def _known(git: Git, folder: Path, oids: Collection[str]) -> Iterable[str]:
    """Return those of the host's objects that are here, too."""
    asked = sorted(set(oids))
    found = await batch_check(git, folder, asked, "objecttype") if asked else ()
    return (oid for oid, kind in zip(asked, found, strict=True) if not kind.endswith(" missing"))


@dataclass(frozen=True, slots=True)
class _Host:
    """One repository at a host."""

    git: Git
    http: Http
    folder: Path
    address: Address
    on_sent: Callable[[int], None]
    deadline: float | None

    async def advertised(self) -> Advertisement:
        """Ask what is there. Raises MirrordError."""
        url = f"{self.address.url}/info/refs?service=git-receive-pack"
        answer = await self._fetch(HttpRequest("GET", url, self.address.host, cap=LARGEST), "advertisement")
        return await offload(len(answer.body), _read_advertisement, answer.body)

    async def send(self, changes: Sequence[Change], offered: Advertisement, haves: Collection[str]) -> Pushed:
        """Send one batch. Raises MirrordError: nobody knows what came of it."""
        head = _commands(changes, offered.capabilities)
        wants = {change.new for change in changes if change.new is not None}
        async with AsyncExitStack() as stack:
            read: Read | None = None
            if wants:
                more = ["--delta-base-offset"] if "ofs-delta" in offered.capabilities else []
                more += [] if "no-thin" in offered.capabilities else ["--thin"]
                stdin = "".join([*(f"{oid}\n" for oid in sorted(wants)), *(f"^{oid}\n" for oid in sorted(haves))])
                piped = self.git.piped([*_PACK, *more], folder=self.folder, stdin=stdin.encode())
                read = await stack.enter_async_context(piped)
            body = await _upload(head, read, self.on_sent)
            call = HttpRequest(
                "POST",
                f"{self.address.url}/git-receive-pack",
                self.address.host,
                {"Content-Type": "application/x-git-receive-pack-request"},
                body,
                cap=_ANSWER,
                deadline=self.deadline,
                attempts=1,
            )
            answer = await self._fetch(call, "result")
        return await offload(len(answer.body), _read_report, answer.body, changes, offered.capabilities)

    async def _fetch(self, call: HttpRequest, what: str) -> HttpResponse:
        """Ask the host; no redirect is followed, since repositories are renamed and their names taken by others."""
        media = f"application/x-git-receive-pack-{what}"
        headers = {"Accept": media, **call.headers, **await authorization(self.git, self.address)}
        try:
            answer = await self.http.fetch(replace(call, headers=headers, ok=(200, *REDIRECTS)))
        except RefusedError as error:
            said = str(error).partition(f": status {error.status}: ")[2]
            raise classify(1, f"{f'remote: {said}' if said else ''}\nHTTP {error.status}", self.address.host) from error
        if answer.status != 200:
            raise classify(1, f"HTTP {answer.status}", self.address.host)
        if answer.headers.get("content-type", "").partition(";")[0].strip() != media:
            text = "answers, and not as Git does: a login page, or another kind of address"
            raise ContentError(f"{self.address}: {text}")
        return answer


async def _upload(head: bytes, read: Read | None, on_sent: Callable[[int], None]) -> Upload:
    """Return a body of known size when it is short, else one that is made while it is sent, and that once.

    `on_sent` hears of the bytes of the pack, and not of the commands in `head`.
    """
    start, ended = bytearray(head), read is None
    while read is not None and not ended and len(start) <= BUFFER:
        piece = await read()
        ended = not piece
        start += piece
    taken = False

    async def content() -> AsyncIterator[bytes]:
        nonlocal taken
        if taken and not ended:
            raise BrokenError("a pack that is made while it is sent cannot be sent twice; the next run tries again")
        taken = True
        yield bytes(start)
        on_sent(len(start) - len(head))
        while read is not None and not ended and (more := await read()):
            yield more
            on_sent(len(more))

    return Upload(len(start) if ended else None, content)


def _commands(changes: Sequence[Change], offered: frozenset[str]) -> bytes:
    """Write commands; the first one says what we make use of, of what is offered."""
    report = next((name for name in ("report-status-v2", "report-status") if name in offered), "")
    taken = [name for name in (report, "side-band-64k", "quiet", "object-format=sha1") if name in offered]
    taken += [f"agent=mirrord/{__version__}"] if any(name.startswith("agent=") for name in offered) else []
    written = [f"{change.old or _ZERO} {change.new or _ZERO} {change.ref}" for change in changes]
    written[0] += f"\0 {' '.join(taken)}"
    return b"".join([*(packet(line.encode("utf-8", "surrogateescape")) for line in written), FLUSH])


def _read_advertisement(body: bytes) -> Advertisement:
    """Read `<oid> <name>` lines, of which the first one has the capabilities. Raises ContentError."""
    first = next(iter(packets(body)), b"")
    if not first.startswith(b"# service=git-receive-pack"):
        raise ContentError("the host does not say what it is about to receive")
    refs, capabilities = dict[str, str](), frozenset[str]()
    for number, line in enumerate(lines(body[4 + len(first) + len(FLUSH) :])):
        said, _, offered = line.partition(b"\0")
        if number == 0:
            capabilities = frozenset(offered.decode("utf-8", "replace").split())
        oid, _, name = said.decode("utf-8", "surrogateescape").partition(" ")
        if valid_oid(oid) and oid != _ZERO:
            refs[oid if name == ".have" else name] = oid
        elif oid not in {"shallow", _ZERO}:
            raise ContentError(f"{oid[:80]!a} is no object id")
    return Advertisement(refs, capabilities)


def _read_report(body: bytes, changes: Sequence[Change], offered: frozenset[str]) -> Pushed:
    """Read what became of each ref: `unpack ok`, then `ok <ref>` or `ng <ref> <reason>`; options say nothing to us.

    Raises:
        BrokenError: it is cut off.
    """
    said, found = ErrorText(), dict[str, str | None]()
    try:
        report = _heard(body, said) if "side-band-64k" in offered else body
        for line in lines(report) if report else ():
            verb, _, rest = line.decode("utf-8", "surrogateescape").partition(" ")
            ref, _, reason = rest.partition(" ")
            if verb == "unpack" and rest != "ok":
                said.add(f"error: remote unpack failed: {rest}\n".encode("utf-8", "replace"))
            if verb in {"ok", "ng"}:
                found[ref] = None if verb == "ok" else reason or "failed"
    except ContentError as error:
        raise BrokenError(f"what became of a push was not reported to its end: {error}") from error
    if not offered & {"report-status", "report-status-v2"}:
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
