"""`mirrord tags` and `plan --explain`: which tags are chosen, and why; with a real registry of 2 000 tags."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mirrord.testing import Registry, build_image, push
from mirrord.testing.servers import DockerRegistry, available, require
from tests.support.commands import Desk, Said

Typed = Callable[..., Said]
TAGS = [f"v1.{number // 40}.{number % 40}{'-alpine' if number % 2 else ''}" for number in range(1990)]
OTHERS = ["latest", "nightly", "abc1234", "v1.50.0-rc1", "1", "1.2", "sha-abc1234", "2024.01", "dev", "v2.0.0-beta.1"]


@pytest.fixture
async def full() -> AsyncIterator[DockerRegistry]:
    """A real registry with 2 000 tags of one image; all but the first are put where it keeps them."""
    require("docker-registry")
    async with DockerRegistry() as registry:
        image = build_image(["linux/amd64"], index=False, layers=1)
        await push(image, registry.url, "team/app", ["latest"])
        (tags,) = registry.folder.rglob("_manifests/tags")
        hexadecimal = image.digest.partition(":")[2]
        for tag in [*TAGS, *OTHERS]:
            for place in ("current", f"index/sha256/{hexadecimal}"):
                folder = tags / tag / place
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "link").write_text(image.digest)
        yield registry


async def test_a_choice_is_tried(desk: Desk, full: DockerRegistry) -> None:
    """`--choose` tells of each of 2 000 tags whether it is chosen; many with one reason share a row."""
    where = f"{full.host}/team/app"
    said = await desk.run("tags", where, "--choose", '{newest: 2, versions: ">=1.45"}')
    assert said.status == 0, said
    lines = said.out.splitlines()
    assert lines[0].split() == ["TAG", "WHY"]
    assert {line.split()[0] for line in lines[1:5]} == {"v1.49.27-alpine", "v1.49.28", "v1.49.29-alpine", "2024.01"}
    assert all("one of the newest 2" in line for line in lines[1:5])
    folded = [line for line in lines if "more (-v shows all)" in line]
    assert sorted(line.partition("left out: ")[2] for line in folded) == [
        "older than the newest 2",
        "older than the newest 2 of (alpine)",
        "outside >=1.45",
    ]
    assert lines[-1] == "4 of 2000 tags chosen"
    minors = await desk.run("tags", where, "--choose", "{newest: 1, of: minor}")
    assert "chosen: the newest of …" in minors.out
    whole = await desk.run("tags", where, "--choose", '{newest: 2, versions: ">=1.45"}', "--json")
    verdicts = {one["tag"]: one["why"] for one in whole.document["tags"]}
    assert len(verdicts) == 2000
    assert verdicts["v1.49.26"] == "left out: older than the newest 2"
    assert verdicts["abc1234"] == "left out: it is a commit and has no version"
    verbose = await desk.run("tags", where, "--choose", "{match: [v1.1.*]}", "-v")
    assert len(verbose.out.splitlines()) == 2002


async def test_tags_are_listed(desk: Desk, full: DockerRegistry) -> None:
    """Without `--choose` each tag has a line; a repository that is not there is an error."""
    said = await desk.run("tags", f"{full.host}/team/app")
    assert (said.status, sorted(said.out.split())) == (0, sorted([*TAGS, *OTHERS]))
    gone = await desk.run("tags", f"{full.host}/team/gone")
    assert (gone.status, gone.out) == (1, "")
    assert "NAME_UNKNOWN" in gone.err


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ("{newst: 1}", "--choose: tags.newst: unknown key; did you mean 'newest'?"),
        ("{newest: 1", "--choose:1: is not YAML"),
        ("[v1]", "--choose: is a list; write a mapping, such as '{match: [v1.*], newest: 3}'"),
        ("", "--choose: tags: is empty"),
        ("{match: ['/[/']}", "--choose: tags.match[0]: not a regular expression: '['; missing ]"),
    ],
)
def test_wrong_rules_are_explained(typed: Typed, rules: str, why: str) -> None:
    """Rules are checked before any request, with the messages of a configuration."""
    said = typed("tags", "quay.io/a/b", "--choose", rules)
    assert (said.status, said.out) == (64, "")
    assert why in said.err


def test_a_tag_cannot_have_tags(typed: Typed) -> None:
    """A reference with a tag is refused, with what to write."""
    said = typed("tags", "quay.io/a/b:v1")
    assert (said.status, said.err) == (64, "mirrord: quay.io/a/b:v1 has a tag or digest; write quay.io/a/b\n")


async def test_a_plan_explains(desk: Desk) -> None:
    """`plan --explain` prints a reason for each tag, for rules and for lists; without it nothing is said of tags."""
    async with Registry() as source:
        await push(build_image(["linux/amd64"], index=False), source, "team/app", ["v1", "v2", "w1"])
        desk.configure(f"""
targets: {{t: {{kind: image, to: "{source.host}/copies"}}}}
mirrors:
  - {{name: rules, kind: image, from: {{repository: "{source.host}/team/app", tags: {{newest: 1}}}}, to: t}}
  - {{name: listed, kind: image, from: {{repository: "{source.host}/team/app", tags: [v1, "w*"]}}, to: t}}
""")
        said = await desk.run("plan", "--explain")
        assert [line.split(None, 1) for line in said.out.splitlines() if ": " in line and line[0] in "vw"] == [
            ["v2", "chosen: the newest"],
            ["w1", "chosen: the newest of (w)"],
            ["v1", "left out: older than the newest"],
            ["v1", "chosen: named in tags"],
            ["w1", "chosen: matches w*"],
            ["v2", "left out: no pattern of tags matches it"],
        ]
        plans = (await desk.run("plan", "rules", "--explain", "--json")).document["plans"]
        assert {"tag": "v1", "chosen": False, "why": "left out: older than the newest"} in plans[0]["verdicts"]
        assert "chosen" not in (await desk.run("plan")).out


async def test_regsync_copies_the_same(desk: Desk, full: DockerRegistry, tmp_path: Path) -> None:
    """Where the filters of regsync mean the same, it copies the tags that rules choose."""
    if reason := available("regsync"):
        pytest.skip(reason)
    cases = [
        ({"allow": ["v1[.]1[.].*"], "deny": [".*5.*"]}, "{match: ['/v1[.]1[.].*/'], exclude: ['*5*']}"),
        ({"semverRange": [">=1.7.0 <1.8.0"], "allow": ["v[0-9.]+"]}, '{versions: ">=1.7 <1.8", match: ["/v[0-9.]+/"]}'),
    ]
    for number, (filters, rules) in enumerate(cases):
        config = tmp_path / "regsync.yaml"
        tags = ", ".join(f"{key}: {values}" for key, values in filters.items())
        config.write_text(f"""
version: 1
creds: [{{registry: "{full.host}", tls: disabled}}]
sync: [{{source: "{full.host}/team/app", target: "{full.host}/copy/c{number}", type: repository, tags: {{{tags}}}}}]
""")
        command = ["regsync", "once", "-c", str(config)]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=60)
        copied = (await desk.run("tags", f"{full.host}/copy/c{number}")).out.split()
        verdicts = (await desk.run("tags", f"{full.host}/team/app", "--choose", rules, "--json")).document["tags"]
        assert sorted(one["tag"] for one in verdicts if one["chosen"]) == sorted(copied)
        assert len(copied) > 10
