"""Removes content from a layout folder: what was taken down, and what only that needs. Everything here blocks."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from pathlib import Path

from mirrord import failpoints
from mirrord.files import storage_errors
from mirrord.model.digest import Digest
from mirrord.wire.oci.layout import INDEX, MARK, REF_NAME, blob_name
from mirrord.wire.oci.layout_index import LayoutIndex, Read, locked, manifest_of, reached, replace_top


def drop(folder: Path, doomed: Collection[Digest]) -> Collection[Digest]:
    """Remove manifests, what is about them, and their content, as far as nothing that is listed by a name needs it.

    First the entries without a name go, then files, the manifests last: after a crash the same call removes the rest.
    Content that `index.json` does not reach, and that no manifest of these refers to, stays.

    Returns:
        Those that stay, since something else there needs them.

    Raises:
        ContentError: the layout is damaged: what else is needed is not known, and nothing was removed.
        StorageError: the disk failed.
    """
    if not (folder / MARK).exists():
        return ()
    with storage_errors(folder), locked(folder):
        index, read = LayoutIndex.read(folder), cache(lambda digest: manifest_of(folder, digest))
        named = {one.digest for one in index.listed if REF_NAME in one.annotations}
        bare = {one.digest for one in index.listed} - named
        going = {*doomed}.intersection(bare) | _about({*doomed}, named, bare, read)
        needed = {*reached(named | (bare - going), read)}
        lost = [one for one in reached([*doomed, *sorted(going)], read, sure=False) if one not in needed]
        if going:
            replace_top(folder / INDEX, index.without(going).body)
        for digest in reversed(lost):  # parts come after what refers to them
            (folder / blob_name(digest)).unlink(missing_ok=True)
            failpoints.hit("takedown.blob")
    return needed.intersection(doomed)


def _about(doomed: Collection[Digest], named: Collection[Digest], bare: Collection[Digest], read: Read) -> set[Digest]:
    """Return the manifests without a name that are about what goes, about these, and so on."""
    subjects: dict[Digest, list[Digest]] = {}
    for digest in bare:
        manifest = read(digest)
        if manifest and manifest.subject:
            subjects.setdefault(manifest.subject.digest, []).append(digest)
    kept, found = {*reached(named, read)}, set[Digest]()
    due = [one for one in reached(doomed, read, sure=False) if one not in kept]
    while due:
        fresh = [one for one in subjects.pop(due.pop(), ()) if one not in kept]
        found.update(fresh)
        due += fresh
    return found
