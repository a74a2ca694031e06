"""`mirrord copy` as a process: no configuration, no state, an empty home."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.cli.hosts import copy_hosts
from mirrord.testing import DockerRegistry, Image, Registry, build_image, push, require
from mirrord.testing.images import REF_NAME
from mirrord.testing.running import run
from tests.support.artifacts import cosigned
from tests.support.commands import Desk, Said
from tests.support.layouts import write_docker_archive, write_layout

LAYER = 100_000
Typed = Callable[..., Said]


def built(seed: str = "image", *, docker: bool = False) -> Image:
    return build_image(layer_size=LAYER, seed=seed, docker=docker)


def stamp(file: Path) -> tuple[int, int]:
    """Return what changes when a file is written again."""
    found = file.stat()
    return found.st_ino, found.st_mtime_ns


def left_behind(desk: Desk) -> list[str]:
    """Name what a command left in the home, in the folder for temporary files, or as state."""
    places = [*(desk.folder / "home").iterdir(), *desk.temporary.iterdir(), desk.folder / "state"]
    return [str(place) for place in places if place.exists()]


async def test_one_source_three_targets(desk: Desk) -> None:
    """The command of the first page: two registries and a layout, each blob read once, nothing left behind."""
    require("docker-registry", "skopeo")
    image = built()
    async with Registry() as source, DockerRegistry() as one, DockerRegistry() as two:
        await push(image, source, "a/b", ["v1"])
        said = await desk.run("copy", f"{source.host}/a/b:v1", f"{one.host}/a/b:v1", f"{two.host}/x/b", "oci:out")
        assert said.status == 0, said.err
        assert source.count("GET", "/blobs/") == len(image.blobs)
        assert [line.split()[0] for line in said.out.splitlines()[2:]] == [
            *(f"{one.host}/a/b:v1", f"{two.host}/x/b:v1", "oci:out:v1")
        ]
        assert said.err == ""
        for place in (f"docker://{one.host}/a/b:v1", f"docker://{two.host}/x/b:v1", f"oci:{desk.folder}/out:v1"):
            inspected = await run("skopeo", "inspect", "--raw", "--tls-verify=false", place)
            assert inspected.output.encode() == image.body, place
    assert left_behind(desk) == []


async def test_one_registry_takes_blobs_over(desk: Desk) -> None:
    """Within one registry no blob is read or sent: each is mounted from the source's repository."""
    require("docker-registry")
    image = built()
    async with DockerRegistry() as real, Registry() as seen:
        await push(image, seen, "a", ["v1"])
        said = await desk.run("copy", f"{seen.host}/a:v1", f"{seen.host}/m:v1")
        assert said.status == 0, said.err
        mounts = [one for one in seen.log if one.method == "POST" and "/m/blobs/uploads" in one.path]
        assert len(mounts) == len(image.blobs)
        assert (seen.count("GET", "/blobs/"), seen.count("PUT", "/m/blobs/")) == (0, 0)
        said = await desk.run("copy", f"{seen.host}/a:v1", f"{real.host}/a:v1")
        assert said.status == 0, said.err
        again = await desk.run("copy", "--json", f"{real.host}/a:v1", f"{real.host}/b/m:v1")
        (receipt,) = again.document["receipts"]
        assert (again.status, receipt["sent"], again.document["read"]) == (0, 0, 0)


async def test_a_registry_that_does_not_mount_gets_the_bytes(desk: Desk) -> None:
    """An upload session in the place of a mount is no failure: the blobs are sent."""
    image = built()
    async with Registry(mount=False) as seen:
        await push(image, seen, "a", ["v1"])
        said = await desk.run("copy", f"{seen.host}/a:v1", f"{seen.host}/m:v1")
        assert said.status == 0, said.err
        assert seen.count("GET", "/blobs/") == len(image.blobs)
        assert seen.tags["m"] == {"v1": image.digest}


async def test_nothing_to_do(desk: Desk) -> None:
    """A second copy asks each place once, the source for signatures of each manifest, too; it writes nothing."""
    async with Registry() as source, Registry() as target:
        await push(built(), source, "a/b", ["v1"])
        words = ("copy", f"{source.host}/a/b:v1", f"{target.host}/a/b", "oci:out")
        assert (await desk.run(*words)).status == 0
        before = stamp(desk.folder / "out" / "index.json")
        source.forget()
        target.forget()
        said = await desk.run(*words)
        assert (said.status, said.err) == (0, "")
        assert said.out.splitlines()[0].startswith("copy: noop in ")
        assert said.out.splitlines()[0].endswith("2 up to date")
        asked = [(one.method, one.path.rpartition("/")[0].rpartition("/")[2]) for one in source.log]
        assert asked == [
            *(("HEAD", "manifests"), ("GET", "referrers"), ("GET", "tags")),
            *(("GET", "manifests"), ("GET", "referrers"), ("GET", "referrers")),  # the image, and its platforms
        ]
        assert [exchange.method for exchange in target.log] == ["HEAD"]
        assert stamp(desk.folder / "out" / "index.json") == before


