"""What was taken down is not expected at targets: the rest is compared, and where nothing is left that is equal."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.commands import GetStatus, Takedown
from mirrord.model.run import Result
from mirrord.model.verification import Level, Verification
from mirrord.report.status import MirrorStatus
from mirrord.testing import Registry, build_image, push, require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.servers import DockerRegistry
from tests.support.verifying import Verified, codes, lose_tag, opened

IMAGES = {tag: build_image(layer_size=1000, layers=1, seed=tag) for tag in ("v1", "v2")}
CONFIGURATION = """\
settings: {{denied: {denied}}}
targets: {{there: {{kind: image, to: "{there}/mirror"}}}}
mirrors:
  - {{name: app, kind: image, from: {source}, to: [there, local], every: 6h}}
"""


def text(folder: Path, source: str, there: DockerRegistry) -> str:
    (folder / "denied.yaml").touch()
    return CONFIGURATION.format(denied=folder / "denied.yaml", source=source, there=there.host)


def listed(folder: Path, source: Registry) -> str:
    (folder / "images.txt").write_text("".join(f"{source.host}/team/app:{tag}\n" for tag in IMAGES))
    return f"{{list: {folder / 'images.txt'}}}"


async def filled(source: Registry) -> None:
    for tag, image in IMAGES.items():
        await push(image, source, "team/app", [tag])


def counts(found: Verification) -> list[tuple[int, int, int, int]]:
    return [(one.checked, one.drift, one.unknown, one.refused) for one in found.targets]


async def status(one: Verified) -> MirrorStatus:
    return (await one.dispatcher.carry_out(GetStatus())).mirrors[0]


@pytest.mark.parametrize("program", ["docker-registry", "registry3"])
@pytest.mark.parametrize("many", [False, True])
async def test_one_of_two_then_the_other(tmp_path: Path, program: str, *, many: bool) -> None:
    """What is left is compared, and drifts; where nothing is left, that is equal, with how many were left out."""
    require(program)
    async with Registry() as source, DockerRegistry(program=program) as there:
        await filled(source)
        rule = listed(tmp_path, source) if many else f'{{repository: "{source.host}/team/app", tags: ["v*"]}}'
        async with opened(tmp_path, text(tmp_path, rule, there)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            called = [f"{source.host}/team/app:{tag}" for tag in IMAGES] if many else [*IMAGES]
            assert not (await one.dispatcher.carry_out(Takedown(f"{source.host}/team/app:v1", "asked to"))).left
            path = f"mirror/{source.host.replace(':', '_')}/team/app" if many else "mirror/app"
            for level in (Level.NAMES, Level.DEEP):
                found = await one.verify(level)
                assert counts(found) == [(1, 0, 0, 1)] * 2
                assert {finding.text for target in found.targets for finding in target.findings} == {
                    f"{called[0]}: taken down, so it is not looked for: asked to"
                }
            lose_tag(there, path, "v2")
            assert codes(await one.verify())[1:] == [("there", called[0], "refused"), ("there", called[1], "missing")]
            assert (await one.verify(repair=True)).repaired == 1
            assert not (await one.dispatcher.carry_out(Takedown(f"{source.host}/team/app:v2", "asked to"))).left
            for _ in range(2):
                for level in (Level.NAMES, Level.DEEP):
                    assert counts(await one.verify(level)) == [(0, 0, 0, 2)] * 2
                assert (await one.sync()).result is Result.NOOP
            stands = await status(one)
            assert [(target.items, target.health) for target in stands.targets] == [(0, "ok")] * 2
            shown = [target.verified for target in stands.targets if target.verified]
            assert [(found.drift, found.unknown, found.refused) for found in shown] == [(0, 0, 2)] * 2


@pytest.mark.parametrize("whole", [False, True])
async def test_a_record_that_was_lost_since(tmp_path: Path, *, whole: bool) -> None:
    """A run that found nothing else to mirror says that targets should have nothing; before it nobody can tell."""
    require("docker-registry")
    async with Registry() as source, DockerRegistry() as there:
        await filled(source)
        rule = f'{{repository: "{source.host}/team/app", tags: ["v*"]}}'
        configuration = text(tmp_path, rule, there)
        async with opened(tmp_path, configuration) as one:
            await one.sync()
            for name in ["team/app"] if whole else ["team/app:v1", "team/app:v2"]:
                assert not (await one.dispatcher.carry_out(Takedown(f"{source.host}/{name}", "asked to"))).left
        for file in (tmp_path / "state").glob("mirrord.db*"):
            file.unlink()
        async with opened(tmp_path, configuration) as one:
            assert counts(await one.verify()) == [(0, 0, 1, 0)] * 2
            assert (await one.sync()).result is Result.NOOP
            assert counts(await one.verify()) == [(0, 0, 0, 0)] * 2
            assert all(target.last_success for target in (await status(one)).targets)
        moved = configuration.replace("/mirror", "/elsewhere")
        (tmp_path / "denied.yaml").write_text("")
        async with opened(tmp_path, moved) as one:
            assert counts(await one.verify()) == [(0, 0, 1, 0)] * 2  # it was lifted, and no run came since


async def test_what_was_behind_when_it_was_taken_down(tmp_path: Path) -> None:
    """It is behind no more, neither to a verification nor once the next run found nothing to mirror."""
    require("docker-registry")
    async with Registry() as source, DockerRegistry() as there:
        await filled(source)
        rule = f'{{repository: "{source.host}/team/app", tags: ["v1"]}}'
        async with opened(tmp_path, text(tmp_path, rule, there)) as one:
            await one.sync()
            await push(IMAGES["v2"], source, "team/app", ["v1"])
            await there.stop()
            assert (await one.sync()).result is Result.PARTIAL
            await there.start()
            assert codes(await one.verify()) == [("there", "v1", "behind")]
            assert not (await one.dispatcher.carry_out(Takedown(f"{source.host}/team/app", "asked to"))).left
            assert counts(await one.verify()) == [(0, 0, 0, 1)] * 2
            assert (await one.sync()).result is Result.NOOP
            assert [target.behind for target in (await status(one)).targets] == [0, 0]


CHARTS = """\
settings: {{denied: {denied}}}
targets:
  folder: {{kind: helm, to: "{folder}"}}
  registry: {{kind: helm, to: "oci://{registry}/charts"}}
mirrors:
  - {{name: app, kind: helm, from: "{charts}", to: [folder, registry, local], changed: replace}}
"""


async def test_versions_of_a_chart(tmp_path: Path) -> None:
    """They are counted by their names, at a registry, in a folder and in `local`, until none is left."""
    require("docker-registry")
    (tmp_path / "denied.yaml").touch()
    async with ChartRepository() as source, DockerRegistry() as there:
        for version in ("1.0.0", "1.1.0"):
            source.add(build_chart("app", version))
        places = {"folder": tmp_path / "charts", "registry": there.host, "charts": source.url}
        async with opened(tmp_path, CHARTS.format(denied=tmp_path / "denied.yaml", **places)) as one:
            assert (await one.sync()).result is Result.SUCCESS
            for number, version in enumerate(("1.0.0", "1.1.0"), 1):
                done = await one.dispatcher.carry_out(Takedown("app", "asked to", item=f"app-{version}"))
                assert not done.left
                for _ in range(2):
                    for level in (Level.NAMES, Level.DEEP):
                        assert counts(await one.verify(level)) == [(2 - number, 0, 0, number)] * 3
                    assert (await one.sync()).result in (Result.SUCCESS, Result.NOOP)
