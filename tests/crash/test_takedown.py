"""A takedown that is killed: what was denied stays denied, and the same command removes the rest."""

from __future__ import annotations

import pytest

from mirrord.failpoints import CRASH_STATUS, NAMES
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from tests.support.commands import Desk
from tests.support.walking import walk

IMAGE, OTHER = (build_image(["linux/amd64", "linux/arm64"], seed=seed) for seed in ("denied", "other"))
PLACES = [
    *sorted(name for name in NAMES if name.startswith(("denied.", "takedown.", "remove."))),
    "takedown.manifest:1",
]


@pytest.mark.parametrize("end", ["exit", "fail"])
@pytest.mark.parametrize("place", PLACES)
async def test_crash(desk: Desk, place: str, end: str) -> None:
    """It ends or fails at each place: then the same command finishes it, and nothing that is allowed is gone."""
    require("docker-registry")
    name, _, skip = place.partition(":")
    async with Registry() as source, DockerRegistry() as target:
        await push(IMAGE, source, "up/app", ["v1", "copy"])
        await push(OTHER, source, "up/app", ["v2"])
        denied = desk.folder / "denied.yaml"
        denied.touch()
        desk.configure(
            f"settings: {{denied: {denied}}}\n"
            f"targets: {{one: {{kind: image, to: {target.host}/m}}}}\n"
            f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/up/app, tags: ['*']}}, "
            "to: [one, local]}]\n"
        )
        assert (await desk.run("sync")).status == 0
        words = ("takedown", f"{source.host}/up/app:v1")
        broken = await desk.run(*words, "--reason", "asked to", MIRRORD_FAILPOINTS=f"{name}={end}:{skip or 0}")
        assert broken.status == CRASH_STATUS if end == "exit" else broken.status != 0, broken
        assert "asked to" in denied.read_text()
        assert (await desk.run("sync")).status == 0
        again = await desk.run(*words)
        assert again.status == 0, again
        assert await walk(target, "m/app") == {"v2": str(OTHER.digest)}
        assert (await desk.run("sync")).status == 0
        assert await walk(target, "m/app") == {"v2": str(OTHER.digest)}
