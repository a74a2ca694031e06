"""`verify` of many names: requests grow as the names do, and findings are bounded."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mirrord.errors import UnreachableError
from mirrord.model.memory import NO_MEMORY
from mirrord.model.run import Result
from mirrord.model.verification import Level
from mirrord.syncer.inspection import FINDINGS, Inspection
from mirrord.testing import Registry, build_image, push
from tests.support.verifying import at, opened

IMAGES = [build_image(layer_size=100, layers=1, seed=f"i{number}") for number in range(4)]
NOW = datetime(2024, 5, 17, tzinfo=UTC)
CONFIGURATION = """\
targets: {{there: {{kind: image, to: "{there}/mirror"}}}}
mirrors:
  - {{name: app, kind: image, from: {{repository: "{source}/team/app", tags: ["*"]}}, to: there}}
"""


async def requests(folder: Path, names: int) -> Counter[str]:
    """Mirror so many names, lose every second one, and return how many requests each verification and a repair cost."""
    folder.mkdir()
    counted = Counter[str]()
    async with Registry() as source, Registry() as there:
        for number, image in enumerate(IMAGES):
            await push(image, source, "team/app", [f"v{one}" for one in range(number, names, len(IMAGES))])
        async with opened(folder, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            for level in (Level.NAMES, Level.DEEP):
                asked, before = len(source.log), len(there.log)
                assert at(await one.verify(level), "there").checked == names
                counted[f"{level} there"] = len(there.log) - before
                counted[f"{level} source"] = len(source.log) - asked
            for name in range(0, names, 2):
                del there.tags["mirror/app"][f"v{name}"]
            asked, before = len(source.log), len(there.log)
            found = await one.verify(repair=True)
            assert (found.repaired, found.drift) == (names // 2, 0)
            counted["repair there"] = len(there.log) - before
            counted["repair source"] = len(source.log) - asked
    return counted


async def test_requests_grow_as_the_names(tmp_path: Path) -> None:
    """200 and 2000 names: a HEAD each at the target, for `deep` besides what is below; so for a repair."""
    few, many = await requests(tmp_path / "few", 200), await requests(tmp_path / "many", 2000)
    below = sum(len(image.manifests) + len(image.blobs) for image in IMAGES)
    for names, counted in ((200, few), (2000, many)):
        assert counted["names there"] == names
        assert names < counted["deep there"] <= names + below
        assert counted["names source"] == counted["deep source"] == 0
    for place in ("repair there", "repair source"):
        assert many[place] <= 10 * few[place] + below, (few, many)


@pytest.mark.parametrize("sort", ["differs", "untold", "refused"])
def test_findings_are_bounded_and_counted(sort: str) -> None:
    """100 000 items that are wrong cost the memory of their names; the first findings are kept and all are counted."""
    inspection = Inspection(Level.DEEP, NO_MEMORY)
    error = UnreachableError("x" * 500)
    names = [f"v{number}" for number in range(100_000)]
    tracemalloc.start()
    try:
        for name in names:
            match sort:
                case "differs":
                    inspection.differs("there", name, "missing", f"{name} {'x' * 500}")
                case "untold":
                    inspection.untold("there", name, error)
                case _:
                    inspection.refused("there", name, f"{name} {'x' * 500}")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    found = inspection.result("there", NOW)
    assert len(found.findings) == FINDINGS
    assert found.drift + found.unknown + found.refused == len(names)
    assert peak < 12 << 20
