"""Badges and logs of a real daemon over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import aiohttp

from mirrord.commands import Sync
from mirrord.serve.remote import ControlClient
from mirrord.serve.sync_log import AT_ONCE

LINE = re.compile(r"[0-9T:-]+Z (SYNCHRONIZED|NOT-SYNCHRONIZED|ERROR): .+")


async def test_a_badge_says_how_it_stands(place: Any) -> None:
    """Badges follow the runs, have an ETag for proxies of pictures, and a Chinese form; other names get 404."""
    place.source("m", "one", "two")
    place.configure("m", "later")
    async with place.daemon() as daemon, aiohttp.ClientSession(f"http://127.0.0.1:{daemon.port}") as session:
        assert b"no success yet" in (await daemon.get("/badge/m.svg"))[1]
        await ControlClient(place.state).carry_out(Sync(("m",)))
        async with session.get("/badge/m.svg") as answer:
            assert answer.headers["Content-Type"] == "image/svg+xml; charset=utf-8"
            assert answer.headers["Cache-Control"] == "max-age=300, s-maxage=300"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            tag = answer.headers["ETag"]
            assert ET.fromstring(await answer.read()).get("aria-label") == "mirrored: 100%"
        async with session.get("/badge/m.svg", headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        async with session.get("/badge/m.svg?lang=zh", headers={"If-None-Match": tag}) as answer:
            assert ET.fromstring(await answer.read()).get("aria-label") == "同步率: 100%"
        async with session.get("/badge.json") as answer:
            assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
            document = await answer.json()
        assert (document["message"], document["color"], document["isError"]) == ("100%", "brightgreen", False)
        assert json.loads((await daemon.get("/badge/later.json"))[1])["message"] == "no success yet"
        paths = ("/badge/none.svg", "/badge/m.png", "/badge/", "/badge/.svg", "/badge/m", "/badge/m.svg/x")
        assert [(await daemon.get(path))[0] for path in paths] == [404] * len(paths)


async def test_a_log_has_a_line_for_each_item_and_target(place: Any) -> None:
    """What a target has and what it has not are lines with both names and the reason, which programs can count."""
    source = place.source("m", "one", "two")
    (source / "three\n\x1b[31m SYNCHRONIZED: x").write_text("3")
    place.configure("m", "later")
    (place.root / "to-m-b" / "two").symlink_to(place.root / "no" / "such")  # cannot be written there
    async with place.daemon() as daemon, aiohttp.ClientSession(f"http://127.0.0.1:{daemon.port}") as session:
        await ControlClient(place.state).carry_out(Sync(("m",)))
        async with session.get("/log/m.txt") as answer:
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            text = await answer.text()
        lines = text.splitlines()
        assert all(LINE.fullmatch(line) and line.isprintable() for line in lines)
        words = [found[1] for line in lines if (found := LINE.fullmatch(line))]
        there = [line for line in lines if f" SYNCHRONIZED: {source}#one and " in line]
        assert [line.split()[4] for line in there] == [f"{place.root}/to-m-{side}#one" for side in "ab"]
        behind = next(line for line in lines if " NOT-SYNCHRONIZED: " in line)
        assert f"{source}#two and {place.root}/to-m-b#two are not synchronized: " in behind
        assert words.count("ERROR") == 1
        assert words.count("SYNCHRONIZED") + words.count("NOT-SYNCHRONIZED") == 6
        async with session.get("/log/later.txt") as answer:
            assert (answer.status, await answer.text()) == (200, "")
        async with session.get("/log.txt") as answer:
            assert await answer.text() == text
        async with session.head("/log/m.txt") as answer:
            assert (answer.status, await answer.read()) == (200, b"")
        paths = ("/log/none.txt", "/log/m", "/log/", "/log/.txt", "/log/m.txt/x")
        assert [(await daemon.get(path))[0] for path in paths] == [404] * len(paths)
        texts = await asyncio.gather(*(daemon.get("/log/later.txt") for _ in range(4 * AT_ONCE)))
        assert {status for status, _ in texts} == {200}
