"""Pushes refs from a cache to one destination: forced, never atomic, never `--mirror`, one result for each ref."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from mirrord.errors import ContentError, MirrordError
from mirrord.files import storage_errors
from mirrord.wire.git.address import Address
from mirrord.wire.git.changes import LONGEST_REASON, Change, Pushed, PushStatus, RefResult, batches, joined
from mirrord.wire.git.command import Git
from mirrord.wire.git.failures import classify
from mirrord.wire.git.receive_pack import receive_pack
from mirrord.wire.git.refs import HEADS, TAGS
from mirrord.wire.http.client import Http

BATCH = 500
EXPLICIT = 50  # refs named one by one; beyond, each costs a walk over all refs (500 of 20 000: 6 s, a wildcard 2.4 s)
EVERYTHING = ("refs/heads/*:refs/heads/*", "refs/tags/*:refs/tags/*")
_PUSH = ("push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-recurse-submodules", "--progress")
VIEWS: Final = "mirrord-views"
"""In the folder of the repository that is shown; `MirrorCache.care` sweeps what a crash left there."""

_CONFIG: Final = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"


@contextmanager
def view(folder: Path, refs: Mapping[str, str]) -> Iterator[Path]:
    """Lend a repository with these refs and the objects of that in `folder`. Blocks; raises StorageError.

    `git push` compares each ref that it is told with every local one: 5 000 refs of 10 000 take it 40 s before the
    first byte goes out. From a view of 500 it takes a tenth of a second.
    """
    place = folder / VIEWS / secrets.token_hex(8)
    try:
        with storage_errors(place):
            (place / "refs").mkdir(parents=True)
            (place / "objects" / "info").mkdir(parents=True)
            (place / "objects" / "info" / "alternates").write_text("../../../objects\n")
            (place / "config").write_text(_CONFIG)
            (place / "HEAD").write_text(f"ref: {HEADS}main\n")
            lines = "".join(f"{oid} {ref}\n" for ref, oid in sorted(refs.items()))
            (place / "packed-refs").write_bytes(lines.encode("utf-8", "surrogateescape"))
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


_FLAGS: Final = {
    "*": PushStatus.CREATED,
    " ": PushStatus.MOVED,
    "+": PushStatus.MOVED,  # by force
    "-": PushStatus.DELETED,
    "=": PushStatus.SAME,
    "!": PushStatus.REJECTED,
}
"""What git-push(1) says of a ref."""


async def push(
    git: Git,
    http: Http,
    folder: Path,
    address: Address,
    changes: Sequence[Change],
    *,
    held: Mapping[str, str] | None = None,
    on_sent: Callable[[int], None] = lambda _: None,
    deadline: float | None = None,
) -> Pushed:
    """Bring the changes, and nothing else, to a destination which was seen to have the refs `held`.

    `on_sent` hears of the bytes of packs that went: over HTTP while they go, over ssh afterwards, as git rounds them.

    What moved since then is not overwritten unseen. Refs that make room for others (`dev` for `dev/x`) are deleted
    first, all others last. Never `--atomic`: one protected branch would fail everything.

    Over ssh that is `git push` with a lease for each ref. (`+` or `--force` would silently defeat it.) Many go in
    batches, each from a view of its refs alone; where those are all new, wildcards that force nothing do the same in
    less time.

    Raises:
        MirrordError: the push as a whole failed, so that there is no result of any ref.
    """
    changes = [change for change in changes if change.ref.startswith((HEADS, TAGS))]
    if address.scheme != "ssh":
        return await receive_pack(git, http, folder, address, changes, on_sent=on_sent, deadline=deadline)
    done: list[Pushed] = []
    error: MirrordError | None = None
    for stage in _stages(changes, held or {}):
        try:
            if len(stage) > EXPLICIT:
                done.append(await _many(git, folder, address, stage, on_sent=on_sent, deadline=deadline))
            else:
                args = [*_leases(stage), "--", address.url, *map(_spec, stage)]
                done.append(await _push(git, folder, address, args, on_sent=on_sent, deadline=deadline))
        except MirrordError as failed:
            error = error or failed
    if error is not None and not done:
        raise error
    return joined(done, error)


async def _many(
    git: Git,
    folder: Path,
    address: Address,
    changes: Sequence[Change],
    *,
    on_sent: Callable[[int], None],
    deadline: float | None,
) -> Pushed:
    done: list[Pushed] = []
    for batch in batches(changes, BATCH):
        refs = {change.ref: change.new for change in batch if change.new is not None}
        named = [change for change in batch if change.new is None]
        fresh = bool(refs) and all(change.old is None for change in batch if change.new is not None)
        specs = [*EVERYTHING, *map(_spec, named)] if fresh else [*map(_spec, batch)]
        try:
            with ExitStack() as stack:
                place = await asyncio.to_thread(stack.enter_context, view(folder, refs))
                args = [*_leases(named if fresh else batch), "--", address.url, *specs]
                done.append(await _push(git, place, address, args, on_sent=on_sent, deadline=deadline))
        except MirrordError as error:
            if not done:
                raise
            return joined(done, error)
    return joined(done)


def _leases(changes: Iterable[Change]) -> Iterator[str]:
    return (f"--force-with-lease={change.ref}:{change.old or ''}" for change in changes)


def _stages(changes: Sequence[Change], held: Mapping[str, str]) -> Sequence[Sequence[Change]]:
    """Split changes so that git takes no ref for another.

    `refs/heads/main` is a short form of `refs/heads/refs/heads/main` too (gitrevisions(7)), which a mistyped push
    makes: beside it git changes neither, or, where only the long one is there, the long one. So long names make way,
    and come back when the short ones are what they shall be.
    """
    changed = {change.ref: change for change in changes}
    odd = {name for name in (*held, *changed) if name.startswith(_ODD)}
    moved_away: set[str] = set()
    queue = list(changed) if odd else []
    while queue:
        found = odd.intersection(_long(queue.pop())) - moved_away
        moved_away |= found
        queue += found
    if not moved_away:
        return [changes]
    near = [one for one in changes if one.ref not in moved_away]
    short = [one for one in near if not moved_away.isdisjoint(_long(one.ref))]
    rest = [one for one in near if moved_away.isdisjoint(_long(one.ref))]
    names = sorted(moved_away, key=lambda name: (len(name), name))
    away = [[Change(name, held[name], None)] for name in reversed(names) if name in held]
    wanted = {name: changed[name].new if name in changed else held[name] for name in names}
    back = [[Change(name, None, new)] for name, new in wanted.items() if new is not None]
    return [stage for stage in (rest, *away, short, *back) if stage]


_ODD: Final = ("refs/heads/refs/", "refs/tags/refs/")


def _long(ref: str) -> tuple[str, str]:
    """Return the names for which git takes a full name as well."""
    return f"refs/heads/{ref}", f"refs/tags/{ref}"


def in_the_way(standing: str, coming: str) -> bool:
    """Whether one ref has to go, or to make way for a moment, before the other one can be set."""
    folder = coming.startswith(f"{standing}/") or standing.startswith(f"{coming}/")
    return folder or (standing.startswith(_ODD) and standing.endswith(f"/{coming}"))


async def _push(
    git: Git,
    folder: Path,
    address: Address,
    args: Sequence[str],
    *,
    on_sent: Callable[[int], None],
    deadline: float | None,
) -> Pushed:
    output = await git.run([*_PUSH, *args], folder=folder, remote=address, ok=(0, 1), deadline=deadline)
    on_sent(output.written)
    results = parse_porcelain(output.out)
    if output.status and all(result.ok for result in results):  # git prints `Everything up-to-date` even then
        raise classify(output.status, output.err, address.host)
    return Pushed(results, output.err)


def _spec(change: Change) -> str:
    return f"{change.new or ''}:{change.ref}"


def parse_porcelain(out: bytes) -> tuple[RefResult, ...]:
    """Read the lines `<flag> TAB <from>:<to> TAB <summary> (<reason>)` (git-push(1), OUTPUT); others are passed over.

    Raises:
        ContentError: a line has the shape of a result and says nothing that git-push(1) knows.
    """
    results = list[RefResult]()
    for line in out.decode(errors="surrogateescape").split("\n"):
        if line[1:2] != "\t":
            continue
        flag, pair, summary = (*line.split("\t", 2), "")[:3]
        ref, status = pair.rpartition(":")[2], _FLAGS.get(flag)
        if status is None or not ref.startswith("refs/"):
            raise ContentError(f"git push said {line[:200]!r}, which is no result of a ref")
        if status is not PushStatus.REJECTED:
            results.append(RefResult(ref, status))
            continue
        label, opened, reason = summary.partition("] (")
        cause = (reason.removesuffix(")") if opened else label.strip("[]"))[:LONGEST_REASON] or "rejected"
        results.append(RefResult(ref, status, cause, label.startswith("[remote")))
    return tuple(results)
