"""The page of a mirror in a real browser: copy, choose, search, turn pages, watch a run; without script too."""

from __future__ import annotations

import gzip
from datetime import timedelta

import pytest
from aiohttp import ClientSession
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from mirrord.model.history import Behind, Day, ItemRow, RunRecord, TargetRecord
from mirrord.model.ledger import LedgerEntry, Settled
from mirrord.model.memory import LastSeen
from mirrord.model.run import Result
from mirrord.syncer.values import Usage
from mirrord.testing import Registry, build_image, push
from tests.pages.conftest import Opener
from tests.support.commands import Desk
from tests.support.shownmirrors import NOW, ShownMirrors, mirror

DIGEST = f"sha256:{'5a' * 32}"


@pytest.fixture
def shown() -> ShownMirrors:
    """A mirror that fails at one of its targets."""
    made = ShownMirrors()
    made.add(mirror("craned", "coding", "local"), coding="https://coding.example/public")
    made.stand("craned", Result.PARTIAL, failed=["coding"])
    seen = LastSeen(DIGEST, NOW, size=5 << 20, platforms=("linux/amd64", "linux/arm64"))
    move = LedgerEntry("craned", "local", "v1", "", None, DIGEST, NOW, NOW, Settled.DONE, 3)
    made.details["craned"] = {
        "items": [ItemRow("v0", {"local": seen, "coding": seen}), ItemRow("v1", {"local": seen})],
        "item": "v1",
        "uses": {name: [Usage.of("docker", "pull", f"{name}.example/craned:v1")] for name in ("coding", "local")},
        "days": [Day(NOW.date(), 4, 1, 60.0, 30.0, 1 << 20, 2 << 20, 7, 1, Result.PARTIAL)],
        "runs": [
            RunRecord(
                "craned",
                "image",
                "schedule",
                NOW - timedelta(seconds=65),
                NOW,
                Result.PARTIAL,
                targets=(
                    TargetRecord("coding", Result.FAILED, failed=1, code="denied"),
                    TargetRecord("local", Result.SUCCESS, done=3, sent=1 << 20),
                ),
            )
        ],
        "behind": [Behind("coding", "v1", DIGEST, NOW, "denied", "status 403")],
        "moves": [move],
        "next": "v1",
    }
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/mirrors/craned", "/mirrors/craned?lang=zh", "/front"])
async def test_no_barriers(opened: Opener, address: str, scheme: str, path: str) -> None:
    """Axe finds nothing in both themes, and nothing goes over the side on a phone."""
    page = await opened(f"{address}{path}", color_scheme=scheme)
    for width in (1280, 390):
        await page.set_viewport_size({"width": width, "height": 844})
        found = (await Axe().run(page)).response["violations"]
        assert [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]] == []
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0


async def test_last_runs(opened: Opener, address: str) -> None:
    """A run has its start, result, duration, what started it, items and bytes; the list of all is a link away."""
    page = await opened(f"{address}/mirrors/craned", color_scheme="light")
    table = page.get_by_role("region", name="The last runs")
    cells = [await table.get_by_role("rowheader").inner_text(), *await table.get_by_role("cell").all_inner_texts()]
    started = "2026-11-27 16:38:00 UTC"
    assert cells == [started, "partly failed denied", "1 min 5 s", "schedule", "3 written, 1 failed", "1.0 MiB"]
    link = page.get_by_role("link", name="All runs as JSON")
    assert await link.get_attribute("href") == "/api/v1/mirrors/craned/runs"


