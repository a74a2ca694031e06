"""How much an image is, is told once, as soon as all its manifests are read: bars measure by it."""

from __future__ import annotations

from mirrord.events import BytesSent, Event, StepDone, StepSized
from mirrord.model.run import Result
from mirrord.testing import build_image, push
from tests.support.world import World

PLACE = "mirror/app"


async def test_sizes_come_once_and_before_the_end(world: World) -> None:
    """For each target the bytes of all blobs of an index, each counted once, before the step ends."""
    image = build_image(layer_size=50_000, shared_layers=1)
    source, one, two = [await world.registry(name) for name in ("source", "one", "two")]
    await push(image, source, "team/app", ["v1", "v2"])
    await push(image, two, PLACE)
    heard: list[Event] = []
    world.services.events.listen(heard.append)
    run = await world.run(world.mirror({"repository": f"{source.host}/team/app", "tags": ["v1", "v2"]}, one, two))
    assert run.result is Result.SUCCESS
    sized = [event for event in heard if isinstance(event, StepSized) and event.total]
    assert {(event.target, event.total) for event in sized} == {("app/one", image.size)}
    assert len({event.item for event in sized}) == len(sized)
    for event in sized:
        ended = next(one for one in heard if isinstance(one, StepDone) and one.receipt.step.item == event.item)
        assert heard.index(event) < heard.index(ended)
    assert sum(event.fresh for event in heard if isinstance(event, BytesSent)) == image.size
