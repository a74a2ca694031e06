"""Pushes refs from a cache to one destination: forced, never atomic, never `--mirror`, one result for each ref."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mirrord.wire.git.address import Address
from mirrord.wire.git.changes import Change, Pushed
from mirrord.wire.git.command import Git
from mirrord.wire.git.receive_pack import receive_pack
from mirrord.wire.git.refs import HEADS, TAGS
from mirrord.wire.http.client import Http


async def push(
    git: Git,
    http: Http,
    folder: Path,
    address: Address,
    changes: Sequence[Change],
    *,
    on_sent: Callable[[int], None] = lambda _: None,
    deadline: float | None = None,
) -> Pushed:
    """Bring the changes of branches and tags, and nothing else, to a destination.

    What moved there since it was looked at is not overwritten unseen. Refs that are in the way of others (`dev` of
    `dev/x`) are deleted first, all others last. Never atomic: one protected branch would fail everything. `on_sent`
    is called with the bytes of packs as they are sent.

    Raises:
        MirrordError: the push as a whole failed, so that there is no result of any ref.
    """
    changes = [change for change in changes if change.ref.startswith((HEADS, TAGS))]
    return await receive_pack(git, http, folder, address, changes, on_sent=on_sent, deadline=deadline)


def in_the_way(standing: str, coming: str) -> bool:
    """Whether one ref has to go before the other one can be set."""
    return coming.startswith(f"{standing}/") or standing.startswith(f"{coming}/")
