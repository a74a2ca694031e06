"""`mirrord takedown`, end to end: the request of a rights holder, with real registries."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mirrord.model.digest import Digest
from mirrord.testing import DockerRegistry, Image, build_image, push, require
from tests.support.commands import Desk

PROGRAMS = ["docker-registry", "registry3"]
OURS, LATER, OTHER = (build_image(["linux/amd64", "linux/arm64"], seed=seed) for seed in ("ours", "later", "other"))
REASON = 'request of the rights holder, "ticket 4711" 权利人'


class Station:
    """A public mirror as the seed describes it: a list of images, two registries, `local`, and a front."""

    def __init__(self, folder: Path, source: DockerRegistry, targets: list[DockerRegistry]) -> None:
        self.desk, self.source, self.targets = Desk(folder), source, targets
        self.denied, self.list = folder / "denied.yaml", folder / "conf.d" / "images.txt"
        self.denied.touch()
        ports = {f"t{number}": {"kind": "image", "to": f"{one.host}/nwcd"} for number, one in enumerate(targets)}
        sections: dict[str, Any] = {
            "settings": {"listen": "127.0.0.1:0", "denied": str(self.denied)},
            "names": {"aliases": {"quay.io": source.host, "old.example": "quay.io"}, "naming": "path"},
            "front": {"image": {"upstreams": [source.host], "allow": ["quay.io/**"]}},
            "targets": ports,
            "mirrors": [{"name": "list", "kind": "image", "from": {"list": "images.txt"}, "to": [*ports, "local"]}],
        }
        self.desk.configure("".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items()))
        self.list.touch()
        self.want("acme/app:v1", "acme/app:v2", "acme/app:copy", "more/tool:v1")

    def want(self, *images: str) -> None:
        """Add images of the source to the list."""
        self.list.write_text(self.list.read_text() + "".join(f"{self.source.host}/{image}\n" for image in images))

    def repository(self, path: str) -> str:
        """Return what a repository of the source is called at targets."""
        return f"nwcd/{self.source.host.replace(':', '_')}/{path}"

    async def status(self, host: str, path: str) -> int:
        """Ask a registry for a manifest."""
        accept = {"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"}
        async with aiohttp.ClientSession() as client, client.get(f"http://{host}/v2/{path}", headers=accept) as answer:
            await answer.read()
            return answer.status

    async def at_targets(self, path: str, ref: str) -> list[int]:
        """Ask all targets for a manifest of a repository of the source."""
        return [await self.status(one.host, f"{self.repository(path)}/manifests/{ref}") for one in self.targets]


async def fill(source: DockerRegistry) -> None:
    for image, path, tags in (
        (OURS, "acme/app", ["v1", "copy"]),
        (LATER, "acme/app", ["v2"]),
        (OTHER, "more/tool", ["v1"]),
    ):
        await push(image, source.url, path, tags)


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    programs = [program for program in PROGRAMS if program]
    require(*programs)
    async with AsyncExitStack() as stack:
        source, *targets = [
            await stack.enter_async_context(DockerRegistry(program=program)) for program in (programs[0], *programs)
        ]
        await fill(source)
        yield Station(tmp_path, source, targets)


def parts(image: Image) -> list[str]:
    return [digest for digest in image.manifests if digest != image.digest]


async def test_the_request_of_a_rights_holder(station: Station) -> None:
    """One tag: it goes everywhere with its other tag and its platforms, stays away, and comes back after a lift."""
    desk = station.desk
    async with desk.serving() as daemon:
        assert (await desk.run("sync")).status == 0
        served = "quay.io/acme/app/manifests/"
        assert await station.status(daemon.address, f"{served}v1") == 200
        done = await desk.run("takedown", "old.example/acme/app:v1", "--reason", REASON, "--json")
        assert done.status == 0, (done.out, done.err)
        assert done.document["left"] == []
        assert sorted((one["target"], one["name"].rpartition(":")[2]) for one in done.document["removed"]) == [
            (target, tag) for target in ("local", "t0", "t1") for tag in ("copy", "v1")
        ]
        for ref in ("v1", "copy", OURS.digest, *parts(OURS)):
            assert await station.at_targets("acme/app", ref) == [404, 404], ref
            assert await station.status(daemon.address, f"{served}{ref}") == 451, ref
        for path, ref in (("acme/app", "v2"), ("more/tool", "v1"), ("acme/app", parts(LATER)[0])):
            assert await station.at_targets(path, ref) == [200, 200]
            assert await station.status(daemon.address, f"quay.io/{path}/manifests/{ref}") == 200
        # a new name for the same image at the source, another upstream, another tag: nothing brings it back
        await push(OURS, station.source.url, "acme/renamed", ["v1"])
        station.want("acme/renamed:v1")
        said = await desk.run("sync")
        assert (said.status, said.out.count("taken down, so not mirrored")) == (0, 2), said.out
        for ref in ("v1", OURS.digest):
            assert await station.at_targets("acme/renamed", ref) == [404, 404]
            assert await station.status(daemon.address, f"quay.io/acme/renamed/manifests/{ref}") == 451
    listed = await desk.run("takedown", "--json")
    (one,) = listed.document["denied"]
    assert (one["reason"], one["digests"], one["still"]) == (REASON, 3, [])
    line = station.denied.read_text().splitlines()[-1]
    assert (line.startswith("- {image: "), "权利人" in line, OURS.digest in line) == (True, True, True)
    async with desk.serving() as daemon:  # the file is the truth
        (station.desk.folder / "state" / "mirrord.db").stat()
        assert await station.status(daemon.address, "quay.io/acme/app/manifests/v1") == 451
        lifted = await desk.run("takedown", "quay.io/acme/app:v1", "--lift")
        assert lifted.status == 0, lifted.err
        assert station.denied.read_text().splitlines()[-1].startswith("# lifted 20")
        assert (await desk.run("sync")).status == 0
        assert await station.at_targets("acme/app", "v1") == [200, 200]
        assert await station.status(daemon.address, "quay.io/acme/app/manifests/v1") == 200


async def test_all_tags_by_the_name_at_a_target(station: Station) -> None:
    """People complain about our address: it means the source. A repository goes whole, and no image of others."""
    desk = station.desk
    await push(OTHER, station.source.url, "acme/app", ["borrowed"])  # somebody else's image under their name
    station.want("acme/app:borrowed")
    assert (await desk.run("sync")).status == 0
    target = station.targets[0]
    done = await desk.run("takedown", f"{target.host}/{station.repository('acme/app')}", "--reason", REASON, "--json")
    assert done.status == 0, (done.out, done.err)
    assert done.document["what"] == f"{station.source.host}/acme/app"
    for ref in ("v1", "copy", "v2", "borrowed", OURS.digest, LATER.digest):
        assert await station.at_targets("acme/app", ref) == [404, 404], ref
    assert await station.at_targets("more/tool", "v1") == [200, 200]
    assert OTHER.digest not in done.document["digests"]
    assert (await desk.run("sync")).status == 0
    assert await station.at_targets("acme/app", "v2") == [404, 404]


async def test_a_repository_that_somebody_deleted(station: Station) -> None:
    """Somebody removed the whole repository at a target before: nothing is left there, and it is no failure."""
    desk = station.desk
    assert (await desk.run("sync")).status == 0
    path = station.repository("acme/app")
    for target in station.targets:
        shutil.rmtree(target.folder / "content/docker/registry/v2/repositories" / path)
    done = await desk.run("takedown", "quay.io/acme/app:v1", "--reason", REASON, "--json")
    assert (done.status, done.document["left"]) == (0, []), (done.out, done.err)
    assert await station.at_targets("more/tool", "v1") == [200, 200]


async def test_tags_of_others_stay_when_a_mirror_is_taken_down(station: Station) -> None:
    """A mirror is denied, and not its images: a tag that somebody else gave one of them stays, and holds it."""
    desk = station.desk
    assert (await desk.run("sync")).status == 0
    for target in station.targets:
        await push(LATER, target.url, station.repository("acme/app"), ["theirs"])
    done = await desk.run("takedown", "list", "--reason", REASON, "--json")
    assert await station.at_targets("acme/app", "theirs") == [200, 200]
    assert await station.at_targets("acme/app", LATER.digest) == [200, 200]
    assert await station.at_targets("acme/app", "v1") == [404, 404]
    assert await station.at_targets("acme/app", "v2") == [200, 404]  # docker-registry 2.8 deletes by digest only
    assert done.status == 2
    assert all("theirs needs" in one["why"] for one in done.document["left"] if one["what"].endswith(":v2"))


def stored(desk: Desk) -> set[Path]:
    """Return the content of `local`."""
    return {file for file in (desk.folder / "state" / "blobs").rglob("*") if file.is_file()}


async def test_what_is_left_without_a_ledger(station: Station) -> None:
    """The database is lost: nothing is deleted, all is denied, and what people have to remove or adopt is listed."""
    desk = station.desk
    assert (await desk.run("sync")).status == 0
    for file in (desk.folder / "state").glob("mirrord.db*"):
        file.unlink()
    before = stored(desk)
    done = await desk.run("takedown", "quay.io/acme/app:v1", "--reason", REASON, "--json")
    assert (done.status, done.document["purged"], done.document["removed"]) == (2, 0, []), (done.out, done.err)
    left = [(one["target"], one["what"].rpartition(":")[2]) for one in done.document["left"]]
    assert left == [("local", "copy"), ("local", "v1"), ("t0", "v1"), ("t1", "v1")]
    assert all("not in the ledger; `--adopt` removes it" in one["why"] for one in done.document["left"])
    assert stored(desk) == before
    assert await station.at_targets("acme/app", "v1") == [200, 200]
    async with desk.serving() as daemon:
        assert await station.status(daemon.address, "quay.io/acme/app/manifests/v1") == 451
    by_digest = await desk.run("takedown", f"quay.io/acme/app@{LATER.digest}", "--reason", REASON, "--json")
    assert (by_digest.status, len(by_digest.document["left"])) == (2, 3), (by_digest.out, by_digest.err)
    assert stored(desk) == before
    said = await desk.run("takedown", "quay.io/acme/app:v1")
    assert (said.status, said.out.count("mirrord takedown quay.io/acme/app:v1 --adopt")) == (2, 1), said
    for what in ("quay.io/acme/app:v1", f"quay.io/acme/app@{LATER.digest}"):
        adopted = await desk.run("takedown", what, "--adopt", "--json")
        assert (adopted.status, adopted.document["left"]) == (0, []), (adopted.out, adopted.err)
    for ref in ("v1", "copy", OURS.digest, "v2", LATER.digest):
        assert await station.at_targets("acme/app", ref) == [404, 404], ref
    gone = {file for file in before for image in (OURS, LATER) if file.name == Digest(image.digest).hex}
    assert (len(gone), stored(desk) & gone) == (2, set())


async def test_what_was_taken_down_without_a_ledger_is_no_drift(station: Station) -> None:
    """A run noted it after the database was lost; what `--adopt` removed is not missing to `verify`."""
    desk = station.desk
    assert (await desk.run("sync")).status == 0
    for file in (desk.folder / "state").glob("mirrord.db*"):
        file.unlink()
    assert (await desk.run("sync")).status == 0
    adopted = await desk.run("takedown", "quay.io/acme/app:v1", "--reason", REASON, "--adopt", "--json")
    assert (adopted.status, adopted.document["left"]) == (0, []), (adopted.out, adopted.err)
    assert await station.at_targets("acme/app", "v1") == [404, 404]
    verified = await desk.run("verify")
    assert verified.status == 0, verified


async def test_a_mirror_that_is_taken_down_without_a_ledger(station: Station) -> None:
    """Its places at registries are listed, and cleaned by hand: others may have images there; `local` by `--adopt`."""
    desk = station.desk
    assert (await desk.run("sync")).status == 0
    for file in (desk.folder / "state").glob("mirrord.db*"):
        file.unlink()
    before = stored(desk)
    whole = await desk.run("takedown", "list", "--reason", REASON, "--json")
    left = {(one["target"], one["what"].rpartition("/")[2]) for one in whole.document["left"]}
    at_targets = {(target, name) for target in ("t0", "t1") for name in ("app", "tool")}
    assert left == at_targets | {("local", name) for name in ("app:v1", "app:v2", "app:copy", "tool:v1")}
    assert (whole.status, stored(desk)) == (2, before)
    adopted = await desk.run("takedown", "list", "--adopt", "--json")
    left = {(one["target"], one["what"].rpartition("/")[2]) for one in adopted.document["left"]}
    assert (adopted.status, left, adopted.document["removed"]) == (2, at_targets, [])
    assert await station.at_targets("acme/app", "v1") == [200, 200]
    assert not any(file.name == Digest(OURS.digest).hex for file in stored(desk))
    assert (await desk.run("takedown", "list", "--lift")).status == 0
    assert (await desk.run("sync")).status == 0  # the record is rebuilt from the targets, and not from what is denied
    assert (await desk.run("takedown", "quay.io/acme/app:v1", "--reason", REASON)).status == 2


async def test_nothing_is_denied_or_removed_without_a_database_to_open(station: Station) -> None:
    """Where the database cannot be opened, a takedown fails with 74 as a whole, and can be run again."""
    desk, source = station.desk, station.source
    assert (await desk.run("sync", "list")).status == 0
    database = desk.folder / "state" / "mirrord.db"
    kept = database.rename(desk.folder / "kept.db")
    database.mkdir()
    said = await desk.run("takedown", f"{source.host}/acme/app:v1", "--reason", REASON)
    assert (said.status, "mirrord.db" in said.err) == (74, True), said
    assert station.denied.read_text() == ""
    assert await station.at_targets("acme/app", "v1") == [200, 200]
    database.rmdir()
    kept.rename(database)
    assert (await desk.run("takedown", f"{source.host}/acme/app:v1", "--reason", REASON)).status == 0
    assert await station.at_targets("acme/app", "v1") == [404, 404]
