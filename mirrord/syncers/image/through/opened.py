"""The open front of images: which answer a request gets, from `local`, the cache, or an upstream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from mirrord.blobs.content_cache import ContentCache
from mirrord.blobs.purge import purge
from mirrord.blobs.store import Remote
from mirrord.errors import MirrordError, StorageError
from mirrord.events import FrontAnswered, FrontBytes
from mirrord.model.digest import Digest
from mirrord.names.denied import Denied
from mirrord.syncer.serving import FrontLook, FrontStanding, Request, Response
from mirrord.syncer.values import Services
from mirrord.syncers.image import front
from mirrord.syncers.image.front import in_local
from mirrord.syncers.image.front.answers import BLOB, content_headers, refusal, unreadable
from mirrord.syncers.image.front.path import BadRequestError, RegistryPath
from mirrord.syncers.image.spec.front import LimitKeys
from mirrord.syncers.image.through.accept import accepts
from mirrord.syncers.image.through.asked import Asked, AskedName, asked_for
from mirrord.syncers.image.through.blobs import FrontBlobs, unread
from mirrord.syncers.image.through.clients import client_of
from mirrord.syncers.image.through.covered import CoveredNames
from mirrord.syncers.image.through.failures import SOON, failed, out_of_date, warning
from mirrord.syncers.image.through.limits import Admission, PullLimits
from mirrord.syncers.image.through.lists import UpstreamLists
from mirrord.syncers.image.through.look import FrontLooks
from mirrord.syncers.image.through.manifests import FrontManifests
from mirrord.syncers.image.through.pacing import Pacer
from mirrord.syncers.image.through.pull import FrontPull
from mirrord.syncers.image.through.reading import UpstreamReader
from mirrord.syncers.image.through.remembered import KnownBlobs
from mirrord.syncers.image.through.rules import PullRules, RefusedPull, RulesInUse
from mirrord.syncers.image.through.taken_down import WORD, PurgedCache, checked, denying, going_from_cache, taken_down
from mirrord.syncers.image.upstream.allow_file import ListsInUse
from mirrord.wire.oci.reference import Reference, valid_tag

KIND: Final = "image"


class ImageFront:
    """Fulfils `OpenedThrough`."""

    prefixes = front.prefixes

    def __init__(
        self,
        services: Callable[[], Services],
        cache: ContentCache,
        kept: Path,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Serve with a cache; `kept` is for the last good allow list, `clock` is monotonic, `wall` the time of day."""
        self._services, self._cache, self._clock = services, cache, clock
        limits, blobs, upstream = PullLimits(LimitKeys()), KnownBlobs(), UpstreamReader(services, KIND)
        self._limits, self._pacer = limits, Pacer(limits, clock)
        self._lists = ListsInUse(services().events, kept)
        self.rules = RulesInUse(KIND, self._lists, limits, cache)
        self._covered = CoveredNames(KIND, clock)
        self._manifests = FrontManifests(cache, upstream, blobs, clock, wall)
        self._blobs = FrontBlobs(cache, upstream, blobs)
        self._purged = PurgedCache(cache)
        self._listed = UpstreamLists(cache, upstream, self._manifests, clock)
        self._looks = FrontLooks(cache, self._covered, self._manifests, clock, wall)

    async def aclose(self) -> None:
        """End all requests upstream for manifests and sizes."""
        await self._manifests.aclose()
        await self._blobs.aclose()

    async def respond(self, request: Request, services: Services) -> Response:
        """Map a path to content; see `Serves.respond`."""
        named = "", request.path
        try:
            rules = await self.rules.current(services)
            if request.method == "POST" or request.path in ("", "_catalog"):
                return await front.respond(request, services)
            if rules is None:
                return await self._kept(request, services)
            path = RegistryPath.parse(request.path)
            if "ns" in request.differing:
                return refusal(400, "NAME_INVALID", "ns names two registries; leave one of them out")
            asked = asked_for(path, request.host, request.query.get("ns"), services.names, rules.front.upstreams)
            named = asked.reference.name if asked.reference else path.name, path.ref
            answer = await self._answer(request, services, rules, asked)
            if asked.namespace:
                answer = replace(answer, headers={**answer.headers, "OCI-Namespace": asked.namespace})
        except BadRequestError as error:
            answer = refusal(error.status, error.code, str(error))
        except StorageError as error:
            answer = unreadable(error)
        return (
            replace(answer, log=(client_of(request.client, request.token).name, *named))
            if services.events.detailed
            else answer
        )

    async def _kept(self, request: Request, services: Services) -> Response:
        """Answer from `local` alone; raises as `_answer`."""
        if not services.denied:
            return await front.respond(request, services)
        path = RegistryPath.parse(request.path)
        asked = Asked(path, None, AskedName("", path.name), path.name)
        if entry := await denying(asked, None, self._covered, services):
            return taken_down(request, entry, asked, services)
        return await checked(request, await front.respond(request, services), asked, services)

    async def _answer(self, request: Request, services: Services, rules: PullRules, asked: Asked) -> Response:
        reference = await self._covered.meant(asked, services)
        if entry := await denying(asked, reference, self._covered, services):
            return taken_down(request, entry, asked, services)
        answer = await self._permitted(request, services, rules, asked, reference)
        return await checked(request, answer, asked, services)

    async def _permitted(
        self, request: Request, services: Services, rules: PullRules, asked: Asked, reference: Reference | None
    ) -> Response:
        """Answer what was not taken down by its name."""
        path = asked.path
        if reference is None:
            local = await self._local(request, services, asked, None)
            if local is None and asked.wrong is not None:
                raise asked.wrong
            return local or refusal(404, "NAME_UNKNOWN", f"{path.name} is not mirrored here")
        pull = FrontPull(request, services, rules, path, reference, asked.called)
        why, local = rules.refusal(reference, asked.called), None
        if why and why.word == "denied":
            return _refused(pull, why)
        if why or path.verb != "tags":  # `local` has some of the tags of a source only
            local = await self._local(request, services, asked, reference)
        if local is not None and local.status == 200 and (why or not _empty(path, local)):
            return local
        if why:
            known = local if why.word != "no_list" else None  # without a list nobody knows what upstream would add
            return known or _refused(pull, why)
        answer = await self._pulled(pull)
        if path.verb == "tags" and answer.status != 200:
            local = await self._local(request, services, asked, reference)
            said = {name: text for name, text in answer.headers.items() if name == "Warning"}
            return replace(local, headers={**local.headers, **said}) if local else answer
        return answer

    async def _pulled(self, pull: FrontPull) -> Response:
        if pull.path.verb == "manifests":
            return await self._manifest(pull)
        if pull.path.verb == "blobs":
            return await self._blob(pull, Digest(pull.path.ref))
        if pull.path.verb == "referrers":
            return await self._listed.referrers(pull)
        if pull.path.ref != "list" or not pull.rules.keys.tags:
            return refusal(404, "UNSUPPORTED", "tags are not listed here")
        return await self._listed.tags(pull)

    async def _local(
        self, request: Request, services: Services, asked: Asked, reference: Reference | None
    ) -> Response | None:
        """Answer from `local`, where a repository has this very name or a mirror copies from this one.

        Returns an answer without content if only that is there, and None where there is no such repository.
        """
        path, other = asked.path, None
        for name in await self._covered.names(asked, reference, services):
            found = await in_local(path, name, request.query, services)
            if found is not None and found.status == 200:
                if path.verb in ("manifests", "blobs"):
                    upstream = reference.domain if reference else ""
                    called = reference.name if reference else name
                    services.events.emit(FrontAnswered(upstream, path.verb.removesuffix("s"), "local", called))
                return replace(found, outcome="local")
            other = other or found
        return other

    async def _manifest(self, pull: FrontPull) -> Response:
        reference, ref, services = pull.reference, pull.path.ref, pull.services
        if pull.path.digest is None and not valid_tag(ref):
            return refusal(404, "MANIFEST_UNKNOWN", "not a valid tag")
        client = pull.client
        admission = self._limits.admit_manifest(client, reference.name, ref, self._clock())
        if not admission.granted:
            return _limited(pull, admission)
        try:
            found = await self._manifests.find(reference, ref, fresh=pull.rules.keys.fresh, whole=pull.whole)
        except MirrordError as error:
            return _failed(pull, error, "MANIFEST")
        if found.error is not None:
            pull.report_failed(found.error)
        kind = found.descriptor
        if not accepts(pull.request.accept, kind.media_type):
            return refusal(404, "MANIFEST_UNKNOWN", f"{ref} is {kind.media_type}, which the client does not accept")
        self._limits.grant(client, reference.name, kind.digest, found.refs, admission=admission, now=self._clock())
        services.events.emit(FrontAnswered(reference.domain, "manifest", found.outcome, reference.name))
        headers = {**content_headers(kind.digest, kind.media_type), **out_of_date(pull.called, found.warning)}
        body = Remote(unread, kind.size) if found.body is None else found.body
        return Response(200, headers, body, outcome=found.outcome)

    async def _blob(self, pull: FrontPull, digest: Digest) -> Response:
        reference, services = pull.reference, pull.services
        client = pull.client
        admission = self._limits.admit_blob(client, reference.name, digest, self._clock())
        if not admission.granted:
            return _limited(pull, admission)
        guarded = any(pull.rules.front.upstreams.values())
        try:
            found = await self._blobs.find(reference, digest, services, whole=pull.whole, guarded=guarded)
        except MirrordError as error:
            return _failed(pull, error, "BLOB")
        headers = content_headers(digest, BLOB)
        if not pull.whole:
            return Response(200, headers, found.body, outcome=found.outcome)
        services.events.emit(FrontAnswered(reference.domain, "blob", found.outcome, reference.name))

        def note(count: int) -> None:
            services.events.emit(FrontBytes(reference.domain, "to_clients", count))

        meter = self._pacer.meter(client, reference.name, digest, note)
        if found.held is not None:
            meter.left, found.held.failed = found.held.release, pull.report_failed
        return Response(200, headers, found.body, meter=meter, outcome=found.outcome)

    async def look(self, text: str) -> FrontLook:
        """See `OpenedThrough.look`."""
        services = self._services()
        return await self._looks.look(text, services, await self.rules.current(services))

    async def follow(self) -> None:
        """See `OpenedThrough.follow`; what was taken down elsewhere, or while nothing ran, goes from this disk."""
        services = self._services()
        await self.rules.current(services)
        await self._purged.follow(services.denied)

    async def purge(self, denied: Denied) -> int:
        """See `OpenedThrough.purge`."""
        going, shared = going_from_cache(denied), self._cache.shared
        gone = await purge(self._cache.repositories, self._cache.store, going)
        return gone + (await shared.purge(going) if shared else 0)

    def standing(self) -> FrontStanding:
        """See `OpenedThrough.standing`."""
        kept, lists, shared = self._cache.standing(), self._lists, self._cache.shared
        error = kept.error or lists.keeping_error
        others = shared.standing() if shared else None
        return FrontStanding(kept.size, kept.entries, error, lists.errors, lists.missing, kept.limit, others)