async def test_copy(opened: Opener, address: str) -> None:
    """A button copies the command beside it, of the nearest healthy target, and says so to all readers."""
    page = await opened(f"{address}/mirrors/craned", permissions=["clipboard-read", "clipboard-write"])
    button = page.locator("button.copy").first
    await button.click()
    await expect(button).to_have_text("Copied")
    await expect(page.locator("#said")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == "docker pull local.example/craned:v1"
    await expect(button).to_have_text("Copy")


async def test_copy_without_a_clipboard(opened: Opener, address: str) -> None:
    """Over plain HTTP from another machine a browser offers no clipboard: the command is copied by selecting it."""
    page = await opened(f"{address}/mirrors/craned", permissions=["clipboard-read", "clipboard-write"])
    await page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
    await page.locator("button.copy").first.click()
    await expect(page.locator("button.copy").first).to_have_text("Copied")
    assert await page.evaluate("getSelection().toString()") == "docker pull local.example/craned:v1"


async def test_what_a_stranger_needs(opened: Opener, address: str) -> None:
    """On the first screen: that it fails, where, since when, why, what to do, and a command for a healthy target."""
    page = await opened(f"{address}/mirrors/craned", viewport={"width": 1280, "height": 900})
    for text in ("failing", "ghcr.io: status 401: no", "failed 3 times in a row", "Check the credential for this host"):
        await expect(page.get_by_text(text).first).to_be_in_viewport()
    await expect(page.get_by_text("docker pull local.example/craned:v1")).to_be_in_viewport()
    assert await page.locator(".use h3").all_inner_texts() == ["local", "coding"]
    await expect(page.locator(".use").last).to_contain_text("v1 missing")


async def test_from_the_overview_and_back(opened: Opener, address: str) -> None:
    """The overview leads to the page of a mirror, and that back to the overview."""
    page = await opened(address)
    await page.get_by_role("link", name="craned", exact=True).click()
    await expect(page.locator("h1")).to_contain_text("craned")
    await page.locator(".back a").click()
    await expect(page.locator("#m-craned")).to_be_visible()


async def test_without_script(opened: Opener, address: str) -> None:
    """Without script all is there but the copy buttons: items are chosen, searched and paged by links and a form."""
    page = await opened(f"{address}/mirrors/craned", java_script_enabled=False)
    await expect(page.locator("button.copy").first).to_be_hidden()
    await expect(page.locator("svg.plot")).to_have_count(4)
    await page.get_by_role("link", name="v0").click()
    assert page.url.endswith("?item=v0#uses")
    await page.get_by_role("link", name="Next page").click()
    assert page.url.endswith("?after=v1#items")
    await page.get_by_label("Search").fill("v0")
    await page.get_by_role("button", name="Search").click()
    assert "find=v0" in page.url


async def test_it_is_packed(address: str) -> None:
    """A page is sent packed to who takes that: on a phone 90 days of plots cost a tenth."""
    async with ClientSession(auto_decompress=False) as session:
        async with session.get(f"{address}/mirrors/craned", headers={"Accept-Encoding": "identity"}) as answer:
            whole = await answer.read()
        async with session.get(f"{address}/mirrors/craned", headers={"Accept-Encoding": "gzip"}) as answer:
            packed = await answer.read()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == whole
    assert len(packed) < len(whole) / 3


async def test_an_unknown_mirror(address: str, opened: Opener) -> None:
    """A name that no mirror has is answered in words, with names like it."""
    page = await opened(address)
    answer = await page.request.get(f"{address}/mirrors/crane?lang=zh")
    assert answer.status == 404
    text = await answer.text()
    assert "没有名为 crane 的同步任务" in text
    assert '<a href="/mirrors/craned">craned</a>' in text


async def test_a_run_is_seen(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """The page shows a run that begins and ends elsewhere, and leaves what has the focus alone."""
    page = await opened(f"{address}/mirrors/craned")
    await page.get_by_label("Search").fill("typed")
    shown.run("craned", 9, 4)
    await expect(page.locator("#head .run")).to_contain_text("4 of 9 steps")
    shown.run("craned")
    shown.stand("craned", ago=0)
    await expect(page.locator("#head .run")).to_have_count(0)
    await expect(page.locator("#head .state").first).to_have_text("healthy")
    await expect(page.get_by_label("Search")).to_have_value("typed")


async def test_a_real_mirror(desk: Desk, opened: Opener) -> None:
    """The page of a real daemon: sizes, platforms, a day in the plots, what changed; a moved tag comes by itself."""
    async with Registry() as source:
        first = build_image(layer_size=50_000, platforms=("linux/amd64", "linux/arm64"))
        await push(first, source, "team/app", ["main", "v1"])
        desk.configure(
            "settings: {listen: '127.0.0.1:0'}\nmirrors: [{name: app, kind: image, to: local, from: "
            f"{{repository: {source.host}/team/app, tags: [main, 'v*']}}}}]\n"
        )
        async with desk.serving() as daemon:
            assert (await desk.run("sync", "app")).status == 0
            page = await opened(f"http://{daemon.address}/mirrors/app?item=v1")
            row = page.locator("tr", has_text="v1")
            await expect(row).to_contain_text("linux/amd64, linux/arm64")
            await expect(row).to_contain_text("KiB")
            await expect(page.locator(".commands code").first).to_have_text(f"docker pull {daemon.address}/app:v1")
            await expect(page.locator("svg.plot.strip g.ok")).to_have_count(1)
            await expect(page.locator(".changes li")).to_have_count(2)
            await push(build_image(layer_size=60_000, seed="new"), source, "team/app", ["main"])
            assert (await desk.run("sync", "app")).status == 0
            await expect(page.locator(".changes li")).to_have_count(3)
            await expect(page.locator(".changes li").first).to_contain_text("main")
            await expect(page.locator(".changes li").first).to_contain_text(first.digest.hex[:12])
