"""A bare repository on our disk: made, repaired, read, measured and changed by git, one change at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrord.errors import BusyError, MirrordError, TooLargeError, UnsupportedError
from mirrord.wire.git.address import Address
from mirrord.wire.git.cache import packed
from mirrord.wire.git.cache.repair import begin, occupied, repair, take_place
from mirrord.wire.git.command import Git
from mirrord.wire.git.refs import HEADS, TAGS, Refs, valid_oid, valid_ref
from mirrord.wire.offload import offload

OURS: Final = "refs/mirrord/"
INCOMING: Final = "refs/mirrord/incoming/"
VACATED: Final = 10.0  # seconds that git of an earlier process has to end
_LOOK: Final = 0.1  # seconds between looks whether it has

# What old histories hold and cannot be corrected any more. Whatever else git finds wrong in an object is refused when
# it is fetched (CVE-2014-9390, CVE-2018-11235: names and modules that do harm in a checkout).
HISTORIC: Final = (
    *("badDate", "badDateOverflow", "badEmail", "badFilemode", "badName", "badTimezone", "duplicateEntries"),
    *("emptyName", "fullPathname", "missingEmail", "missingNameBeforeEmail", "missingSpaceBeforeDate"),
    *("missingSpaceBeforeEmail", "missingTaggerEntry", "multipleAuthors", "treeNotSorted", "zeroPaddedDate"),
    *("zeroPaddedFilemode", "nullSha1", "gitmodulesMissing", "gitmodulesParse"),
)

_REFSPECS = (f"+{HEADS}*:{INCOMING}heads/*", f"+{TAGS}*:{INCOMING}tags/*")
_FETCH = ("fetch", "--quiet", "--prune", "--no-tags", "--force", "--no-write-fetch-head", "--no-auto-maintenance")
_SHALLOW: Final = "shallow roots are not allowed to be updated"
_CHECKS: Final = {"fetch.fsckObjects": "true", **{f"fetch.fsck.{name}": "warn" for name in HISTORIC}}
_ONE_PACK: Final = {"fetch.unpackLimit": "1"}  # one file, whose size the system limits


async def batch_check(git: Git, folder: Path, names: Iterable[str], *fields: str) -> list[str]:
    """Return what git says of each object, in the order of names (gitrevisions(7)); `NAME missing` of what is not here.

    No name has a line feed in it; `fields` are as git-cat-file(1) calls them, `objectname` by default.
    """
    form = " ".join(f"%({field})" for field in fields or ("objectname",))
    stdin = "".join(f"{name}\n" for name in names).encode()
    out = (await git.run(["cat-file", f"--batch-check={form}", "--buffer"], folder=folder, stdin=stdin)).out
    return out.decode().splitlines()


class Bare:
    """One bare repository; its folder is made on first use.

    Callers take care that only one of them changes it at a time; `take` may be called by several. Reading is always
    allowed.
    """

    def __init__(self, git: Git, folder: Path) -> None:
        """Keep it in `folder`."""
        self._git, self.folder = git, folder
        self._fetches = 0  # under way

    async def prepare(self, head: str = f"{HEADS}main") -> None:
        """Make it, or repair what a crash left; HEAD becomes `head` if it is lost.

        Raises:
            BusyError: git of an earlier process still works in it.
            StorageError: the disk said no.
        """
        await self._vacated()
        stranded = await asyncio.to_thread(repair, self.folder, head)
        if stranded is None:
            fresh = await asyncio.to_thread(begin, self.folder)
            await self._git.run(["init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--", str(fresh)])
            await asyncio.to_thread(take_place, fresh, self.folder)
        for pack in stranded or ():  # without its index git does not see a pack, and fetches all of it once more
            output = await self._git.run(["index-pack", str(pack)], folder=self.folder, ok=tuple(range(256)))
            if output.status:
                await asyncio.to_thread(pack.unlink, missing_ok=True)

    async def _vacated(self) -> None:
        """Wait until no git process of an earlier mirrord, which was killed, works in it. Raises BusyError."""
        waited = 0.0
        while self.folder not in self._git.vacant and await asyncio.to_thread(occupied, self.folder):
            if waited >= VACATED:
                text = f"busy: git of an earlier run, which was killed, still works in {self.folder}"
                raise BusyError(f"{text}; the next run tries again")
            await asyncio.sleep(_LOOK)
            waited += _LOOK
        self._git.vacant.add(self.folder)

    async def refs(self, *under: str) -> Mapping[str, str]:
        """Return refs by full name, in one call: all, or those below the names of `under`."""
        args = ["for-each-ref", "--format=%(objectname) %(refname)", *(under or ("refs/",))]
        out = (await self._git.run(args, folder=self.folder)).out
        return await offload(len(out), _listed, out)

    async def head(self) -> str:
        """Return what HEAD points to."""
        out = (await self._git.run(["symbolic-ref", "--quiet", "HEAD"], folder=self.folder)).out
        return out.decode("utf-8", "surrogateescape").removesuffix("\n")

    async def commits(self, oids: Iterable[str]) -> Mapping[str, str | None]:
        """Return those objects that are here, each with the commit that it is or that it is a tag of, or None."""
        asked = sorted(filter(valid_oid, set(oids)))
        if not asked:
            return {}
        names = [name for oid in asked for name in (oid, f"{oid}^{{commit}}")]
        lines = await batch_check(self._git, self.folder, names)
        found = [line if valid_oid(line) else None for line in lines]
        return {oid: found[2 * place + 1] for place, oid in enumerate(asked) if found[2 * place]}

    async def update(self, refs: Mapping[str, str], gone: Iterable[str] = ()) -> None:
        """Set and delete refs in one transaction: all or none."""
        gone = tuple(gone)
        if len(refs) >= packed.MANY and not gone and await self._add(refs):
            return
        if refs or gone:
            stdin = await asyncio.to_thread(_transaction, refs, gone)
            await self._git.run(["update-ref", "--stdin", "-z"], folder=self.folder, stdin=stdin)

    async def _add(self, refs: Mapping[str, str]) -> bool:
        """Add refs that are new, all at once; False when that is not for us to do."""
        oids = await asyncio.to_thread(lambda: sorted(set(refs.values())))
        lines = await batch_check(self._git, self.folder, [f"{oid}^{{}}" for oid in oids], "objectname", "objecttype")

        def add() -> bool:
            ends = dict(zip(oids, (line.partition(" ")[::2] for line in lines), strict=True))
            peeled = {ref: ends[oid][0] for ref, oid in refs.items() if ends[oid][0] != oid}
            whole = all(valid_oid(end) for end, _ in ends.values())
            branches = (ref for ref in refs if ref.startswith(HEADS))
            if not whole or any(ref in peeled or ends[refs[ref]][1] != "commit" for ref in branches):
                return False  # missing, or no commits: git has words for that
            return packed.add(self.folder, refs, peeled)

        return await asyncio.to_thread(add)

    async def point(self, head: str) -> None:
        """Let HEAD point to a branch, by its full name; anything else is left alone."""
        if head.startswith(HEADS) and valid_ref(head) and head != await self.head():
            await self._git.run(["symbolic-ref", "--", "HEAD", head], folder=self.folder)

    async def bring(self, address: Address, deadline: float | None, seen: Refs | None = None) -> None:
        """Fetch the branches and tags of `address` into `INCOMING`; what is gone there goes here too.

        Not `--atomic`: that fails for ever when `dev` gives way to `dev/x`. Of what upstream was `seen` to have, many
        refs that are all new are brought by id, and added at once; `deadline` is in seconds.

        Raises:
            ContentError: what came, or what is here, is damaged or dangerous.
            UnsupportedError: it is shallow; git leaves out what would need the missing history, and calls that success.
            MirrordError: it cannot be had.
        """
        if seen is None or not await self._bring_new(address, deadline, seen):
            await self._fetch(address, deadline, _REFSPECS)

    async def _bring_new(self, address: Address, deadline: float | None, seen: Refs) -> bool:
        """Bring many refs where there are none yet; False when that is not the case, or upstream moved meanwhile."""
        if len(seen.refs) < packed.MANY or await self.refs(INCOMING):
            return False
        refs, oids = await asyncio.to_thread(_incoming, seen)
        try:
            await self._fetch(address, deadline, (), oids)
        except BusyError:
            return False
        return await self._add(refs)

    async def take(self, address: Address, oids: Iterable[str], *, deadline: float, largest: int) -> None:
        """Fetch objects by id, with all that they refer to, from a host whose refs lead to them; no ref here does yet.

        Raises as `bring`, within `deadline` seconds, and TooLargeError when a pack of more than `largest` bytes came.
        """
        await self._fetch(address, deadline, (), sorted(oids), largest)

    async def _fetch(
        self,
        address: Address,
        deadline: float | None,
        refspecs: Sequence[str],
        oids: Sequence[str] = (),
        largest: int | None = None,
    ) -> None:
        args = [*_FETCH, *(("--stdin",) if oids else ()), "--no-recurse-submodules", "--", address.url, *refspecs]
        stdin = "".join(f"{oid}\n" for oid in oids).encode()
        config = _CHECKS if largest is None else _CHECKS | _ONE_PACK
        self._fetches += 1
        try:
            output = await self._git.run(
                args, folder=self.folder, remote=address, config=config, deadline=deadline, stdin=stdin, largest=largest
            )
        except BaseException as error:
            alone, packs = self._fetches == 1, self.folder / "objects" / "pack"
            longest = await asyncio.shield(asyncio.to_thread(_unfinished, packs, drop=alone))
            if largest is None or longest < largest or not isinstance(error, MirrordError):
                raise
            raise TooLargeError(f"{address.host}: more than {largest} bytes came, and no more was taken") from error
        finally:
            self._fetches -= 1
        if _SHALLOW in output.err:
            text = f"{address} is a shallow repository, which lacks history; mirror the whole one that it came from"
            raise UnsupportedError(text)


def _unfinished(packs: Path, *, drop: bool) -> int:
    """Return how long the longest pack is that has not come whole; `drop` them, which may fill the disk.

    Not while others are on their way: nothing says of which fetch one is, and `prepare` drops what is left.
    """
    longest = 0
    for file in packs.glob("tmp_*"):
        with contextlib.suppress(FileNotFoundError):  # it is whole by now
            longest = max(longest, file.stat().st_size)
        if drop:
            file.unlink(missing_ok=True)
    return longest


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a repository takes."""

    bytes: int  # of all objects, without indexes of packs
    packs: int  # packs
    loose: int  # objects that are in no pack
    refs: int  # refs that have a file of their own