def _empty(path: RegistryPath, local: Response) -> bool:
    """Whether an answer of `local` is a list of referrers without an entry, which upstream may know better."""
    return path.verb == "referrers" and isinstance(local.body, bytes) and b'"manifests":[]' in local.body


def _refused(pull: FrontPull, why: RefusedPull) -> Response:
    """Refuse by the rules; an answer to HEAD has no body, so its header says why."""
    pull.report_refused(why.word)
    if why.word == "not_listed":
        answer = refusal(404, "NAME_UNKNOWN", why.reason)
    elif why.word == "no_list":
        answer = refusal(503, "UNAVAILABLE", why.reason, {"Retry-After": str(SOON), **warning(why.reason)})
    else:
        answer = refusal(403, "DENIED", why.reason, warning(why.reason))
    return replace(answer, outcome=why.word)


def _limited(pull: FrontPull, admission: Admission) -> Response:
    pull.report_refused(admission.limit)
    headers = {"Retry-After": str(admission.retry_after), **warning(admission.reason)}
    return replace(refusal(429, "TOOMANYREQUESTS", admission.reason, headers), outcome=admission.limit)


def _failed(pull: FrontPull, error: MirrordError, kind: str) -> Response:
    pull.report_failed(error)
    ref = pull.path.ref if pull.path.digest else f"tag {pull.path.ref}"
    answer = failed(error, pull.called, ref, kind)
    if answer.status == 404:
        return replace(answer, outcome="missing")
    word = WORD if answer.status == 451 else "upstream"
    pull.report_refused(word)
    return replace(answer, outcome=word)