async def test_json_is_one_document(desk: Desk) -> None:
    """`--json` prints one document and nothing else; a failure is one, too."""
    async with Registry() as source, Registry() as target:
        image = built()
        await push(image, source, "a/b", ["v1"])
        said = await desk.run("copy", "--json", f"{source.host}/a/b:v1", f"{target.host}/a/b")
        assert said.err == ""
        assert said.out.count("\n") == 1
        assert said.document["result"] == "success"
        assert said.document["read"] == image.size
        assert [(one["outcome"], one["sent"]) for one in said.document["receipts"]] == [("done", image.size)]
        failed = await desk.run("copy", "--json", f"{source.host}/a/b:none", f"{target.host}/a/b")
        assert failed.status == 1
        assert failed.document["error"]["code"] == "missing"
        assert failed.document["error"]["message"] in failed.err


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
async def test_from_a_layout_and_back(desk: Desk, docker: bool) -> None:
    """`oci:` as a source: tag by tag, or the only image; bytes stay what they were."""
    image = built(docker=docker)
    write_layout(image, desk.folder / "build", "main")
    async with Registry() as target:
        assert (await desk.run("copy", "oci:build", f"{target.host}/a", f"{target.host}/b:other")).status == 0
        assert target.tags == {"a": {"main": image.digest}, "b": {"other": image.digest}}
        back = await desk.run("copy", f"{target.host}/a:main", "oci:deep/er/back:renamed")
        assert back.status == 0, back.err
        assert target.content.dangling() == []
    index = json.loads((desk.folder / "deep/er/back/index.json").read_bytes())
    entry = index["manifests"][0]
    assert (entry["digest"], entry["annotations"]) == (image.digest, {REF_NAME: "renamed"})


async def test_two_tags_of_one_layout(desk: Desk) -> None:
    """One layout may be named twice under different tags."""
    async with Registry() as source:
        image = built()
        await push(image, source, "a", ["v1"])
        said = await desk.run("copy", f"{source.host}/a:v1", "oci:out:one", "oci:out:two")
        assert said.status == 0, said.err
        assert source.count("GET", "/blobs/") == len(image.blobs)
    names = [
        one["annotations"][REF_NAME] for one in json.loads((desk.folder / "out/index.json").read_bytes())["manifests"]
    ]
    assert sorted(names) == ["one", "two"]


async def test_two_names_in_one_repository(desk: Desk) -> None:
    """Of two tags in one repository each blob and each manifest below is sent once, and both tags are set."""
    async with Registry() as source, Registry() as target:
        image = build_image(layer_size=LAYER, platforms=("linux/amd64", "linux/arm64"))
        await push(image, source, "a", ["v1"])
        places = [f"{target.host}/{name}" for name in ("app:1", "app:2")]
        said = await desk.run("copy", "--json", f"{source.host}/a:v1", *places)
        assert said.status == 0, said.err
        assert source.count("GET", "/blobs/") == len(image.blobs)
        assert target.count("PUT", "/blobs/") == target.count("POST", "/blobs/") == len(image.blobs)
        assert target.count("HEAD", "/blobs/") == len(image.blobs)
        assert target.count("PUT", "/manifests/sha256:") == len(image.manifests)
        assert target.tags == {"app": {"1": image.digest, "2": image.digest}}
        assert sum(receipt["sent"] for receipt in said.document["receipts"]) == image.size
        assert target.content.dangling() == []


async def test_from_an_archive(desk: Desk) -> None:
    """`docker-archive:` gives the same digest each time, and its own tag to targets without one."""
    write_docker_archive(built(), desk.folder / "a.tar", "team/app:v7")
    async with Registry() as one, Registry() as two:
        assert (await desk.run("copy", "docker-archive:a.tar", f"{one.host}/a")).status == 0
        assert (await desk.run("copy", "docker-archive:a.tar:v7", f"{two.host}/a")).status == 0
        assert list(one.tags["a"]) == ["v7"]
        assert one.tags == two.tags
        assert one.content.dangling() == []


