"""`verify` of a mirror of many repositories: items are called as in its plan, each is looked at in its repository."""

from __future__ import annotations

from pathlib import Path

from mirrord.model.run import Result
from mirrord.model.verification import Level
from mirrord.testing import Registry, build_image, push
from tests.support.verifying import codes, damage, opened

ONE, TWO, PINNED = (build_image(layer_size=1000, layers=1, seed=seed) for seed in ("one", "two", "pinned"))
CONFIGURATION = """\
targets: {{there: {{kind: image, to: "{there}/mirror"}}}}
mirrors:
  - {{name: many, kind: image, from: {{list: images.txt}}, to: [there, local]}}
"""


async def test_each_repository_is_verified_and_repaired(tmp_path: Path) -> None:
    """A lost name, a lost blob and damaged bytes are found and come back, and only they; also of a pinned tag."""
    async with Registry() as source, Registry() as there:
        await push(ONE, source, "team/one", ["v1", "v2"])
        await push(TWO, source, "team/two", ["v1"])
        await push(PINNED, source, "team/pinned", ["v1"])
        host = source.host
        (tmp_path / "conf.d").mkdir()
        lines = [f"{host}/team/one:v1", f"{host}/team/one:v2", f"{host}/team/two:v1"]
        lines.append(f"{host}/team/pinned:v1@{PINNED.digest}")
        (tmp_path / "conf.d" / "images.txt").write_text("\n".join(lines))
        async with opened(tmp_path, CONFIGURATION.format(source=source.host, there=there.host)) as one:
            run = await one.sync("many")
            assert run.result is Result.SUCCESS, run.error or [one.detail for one in run.receipts if one.bad]
            found = await one.verify(Level.BYTES, "many")
            assert [(target.checked, target.drift, target.unknown) for target in found.targets] == [(4, 0, 0)] * 2, (
                found
            )
            paths = {path.rpartition("/")[2]: path for path in there.tags}
            del there.tags[paths["two"]]["v1"]
            damage(one.blob(PINNED.layers[0]))
            one.blob(ONE.layers[0]).unlink()
            found = await one.verify(Level.BYTES, "many")
            assert {(target, code) for target, _, code in codes(found)} == {
                ("there", "missing"),
                ("local", "bytes"),
                ("local", "blob"),
            }
            assert (found.drift, found.unknown) == (4, 0)  # two tags have the blob that was lost
            before = there.received("/blobs/")
            found = await one.verify(Level.BYTES, "many", repair=True)
            assert (found.repaired, codes(found)) == (4, []), found
            assert there.received("/blobs/") == before
