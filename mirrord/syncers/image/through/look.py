"""What the front would do with a reference as a person types it, without a request upstream."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from mirrord.blobs.content_cache import ContentCache
from mirrord.blobs.repositories import ManifestRef, Repositories
from mirrord.blobs.store import BlobStore, Stored, read_stored
from mirrord.errors import MirrordError, UsageError
from mirrord.model.digest import Digest
from mirrord.names.book import NameBook
from mirrord.syncer.serving import FrontLook
from mirrord.syncer.values import Services
from mirrord.syncers.image.front.path import BadRequestError, RegistryPath
from mirrord.syncers.image.through.asked import Asked, AskedName, asked_for
from mirrord.syncers.image.through.covered import CoveredNames
from mirrord.syncers.image.through.manifests import FrontManifests, cache_name
from mirrord.syncers.image.through.rules import PullRules
from mirrord.syncers.image.through.taken_down import denying
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.manifest import LIMIT, Manifest
from mirrord.wire.oci.reference import Reference, valid_repository
from mirrord.wire.offload import offload

_LATEST: Final = "latest"  # what no tag stands for, as everywhere
_SOME: Final = "a.b"  # a host, before a name that has none
_MOST: Final = 10_000  # manifests and blobs whose sizes are added


@dataclass(frozen=True, slots=True)
class FrontLooks:
    """Looks at `local`, the cache and the rules; `wall` gives the time of day, `clock` that of `manifests`."""

    cache: ContentCache
    covered: CoveredNames
    manifests: FrontManifests
    clock: Callable[[], float]
    wall: Callable[[], float]

    async def look(self, text: str, services: Services, rules: PullRules | None) -> FrontLook:
        """See `OpenedThrough.look`."""
        asked = _asked(text, services.names, rules.front.upstreams if rules else ())
        path, reference = asked.path, await self.covered.meant(asked, services)
        local, store = services.repositories, services.blobs
        shown = f"{reference.name if reference else path.name}{'@' if path.digest else ':'}{path.ref}"
        if entry := await denying(asked, reference, self.covered, services):
            reason = f"it was taken down: {entry.reason}"
            return FrontLook(shown, "refused", f"settings.denied, line {entry.line}", reason)
        why = rules.refusal(reference, _canonical(reference)) if rules and reference else None
        if rules and why is not None and why.word == "no_list":  # clients are not shown our files
            why = replace(why, reason=f"{why.reason}: {rules.lists.unusable}")
        decides = why is None or why.word == "denied"  # else no line is the reason
        line = _line(rules, reference) if decides else ""
        if why is not None and why.word == "denied":
            return FrontLook(shown, "refused", line, why.reason)
        for name in await self.covered.names(asked, reference, services) if local and store else ():
            assert local is not None
            assert store is not None
            digest = path.digest or await local.tag(name, path.ref)
            if digest is not None and await local.manifest(name, digest) is not None:
                return FrontLook(shown, "local", line, "", digest, *await _kept(local, store, name, digest))
        if asked.wrong is not None:
            raise UsageError(str(asked.wrong))
        if reference is None or rules is None:
            return FrontLook(shown, "refused", line, f"{path.name}: no mirror has it in local")
        if why is not None:
            return FrontLook(shown, "refused", line, why.reason)
        return await self._pulled(shown, line, path.ref, reference, rules.keys.fresh)

    async def _pulled(self, shown: str, line: str, ref: str, reference: Reference, fresh: float) -> FrontLook:
        known = await self.manifests.known(reference, ref)
        if known.digest is None or await self.manifests.kept(reference, known.digest) is None:
            return FrontLook(shown, "upstream", line)
        left = known.checked + fresh - self.clock()
        until = (
            datetime.fromtimestamp(self.wall(), UTC) + timedelta(seconds=left) if ":" not in ref and left > 0 else None
        )
        comes: Literal["cache", "upstream"] = "cache" if until or ":" in ref else "upstream"
        kept = await _kept(self.cache.repositories, self.cache.store, cache_name(reference), known.digest)
        return FrontLook(shown, comes, line, "", known.digest, *kept, until)


def _line(rules: PullRules | None, reference: Reference | None) -> str:
    """Return the line that denies or allows a repository."""
    if rules is None or reference is None:
        return ""
    return rules.lists.denied_by(reference) or rules.lists.allowed_by(reference)


def _canonical(reference: Reference) -> AskedName:
    """Return the name that the operator sees: the one behind all aliases."""
    return AskedName(reference.domain, reference.name)


def _asked(text: str, book: NameBook, upstreams: Collection[str]) -> Asked:
    """Read what a person types: a name as clients use it, with one of our hosts or without.

    Raises:
        UsageError: it is none.
    """
    first, slash, rest = text.strip().partition("/")
    host = first.lower() if slash and first.lower() in book.hosts else ""
    typed = rest if host else text.strip()
    name = typed.partition("@")[0]
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0]
    wrong: UsageError | None = None
    try:
        parsed = Reference.parse(typed)
    except UsageError as error:
        if not valid_repository(name):
            raise
        parsed, wrong = Reference.parse(f"{_SOME}/{typed}"), error
    path = RegistryPath(name, "manifests", parsed.digest or parsed.tag or _LATEST, parsed.digest)
    if wrong is not None:
        return Asked(path, None, AskedName(first, name), name, wrong=BadRequestError(404, "NAME_INVALID", str(wrong)))
    if ":" in name:  # a port, which no path can have
        reference = book.canonical(Reference(parsed.domain, parsed.path))
        return Asked(path, reference, _canonical(reference), "")
    try:
        return asked_for(path, host, None, book, upstreams)
    except BadRequestError as error:
        raise UsageError(str(error)) from error


async def _kept(repositories: Repositories, store: BlobStore, name: str, digest: Digest) -> tuple[int, int, int]:
    """Return `size`, `whole` and `blobs` of a `FrontLook` for what a manifest reaches."""
    size, blobs, reached, left = 0, 0, set[Digest](), [digest]
    manifests, lacking = list[tuple[Digest, ManifestRef, Stored]](), set[Digest]()
    while left and len(reached) < _MOST:
        if (one := left.pop()) in reached:
            continue
        reached.add(one)
        stored, link = await store.find(one), await repositories.manifest(name, one)
        left += link.refs if link else ()
        if stored is None:
            lacking.add(one)
            continue
        size += stored.size
        if link:
            manifests.append((one, link, stored))
        else:
            blobs += 1
    incomplete = [one for one in manifests if not lacking.isdisjoint(one[1].refs)]
    sizes = {blob.digest: blob.size for one in incomplete for blob in await _named(*one) if blob.digest in lacking}
    return size, size + sum(sizes.values()), blobs


async def _named(digest: Digest, link: ManifestRef, stored: Stored) -> Sequence[Descriptor]:
    """Return the blobs that a manifest names; none if it cannot be read."""
    try:
        body = await read_stored(stored, LIMIT)
        return (await offload(len(body), Manifest.parse, body, link.media_type, digest)).blobs
    except MirrordError:
        return ()
