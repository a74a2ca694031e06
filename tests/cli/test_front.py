"""`mirrord front`: what the front does with an image, asked of the daemon, or of configuration and cache."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from mirrord.printable import size
from mirrord.testing import Image, Registry, build_image, push
from tests.support.commands import Desk


def configured(desk: Desk, source: Registry, *lines: str) -> None:
    """Let clients read `src.example`, a registry with a port, as `allows.txt` says."""
    desk.configure(
        "settings: {listen: '127.0.0.1:0', url: 'https://m.example'}\n"
        f"names: {{aliases: {{src.example: '{source.host}'}}}}\n"
        f"front: {{image: {{upstreams: ['{source.host}'], allow: allows.txt, deny: [src.example/bad/**],"
        " message: ask Ann}}\n"
        f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/team/app, tags: [v1]}}, to: local}}]\n"
    )
    (desk.folder / "conf.d" / "allows.txt").write_text("".join(f"{line}\n" for line in lines))


async def filled(source: Registry) -> Image:
    """Put two images at the source."""
    image = build_image(layer_size=1000)
    await push(image, source, "team/app", ["v1"])
    await push(image, source, "team/tool", ["v1"])
    return image


def read(address: str, path: str) -> bytes:
    """Return what the front answers."""
    with urlopen(f"http://{address}/v2/{path}") as answer:
        body: bytes = answer.read()
        return body


def page(address: str, path: str) -> str:
    """Return another page of the daemon."""
    with urlopen(f"http://{address}{path}") as answer:
        text: str = answer.read().decode()
        return text


async def test_the_daemon_says_what_it_would_do(desk: Desk) -> None:
    """An image that may be pulled is exit code 0, with its line, where it comes from, and until when it is fresh."""
    async with Registry() as source:
        image = await filled(source)
        configured(desk, source, "# ours", "src.example/team/*")
        async with desk.serving() as daemon:
            before = await desk.run("front", "m.example/src.example/team/tool:v1")
            assert (before.status, before.out.splitlines()) == (
                0,
                [
                    f"{source.host}/team/tool:v1",
                    "  allowed      yes",
                    "  by           conf.d/allows.txt:2",
                    "  comes from   upstream",
                    "  here         no",
                ],
            )
            assert source.log == []
            await desk.run("sync", "app")
            local = await desk.run("front", "src.example/team/app:v1")
            assert (
                local.out.splitlines()[3] == "  comes from   local, which has it from a mirror; upstream is not asked"
            )
            await asyncio.to_thread(read, daemon.address, "src.example/team/tool/manifests/v1")
            after = (await desk.run("front", "--json", f"{daemon.address}/src.example/team/tool:v1")).document
            assert after["fresh_until"].endswith("Z")
            assert (after["comes_from"], after["digest"]) == ("cache", image.digest)
            status = (await desk.run("status", "--json")).document["front"]
            assert status["answers"] == {"miss": 1}


async def test_what_is_refused(desk: Desk) -> None:
    """An image that may not be pulled is exit code 1, with the reason, the line, and the message of the operator."""
    async with Registry() as source:
        configured(desk, source, "src.example/team/*")
        async with desk.serving():
            denied = await desk.run("front", "src.example/bad/tool")
            assert (denied.status, denied.out.splitlines()) == (
                1,
                [
                    f"{source.host}/bad/tool:latest",
                    f"  allowed      no: {source.host}/bad/tool may not be pulled here: ask Ann",
                    "  by           front.image.deny[0]",
                ],
            )
            unlisted = (await desk.run("front", "--json", "src.example/other")).document
            assert (unlisted["comes_from"], unlisted["line"]) == ("refused", "")
            assert unlisted["reason"].endswith("is not on the list of what may be pulled here: ask Ann")
            wrong = await desk.run("front", "src.example/A:b c")
            assert (wrong.status, wrong.out) == (64, "")


async def test_without_a_daemon(desk: Desk) -> None:
    """Without a daemon configuration and cache answer; nothing is made where no state is, and no host is asked."""
    async with Registry() as source:
        image = await filled(source)
        configured(desk, source, "src.example/team/*")
        early = await desk.run("front", "src.example/team/tool:v1")
        assert (early.status, early.out.splitlines()[3]) == (0, "  comes from   upstream")
        assert not (desk.folder / "state").exists()
        async with desk.serving() as daemon:
            await asyncio.to_thread(read, daemon.address, "src.example/team/tool/manifests/v1")
        asked = len(source.log)
        tag = await desk.run("front", "src.example/team/tool:v1")
        assert tag.out.splitlines()[3] == "  comes from   the cache, after upstream was asked whether the tag has moved"
        later = (await desk.run("front", "--json", f"src.example/team/tool@{image.digest}")).document
        assert (later["comes_from"], later["digest"], later["fresh_until"]) == ("cache", image.digest, None)
        assert len(source.log) == asked


@pytest.mark.parametrize(("layer", "last"), [(1000, ""), (65 << 20, "in part, ")])
async def test_what_is_not_here_whole(desk: Desk, layer: int, last: str) -> None:
    """While not all of an image is here, its bytes here and in all are shown; a layer may be larger than the cache."""
    image = build_image(["linux/amd64"], layers=1, layer_size=layer)
    (config, first), (blob, second) = sorted(image.blobs.items(), key=lambda one: len(one[1]))
    sizes = [len(image.body), len(first), len(second)]
    async with Registry() as source:
        await push(image, source, "team/tool", ["v1"])
        desk.configure(
            f"names: {{aliases: {{src.example: '{source.host}'}}}}\nsettings: {{listen: '127.0.0.1:0'}}\n"
            f"front: {{image: {{upstreams: ['{source.host}'], allow: ['src.example/**'], cache: {{size: 64MiB}}}}}}\n"
        )
        async with desk.serving() as daemon:
            for words, blobs, path in (
                ("manifest only, ", 0, "manifests/v1"),
                ("in part, ", 1, f"blobs/{config}"),
                (last, 1 if last else 2, f"blobs/{blob}"),
            ):
                await asyncio.to_thread(read, daemon.address, f"src.example/team/tool/{path}")
                here, whole = sum(sizes[: blobs + 1]), sum(sizes)
                look = await looked(desk, blobs)
                assert (look["size"], look["whole"], look["blobs"]) == (here, whole, blobs)
                shown = (await desk.run("front", "src.example/team/tool:v1")).out.splitlines()[4]
                part = f" of {size(whole)}" if words else ""
                assert shown == f"  here         {image.digest}, {words}{size(here)}{part}"


async def looked(desk: Desk, blobs: int) -> Any:
    """Return the document of `front` once so many blobs are kept, which ends after their last byte was sent."""
    while (look := (await desk.run("front", "--json", "src.example/team/tool:v1")).document)["blobs"] != blobs:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)
    return look


async def test_a_section_that_is_removed_takes_its_errors_with_it(desk: Desk) -> None:
    """A bad list is in `/status` while the configuration names it, and no longer once `front:` is gone."""
    async with Registry() as source:
        configured(desk, source, "src.example/team/tool:v1")
        async with desk.serving() as daemon:
            await daemon.logged("list.refused")
            front = (await desk.run("status", "--json")).document["front"]
            assert list(front["list_errors"]) == ["conf.d/allows.txt"]
            desk.configure("settings: {listen: '127.0.0.1:0'}\n")
            assert (await desk.run("reload")).status == 0
            await asyncio.to_thread(read, daemon.address, "")
            assert (await desk.run("status", "--json")).document["front"]["list_errors"] == {}


async def test_a_list_that_is_broken_by_hand(desk: Desk) -> None:
    """The last good list is in use after a restart; `reload` reports that the file is refused."""
    async with Registry() as source:
        await filled(source)
        configured(desk, source, "src.example/team/*")
        async with desk.serving():
            assert (await desk.run("front", "src.example/team/tool:v1")).status == 0
        configured(desk, source, "src.example/team/*", "src.example/other:v1")
        async with desk.serving() as daemon:
            assert await asyncio.to_thread(read, daemon.address, "src.example/team/tool/manifests/v1")
            assert (await daemon.logged("list.refused"))["lines"] == 1
            trouble = (
                "an allow list was refused, the one before it stays in use: conf.d/allows.txt:2: a line names a"
                f" repository without tag or digest; write {source.host}/other"
            )
            reloaded = await desk.run("reload")
            assert (reloaded.status, reloaded.out.splitlines()[-1]) == (0, trouble)
            assert trouble in (await desk.run("reload", "--json")).document["notices"]
            assert trouble.capitalize().partition(":")[0] in await asyncio.to_thread(page, daemon.address, "/")
            status = await desk.run("status")
            assert (status.status, status.out.splitlines()[-1]) == (1, f"front: {trouble}")
            assert "front: answers since the start: 1 read from upstream; refused: none" in status.out
            assert "[!]front" not in await asyncio.to_thread(page, daemon.address, "/readyz?verbose")


async def test_without_any_list_clients_are_asked_to_come_back(desk: Desk) -> None:
    """Where no list was ever good a client gets 503 and why; `local` is served, so the daemon is ready, and says it."""
    async with Registry() as source:
        await filled(source)
        configured(desk, source, "src.example/team/tool:v1")
        async with desk.serving() as daemon:
            with pytest.raises(HTTPError) as refused:
                await asyncio.to_thread(read, daemon.address, "src.example/team/tool/manifests/v1")
            (error,) = json.loads(refused.value.read())["errors"]
            assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, "10")
            assert (error["code"], error["message"]) == ("UNAVAILABLE", "the allow list of this mirror cannot be used")
            assert "cannot be used" in refused.value.headers["Warning"]
            assert (await desk.run("sync", "app")).status == 0
            assert await asyncio.to_thread(read, daemon.address, "src.example/team/app/manifests/v1")
            with pytest.raises(HTTPError, match="503"):  # nobody knows whether it may be pulled
                await asyncio.to_thread(read, daemon.address, "src.example/team/app/manifests/v2")
            look = await desk.run("front", "src.example/team/tool:v1")
            where = (
                f"conf.d/allows.txt:1: a line names a repository without tag or digest; write {source.host}/team/tool"
            )
            assert look.status == 1
            assert look.out.splitlines()[1] == (
                f"  allowed      no: the allow list of this mirror cannot be used: {where}"
            )
            ready = await asyncio.to_thread(page, daemon.address, "/readyz?verbose")
            assert f"[!]front an allow list was refused, nothing can be pulled through: {where}\n" in ready
            assert "nothing can be pulled through: conf.d" in await asyncio.to_thread(page, daemon.address, "/")
            front = (await desk.run("status", "--json")).document["front"]
            assert (front["list_missing"], front["refusals"]) == (True, {"no_list": 2})
            (desk.folder / "conf.d" / "allows.txt").write_text("src.example/team/tool\n")
            await daemon.logged("list.read")
            assert await asyncio.to_thread(read, daemon.address, "src.example/team/tool/manifests/v1")


async def test_check_names_the_upstreams(desk: Desk) -> None:
    """`check` prints the upstreams, those read with credentials as such, the lines of `allow`, and the cache's size."""
    desk.configure(
        "hosts: {ghcr.io: {auth: {username: robot, password: {env: GHCR}}}}\n"
        "front: {image: {upstreams: [docker.io, {ghcr.io: {credentials: true}}], allow: [docker.io/*, ghcr.io/a/b]}}\n"
    )
    checked = await desk.run("check", GHCR="secret")
    assert (checked.status, checked.err, checked.out.splitlines()) == (
        0,
        "",
        [
            "front.image: 2 upstreams (docker.io, ghcr.io with credentials), 2 lines of allow, cache 20.0 GiB",
            "conf.d: 1 file, 0 mirrors, no problem",
        ],
    )
    as_json = (await desk.run("check", "--json", GHCR="secret")).document
    assert as_json["fronts"] == {"image": {"docker.io": False, "ghcr.io": True}}
    desk.configure("front: {image: {upstreams: [quay.io], allow: allows.txt, cache: {size: 2TiB}}}\n")
    absent = await desk.run("check")
    assert "front.image: 1 upstream (quay.io), 0 lines of allow, cache 2.0 TiB" in absent.out.splitlines()
    assert "notice: conf.d/allows.txt: does not exist" in absent.err
    (desk.folder / "conf.d" / "allows.txt").write_text("# ours\nquay.io/a/b\nquay.io/c/**  # all\n\nquay.io/d\n")
    counted = await desk.run("check")
    assert "front.image: 1 upstream (quay.io), 3 lines of allow, cache 2.0 TiB" in counted.out.splitlines()


