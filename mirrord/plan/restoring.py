"""Which names are set back to what: from what the ledger says that they had before. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from mirrord.errors import UsageError
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.plan.restored import AWAY, Names, Restored
from mirrord.plan.select import is_glob, matches
from mirrord.syncer.values import Backup


def earlier(
    moves: Sequence[LedgerEntry], places: Mapping[str, str], restored: Restored, called: Callable[[str], str] = str
) -> Sequence[Backup]:
    """Return what names had before, the newest first, after what is restored now.

    Args:
        moves: of the mirror, newest first.
        places: the address of each target; what happened at another one does not count.
        restored: what is restored now.
        called: what people call a name.
    """
    done = [one for one in moves if one.outcome is Settled.DONE and one.place == places.get(one.target)]
    now: dict[tuple[str, str], str | None] = {}
    found: dict[tuple[str, str], list[LedgerEntry]] = {}
    for one in done:
        now.setdefault((one.target, one.name), one.after)
        given_up = one.before is not None and one.before not in (one.after, now[one.target, one.name])
        if given_up and one.before is not None:
            found.setdefault((called(one.name), one.before), []).append(one)
    held = {(called(name), digest) for names in restored.held.values() for name, digest in names.items()}
    why = "restored; overrides the source until it is released"
    ours = [Backup(name, name, "" if digest.startswith(AWAY) else digest, why) for name, digest in sorted(held)]
    return [*ours, *(Backup(f"{n}@{digest}", n, digest, _why(those)) for (n, digest), those in found.items())]


Standing = Mapping[str, Mapping[str, Collection[str]]]
"""What names stand for now, as the ledger says: targets by name and digest."""


def standing(moves: Sequence[LedgerEntry], places: Mapping[str, str], called: Callable[[str], str] = str) -> Standing:
    """Return what names stand for now; the arguments are those of `earlier`."""
    seen = set[tuple[str, str]]()
    found = defaultdict[str, defaultdict[str, list[str]]](lambda: defaultdict(list))
    for one in moves:
        if one.outcome is Settled.DONE and one.place == places.get(one.target) and (one.target, one.name) not in seen:
            seen.add((one.target, one.name))
            if one.after is not None:
                found[called(one.name)][one.after].append(one.target)
    return found


def _why(moves: Sequence[LedgerEntry]) -> str:
    """Say what became of a name, with the newest move in front."""
    newest, targets = moves[0], dict.fromkeys(one.target for one in moves)
    what = "deleted" if newest.after is None else f"moved to {newest.after}"
    return f"{what} at {', '.join(targets)}, {newest.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def chosen(
    mirror: str, texts: Sequence[str], listed: Sequence[Backup], targets: Collection[str], now: Standing
) -> Names:
    """Return what names are to be set back to, at every target.

    Args:
        mirror: its name.
        texts: `NAME` for its newest earlier digest, `NAME@DIGEST`, whose digest may be cut short, or a glob of either.
        listed: what `earlier` returned.
        targets: of the mirror.
        now: what `standing` returned.

    Raises:
        UsageError: one of them means nothing, or what its name stands for already, or two digests are of one name.
    """
    every: dict[str, Backup] = {one.name: one for one in listed if "@" in one.name}
    newest: dict[str, Backup] = {}
    for one in every.values():
        newest.setdefault(one.item, one)
    wrong = f"cannot be restored: nothing is recorded of it; `mirrord restore {mirror}` lists what can"
    found: dict[str, Backup] = {}
    for text in texts:
        those = _those(text, every, newest)
        if not those and (at := _standing_at(text, now)):
            raise UsageError(f"{text[:300]} need not be restored: its name stands for it already at {', '.join(at)}")
        if not every:
            raise UsageError(f"{mirror}: {NO_LEDGER}")
        if not those:
            raise UsageError(f"{text[:300]} {wrong}")
        for one in those:
            first = found.setdefault(one.item, one)
            if first.name != one.name:
                raise UsageError(f"{first.name} and {one.name} are of one name; restore one of them")
    return {(target, name): one.digest for name, one in found.items() for target in targets}


NO_LEDGER: Final = (
    "nothing is known of what its names had before: no run has moved one yet, or the database was lost, and its ledger "
    "with it; `mirrord copy REPOSITORY@DIGEST REPOSITORY:TAG` sets a tag of an image whose digest you know"
)


def _those(text: str, every: Mapping[str, Backup], newest: Mapping[str, Backup]) -> Sequence[Backup]:
    """Return what is meant by one text of a command line."""
    if text in newest:
        return [newest[text]]
    if text in every:
        return [every[text]]
    if is_glob(text):
        of = every if "@" in text else newest
        return [one for name, one in of.items() if matches(name, (text,))]
    name, _, part = text.rpartition("@")
    cut = [one for one in every.values() if one.item == name and _begins(one.digest, part)]
    return cut if len(cut) == 1 else ()


def _standing_at(text: str, now: Standing) -> Sequence[str]:
    """Return the targets where a name stands for what a text says."""
    name, _, part = text.rpartition("@")
    return sorted({at for digest, those in now.get(name, {}).items() if _begins(digest, part) for at in those})


def _begins(digest: str, part: str) -> bool:
    """Whether a digest begins like that, with its algorithm or without."""
    hexadecimal = part.rpartition(":")[2]
    return len(hexadecimal) >= _SHORTEST and (digest.startswith(part) or digest.partition(":")[2].startswith(part))


_SHORTEST: Final = 7  # digits of a digest that is cut short


def undoing(
    mirror: str, number: int, began: datetime, moves: Sequence[LedgerEntry], places: Mapping[str, str]
) -> Names:
    """Return what every name that a run moved had before it; `AWAY` where that was nothing.

    Args:
        mirror: its name.
        number: of the run.
        began: when the run began, by which the ledger knows it.
        moves: of the mirror, newest first.
        places: the address of each target.

    Raises:
        UsageError: the run moved nothing that the ledger still has.
    """
    first: dict[tuple[str, str], LedgerEntry] = {}
    now: dict[tuple[str, str], str | None] = {}
    for one in moves:
        if one.outcome is Settled.DONE and one.place == places.get(one.target):
            now.setdefault((one.target, one.name), one.after)
            if one.run == began:
                first[one.target, one.name] = one  # the oldest one of the run stays
    if not first:
        raise UsageError(f"{mirror}: run {number} moved no name that the ledger has; {NO_LEDGER}")
    return {key: one.before or f"{AWAY}{now[key] or one.after}" for key, one in first.items()}
