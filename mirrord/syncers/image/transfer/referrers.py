"""Carries what is about images: signatures, attestations, SBOMs.

They are written when the content of their image is at the target, and before its names are set: whoever pulls by name
finds them. What is about them in turn (a signed SBOM) comes with them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from mirrord import failpoints
from mirrord.errors import (
    ContentError,
    MirrordError,
    MissingError,
    RefusedError,
    ServerError,
    TooLargeError,
    about,
)
from mirrord.model.digest import Digest
from mirrord.syncers.image.plan.steps import ImageSource, Referrer
from mirrord.syncers.image.transfer.copied import Carried
from mirrord.syncers.image.transfer.destinations import Collecting, Keeping, Relisting, Streamed
from mirrord.syncers.image.transfer.tree import DEEPEST, MOST_MANIFESTS
from mirrord.transfer.fanout import Workers
from mirrord.wire.oci.descriptor import INDEXES, Descriptor
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.referrers import may_set

SHOWN: Final = 5  # remarks about one image at one target


WAY_OUT: Final = "`signatures: {copy: false}` or `copy --without-signatures` copies the image alone"


@dataclass(frozen=True, slots=True)
class ListedReferrer:
    """A referrer as its source lists it."""

    referrer: Referrer
    subject: Digest

    @property
    def key(self) -> tuple[Digest, Digest, str]:
        """What it is carried once for: one that a wrong list has, too, counts where it is right."""
        return self.subject, self.referrer.descriptor.digest, self.referrer.tag

    def __str__(self) -> str:
        """Return what errors and remarks call it."""
        return f"{self.referrer.tag or self.referrer.descriptor.digest}, which is about {self.subject}"


@dataclass(slots=True)
class ReferrersOf:
    """What is about one image, on its way to one target.

    Attributes:
        target: its name, for remarks.
        source: where it is listed.
        destination: where it goes.
        read: reads a manifest of the source.
        bring: writes the content of a manifest and, if asked to, the manifest; says whether the target lacked it.
        workers: those of the image.
    """

    target: str
    source: ImageSource
    destination: Streamed | Keeping
    read: Callable[[Descriptor], Awaitable[Manifest | None]]
    bring: Callable[[Manifest, bool], Awaitable[bool]]
    workers: Workers
    _seen: set[tuple[Digest, Digest, str]] = field(default_factory=set)
    _fresh: int = 0
    _count: int = 0
    _due: list[tuple[Manifest, Sequence[str]]] = field(default_factory=list)
    _remarks: list[str] = field(default_factory=list)

    async def listed(self, manifest: Manifest) -> Sequence[ListedReferrer]:
        """Return what the source lists about a manifest and all manifests in it.

        Raises:
            TooLargeError: there are more manifests than one image may have.
            MirrordError: as `ImageSource.referrers`.
        """
        found: list[ListedReferrer] = []

        async def look(subject: Digest) -> None:
            listed = await self.source.referrers(subject)
            self._remarks += (f"{self.target}: left out: {one}" for one in self.source.ignored(subject))
            found.extend(ListedReferrer(one, subject) for one in listed)

        with _advised():
            await self.workers.each(await self._manifests_in(manifest), look)
        return found

    async def carry(self, listed: Sequence[ListedReferrer]) -> Carried:
        """Write everything that is listed, and what is about that.

        Raises:
            ContentError: what is about what is about the image goes on without end.
            MirrordError: one of them cannot be read or written; it is named.
        """
        level, depth = listed, 0
        while level:
            if depth > DEEPEST:
                raise ContentError(f"{level[0]}: more than {DEEPEST} signatures of signatures")
            fresh = {key: one for one in level if (key := one.key) not in self._seen}
            self._seen |= fresh.keys()
            if len(self._seen) > MOST_MANIFESTS:
                raise TooLargeError(f"{level[0]}: more than {MOST_MANIFESTS} signatures and attestations of one image")
            following: list[ListedReferrer] = []

            async def one(listed: ListedReferrer, following: list[ListedReferrer] = following) -> None:
                if manifest := await self._named(listed):
                    following += await self.listed(manifest)

            await self.workers.each(fresh.values(), one)
            level, depth = following, depth + 1
        if isinstance(self.destination, Relisting):  # as late as it can be: who has read a list before may write it now
            await self.workers.each(dict.fromkeys(subject for subject, *_ in self._seen), self.destination.relist)
        return Carried(self._count, self._fresh, self._due, tuple(dict.fromkeys(self._remarks))[:SHOWN])

    async def _manifests_in(self, manifest: Manifest) -> Sequence[Digest]:
        found, left = {manifest.digest: None}, [manifest]
        while left:
            for child in left.pop().children:
                if child.digest in found or not child.is_manifest:
                    continue
                found[child.digest] = None
                if len(found) > MOST_MANIFESTS:
                    raise TooLargeError(f"more than {MOST_MANIFESTS} manifests in one image, which is the limit")
                if child.media_type in INDEXES and (nested := await self.read(child)):
                    left.append(nested)
        return tuple(found)

    async def _named(self, listed: ListedReferrer) -> Manifest | None:
        try:
            with _advised():
                return await self._one(listed)
        except MirrordError as error:
            if not str(error).startswith(name := f"{listed}"):  # targets share the errors of the source
                about(error, name)
            raise

    async def _one(self, listed: ListedReferrer) -> Manifest | None:
        """Write one of them; None if it is not about its subject, or gone from the source."""
        referrer = listed.referrer
        try:
            manifest = await self.read(referrer.descriptor)
        except MissingError:
            manifest = None
        if manifest is None:
            self._remarks.append(f"{self.target}: left out: {listed}: it is listed, and not there")
            return None
        if not referrer.tag and not manifest.is_about(listed.subject):
            whose = manifest.subject.digest if manifest.subject else "nothing"
            self._remarks.append(f"{self.target}: left out: {listed}: it says that it is about {whose}")
            return None
        names = (referrer.tag,) if referrer.tag else ()
        if names and not await may_set(self.destination, referrer.tag, manifest):
            why = "it has signatures there that the source lacks"
            self._remarks.append(f"{self.target}: {referrer.tag} left alone: {why}")
            return None
        by_name = bool(names) and manifest.subject is None and self.destination.naming_writes
        lacked = await self.bring(manifest, not by_name)
        self._count += 1
        self._fresh += lacked
        if isinstance(self.destination, Collecting):
            self._due.append((manifest, names))
        else:
            await self.destination.publish(manifest, names)
        failpoints.hit("push.referrer")
        return manifest


@contextmanager
def _advised() -> Iterator[None]:
    """Let errors that another try does not heal say how the image is copied all the same."""
    try:
        yield
    except (RefusedError, ContentError, TooLargeError, ServerError) as error:
        if WAY_OUT not in str(error):  # targets share the errors of the source
            error.args = (f"{error}; {WAY_OUT}", *error.args[1:])
        raise
