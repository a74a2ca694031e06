"""`mirrord status NAME`: all about one mirror, from a daemon or the record, on a terminal and in a pipe."""

from __future__ import annotations

import asyncio
import re
import signal

import pytest
from rich.cells import cell_len

from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.terminal import at_terminal, drawn

TAGS = 124  # more than one part of a list
LONG = "a" * 31 + "-" + "z" * 31


def configure(desk: Desk, source: Registry, one: Registry) -> None:
    desk.configure(
        "settings: {listen: '127.0.0.1:0', url: 'https://mirror.example.com'}\n"
        f"targets: {{one: {{kind: image, to: {one.host}/m}}}}\n"
        "mirrors:\n"
        f"- {{name: app, kind: image, from: {{repository: {source.host}/a, tags: ['*']}}, to: [one, local],"
        " every: 6h}\n"
        f"- {{name: {LONG}, kind: image, from: {{repository: {source.host}/a, tags: ['v0']}}, to: local}}\n"
    )


async def prepare(desk: Desk, source: Registry, one: Registry, tags: int = 1) -> None:
    """Let `app` fail with one tag at one target, and have the others."""
    image = build_image(["linux/amd64", "linux/arm64"])
    for number in range(tags):
        await push(image, source, "a", [f"v{number}"])
    await push(build_image(seed="bad"), source, "a", ["bad"])
    one.faults.on("PUT", "/m/app/manifests/bad", times=None).status(
        403, '{"errors":[{"code":"DENIED","message":"frozen 镜像"}]}'.encode()
    )
    assert (await desk.run("sync")).status == 2


@pytest.mark.parametrize("columns", [60, 80, 200])
async def test_one_mirror(desk: Desk, columns: int) -> None:
    """How it stands, what is wrong and what to do, each item with what targets have, and commands; nothing too wide."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one)
        await prepare(desk, source, one, 2)
        async with desk.serving():
            seen = await drawn(desk, "status", "app", columns=columns)
    text = "\n".join(seen.lines)
    joined = " ".join(text.split())
    assert (seen.status, seen.lines[0]) == (1, "app (image)")
    assert re.search(r"health +✗ failing\n", text)
    assert re.search(rf"from +{source.host}/a\n", text)
    assert re.search(r"schedule +every six hours, next (in|now)", text)
    assert re.search(
        r"failed (once|2 times in a row), first (just now|\d+ \w+ ago), never succeeded", joined
    )  # the daemon may try again at its start
    assert re.search("1 run, 1 failed|2 runs, 2 failed", joined)
    assert "frozen 镜像" in joined
    assert "what to do: Check the credential for this host" in joined
    assert re.search(r"\bone, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(", joined)
    rows = {line.split()[0]: line for line in seen.lines if re.match(r"(bad|v\d) ", line)}
    assert list(rows) == ["bad", "v0", "v1"]
    assert "all targets" in rows["v0"]
    assert "local; not at one" in text
    assert columns < 80 or "sha256:" in rows["v0"]
    assert "  docker pull mirror.example.com/app:" in text
    assert f"docker pull {one.host}/m/app:" in text or "docker pull mirror" in text
    commands = text.partition("How to use it")[2]
    assert commands.split()[0] == "local", "the nearest healthy target is not first"
    assert "docker pull" in commands
    assert max(map(cell_len, text.partition("How to use it")[0].split("\n"))) <= columns


async def test_all_items_in_a_pipe(desk: Desk) -> None:
    """Without a daemon and in a pipe: 20 items, with `--all` each of them once, with whole digests; JSON likewise."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one)
        await prepare(desk, source, one, TAGS)
        some = await desk.run("status", "app")
        every = await desk.run("status", "app", "--all")
        document = (await desk.run("status", "app", "--all", "--json")).document
        part = (await desk.run("status", "app", "--json")).document
    item = re.compile(r"^(v\d+|bad) +sha256:[0-9a-f]{64} +\S+ \S+ +linux/amd64, linux/arm64 +0 +(.*)$", re.MULTILINE)
    assert [found[2] for found in item.finditer(some.out)] == ["local; not at one", *["all targets"] * 19]
    assert "\nmore items: mirrord status app --all\n" in some.out
    names = [found[1] for found in item.finditer(every.out)]
    assert names == ["bad", *(f"v{number}" for number in range(TAGS))]
    assert "more items" not in every.out
    (mirror,) = document["mirrors"]
    assert (mirror["name"], mirror["health"], mirror["items"], mirror["behind"]) == ("app", "failing", TAGS + 1, 1)
    assert [row["item"] for row in mirror["detail"]["items"]] == names
    assert set(mirror["detail"]["items"][0]["at"]) == {"local"}
    assert set(mirror["detail"]["items"][1]["at"]["one"]) == {
        *("digest", "at", "size", "platforms", "referrers", "signer", "origin")
    }
    assert [lacking["item"] for lacking in mirror["detail"]["behind"]] == ["bad"]
    assert mirror["detail"]["uses"]["one"][0]["tool"] == "docker"
    assert (mirror["detail"]["more"], part["mirrors"][0]["detail"]["more"]) == (False, True)
    assert set(part) == {"version", "now", "mirrors"}


async def test_names_and_globs(desk: Desk) -> None:
    """Several names and globs show each mirror once; the exit code is theirs; a wrong name is said with the nearest."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one)
        never = await desk.run("status", "app")
        assert (never.status, never.err) == (0, "no state in state: nothing has run yet, or --state is wrong\n")
        assert "never" in never.out
        assert not (desk.folder / "state").exists()
        await prepare(desk, source, one)
        good = await desk.run("status", "*z")
        both = await desk.run("status", "a*", "app", LONG)
        for words, told in (
            (("ap",), "no mirror is called 'ap'; did you mean app?"),
            (("app", "x*"), "no mirror matches 'x*'; `mirrord status` lists them"),
            (("--all",), "--all lists the items of one mirror; add its NAME"),
        ):
            said = await desk.run("status", *words)
            assert (said.status, said.out, said.err) == (64, "", f"mirrord: {told}\n")
    assert (good.status, good.out.splitlines()[0]) == (0, f"{LONG} (image)")
    assert both.status == 1
    assert [line for line in both.out.splitlines() if line.endswith(" (image)")] == ["app (image)", f"{LONG} (image)"]


async def test_watching_one(desk: Desk) -> None:
    """`--watch NAME` shows one mirror on the whole screen, and what changes."""
    async with Registry() as source, Registry() as one:
        configure(desk, source, one)
        await prepare(desk, source, one)
        async with desk.serving(), at_terminal(desk, "status", "app", "--watch", lines=40) as terminal:
            at = await terminal.shows("✗ failing")
            one.faults.clear()
            assert (await desk.run("sync", "app")).status == 0
            await terminal.shows("✓ ok", at)
            terminal.process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(terminal.process.wait(), 30) == 130