async def test_check_and_front_agree_about_a_bad_list(desk: Desk) -> None:
    """`check` names the bad line of a list; without an earlier list `front` refuses."""
    async with Registry() as source:
        configured(desk, source, "src.example/team/tool:v1")
        checked = await desk.run("check", "--json")
        assert checked.status == 78
        assert json.loads(checked.out)["problems"] == [
            f"conf.d/allows.txt:1: a line names a repository without tag or digest; write {source.host}/team/tool"
        ]
        assert (await desk.run("front", "src.example/team/tool:v1")).status == 1


@pytest.mark.parametrize("naming", ["flat", "path", "my.team_x/{path}"])
async def test_front_takes_no_name_away(desk: Desk, naming: str) -> None:
    """What `_catalog` lists is pulled by that name with `front:` as without, and `mirrord front` agrees."""
    async with Registry() as source:
        image = await filled(source)
        front = f"front: {{image: {{upstreams: ['{source.host}'], allow: ['{source.host}/other/**']}}}}\n"
        mirror = f"{{name: app, kind: image, from: {{repository: {source.host}/team/app, tags: [v1]}}, to: local}}"
        for section in ("", front):
            desk.configure(
                f"settings: {{listen: '127.0.0.1:0'}}\nnames: {{naming: '{naming}'}}\n{section}mirrors: [{mirror}]\n"
            )
            async with desk.serving() as daemon:
                await desk.run("sync", "app")
                listed = json.loads(await asyncio.to_thread(read, daemon.address, "_catalog"))["repositories"]
                assert len(listed) == 1
                for path in (f"manifests/{image.digest}", "manifests/v1"):
                    assert await asyncio.to_thread(read, daemon.address, f"{listed[0]}/{path}") == image.body
        look = (await desk.run("front", "--json", f"{listed[0]}:v1")).document
        assert (look["comes_from"], look["digest"]) == ("local", image.digest)