def sizes(folder: Path) -> Sizes:
    """Count; what is missing counts nothing."""
    total = packs = loose = 0
    for name, size in _files(folder / "objects"):
        pack, alone = name.endswith(".pack"), len(name) in (38, 62)
        packs, loose, total = packs + pack, loose + alone, total + (size if pack or alone else 0)
    return Sizes(total, packs, loose, sum(1 for _ in _files(folder / "refs")))


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # what goes while we look is not there
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                with contextlib.suppress(OSError):
                    yield entry.name, entry.stat(follow_symlinks=False).st_size


def _listed(out: bytes) -> Mapping[str, str]:
    lines = (line.partition(" ") for line in out.decode("utf-8", "surrogateescape").split("\n"))
    return {name: oid for oid, _, name in lines if name}


def _incoming(seen: Refs) -> tuple[Mapping[str, str], Sequence[str]]:
    refs = {f"{INCOMING}{name.removeprefix('refs/')}": oid for name, oid in seen.refs.items() if valid_ref(name)}
    return refs, sorted(set(refs.values()))


def _transaction(refs: Mapping[str, str], gone: Iterable[str]) -> bytes:
    lines = [f"update {ref}\0{oid}\0\0" for ref, oid in sorted(refs.items())]
    lines += [f"delete {ref}\0\0" for ref in sorted(gone)]
    return "".join(lines).encode("utf-8", "surrogateescape")
