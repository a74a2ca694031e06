"""Pushes refs from a cache to one destination: forced, never atomic, never `--mirror`, one result for each ref."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirrord.wire.git.address import Address
from mirrord.wire.git.command import Git, Output
from mirrord.wire.git.failures import classify
from mirrord.wire.git.porcelain import RefResult, parse_porcelain

EXPLICIT = 50  # refs named one by one; beyond, each costs a walk over all refs (500 of 20 000: 6 s, a wildcard 2.4 s)
EVERYTHING = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_PUSH = ("push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-recurse-submodules")


@dataclass(frozen=True, slots=True)
class Change:
    """One ref that shall change at the destination.

    Attributes:
        ref: its full name.
        old: what the destination was seen to have, or None when it has no such ref.
        new: what it shall have, or None when the ref shall go.
    """

    ref: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    Attributes:
        results: what git says of each ref; the truth is what the destination shows afterwards.
        words: what git and the host said besides, redacted.
    """

    results: tuple[RefResult, ...]
    words: str = ""


async def push(
    git: Git,
    folder: Path,
    address: Address,
    changes: Sequence[Change],
    *,
    spared: Collection[str] = (),
    deadline: float | None = None,
) -> Pushed:
    """Bring the changes to a destination.

    A few are named one by one, each with a lease on what was seen there: what moved since then is not overwritten
    unseen. (`+` or `--force` would silently defeat the lease.) Many go as wildcards with `--prune`, so that the
    destination gets exactly the heads and tags of the cache, but for those that are `spared`.

    Never `--atomic`: one protected branch, or `dev` giving way to `dev/x`, would fail everything.

    Raises:
        MirrordError: the push as a whole failed, so that there is no result of any ref.
    """
    few = len(changes) <= EXPLICIT
    options = [f"--force-with-lease={change.ref}:{change.old or ''}" for change in changes] if few else ["--prune"]
    specs = [_spec(change) for change in changes] if few else [*EVERYTHING, *(f"^{ref}" for ref in sorted(spared))]
    args = [*_PUSH, *options, "--", address.url, *specs]
    output = await git.run(args, folder=folder, remote=address, ok=(0, 1), deadline=deadline)
    results = parse_porcelain(output.out)
    _check(output, results, address)
    return Pushed(results, output.err)


def _spec(change: Change) -> str:
    return f"{change.new or ''}:{change.ref}"


def _check(output: Output, results: Sequence[RefResult], address: Address) -> None:
    """Raise for a push that failed before it came to refs: git prints `Everything up-to-date` even then."""
    if output.status and all(result.ok for result in results):
        raise classify(output.status, output.err, address.host)