async def test_tags_by_default(desk: Desk) -> None:
    """No tag at the source means `latest`; a digest gives none, and then the target is written by digest."""
    async with Registry() as source, Registry() as target:
        image = built()
        await push(image, source, "a", ["latest"])
        assert (await desk.run("copy", f"{source.host}/a", f"{target.host}/tagged")).status == 0
        assert target.tags["tagged"] == {"latest": image.digest}
        said = await desk.run("copy", f"{source.host}/a@{image.digest}", f"{target.host}/plain", f"{target.host}/p:x")
        assert said.status == 0, said.err
        assert "no tag, digest only" in said.out
        assert "plain" not in target.tags
        assert image.digest in target.manifests["plain"]
        assert target.tags["p"] == {"x": image.digest}


BAD = [
    ("upper-case", ("127.0.0.1:9/Team/App", "oci:out"), "write team/app"),
    ("url", ("docker://127.0.0.1:9/a", "oci:out"), "write 127.0.0.1:9/a"),
    ("https", ("https://127.0.0.1:9/a", "oci:out"), "write 127.0.0.1:9/a"),
    ("dot-segment", ("127.0.0.1:9/a/../b", "oci:out"), "a/../b"),
    ("empty", ("", "oci:out"), ""),
    ("digest-22", ("127.0.0.1:9/a@sha256:ABC", "oci:out"), "sha256:ABC"),
    ("no-folder", ("oci:", "oci:out"), "has no file name"),
    ("target-no-folder", ("127.0.0.1:9/a", "oci:"), "has no folder"),
    ("target-archive", ("127.0.0.1:9/a", "docker-archive:out.tar"), "can be read but not written"),
    ("target-scheme", ("127.0.0.1:9/a", "dir:out"), "dir: is not supported"),
    ("target-digest", ("127.0.0.1:9/a", f"127.0.0.1:9/b@sha256:{'0' * 64}"), "a target cannot have a digest"),
    ("target-twice", ("127.0.0.1:9/a", "127.0.0.1:9/b:v1", "127.0.0.1:9/b:v1"), "given twice"),
    ("registry-alone", ("127.0.0.1:5000", "oci:out"), "write 127.0.0.1:5000/NAME"),
    ("target-registry-alone", ("127.0.0.1:9/a", "localhost:5000"), "write localhost:5000/NAME"),
    ("target-host-alone", ("127.0.0.1:9/a", "reg.example"), "write reg.example/NAME"),
    ("oci-archive", ("oci-archive:a.tar", "oci:out"), "write oci:FILE, which is read as a layout in a tar"),
    ("docker-daemon", ("docker-daemon:a:v1", "oci:out"), "write docker-archive:FILE, a file of `docker save`"),
    ("target-tag", ("127.0.0.1:9/a", "oci:out:-x"), "is not a tag"),
]


@pytest.mark.parametrize("case", BAD, ids=[name for name, _, _ in BAD])
def test_what_cannot_be_meant(desk: Desk, typed: Typed, case: tuple[str, tuple[str, ...], str]) -> None:
    """A reference that is wrong ends with 64 and one line, before anybody is asked and anything is made."""
    _, words, text = case
    said = typed("copy", *words)
    assert (said.status, said.out) == (64, ""), said
    assert text in said.err
    assert said.err.startswith("mirrord: ")
    assert said.err.count("\n") == 1
    assert not (desk.folder / "out").exists()
    assert left_behind(desk) == []


async def test_what_is_not_there(desk: Desk) -> None:
    """A tag, a layout or an archive that is missing is a failure (1) and named; nothing is made."""
    (desk.folder / "text").write_text("no archive")
    async with Registry() as source:
        await push(built(), source, "a", ["v1"])
        for word in (f"{source.host}/a:v2", "oci:absent", "docker-archive:absent.tar", "docker-archive:text"):
            said = await desk.run("copy", word, "oci:out")
            assert said.status == 1, said
            assert word.partition(":")[2].rpartition(":")[2].rpartition("/")[2] in said.err
            assert not (desk.folder / "out").exists()
        for word, kind in (("v2", "tag"), ("latest", "tag"), (f"sha256:{'0' * 64}", "digest")):
            joint = "@" if kind == "digest" else ":"
            said = await desk.run("copy", f"{source.host}/a{'' if word == 'latest' else joint + word}", "oci:out")
            name = f"{source.host}/a{joint}{word}"
            assert f"{name}: no such image; check the name and the {kind}" in said.err


async def test_folder_of_something_else(desk: Desk) -> None:
    """A folder that is no layout is not written into; other targets get theirs."""
    (desk.folder / "site").mkdir()
    (desk.folder / "site" / "index.json").write_text("[]")
    async with Registry() as source, Registry() as target:
        await push(built(), source, "a", ["v1"])
        said = await desk.run("copy", f"{source.host}/a:v1", "oci:site", f"{target.host}/a")
        assert said.status == 2
        assert "site" in next(line for line in said.out.splitlines() if " FAILED " in line).partition(" FAILED ")[2]
        assert target.tags["a"]
    assert [file.name for file in (desk.folder / "site").iterdir()] == ["index.json"]


