"""The imported configuration copies what the real tool copies, tag by tag, to a second empty registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from mirrord.testing import DockerRegistry, Image, build_image, push, require
from mirrord.testing.running import run
from tests.support.commands import Desk

TAGS = (
    *("1.0", "1.2-rc1", "10", "2.0", "3.2", "v2", "latest", "edge", "nightly", "2024.01", "20240101", "7.4", "7.4.1"),
    *("v1.2.3", "v1.2.3-alpine", "v1.2.3-rc.1", "v1.3.0", "1.8.0", "1.8.0-rc1", "1.25.3", "1.25.3-alpine3.19"),
    *("1.26", "1.26-windowsservercore", "v1.27.0-beta.2", "2.0.0", "2.0.0-rc1", "2.1.0-dev", "0.9", "v0.10.1", "RC1"),
    *("controller-v1.5.1", "main-abc1234", "abc1234", "1.2.3.4", "1_2", "v", "x1", "foo-2", "1.10.0-10"),
)
SIGNATURE = f"sha256-{'0' * 64}.sig"


@dataclass(frozen=True, slots=True)
class Stage:
    """One registry with content, one for the other tool, and one for mirrord."""

    source: DockerRegistry
    theirs: DockerRegistry
    ours: DockerRegistry


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    require("docker-registry")
    async with AsyncExitStack() as stack:
        yield Stage(*[await stack.enter_async_context(DockerRegistry()) for _ in range(3)])


def images() -> tuple[Image, Image]:
    one, two = (build_image(["linux/amd64"], index=False, layers=1, seed=seed) for seed in ("one", "two"))
    return one, two


async def content(registry: DockerRegistry) -> dict[str, dict[str, str]]:
    """Return repository → tag → digest."""
    found: dict[str, dict[str, str]] = {}
    accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
    async with aiohttp.ClientSession(registry.url, headers={"Accept": accept}) as client:

        async def ask(path: str) -> Mapping[str, list[str] | None]:
            async with client.get(path) as response:
                return await response.json()  # type: ignore[no-any-return]  # JSON

        for repository in (await ask("/v2/_catalog?n=1000"))["repositories"] or ():
            tags = (await ask(f"/v2/{repository}/tags/list"))["tags"] or ()
            for tag in tags:
                async with client.head(f"/v2/{repository}/manifests/{tag}") as response:
                    found.setdefault(repository, {})[tag] = response.headers["Docker-Content-Digest"]
    return found


async def imported(desk: Desk, file: Path, stage: Stage, *options: str) -> None:
    """Import a file with the second registry in place of the first, and run what was imported."""
    file.write_text(file.read_text().replace(stage.theirs.host, stage.ours.host))
    (desk.folder / "conf.d").mkdir()
    said = await desk.run("import", file, *options, "--out", desk.folder / "conf.d" / "a.yaml")
    assert said.status in (0, 2), said
    said = await desk.run("sync", "-c", desk.folder / "conf.d", "--state", desk.folder / "state", "-q")
    assert said.status == 0, said


REPOSITORIES = (
    *("team-a/x", "team-a/x/y", "team-a/scratch", "team-b/api", "team-b/web", "team-b/webs"),
    *("other/x", "other/z", "other/scratch"),
)
REPOS = {
    "groups": "{allow: ['team-a/.*', 'team-b/(api|web)']}",
    "trap": "{allow: ['team-a|x']}",
    "deny": "{deny: ['.*/scratch', 'absent']}",
    "class": "{allow: ['(team-a|other)/[^/]+'], deny: ['.*/s\\w{6}']}",
    "trap-deny": "{deny: ['team-b|/x']}",
}
REGSYNC = {
    "all": "",
    "trap": "tags: {allow: ['1|2']}",
    "three": "tags: {allow: ['v1|dev|0']}",
    "group": "tags: {allow: ['(1|2)[.].*']}",
    "names": "tags: {allow: [latest, edge, absent]}",
    "deny": "tags: {deny: ['.*-(alpha|beta|rc).*', 'nightly']}",
    "both": "tags: {allow: ['v?\\d+\\.\\d+\\.\\d+', 'latest'], deny: ['v1\\.2.*']}",
    "flags": "tags: {allow: ['(?i)rc1', '\\pL+']}",
    "dot": "tags: {allow: ['1.2']}",
    "range": "tags: {semverRange: ['>=1.8.0 <2', '>=7']}",
    "spread": "tags: {semverRange: ['>1.2', '<=0.9'], allow: ['.*[0-9]'], deny: ['.*-rc1']}",
    "near": "tags: {semverRange: ['~1.26', '^0.10']}",
    "exact": "tags: {semverRange: ['=1.26.0', '7.4']}",
    "sets": "tagSets: [{allow: ['1\\.2.*']}, {allow: [latest]}]",
}


async def test_regsync_copies_the_same_tags(desk: Desk, stage: Stage) -> None:
    """For each filter mirrord copies the tags that regsync copies, with equal digests.

    The import names the difference: for regsync the suffix of a variant puts it before its version, for mirrord not.
    """
    require("regsync")
    one, two = images()
    await push(one, stage.source.url, "team/app", TAGS[::2])
    await push(two, stage.source.url, "team/app", TAGS[1::2])
    steps = [
        f"  - {{source: {stage.source.host}/team/app, target: {stage.theirs.host}/to/{name}, type: repository, {tags}}}"
        for name, tags in REGSYNC.items()
    ]
    steps += [
        f"  - {{source: '{stage.source.host}/team/app:1.0', target: {stage.theirs.host}/one/latest, type: image}}",
        f"  - {{source: '{stage.source.host}/team/app:1.0', target: '{stage.theirs.host}/one/other:lts', type: image}}",
        (
            f"  - {{source: '{stage.source.host}/team/app@{two.digest}', target: '{stage.theirs.host}/one/fixed:f', "
            "type: image}"
        ),
    ]
    hosts = (stage.source.host, stage.theirs.host)
    creds = [f"  - {{registry: {host}, tls: disabled}}" for host in hosts]
    file = desk.folder / "regsync.yaml"
    file.write_text("\n".join(["version: 1", "creds:", *creds, "defaults: {parallel: 4}", "sync:", *steps]))
    ran = await run("regsync", "once", "-c", file, env={"HOME": str(desk.folder / "home")})
    assert ran.status == 0, ran
    await imported(desk, file, stage)
    theirs, ours = await content(stage.theirs), await content(stage.ours)
    assert {name.partition("/")[2] for name in theirs} == {*REGSYNC, "latest", "other", "fixed"}
    more = {name: {*tags} - {*theirs[name]} for name, tags in ours.items() if {*tags} - {*theirs[name]}}
    assert more == {key: {"1.26-windowsservercore"} for key in ("to/near", "to/exact")}  # for regsync before 1.26.0
    for name in more:
        del ours[name]["1.26-windowsservercore"]
    assert ours == theirs


async def test_regsync_copies_the_same_repositories(desk: Desk, stage: Stage) -> None:
    """A whole registry with patterns of repositories becomes the same repositories under the same paths."""
    require("regsync")
    for number, repository in enumerate(REPOSITORIES):
        await push(images()[number % 2], stage.source.url, repository, ["1.0", "2.0", "dev"])
    creds = [f"  - {{registry: {host}, tls: disabled}}" for host in (stage.source.host, stage.theirs.host)]
    file = desk.folder / "regsync.yaml"
    head, from_ = ["version: 1", "creds:", *creds, "sync:"], f"source: {stage.source.host}, type: registry"
    steps = [
        f"  - {{{from_}, target: {stage.theirs.host}/{name}, repos: {repos}, tags: {{allow: ['1|0']}}}}"
        for name, repos in REPOS.items()
    ]
    file.write_text("\n".join([*head, *steps]))
    ran = await run("regsync", "once", "-c", file, env={"HOME": str(desk.folder / "home")})
    assert ran.status == 0, ran
    await imported(desk, file, stage)
    theirs = await content(stage.theirs)
    assert all({*tags} == {"1.0", "2.0"} for tags in theirs.values())
    taken = {name: {path.removeprefix(f"{name}/") for path in theirs if path.startswith(f"{name}/")} for name in REPOS}
    assert taken["groups"] == {"team-a/x", "team-a/x/y", "team-a/scratch", "team-b/api", "team-b/web"}
    assert taken["trap"] == {"team-a/x", "team-a/x/y", "team-a/scratch", "other/x"}
    assert {*REPOSITORIES} - taken["deny"] == {"team-a/scratch", "other/scratch"}
    assert taken["class"] == {"team-a/x", "other/x", "other/z"}
    assert {*REPOSITORIES} - taken["trap-deny"] == {"team-b/api", "team-b/web", "team-b/webs", "team-a/x", "other/x"}
    assert await content(stage.ours) == theirs


async def test_regsync_copies_the_same_for_its_sample_of_a_registry(desk: Desk, stage: Stage) -> None:
    """The sample with `repos.deny` copies the same repositories, tags and digests; `x/scratch` is at neither target."""
    require("regsync")
    one, two = images()
    for repository in (*REPOSITORIES, "team-a/x/scratch", "team-a/scratch/y"):
        await push(one, stage.source.url, repository, TAGS[::2])
        await push(two, stage.source.url, repository, TAGS[1::2])
    text = (Path(__file__).parents[1] / "data" / "import" / "regsync-2.yaml").read_text()
    creds = "".join(f"  - {{registry: {host}, tls: disabled}}\n" for host in (stage.source.host, stage.theirs.host))
    for old, new in (
        ("version: 1\n", f"version: 1\ncreds:\n{creds}"),
        ("registry.old.example", stage.source.host),
        ("registry.new.example", stage.theirs.host),
    ):
        assert old in text
        text = text.replace(old, new)
    file = desk.folder / "regsync.yaml"
    file.write_text(text)
    ran = await run("regsync", "once", "-c", file, env={"HOME": str(desk.folder / "home")})
    assert ran.status == 0, ran
    said = await desk.run("import", file)
    assert "not converted" not in said.err.lower(), said
    await imported(desk, file, stage)
    theirs = await content(stage.theirs)
    assert {*theirs} == {"team-a/x", "team-a/x/y", "team-a/scratch/y", "team-b/api", "team-b/web"}
    tags = {tag for tag in TAGS if tag.startswith("1") or tag.endswith("2")}  # ^1|2$
    assert 1 < len(tags) < len(TAGS)
    digests = {tag: (one, two)[TAGS.index(tag) % 2].digest for tag in tags}
    assert theirs == dict.fromkeys(theirs, digests)
    assert await content(stage.ours) == theirs


async def test_regsync_copies_the_same_for_its_sample(desk: Desk, stage: Stage, tmp_path: Path) -> None:
    """The sample that names three public registries copies the same tags and digests, where loopback stands for them.

    Anchors, a login out of variables, filters, a list of platforms and a digest that its tag has left are all used.
    """
    require("regsync")
    one, two = images()
    many = build_image(["linux/amd64", "linux/arm64"], layers=1)
    redis, exporter, tool = "library/redis", "prometheus/node-exporter", "example/tool"
    async with DockerRegistry(folder=tmp_path / "hub") as open_to_all:
        await push(one, open_to_all.url, redis, ["7.4.1", "v7.4.0", "7.4.2-rc.1", "7.4.2-beta", "7.4"])
        await push(two, open_to_all.url, redis, ["latest", "7.4.1-alpine", "latest-rc", "nightly"])
    async with DockerRegistry(folder=tmp_path / "hub", user=("mirror", "hub-token")) as hub, DockerRegistry() as quay:
        await push(many, quay.url, exporter, ["v1.7.9", "v1.8.0", "v1.9.1", "v2.0.0"])
        await push(one, quay.url, exporter, ["v1.8.0-rc.1", "v1.10.0-rc.1", "v2.0.0-rc.0", "v2.1.0-rc.1", "latest"])
        ghcr = stage.source
        await push(one, ghcr.url, tool, ["1.4.2"])
        await push(two, ghcr.url, tool, ["1.4.2", "1.4.3"])
        text = (Path(__file__).parents[1] / "data" / "import" / "regsync-1.yaml").read_text()
        plain = "".join(f"  - {{registry: {host}, tls: disabled}}\n" for host in (quay.host, ghcr.host))
        for old, new in (
            ("creds:\n  - registry: docker.io\n", f"creds:\n{plain}  - registry: {hub.host}\n    tls: disabled\n"),
            (f"source: {redis}", f"source: {hub.host}/{redis}"),
            ("quay.io", quay.host),
            ("ghcr.io", ghcr.host),
            (f"sha256:{'0' * 63}1", one.digest),
            ("registry.corp.example:5000", stage.theirs.host),
        ):
            assert old in text
            text = text.replace(old, new)
        file = desk.folder / "regsync.yaml"
        file.write_text(text)
        login = {"HUB_USER": "mirror", "HUB_TOKEN": "hub-token"}
        ran = await run("regsync", "once", "-c", file, env={"HOME": str(desk.folder / "home"), **login})
        assert ran.status == 0, ran
        desk.environ |= login
        await imported(desk, file, stage)
    theirs = await content(stage.theirs)
    assert theirs == {
        f"hub/{redis}": {"7.4.1": one.digest, "v7.4.0": one.digest, "latest": two.digest},
        f"quay/{exporter}": {
            **dict.fromkeys(("v1.8.0", "v1.9.1", "v2.0.0"), many.digest),
            **dict.fromkeys(("v1.10.0-rc.1", "v2.0.0-rc.0", "v2.1.0-rc.1"), one.digest),
        },
        f"ghcr/{tool}": {"1.4.2": one.digest},
    }
    assert await content(stage.ours) == theirs


async def test_signatures_are_named_by_the_import(desk: Desk, stage: Stage) -> None:
    """Tags of signatures are copied by regsync and left out by mirrord; the import says so once."""
    require("regsync")
    await push(images()[0], stage.source.url, "team/app", ["1.0", SIGNATURE])
    creds = [f"  - {{registry: {host}, tls: disabled}}" for host in (stage.source.host, stage.theirs.host)]
    step = f"  - {{source: {stage.source.host}/team/app, target: {stage.theirs.host}/to/app, type: repository}}"
    file = desk.folder / "regsync.yaml"
    file.write_text("\n".join(["version: 1", "creds:", *creds, "sync:", step]))
    assert (await run("regsync", "once", "-c", file, env={"HOME": str(desk.folder / "home")})).status == 0
    said = await desk.run("import", file)
    assert said.err.count("all tags include those of signatures (sha256-…)") == 1
    await imported(desk, file, stage)
    assert {*(await content(stage.theirs))["to/app"]} == {"1.0", SIGNATURE}
    assert {*(await content(stage.ours))["to/app"]} == {"1.0"}


async def test_skopeo_copies_the_same_tags(desk: Desk, stage: Stage) -> None:
    """For tags by name, patterns and all tags mirrord copies what `skopeo sync` copies, with equal digests."""
    require("skopeo")
    one, two = images()
    for repository in ("a/named", "b/all", "c/trap", "c/anchored"):
        await push(one, stage.source.url, repository, TAGS[::2])
        await push(two, stage.source.url, repository, TAGS[1::2])
    file = desk.folder / "sync.yaml"
    file.write_text(
        f"{stage.source.host}:\n  tls-verify: false\n  images:\n    a/named: ['1.0', latest]\n    b/all: []\n"
        "  images-by-tag-regex:\n    c/trap: '1|2'\n    c/anchored: ^v?1\\.\\d+$\n"
    )
    insecure = ("--src-tls-verify=false", "--dest-tls-verify=false", "--all", "--src", "yaml", "--dest", "docker")
    ran = await run("skopeo", "--insecure-policy", "sync", *insecure, file, stage.theirs.host + "/mirror")
    assert ran.status == 0, ran
    await imported(desk, file, stage, "--to", f"{stage.ours.host}/mirror")
    theirs = await content(stage.theirs)
    assert {*theirs} == {"mirror/named", "mirror/all", "mirror/trap", "mirror/anchored"}
    assert await content(stage.ours) == theirs
