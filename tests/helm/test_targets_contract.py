"""What every place that takes charts promises, whatever it is."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from pathlib import Path

import pytest

from mirrord.errors import ContentError, DigestError, ImmutableError
from mirrord.model.digest import Digest
from tests.support.chartfiles import pack_chart, sign_chart
from tests.support.chartworld import KINDS, ChartWorld, index_of, sound, version_of
from tests.support.localstore import place_in

ONE, TWO = pack_chart("crane", "1.0.0", size=150_000), pack_chart("crane", "1.1.0+build.2", size=150_000)
OTHER = pack_chart("fadvisor", "0.3.0-rc.1", description="<costs> & more", deprecated=True)
CHANGED = pack_chart("crane", "1.0.0", size=150_000, description="built again")
ALL = (ONE, TWO, OTHER)
FILES = ("local", "directory")


def digests(*archives: bytes) -> dict[str, str]:
    return {version_of(one).item: str(Digest.of(one)) for one in archives}


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_there(kind: str, world: ChartWorld) -> None:
    """A place where nobody has published anything holds nothing, and that is no error."""
    target = await world.target(kind)
    assert await target.held(tuple(map(version_of, ALL))) == {}


@pytest.mark.parametrize("kind", KINDS)
async def test_put_and_held(kind: str, world: ChartWorld) -> None:
    """What was put and finished is held with the digests of its archives, also after a restart."""
    target = await world.target(kind)
    await asyncio.gather(*(world.put(target, one, sign_chart(one)) for one in ALL))
    await target.finish(index_of(*ALL))
    for reader in (target, await world.target(kind)):
        assert await reader.held(tuple(map(version_of, ALL))) == digests(*ALL)


@pytest.mark.parametrize("kind", KINDS)
async def test_twice(kind: str, world: ChartWorld) -> None:
    """Putting and finishing the same again is success and changes nothing."""
    for _ in range(2):
        target = await world.target(kind)
        for one in ALL:
            await world.put(target, one, sign_chart(one))
        await target.finish(index_of(*ALL))
    assert await target.held(tuple(map(version_of, ALL))) == digests(*ALL)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_version_is_not_replaced_unasked(kind: str, world: ChartWorld) -> None:
    """Other content under a version that is there is refused, and the old content stays."""
    target = await world.target(kind)
    await world.put(target, ONE)
    await target.finish(index_of(ONE))
    again = await world.target(kind)
    with pytest.raises(ImmutableError, match="crane"):
        await world.put(again, CHANGED)
    assert await again.held([version_of(ONE)]) == digests(ONE)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "coding"])
async def test_a_version_is_replaced_when_asked(kind: str, world: ChartWorld) -> None:
    """With `replace` the new content stands under the old version."""
    target = await world.target(kind)
    await world.put(target, ONE, sign_chart(ONE))
    await target.finish(index_of(ONE))
    await world.put(target, CHANGED, sign_chart(CHANGED), replace=True)
    await target.finish(index_of(CHANGED))
    assert await target.held([version_of(CHANGED)]) == digests(CHANGED)


@pytest.mark.parametrize("kind", FILES)
async def test_archives_come_first(kind: str, world: ChartWorld) -> None:
    """Until `finish` nobody sees a new index; then index, packed index, archives and provenance are all there."""
    target = await world.target(kind)
    await world.put(target, ONE, sign_chart(ONE))
    await target.finish(index_of(ONE))
    await world.put(target, TWO, sign_chart(TWO))
    assert sound(await world.published(kind)) == digests(ONE)
    index = index_of(ONE, TWO, extras={"pubkey.gpg": b"key"})
    await target.finish(index)
    published = await world.published(kind)
    assert sound(published) == digests(ONE, TWO)
    assert gzip.decompress(published["index.yaml.gz"]) == published["index.yaml"] == index.data
    assert published["pubkey.gpg"] == b"key"
    assert published["charts/crane-1.1.0+build.2.tgz.prov"] == sign_chart(TWO)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("listed", [(ONE, TWO), (CHANGED,)], ids=["missing", "other content"])
async def test_no_entry_without_its_file(kind: str, listed: tuple[bytes, ...], world: ChartWorld) -> None:
    """An index that lists an archive which is not there is refused, and the old one stays (bad input 55)."""
    target = await world.target(kind)
    await world.put(target, ONE)
    await target.finish(index_of(ONE))
    before = await world.published(kind)
    with pytest.raises(ContentError, match=r"crane-1\.[01]\.0"):
        await target.finish(index_of(*listed))
    assert await world.published(kind) == before


@pytest.mark.parametrize("kind", FILES)
async def test_what_is_no_longer_listed_goes(kind: str, world: ChartWorld) -> None:
    """An archive that only the old index listed is removed, after the new index is in place."""
    target = await world.target(kind)
    for one in (ONE, TWO):
        await world.put(target, one, sign_chart(one))
    await target.finish(index_of(ONE, TWO))
    await target.finish(index_of(TWO))
    published = await world.published(kind)
    assert sound(published) == digests(TWO)
    assert not [name for name in published if "1.0.0" in name]


async def test_old_indexes_do_not_pile_up(world: ChartWorld) -> None:
    """The local repository links one index and its packed form, however many there were."""
    target = await world.target("local")
    for count in range(1, 4):
        await world.put(target, ALL[count - 1])
        await target.finish(index_of(*ALL[:count]))
    linked = await world.links.state("_helm/app")
    assert linked is not None
    assert len(linked.manifests) == len(linked.tags) == 5


@pytest.mark.parametrize("kind", FILES)
async def test_lost_archives_come_again(kind: str, world: ChartWorld) -> None:
    """An archive that the index lists but the disk has lost is not held, so that the next run brings it back."""
    target = await world.target(kind)
    for one in (ONE, TWO):
        await world.put(target, one)
    await target.finish(index_of(ONE, TWO))
    site = world.folder / "site/charts/crane-1.0.0.tgz"
    lost = site if kind == "directory" else place_in(world.store, Digest.of(ONE))
    assert lost is not None
    lost.unlink()
    assert await target.held() == digests(TWO)


async def test_a_killed_run_keeps_its_archives(world: ChartWorld) -> None:
    """Archives in a folder that no index lists yet are recognised, so that they need not come again."""
    target = await world.target("directory")
    await world.put(target, ONE)
    again = await world.target("directory")
    assert await again.held([version_of(ONE), version_of(TWO)]) == digests(ONE)
    assert await again.held([version_of(CHANGED)]) == digests(ONE)
    await again.finish(index_of(ONE))
    assert sound(await world.published("directory")) == digests(ONE)


async def test_an_unreadable_index_of_a_folder_is_replaced(world: ChartWorld) -> None:
    """What somebody left as index.yaml does not stop the next publication."""
    site = world.folder / "site"
    site.mkdir()
    (site / "index.yaml").write_text("<html>")
    target = await world.target("directory")
    assert await target.held() == {}
    await world.put(target, ONE)
    await target.finish(index_of(ONE))
    assert sound(await world.published("directory")) == digests(ONE)


async def test_nothing_new_writes_nothing(world: ChartWorld) -> None:
    """Finishing with the same index touches no file."""
    target = await world.target("directory")
    await world.put(target, ONE)
    await target.finish(index_of(ONE))
    before = {file: file.stat().st_ino for file in (world.folder / "site").rglob("*")}
    await target.finish(index_of(ONE))
    assert {file: file.stat().st_ino for file in (world.folder / "site").rglob("*")} == before


async def test_one_read_for_all(world: ChartWorld, tmp_path: Path) -> None:
    """Five targets of five kinds are served from one read of the archive."""
    targets = []
    for kind in KINDS:
        world.server = None
        targets.append(await world.target(kind))
    await asyncio.gather(*(world.put(target, ONE) for target in targets))
    for target in targets:
        await target.finish(index_of(ONE))
        assert await target.held([version_of(ONE)]) == digests(ONE)
    assert world.read == {Digest.of(ONE): len(ONE)}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_lying_source_publishes_nothing(kind: str, world: ChartWorld) -> None:
    """Bytes that are not those of the digest never become a chart, and nothing half written is left."""
    target = await world.target(kind)
    lie = bytearray(ONE)
    lie[-1] ^= 0xFF
    source = world.wanted(bytes(lie))
    wanted = type(source)(Digest.of(ONE), source.size, source.open)
    async with world.spools.reader(wanted, target.place) as reader:
        with contextlib.suppress(Exception):
            await target.put(version_of(ONE), reader, None)
        assert isinstance(reader.error, DigestError)
    assert await target.held([version_of(ONE)]) == {}
    assert [*world.folder.rglob("*.tmp")] == []
