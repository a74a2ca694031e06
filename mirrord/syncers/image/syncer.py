"""Assembles the image syncer from its rooms."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mirrord.errors import StorageError
from mirrord.model.plan import Plan
from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.image import front
from mirrord.syncers.image.kept import open_target
from mirrord.syncers.image.names import image_name, places, publishing, spec_of
from mirrord.syncers.image.plan import plan
from mirrord.syncers.image.spec import ImageSpec, ImageTarget
from mirrord.syncers.image.transfer.destinations import Keeping, Streamed
from mirrord.syncers.image.transfer.local import LocalDestination
from mirrord.syncers.image.transfer.session import ImageSession
from mirrord.syncers.image.upstream.survey import survey


@asynccontextmanager
async def _open(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[ImageSession]:
    """Begin a run."""
    spec = spec_of(mirror)
    destinations = {target.name: _destination(mirror, target, services) for target in mirror.targets}
    patience = spec.together_wait if spec.publish == "together" else 0.0
    sources, unreachable = plan.decisions
    label = f"{mirror.name}/" if mirror.name else ""  # a copy has no name
    session = ImageSession(sources, destinations, services, patience, label, unreachable=unreachable)
    try:
        yield session
    finally:
        await session.aclose()


def _destination(mirror: Mirror, target: Target, services: Services) -> Streamed | Keeping:
    if target.name != LOCAL:
        return open_target(mirror, target, services)
    if services.blobs is None or services.repositories is None:
        raise StorageError("the local target needs a state directory; give --state")
    return LocalDestination(
        services.blobs, services.repositories, image_name(mirror), services.scratch, lambda: services.spools.spare
    )


SYNCER = Syncer("image", ImageSpec, ImageTarget, places, survey, plan, _open, publishing=publishing, front=front)
