"""Speaks with receive-pack: commands and the pack that they need, in one POST (gitprotocol-http(5)) or over ssh.

`git push` hands every ref to a helper by name, and that one compares each with all that are here and there: 10 000 refs
take it 50 s of CPU before the first byte goes out. Here they are looked up, and git makes the pack alone. The host
compares each ref with what it was seen to be before it moves it, so that no lease has to be kept here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mirrord.errors import BrokenError, ContentError, MirrordError, RefusedError
from mirrord.wire.git.address import Address, check
from mirrord.wire.git.cache.bare import batch_check
from mirrord.wire.git.changes import Change, Pushed, PushStatus, RefResult, batches, joined
from mirrord.wire.git.command import Git
from mirrord.wire.git.commands import Advertisement, commands, read_advertisement, read_refs, read_report
from mirrord.wire.git.failures import classify
from mirrord.wire.git.lsrefs import LARGEST, REDIRECTS, authorization
from mirrord.wire.git.pktline import FLUSH
from mirrord.wire.git.refs import HEADS, TAGS
from mirrord.wire.git.ssh import SshSession, receiving
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import MIB, HttpRequest, HttpResponse, Upload
from mirrord.wire.offload import offload

BATCH: Final = 2000  # refs of one POST: when a host gives up on one, the others are there
BUFFER: Final = MIB  # bytes that are sent with their length, as git does (`http.postBuffer`); more goes in chunks
_ANSWER: Final = 64 * MIB
_PACK: Final = ("pack-objects", "--revs", "--stdout", "-q")

Read = Callable[[], Awaitable[bytes]]
"""Returns the next bytes of a pack, b"" at its end."""


async def push(
    git: Git,
    http: Http,
    folder: Path,
    address: Address,
    changes: Sequence[Change],
    *,
    on_sent: Callable[[int], None] = lambda _: None,
) -> Pushed:
    """Bring the changes of branches and tags, and nothing else, from the repository in `folder` to a host.

    What moved there since it was looked at is not overwritten unseen. Refs that are in the way of others (`dev` of
    `dev/x`) are deleted first, all others last. Never atomic: one protected branch would fail everything. `on_sent`
    is called with the bytes of packs as they are sent.

    Raises:
        MirrordError: the push as a whole failed, so that there is no result of any ref.
    """
    changes = [change for change in changes if change.ref.startswith((HEADS, TAGS))]
    if address.scheme == "ssh":
        return await _by_ssh(git, folder, address, changes, on_sent)
    check(address, git.book.policy(address.host))
    host = _Host(git, http, folder, address, on_sent)
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


async def _by_ssh(
    git: Git, folder: Path, address: Address, changes: Sequence[Change], on_sent: Callable[[int], None]
) -> Pushed:
    """Do that over ssh, each batch with a session of its own: a host reads commands once."""
    done = list[Pushed]()
    try:
        for batch in batches(changes, BATCH):
            done += await _session(git, folder, address, batch, on_sent)
    except MirrordError as error:
        if not any(one.results for one in done):
            raise
        return joined(done, error)
    return joined(done)


async def _offered(session: SshSession) -> Advertisement:
    body = await session.listing()
    return await offload(len(body), read_refs, body)


async def _session(
    git: Git, folder: Path, address: Address, changes: Sequence[Change], on_sent: Callable[[int], None]
) -> Sequence[Pushed]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(receiving(git, address))
        offered = await _offered(session)
        todo, done = _decided(changes, offered)
        if not todo:
            await session.write(FLUSH)
            return done
        wants = any(one.new for one in todo)
        haves = set(await _known(git, folder, offered.refs.values())) if wants else set[str]()
        pack = _pack(git, folder, todo, offered.capabilities, haves)
        read = await stack.enter_async_context(pack) if wants else None
        piece = await read() if read else b""  # before the commands go: what git cannot pack is never sent

        async def send() -> None:
            nonlocal piece
            await session.write(commands(todo, offered.capabilities))
            while read and piece:
                await session.write(piece)
                on_sent(len(piece))
                piece = await read()

        body = await session.answer(send, _ANSWER)
    return [*done, await offload(len(body), read_report, body, todo, offered.capabilities)]


def _pack(
    git: Git, folder: Path, changes: Sequence[Change], offered: frozenset[str], haves: Collection[str]
) -> AbstractAsyncContextManager[Read]:
    """Let git make the pack that the changes need, of a host that has `haves`."""
    wants = {change.new for change in changes if change.new is not None}
    more = ["--delta-base-offset"] if "ofs-delta" in offered else []
    more += [] if "no-thin" in offered else ["--thin"]
    stdin = "".join([*(f"{oid}\n" for oid in sorted(wants)), *(f"^{oid}\n" for oid in sorted(haves))])
    return git.piped([*_PACK, *more], folder=folder, stdin=stdin.encode())


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

    async def advertised(self) -> Advertisement:
        """Ask what is there. Raises MirrordError."""
        url = f"{self.address.url}/info/refs?service=git-receive-pack"
        answer = await self._fetch(HttpRequest("GET", url, self.address.host, cap=LARGEST), "advertisement")
        return await offload(len(answer.body), read_advertisement, answer.body)

    async def send(self, changes: Sequence[Change], offered: Advertisement, haves: Collection[str]) -> Pushed:
        """Send one batch. Raises MirrordError: its result is unknown."""
        head = commands(changes, offered.capabilities)
        async with AsyncExitStack() as stack:
            read: Read | None = None
            if any(change.new for change in changes):
                pack = _pack(self.git, self.folder, changes, offered.capabilities, haves)
                read = await stack.enter_async_context(pack)
            body = await _upload(head, read, self.on_sent)
            call = HttpRequest(
                "POST",
                f"{self.address.url}/git-receive-pack",
                self.address.host,
                {"Content-Type": "application/x-git-receive-pack-request"},
                body,
                cap=_ANSWER,
                attempts=1,
            )
            answer = await self._fetch(call, "result")
        return await offload(len(answer.body), read_report, answer.body, changes, offered.capabilities)

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

    `on_sent` is called with the bytes of the pack, without the commands in `head`.
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
