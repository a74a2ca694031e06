"""The worlds in which the contract suite drives the syncers that mirrord ships."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from mirrord.syncer.port import Syncer
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.image.syncer import SYNCER
from mirrord.testing.contract import Opening, Scenario
from mirrord.testing.images import Image, build_image
from mirrord.testing.pushing import push
from mirrord.testing.registry import Registry
from tests.support.chart_scenario import chart_scenario
from tests.support.git_scenario import git_scenario
from tests.support.localstore import linked_in, place_in, tags_in
from tests.support.opening import open_services

LAYER = 200_000


class ImageScenario:
    """A registry with two tags, mirrored to two registries and the local store."""

    def __init__(self, syncer: Syncer, services: Services, source: Registry, targets: Mapping[str, Registry]) -> None:
        """Use doubles that are running."""
        self.syncer = syncer
        self.services = services
        self._source = source
        self._targets = targets
        self._current: dict[str, Image] = {}
        spec = syncer.spec.model_validate({"from": {"repository": f"{source.host}/team/app", "tags": ["main", "v*"]}})
        places = {name: f"{registry.host}/mirror" for name, registry in targets.items()} | {LOCAL: LOCAL}
        made = tuple(Target(name, "image", to, syncer.target_spec()) for name, to in places.items())
        self.mirror = Mirror("app", "image", spec, made)

    async def fill(self, seed: str, *tags: str) -> None:
        """Put a new image at the source."""
        image = build_image(layer_size=LAYER, seed=seed, shared_layers=1)
        await push(image, self._source, "team/app", tags)
        self._current |= dict.fromkeys(tags, image)

    async def change(self) -> None:
        """Move `main`."""
        await self.fill("changed", "main")

    def wanted(self) -> Mapping[str, str]:
        """Return the tags of the source."""
        return {tag: str(image.digest) for tag, image in self._current.items()}

    def found(self, target: str) -> Mapping[str, str]:
        """Return the tags of a target."""
        if target == LOCAL:
            return tags_in(self._state / "links", "app")
        return dict(self._targets[target].tags.get("mirror/app", {}))

    def flaws(self, target: str) -> Sequence[str]:
        """Name dangling references."""
        if target != LOCAL:
            return self._targets[target].content.dangling()
        linked = linked_in(self._state / "links", "app")
        return [one for one in linked.content if place_in(self._state / "blobs", one) is None] if linked else []

    @property
    def _state(self) -> Path:
        assert self.services.keep is not None
        return self.services.keep

    @contextlib.asynccontextmanager
    async def broken(self) -> AsyncIterator[None]:
        """Let the first target refuse everything."""
        faults = self._first.faults
        faults.on("*", "", times=None).status(403, b'{"errors":[{"code":"DENIED","message":"no"}]}')
        try:
            yield
        finally:
            faults.clear()

    @contextlib.asynccontextmanager
    async def blocked(self) -> AsyncIterator[asyncio.Event]:
        """Let the first upload to the first target hang."""
        fault = self._first.faults.on("PUT|PATCH", "/blobs/uploads/", times=None).hold()
        try:
            yield fault.reached
        finally:
            self._first.faults.clear()

    @property
    def _first(self) -> Registry:
        return next(iter(self._targets.values()))


@contextlib.asynccontextmanager
async def image_scenario(folder: Path) -> AsyncIterator[Scenario]:
    """Open the world of the image syncer."""
    async with Registry() as source, Registry() as one, Registry() as two, open_services(folder) as services:
        scenario = ImageScenario(SYNCER, services, source, {"one": one, "two": two})
        await scenario.fill("first", "main", "v1")
        await scenario.fill("second", "v2")
        yield scenario


SCENARIOS: Mapping[str, Opening] = {"git": git_scenario, "helm": chart_scenario, "image": image_scenario}
"""By kind. A syncer from elsewhere brings its own and calls the checks itself."""
