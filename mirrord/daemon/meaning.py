"""What a person means who takes something down: an image, a mirror, or an item of one; and where that may still be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches

from mirrord.daemon.runtime import Snapshot
from mirrord.errors import UsageError
from mirrord.model.memory import LastSeen
from mirrord.model.plan import Action
from mirrord.model.run import Run
from mirrord.model.takedown import LeftName, RemovedName
from mirrord.names.denied import Denied, DeniedEntry, check_item, parse_denied_image, parted
from mirrord.names.natural import natural_order
from mirrord.syncer.takedown import Moves
from mirrord.wire.oci.reference import subject_tag


def named(current: Snapshot, denied: Denied, what: str, item: str) -> DeniedEntry:
    """Return what a text names, without looking anywhere; `item` is one of the mirror `what`.

    Raises:
        UsageError: it is no mirror and no reference, or nothing of it is taken down by name.
    """
    ours = what in current.names or any(what == entry.mirror for entry in denied.entries)
    if item:
        if not ours:
            current.mirror(what)
        _check_items(current, what)
        return DeniedEntry(0, "", mirror=what, item=check_item(item))
    if ours:
        return DeniedEntry(0, "", mirror=what)
    _check_version(current, what)
    names = current.configuration.names
    if "@" in what:
        digest = names.meant(what).digest
        assert digest is not None
        return DeniedEntry(0, "", digests=(digest,))
    return DeniedEntry(0, "", parse_denied_image(what, lambda one: names.canonical(names.meant(str(one)))))


def check_known(current: Snapshot, what: str, image: str) -> None:
    """Refuse one word, which may be the name of a mirror with a mistake: no image that it may mean was ever mirrored.

    Raises:
        UsageError: it is one word.
    """
    if any(sign in what for sign in "/:@*"):
        return
    near = get_close_matches(what, current.names, 1)
    hint = f"did you mean {near[0]}?" if near else "`mirrord status` lists them;"
    meant = f"for an image that was never mirrored write {image}"
    raise UsageError(f"no mirror is called {what[:80]!r}; {hint} {meant}")


def _check_items(current: Snapshot, name: str) -> None:
    if name not in current.names:
        return  # it is gone from the configuration, and its entries may be lifted
    mirror = current.mirror(name)
    how = current.syncer(mirror).takes_down
    if how is None or how().item is None:
        instead = "write its reference, such as quay.io/acme/app:1.2" if how else f"take down all of it: {name}"
        raise UsageError(f"{name}: of a mirror of kind {mirror.kind} nothing is taken down by its name; {instead}")


def _check_version(current: Snapshot, what: str) -> None:
    """Refuse `MIRROR/ITEM`, which would mean an image at Docker Hub."""
    name, slash, item = what.partition("/")
    if not slash or name not in current.names or any(sign in item for sign in "/:@*"):
        return
    how = current.syncer(current.mirror(name)).takes_down
    if how is not None and how().item is not None:
        image = parse_denied_image(what)
        raise UsageError(f"{what}: for a version of {name} write {name} {item}; for the image write {image}")


def still_there(current: Snapshot, denied: Denied, moves: Mapping[str, Moves]) -> Mapping[int, list[str]]:
    """Return by the line of an entry what the record says is at targets all the same, in natural order. Blocks."""
    found = defaultdict[int, list[str]](list)
    for name, moved in moves.items():
        for line, text in _still(current, denied, name, moved):
            found[line].append(text)
    return {line: sorted(names, key=natural_order) for line, names in found.items()}


def same(one: DeniedEntry, found: DeniedEntry) -> bool:
    """Whether an entry is about this and nothing more."""
    if found.image or found.mirror:
        return (one.image, one.mirror, one.item) == (found.image, found.mirror, found.item)
    return not one.image and not one.mirror and found.digests[0] == one.digests[0]


def removed_by(run: Run) -> Iterator[RemovedName]:
    """Yield what a run removed at targets."""
    for receipt in run.receipts:
        step = receipt.step
        if receipt.good and step.names:
            yield RemovedName(run.mirror, step.target, step.item, step.digest)


def left_by(run: Run) -> Iterator[LeftName]:
    """Yield what a run could not remove."""
    if run.error:
        yield LeftName(run.mirror, "", "", run.error)
    for step in run.plan.steps if run.plan else ():
        if step.action is Action.REFUSE:
            yield LeftName(run.mirror, step.target, step.item, step.reason)
    for receipt in run.receipts:
        if not receipt.good:
            yield LeftName(run.mirror, receipt.step.target, receipt.step.item, receipt.detail)
        elif receipt.remark:
            yield LeftName(run.mirror, receipt.step.target, receipt.step.item, receipt.remark)


def denied_at(current: Snapshot, denied: Denied, name: str) -> Callable[[str, str, str], DeniedEntry | None]:
    """Return what finds the entry that denies something of a mirror: gets target, item and digest. Blocks."""
    mirror = current.mirror(name)
    syncer = current.syncer(mirror)
    referred = syncer.called if syncer.takes_down and syncer.takes_down().find else None  # else items are no images
    name_of = referred(mirror) if referred else None

    def find(target: str, item: str, digest: str) -> DeniedEntry | None:
        if (entry := denied.item(name, item, digest)) or name_of is None:
            return entry
        source, there = name_of(item)
        names = (one.partition("@")[0] for one in (source, there.get(target, "")))
        return next(filter(None, (denied.image(*parted(one)) for one in names)), None)

    return find


def taken_down(
    current: Snapshot, name: str, known: Mapping[tuple[str, str], LastSeen], moved: Moves
) -> Mapping[tuple[str, str], str]:
    """Return by target and item why it is denied, of what the record or the ledger says of a mirror. Blocks."""
    denied, item_of = current.configuration.denied, _item_of(current, name)
    find = denied_at(current, denied, name)
    seen = {(target, item_of(one)): move.after or move.before or "" for (target, one), move in moved.items()}
    seen |= {key: one.digest for key, one in known.items()}
    found = {key: find(*key, digest) for key, digest in seen.items() if not subject_tag(key[1])}
    return {key: entry.reason for key, entry in found.items() if entry}


def _item_of(current: Snapshot, name: str) -> Callable[[str], str]:
    """Return what tells the item of a name of the ledger."""
    syncer = current.syncer(current.mirror(name))
    return syncer.resets().called if syncer.resets else str


def _still(current: Snapshot, denied: Denied, name: str, moved: Moves) -> Iterator[tuple[int, str]]:
    item_of, find = _item_of(current, name), denied_at(current, denied, name)
    for (target, known), move in moved.items():
        if move.after is None:
            continue
        item = item_of(known)
        if entry := find(target, item, move.after):
            yield entry.line, f"{name} at {target}: {item}"
        elif kept := denied.kept_in(move.after):
            yield kept[0].line, f"{name} at {target}: {item}: {kept[1]}"
