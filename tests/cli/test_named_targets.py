"""Images that are called after their source, with the real program and real registries."""

from __future__ import annotations

import json
from pathlib import Path

from mirrord.testing import DockerRegistry, build_image, push, require
from mirrord.testing.running import run
from tests.support.commands import Desk

QUAY = "names: {{aliases: {{'{source}': quay.io}}{naming}}}\n"
MIRRORS = """
targets:
  one: {{kind: image, to: {target}/seed, naming: {own}}}
  two: {{kind: image, to: {target}/whole}}
mirrors:
  - {{name: app, kind: image, from: {{repository: {source}/team/app, tags: ["v*"]}}, to: [one, two, local], trust: 0s}}
  - {{name: own, kind: image, from: {{repository: {source}/team/own, tags: ["v*"]}}, as: mine, to: [one, two, local]}}
"""


async def tags(registry: DockerRegistry, repository: str) -> object:
    """Return what skopeo lists, or its message."""
    listed = await run("skopeo", "list-tags", "--tls-verify=false", f"docker://{registry.host}/{repository}")
    return sorted(json.loads(listed.output)["Tags"]) if listed.status == 0 else listed.output


async def test_images_are_called_after_their_source(tmp_path: Path) -> None:
    """`nwcd` and `path` at a real registry and in `local`: skopeo sees the names, and `mirrord name` leads back."""
    require("docker-registry", "skopeo")
    desk = Desk(tmp_path)
    async with DockerRegistry() as source, DockerRegistry() as target:
        for name in ("team/app", "team/own"):
            await push(build_image(["linux/amd64"], layers=1, seed=name), source.url, name, ["v1", "v2"])
        text = (QUAY + MIRRORS).format(source=source.host, target=target.host, naming=", naming: path", own="nwcd")
        desk.configure(text)
        done = await desk.run("sync", "--json")
        assert done.status == 0, done.err + done.out
        for repository in ("seed/quay/team/app", "seed/mine", "whole/quay.io/team/app", "whole/mine"):
            assert await tags(target, repository) == ["v1", "v2"]
        async with desk.serving(MIRRORD_LISTEN="127.0.0.1:0") as served:
            listed = await run(
                "skopeo", "list-tags", "--tls-verify=false", f"docker://{served.address}/quay.io/team/app"
            )
            assert json.loads(listed.output)["Tags"] == ["v1", "v2"]
        back = await desk.run("name", f"{target.host}/seed/quay/team/app:v1", "--json")
        assert back.document["image"] == "quay.io/team/app:v1"
        assert [(one["target"], one["mirror"]) for one in back.document["names"]] == [
            ("one", "app"), ("two", "app"), ("local", "app"),
        ]  # fmt: skip


async def test_a_publish_has_the_name_of_what_the_mirror_copies(tmp_path: Path) -> None:
    """A published build is called after the mirror's source, wherever it comes from, or after a mirror of layouts."""
    require("docker-registry", "skopeo")
    desk = Desk(tmp_path)
    (tmp_path / "builds").mkdir()
    async with DockerRegistry() as source, DockerRegistry() as target:
        await push(build_image(["linux/amd64"], layers=1, seed="built"), source.url, "ci/build", ["b1"])
        text = (QUAY + MIRRORS).format(source=source.host, target=target.host, naming=", naming: path", own="flat")
        desk.configure(
            f"{text}  - {{name: built, kind: image, from: {{layouts: {tmp_path}/builds}}, to: [one, two]}}\n"
        )
        for mirror in ("app", "built"):
            build = ("--image", f"{source.host}/ci/build:b1", "--branch", "main", "--commit", "0123abc")
            said = await desk.run("publish", mirror, *build)
            assert said.status == 0, said.err + said.out
        for repository in ("seed/quay.io__team__app", "whole/quay.io/team/app", "seed/built", "whole/built"):
            assert await tags(target, repository) == ["main", "main-0123abc"]


async def test_another_naming_is_another_place(tmp_path: Path) -> None:
    """After a change of the naming the next run copies to the new names, and the one after it does not."""
    require("docker-registry", "skopeo")
    desk = Desk(tmp_path)
    async with DockerRegistry() as source, DockerRegistry() as target:
        for name in ("team/app", "team/own"):
            await push(build_image(["linux/amd64"], layers=1, seed=name), source.url, name, ["v1"])
        text = (QUAY + MIRRORS).format(source=source.host, target=target.host, naming="", own="flat")
        desk.configure(text.replace("trust: 0s", "trust: 1d"))
        assert (await desk.run("sync", "app")).status == 0
        desk.configure(text.replace("trust: 0s", "trust: 1d").replace("flat", "nwcd"))
        plan = await desk.run("plan", "app", "--json")
        assert plan.out.count('"copy"') == 1, plan.out
        assert (await desk.run("sync", "app")).status == 0
        assert await tags(target, "seed/quay/team/app") == ["v1"]
        assert await tags(target, "seed/quay.io__team__app") == ["v1"]
        again = await desk.run("plan", "app", "--json")
        assert again.out.count('"copy"') == 0, again.out


async def test_images_of_a_list_are_named_like_all_others(tmp_path: Path) -> None:
    """Each line has its name by the target's naming, by `path` without one, and is found by that name."""
    require("docker-registry", "skopeo")
    desk = Desk(tmp_path)
    async with DockerRegistry() as source, DockerRegistry() as target:
        for name in ("team/app", "base"):
            await push(build_image(["linux/amd64"], layers=1, seed=name), source.url, name, ["v1"])
        text = (QUAY + MIRRORS).format(source=source.host, target=target.host, naming="", own="flat")
        listed = "mirrors: [{name: all, kind: image, from: {list: images.txt}, to: [one, two, local]}]\n"
        desk.configure(text.partition("mirrors:")[0] + listed)
        (tmp_path / "conf.d" / "images.txt").write_text(f"{source.host}/team/app:v1\n{source.host}/base:v1\n")
        done = await desk.run("sync")
        assert done.status == 0, done.err + done.out
        for repository in (
            "seed/quay.io__team__app",
            "seed/quay.io__base",
            "whole/quay.io/team/app",
            "whole/quay.io/base",
        ):
            assert await tags(target, repository) == ["v1"]
        back = await desk.run("name", f"{target.host}/whole/quay.io/base", "--json")
        assert back.document["image"] == "quay.io/base"
        assert [(one["target"], one["mirror"]) for one in back.document["names"]] == [
            ("one", "all"), ("two", "all"), ("local", "all"),
        ]  # fmt: skip
