"""Assembles the image syncer from its modules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mirrord.model.plan import Plan
from mirrord.syncer.port import Models, Syncer
from mirrord.syncer.values import Mirror, Services
from mirrord.syncers.image import front
from mirrord.syncers.image.kept import open_target
from mirrord.syncers.image.names import address, hosts, places, publishing, spec_of
from mirrord.syncers.image.plan import plan
from mirrord.syncers.image.transfer.session import ImageSession
from mirrord.syncers.image.upstream.survey import names_held, survey


@asynccontextmanager
async def _open(mirror: Mirror, plan: Plan, services: Services) -> AsyncIterator[ImageSession]:
    """Begin a run."""
    spec = spec_of(mirror)
    destinations = {target.name: open_target(mirror, target, services) for target in mirror.targets}
    patience = spec.together_wait if spec.publish == "together" else 0.0
    sources, unreachable, unseen = plan.decisions
    label = f"{mirror.name}/" if mirror.name else ""  # a copy has no name
    session = ImageSession(sources, destinations, services, patience, label, unreachable=unreachable, unseen=unseen)
    try:
        yield session
        await session.finish()
    finally:
        await session.aclose()


def _models() -> Models:
    """Import the configuration models on demand: a copy starts without pydantic."""
    from mirrord.syncers.image.spec import ImageSpec, ImageTarget  # noqa: PLC0415 - as above

    return ImageSpec, ImageTarget


SYNCER = Syncer(
    "image",
    _models,
    places,
    survey,
    plan,
    _open,
    publishing=publishing,
    sample={"from": {"repository": "docker.io/library/alpine"}},
    hosts=hosts,
    front=front,
    address=address,
    held=names_held,
)
