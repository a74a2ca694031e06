"""What upstream lists now, whichever kind of repository it is."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from mirrord.errors import ContentError, MirrordError, MissingError, about
from mirrord.model.digest import Digest
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.helm.names import is_oci, source_of, spec_of
from mirrord.syncers.helm.plan.choice import choose
from mirrord.syncers.helm.plan.prune import Upstream
from mirrord.syncers.helm.plan.survey import HelmSurvey
from mirrord.syncers.helm.upstream.poll import Polled, poll, with_troubles
from mirrord.syncers.helm.upstream.registry import poll_registry

_ANY_TIME: Final = datetime.fromtimestamp(0, UTC)
"""Of a look of which nothing is noted."""


async def ask(mirror: Mirror, services: Services, known: Mapping[str, str], now: datetime) -> Polled:
    """Ask upstream, unless it is as `known` has it. Raises as `poll` and `poll_registry`."""
    url = source_of(mirror)
    if is_oci(url):
        return await poll_registry(services.http, url, spec_of(mirror), known, now)
    try:
        return await poll(services.http, url, known)
    except (MissingError, ContentError) as error:
        about(error, f"{mirror.origin}: mirrors.{mirror.name}.from")
        raise


async def digests_listed(mirror: Mirror, item: str, services: Services) -> Collection[Digest]:
    """Return what upstream says that the archive of a version is, if it answers."""
    with suppress(MirrordError):
        index = (await ask(mirror, services, {}, _ANY_TIME)).index
        return {one.digest for one in (index.entries if index else ()) if one.item == item and one.digest}
    return ()


async def list_upstream(mirror: Mirror, services: Services, now: datetime) -> Upstream:
    """Return all that upstream lists, and what of it is wanted. Raises as `ask`."""
    polled = await ask(mirror, services, {}, now)
    index, spec = polled.index, spec_of(mirror)
    assert index is not None

    def found() -> Upstream:
        survey = with_troubles(HelmSurvey(index.entries, choose(index.entries, spec, now), alone=True), index, spec)
        versions = defaultdict[str, set[str]](set)
        for entry in index.entries:
            versions[entry.name].add(entry.version)
        for name, some in polled.versions.items():
            versions[name].update(some)
        listed: Mapping[str, Collection[str]] = versions
        return Upstream(survey, dict(listed))

    return await asyncio.to_thread(found)
