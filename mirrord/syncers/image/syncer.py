"""Assembles the image syncer from its rooms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

from mirrord.errors import StorageError
from mirrord.model.memory import Memory
from mirrord.model.plan import Plan
from mirrord.syncer.serving import Request, Response
from mirrord.syncer.values import LOCAL, Mirror, Publication, Services, Target
from mirrord.syncers.image.front import respond
from mirrord.syncers.image.kept import open_target
from mirrord.syncers.image.names import image_name, places, publishing, spec_of
from mirrord.syncers.image.plan import ImageSurvey, plan
from mirrord.syncers.image.spec import ImageSpec, ImageTarget
from mirrord.syncers.image.transfer.destinations import Keeping, Streamed
from mirrord.syncers.image.transfer.local import LocalDestination
from mirrord.syncers.image.transfer.session import ImageSession
from mirrord.syncers.image.upstream.survey import survey


class ImageSyncer:
    """Fulfils `Syncer`, `Publishes` and `Serves`."""

    kind = "image"
    prefixes = ("/v2/",)
    spec = ImageSpec
    target_spec = ImageTarget

    def places(self, mirror: Mirror) -> tuple[str, Mapping[str, str]]:
        """Return origin and targets in canonical spelling."""
        return places(mirror)

    async def survey(self, mirror: Mirror, services: Services, memory: Memory, now: datetime) -> ImageSurvey:
        """Look at the source, and at targets whose record is not enough."""
        return await survey(mirror, services, memory, now)

    def plan(self, mirror: Mirror, survey: ImageSurvey, now: datetime) -> Plan:
        """Decide about every tag at every target."""
        return plan(mirror, survey, now)

    @asynccontextmanager
    async def open(self, mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[ImageSession]:
        """Begin a run."""
        spec = spec_of(mirror)
        destinations = {target.name: _destination(mirror, target, services) for target in mirror.targets}
        patience = spec.together_wait if spec.publish == "together" else 0.0
        session = ImageSession(plan.decisions, destinations, services, patience, f"{mirror.name}/")
        try:
            yield session
        finally:
            await session.aclose()

    def publishing(self, mirror: Mirror, publication: Publication) -> Mirror:
        """Put one build in the place of the mirror's source."""
        return publishing(mirror, publication)

    async def respond(self, request: Request, services: Services) -> Response:
        """Serve the `local` store as a read-only registry."""
        return await respond(request, services)


def _destination(mirror: Mirror, target: Target, services: Services) -> Streamed | Keeping:
    if target.name != LOCAL:
        return open_target(mirror, target, services)
    if services.blobs is None or services.repositories is None:
        raise StorageError("the local target needs a state directory; give --state")
    return LocalDestination(
        services.blobs, services.repositories, image_name(mirror), services.scratch, lambda: services.spools.spare
    )


SYNCER = ImageSyncer()
