"""What is about the manifests of a repository: by the API of its registry, by the tag that stands for it, by cosign's.

A registry without the API is asked for it once a day at most, and a repository once a run for its tags: then an image
without signatures costs no request.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from mirrord.errors import ContentError, DeniedError, MirrordError, MissingError, RefusedError
from mirrord.keyedlock import KeyedLock
from mirrord.model.digest import Digest
from mirrord.syncer.values import Services
from mirrord.syncers.image.plan.steps import Referrer
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.reference import ABOUT_TAGS, COSIGN, referrers_tag
from mirrord.wire.oci.referrers import entries_of, read_entries, tagged_list
from mirrord.wire.offload import offload

AGAIN: Final = timedelta(days=1)
"""For so long a registry is known to have no API: it may get one."""


class ReferrersApis:
    """Which registries list referrers, as far as this process knows; one repository may be refused alone."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._has: dict[tuple[str, str], tuple[bool, datetime]] = {}
        self._failing: set[str] = set()
        self._first = KeyedLock()

    async def ask(self, repository: Repository, subject: Digest, now: datetime) -> Sequence[object] | None:
        """Return what the registry lists about a manifest, or None where it has no such API, without asking if known.

        The first request finds out, and the others wait for it; but not one for another at a host that fails.

        Raises as `Repository.referrers`.
        """
        host = repository.host
        if self._known(repository, now) is None and host not in self._failing:
            async with self._first.hold(host):
                if self._known(repository, now) is None and host not in self._failing:
                    return await self._ask(repository, subject, now)
        return None if self.lacks(repository, now) else await self._ask(repository, subject, now)

    def lacks(self, repository: Repository, now: datetime) -> bool:
        """Whether a registry is known to have no such API, or to refuse it for a repository."""
        return self._known(repository, now) is False

    async def _ask(self, repository: Repository, subject: Digest, now: datetime) -> Sequence[object] | None:
        try:
            found = await repository.referrers(subject)
        except DeniedError:
            self._has[repository.host, repository.repository] = False, now
            return None
        except MirrordError:
            self._failing.add(repository.host)
            raise
        self._failing.discard(repository.host)
        if self._known(repository, now) is None:
            self._has[repository.host, ""] = found is not None, now
        return found

    def _known(self, repository: Repository, now: datetime) -> bool | None:
        for name in (repository.repository, ""):
            has, since = self._has.get((repository.host, name), (None, now))
            if has or (has is False and now - since < AGAIN):
                return has
        return None


def referrers_apis(_: Services) -> ReferrersApis:
    """Make what all runs of a process share; for `Services.once`."""
    return ReferrersApis()


@dataclass(frozen=True, slots=True)
class _About:
    found: Sequence[Referrer] = ()
    ignored: Sequence[str] = ()


@dataclass(slots=True)
class RepositoryReferrers:
    """What is about the manifests of one repository, each asked for once.

    Attributes:
        repository: the repository.
        apis: what is known of registries.
        now: the time of the run.
        listed: the tags of the repository, if they were listed already.
    """

    repository: Repository
    apis: ReferrersApis
    now: datetime
    listed: Collection[str] | None = None
    _tags: frozenset[str] | None = None
    _unlisted: bool = False
    _known: dict[Digest, _About] = field(default_factory=dict)
    _turns: KeyedLock = field(default_factory=KeyedLock)

    async def of(self, subject: Digest) -> Sequence[Referrer]:
        """Return what is about a manifest. Raises as `ImageSource.referrers`."""
        if subject not in self._known:
            async with self._turns.hold(subject):
                if subject not in self._known:
                    self._known[subject] = await self._read(subject)
        return self._known[subject].found

    async def may_have(self) -> bool:
        """Whether anything may be about any manifest: not where the API is missing, and no tag looks like that.

        Raises as `Repository.tags`, but where tags may not be listed.
        """
        if not self.apis.lacks(self.repository, self.now):
            return True
        await self._list()
        return self._tags is None or bool(self._tags)

    def ignored(self, subject: Digest) -> Sequence[str]:
        """See `ImageSource.ignored`."""
        return self._known.get(subject, _About()).ignored

    async def _read(self, subject: Digest) -> _About:
        """Read all three lists: a registry that has got the API may not list what was kept under tags before."""
        tag, what = referrers_tag(subject), f"{self.repository.reference.name}: referrers of {subject}"
        entries, ignored = [*(await self.apis.ask(self.repository, subject, self.now) or ())], list[str]()
        if await self._has(tag):
            try:
                if listed := await tagged_list(self.repository, subject):
                    entries += await offload(len(listed.body), entries_of, listed.body, what)
            except ContentError as error:
                ignored.append(str(error))
        descriptors, wrong = read_entries(entries, what)
        found = [Referrer(one) for one in descriptors]
        for suffix in COSIGN:
            named = f"{tag}{suffix}"
            if await self._has(named) and (head := await self.repository.head_manifest(named)):
                found.append(Referrer(head, named))
        return _About(tuple(found), (*ignored, *wrong))

    async def _has(self, tag: str) -> bool:
        """Whether a tag may be there: by the list of all, or by a HEAD where the registry gives none."""
        await self._list()
        if self._tags is not None:
            return tag in self._tags
        with suppress(RefusedError):
            return await self.repository.head_manifest(tag) is not None
        return False

    async def _list(self) -> None:
        """List the tags, once."""
        async with self._turns.hold(""):
            if self._tags is None and not self._unlisted:
                try:
                    listed = self.listed if self.listed is not None else [one async for one in self.repository.tags()]
                    self._tags = frozenset(tag for tag in listed if tag.startswith(ABOUT_TAGS))
                except MissingError:
                    self._tags = frozenset()  # the repository has digests only
                except (RefusedError, ContentError):
                    self._unlisted = True