async def test_source_that_is_unreachable(desk: Desk, dead: str) -> None:
    """Nobody answers at the source: 69, and the line says where and why."""
    said = await desk.run("copy", f"{dead}/a", "oci:out")
    assert said.status == 69
    assert said.err.splitlines()[-1] == f"mirrord: {dead}: no connection: Connection refused"


async def test_target_that_is_unreachable(desk: Desk, dead: str) -> None:
    """One dead target: the others are done, and the exit code is 2; all dead: 69, and nothing was read."""
    async with Registry() as source, Registry() as target:
        image = built()
        await push(image, source, "a", ["v1"])
        said = await desk.run("copy", f"{source.host}/a:v1", f"{dead}/a", f"{target.host}/a")
        assert said.status == 2
        assert target.tags["a"] == {"v1": image.digest}
        failed = next(line for line in said.out.splitlines() if " FAILED " in line)
        assert failed.startswith(f"{dead}/a:v1 ")
        assert failed.endswith(f"{dead}: no connection: Connection refused")
        source.forget()
        alone = await desk.run("copy", "--json", f"{source.host}/a:v1", f"{dead}/a")
        assert alone.status == 69
        assert [one["code"] for one in alone.document["receipts"]] == ["unreachable"]
        assert source.count("GET", "") == 0


async def test_killed_copies_leave_nothing_for_long(desk: Desk) -> None:
    """What a killed copy left is removed by the next one, and what a living one has is not."""
    async with Registry() as slow, Registry() as source, Registry() as target:
        await push(built(), slow, "a", ["v1"])
        await push(built(), source, "a", ["v1"])
        gate = slow.faults.on("GET", "/blobs/", times=None).stall(after=1000)
        async with desk.started("copy", f"{slow.host}/a:v1", f"{target.host}/slow") as killed:
            await gate.reached.wait()
            kept = list(desk.temporary.iterdir())
            assert (await desk.run("copy", f"{source.host}/a:v1", f"{target.host}/a")).status == 0
            assert list(desk.temporary.iterdir()) == kept
            assert len(kept) == 1
            killed.kill()
            await killed.wait()
        assert list(desk.temporary.iterdir()) == kept
        assert (await desk.run("copy", f"{source.host}/a:v1", f"{target.host}/a")).status == 0
        assert list(desk.temporary.iterdir()) == []
        slow.faults.clear()
        assert (await desk.run("copy", f"{slow.host}/a:v1", f"{target.host}/slow")).status == 0
        assert target.content.dangling() == []


async def test_private_addresses_take_a_word(desk: Desk) -> None:
    """A registry at a private address is dialled only when that is asked for; the refusal says how, in one line."""
    async with Registry() as source:
        await push(built(), source, "a", ["v1"])
        said = await desk.run("copy", f"{source.host}/a:v1", "10.255.255.1:5000/a")
        assert said.status == 1
        assert "; to allow it add `--allow-private`" in said.out + said.err
        assert "hosts:" not in said.out + said.err
    allowed = copy_hosts(["10.255.255.1:5000", "docker.io"], {}, allow_private=True)
    assert allowed.policy("10.255.255.1:5000").allow_private
    assert set(allowed.policies) == {"10.255.255.1:5000", "docker.io"}
    assert not copy_hosts(["docker.io"], {}).policy("docker.io").allow_private


@pytest.mark.parametrize("listed", [True, False], ids=["api", "tags"])
async def test_signatures_of_platforms_that_are_added_later(desk: Desk, listed: bool) -> None:
    """An image that is there already: what was added to one of its platforms is brought, too."""
    image = build_image(["linux/amd64", "linux/arm64"], layers=1, layer_size=LAYER)
    child = json.loads(image.body)["manifests"][1]["digest"]
    async with Registry(referrers=listed) as source, Registry() as target:
        await push(image, source, "a/b", ["v1"])
        to = f"{target.host}/a/b:v1"
        assert (await desk.run("copy", f"{source.host}/a/b:v1", to)).status == 0
        source.forget()
        assert "up to date" in (await desk.run("copy", f"{source.host}/a/b:v1", to)).out
        assert source.count("GET", "/manifests/") == (1 if listed else 0)
        signature = cosigned("later")
        await push(signature, source, "a/b", [f"{child.replace(':', '-')}.sig"])
        said = await desk.run("copy", "--json", f"{source.host}/a/b:v1", to)
        assert json.loads(said.out)["result"] == "success"
        assert signature.digest in target.manifests["a/b"]
