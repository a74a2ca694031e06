"""Adds many new refs to `packed-refs` at once, as `git clone` does: a file for each takes ten times as long.

Five thousand refs cost `git fetch`, `git update-ref` and `git pack-refs` 20 000 small files made, flushed and removed
again: 4 to 20 s, as the disk has it. Blocks for a moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mirrord import failpoints
from mirrord.files import settle
from mirrord.wire.git.cache.repair import disk

MANY: Final = 500  # refs; fewer are git's
_HEADER: Final = "# pack-refs with: peeled fully-peeled sorted \n"


def add(folder: Path, refs: Mapping[str, str], peeled: Mapping[str, str]) -> bool:
    """Add refs (full name → id; valid names, objects that are here) durably, all or none.

    `peeled` has those that are annotated tags → what these are of. Nobody else changes refs of that repository
    meanwhile, and git is kept out by its own lock. Returns False, and nothing was done, when git has to do it: one of
    them is there already, or in the way of another, or the file is locked, or of a kind that is not known here. Raises
    StorageError: the disk said no; nothing was added.
    """
    target, lock = folder / "packed-refs", folder / "packed-refs.lock"
    with disk(target):
        try:
            handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(handle, "wb") as file:
                held = _read(target)
                if held is None or not _all_new(folder, refs, held):
                    lock.unlink()
                    return False
                for ref, oid in refs.items():
                    held[ref] = f"{oid} {ref}\n" + (f"^{peeled[ref]}\n" if ref in peeled else "")
                ordered = sorted(held, key=os.fsencode)  # as git does: by the names' bytes
                file.write((_HEADER + "".join(map(held.__getitem__, ordered))).encode("utf-8", "surrogateescape"))
                settle(file, lock, target, written=lambda: failpoints.hit("git.packed"))
        except BaseException:
            lock.unlink(missing_ok=True)
            raise
    return True


def _read(target: Path) -> dict[str, str] | None:
    """Return the entries by name, as they are written; None for a file whose tags are not all peeled."""
    try:
        text = target.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return {}
    header, _, rest = text.partition("\n")
    if "fully-peeled" not in header.split() or not header.startswith("# pack-refs with:"):
        return None
    entries: dict[str, str] = {}
    name = ""
    for line in rest.split("\n")[:-1]:
        if line.startswith("^"):
            entries[name] += f"{line}\n"
        else:
            name = line.partition(" ")[2]
            entries[name] = f"{line}\n"
    return entries


def _all_new(folder: Path, refs: Mapping[str, str], held: Mapping[str, str]) -> bool:
    """Whether none is there, in the list or as a file, and none is a folder of another one."""
    names = {*refs, *held}
    folders = {above for name in refs for above in _above(name)}
    taken = not refs.keys().isdisjoint(held) or not folders.isdisjoint(names)
    taken = taken or any(not refs.keys().isdisjoint(_above(name)) for name in held)
    taken = taken or any((folder / above).is_file() for above in folders)
    return not taken and not any(os.path.lexists(folder / name) for name in refs)


def _above(name: str) -> Iterator[str]:
    """Yield the folders of a ref's name, without `refs` itself."""
    at = name.find("/", len("refs/"))
    while at > 0:
        yield name[:at]
        at = name.find("/", at + 1)
