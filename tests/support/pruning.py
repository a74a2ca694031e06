"""A mirror whose source loses tags, and prunes of what its targets have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mirrord.model.plan import Action, Plan
from mirrord.model.run import Outcome, Run
from mirrord.pipeline import plan_mirror, run_mirror
from mirrord.syncer.values import Mirror, PruneWish
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push
from tests.support.world import IMAGE, World

V1, V2, V3, OTHER = (build_image(["linux/amd64"], seed=seed, layer_size=500) for seed in ("1", "2", "3", "other"))
TAGS: Mapping[str, Image] = {"v1": V1, "v2": V2, "v3": V3}
REPOSITORY = "mirror/app"
Target = Registry | DockerRegistry | str


@dataclass
class Pruned:
    """A mirror of `team/app` with what it brought to its targets.

    Attributes:
        world: where it runs.
        source: has `TAGS` at first.
        mirror: the mirror of all its tags.
        others: mirrors beside it.
    """

    world: World
    source: Registry
    mirror: Mirror
    others: Sequence[Mirror] = field(default_factory=list)

    @classmethod
    async def open(
        cls, world: World, *targets: Target, tags: Any = ("*",), images: Mapping[str, Image] = TAGS, **keys: Any
    ) -> Pruned:
        """Fill the source, and mirror it."""
        source = await world.registry("source")
        for tag, image in images.items():
            await push(image, source, "team/app", [tag])
        mirror = world.mirror({"repository": f"{source.host}/team/app", "tags": tags}, *targets, **keys)
        world.services = replace(world.services, facts=world.store)
        run = await world.run(mirror)
        assert not [one for one in run.receipts if one.bad], run
        return cls(world, source, mirror)

    def lose(self, *tags: str) -> None:
        """Let tags go from the source; their manifests stay there until `forget`."""
        for tag in tags:
            del self.source.content.tags["team/app"][tag]

    def forget(self, *images: Image) -> None:
        """Let images go from the source, as its garbage collection does."""
        for image in images:
            for digest in image.manifests:
                self.source.content.manifests["team/app"].pop(digest, None)

    async def plan(self, **wish: bool) -> Plan:
        """Plan a prune; what it finds not wanted is noted."""
        services = replace(self.world.services, mirrors={"image": [self.mirror, *self.others]})
        assert IMAGE.pruning
        syncer = IMAGE.pruning(PruneWish(**wish))
        return await plan_mirror(self.mirror, syncer, services, self.world.store, self.world.now)

    async def prune(self, **wish: bool) -> Run:
        """Prune once, and remember."""
        services = replace(self.world.services, mirrors={"image": [self.mirror, *self.others]})
        assert IMAGE.pruning
        return await run_mirror(
            self.mirror,
            IMAGE.pruning(PruneWish(**wish)),
            services,
            self.world.store,
            "prune",
            clock=lambda: self.world.now,
            parallel=4,
        )

    async def twice(self, **wish: bool) -> Run:
        """Plan a prune, and prune two days later."""
        plan = await self.plan(**wish)
        assert not plan.active, plan
        self.world.later(days=2)
        return await self.prune(**wish)


def stays(plan: Plan | None) -> dict[tuple[str, str], str]:
    """Return by target and name why it stays."""
    assert plan
    assert not plan.error, plan.error
    return {(one.target, one.item): one.reason for one in plan.steps if not one.active}


def going(plan: Plan | None) -> set[tuple[str, str]]:
    """Return target and name of what is to be removed."""
    assert plan
    assert not plan.error, plan.error
    return {(one.target, one.item) for one in plan.steps if one.action is Action.DELETE}


def done(run: Run) -> set[tuple[str, str]]:
    """Return target and name of what was removed; nothing went wrong."""
    assert not run.error, run.error
    assert all(one.outcome is Outcome.DONE for one in run.receipts), run.receipts
    return {(one.step.target, one.step.item) for one in run.receipts}
