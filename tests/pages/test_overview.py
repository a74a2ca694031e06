"""The page at `/` in a real browser: what it shows, how it is filtered, and how it follows what happens."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from mirrord.model.run import Result
from mirrord.report.status import Sending
from mirrord.syncer.values import Schedule, Usage
from tests.pages.conftest import Opener
from tests.support.shownmirrors import ShownMirrors, mirror


@pytest.fixture
def shown() -> ShownMirrors:
    """Six mirrors: one failing at one of its targets, one stale, one new, one deferred, two in order."""
    made = ShownMirrors()
    made.add(mirror("craned", "coding", "ghcr", "local"), "oci:/srv/craned", coding="https://coding.example/public")
    made.add(mirror("nginx"), "docker.io/library/nginx")
    made.add(mirror("redis"), "docker.io/library/redis")
    made.add(mirror("grafana", "coding", kind="helm"), "https://grafana.github.io/helm-charts")
    made.add(mirror("crane", "gitee", kind="git", every=None), "https://github.com/gocrane/crane.git")
    made.add(mirror("fresh", kind="git"))
    made.stand("craned", Result.PARTIAL, ago=3 * 86400, failed=["ghcr"])
    made.stand("nginx")
    made.stand("redis", Result.DEFERRED)
    made.stand("grafana")
    made.stand("crane", ago=5 * 86400)
    made.next_runs["nginx"] = made.now + timedelta(hours=5, minutes=10)
    return made


async def names(page: Page) -> list[str]:
    """Return the mirrors of the page, from top to bottom."""
    return await page.locator(".row h3").all_inner_texts()


async def totals(page: Page) -> list[str]:
    return await page.locator(".tile").all_inner_texts()


async def test_tiles_stand_in_even_rows(opened: Opener, address: str) -> None:
    """One row, or two of four where that is too narrow; all of one height, and no label is broken."""
    page = await opened(address)
    boxes = "[...document.querySelectorAll('.tile')].map(t => t.getBoundingClientRect()).map(b => [b.top, b.height])"
    heights = set[int]()
    for width, rows in ((1440, 1), (1300, 1), (1250, 1), (1200, 1), (1000, 2), (700, 2)):
        await page.set_viewport_size({"width": width, "height": 800})
        found = await page.evaluate(boxes)
        assert len({top for top, _ in found}) == rows, width
        assert len(found) == 8
        heights |= {round(height) for _, height in found}
        assert len(heights) == 1, width


async def test_at_a_glance(opened: Opener, address: str) -> None:
    """Totals first, then what fails with its error and what to do, then the others by kind, each with all about it."""
    page = await opened(address)
    await expect(page.locator("h1")).to_have_text("1 of 6 mirrors is failing")
    assert [text.replace("\n", " ") for text in await totals(page)] == [
        "6 All",
        "1 failing",
        "1 stale",
        "1 no success yet",
        "1 deferred",
        "2 healthy",
        "0 taken down",
        "0 running",
    ]
    assert await names(page) == ["craned", "crane", "nginx", "redis", "grafana", "fresh"]
    assert await page.locator("h2").all_inner_texts() == [
        "Needs attention 2",
        "Container images 2",
        "Helm charts 1",
        "Git repositories 1",
    ]
    broken = page.locator("#m-craned")
    await expect(broken.locator(".about")).to_have_text("failingContainer imagesevery six hours")
    await expect(broken.locator(".when time")).to_have_text("3 days ago")
    await expect(broken.locator(".trouble")).to_contain_text("denied ghcr.io: status 401: no Check the credential")
    ways = [re.sub(r"\s+", " ", text) for text in await broken.locator(".ways li").all_text_contents()]
    assert ways == [
        "healthy coding coding.example/craned14 up to date",
        "failing ghcr ghcr.example/cranedfailed 3 times in a row14 up to date",
        "healthy local local.example/craned Copy command14 up to date",
    ]
    link = broken.get_by_role("link", name="coding.example/craned")
    assert await link.get_attribute("href") == "https://coding.example/public"
    origin = page.locator("#m-grafana .origin a")
    assert await origin.get_attribute("href") == "https://grafana.github.io/helm-charts"
    await expect(page.locator("#m-nginx .origin a")).to_have_count(0)
    good = page.locator("#m-nginx")
    await expect(good.locator(".origin")).to_contain_text("docker.io/library/nginx")
    await expect(good.locator(".when")).to_contain_text("12 minutes ago")
    await expect(good.locator(".when")).to_contain_text("Next run in 5 hours")
    exact = good.locator(".when time").first
    assert await exact.get_attribute("title") == "2026-11-27 16:27:05 UTC"
    assert await exact.get_attribute("datetime") == "2026-11-27T16:27:05Z"
    await expect(page.locator("#m-crane .about")).to_contain_text("on demand")


async def test_filters(opened: Opener, address: str) -> None:
    """Tiles, choices and words filter at once, together, and stand in the address, which shows the same elsewhere."""
    page = await opened(address)
    await page.get_by_role("link", name="failing").click()
    await expect(page.locator(".row h3")).to_have_text(["craned"])
    assert page.url == f"{address}/?state=failing"
    await page.get_by_role("link", name="All", exact=False).first.click()
    await expect(page.locator(".row")).to_have_count(6)
    await page.get_by_label("Target").select_option("coding")
    await expect(page.locator(".row h3")).to_have_text(["craned", "grafana"])
    await page.get_by_label("Type").select_option("helm")
    await expect(page.locator(".row h3")).to_have_text(["grafana"])
    await page.get_by_label("Type").select_option("")
    await page.get_by_label("Search").press_sequentially("SRV crane")
    await expect(page.locator(".row h3")).to_have_text(["craned"])
    await expect(page.locator("#found")).to_contain_text("1 mirror found")
    assert page.url == f"{address}/?q=SRV+crane&target=coding"
    other = await opened(page.url)
    assert await names(other) == ["craned"]
    assert await other.get_by_label("Search").input_value() == "SRV crane"
    await other.get_by_label("Search").fill("nobody")
    await expect(other.locator(".nothing")).to_have_text("No mirror matches the filter.")
    await other.get_by_role("link", name="Clear the filter").click()
    await expect(other.locator(".row")).to_have_count(6)
    assert other.url == f"{address}/"


async def test_without_javascript(opened: Opener, address: str) -> None:
    """All is there and can be filtered and switched without a script."""
    page = await opened(address, java_script_enabled=False)
    assert len(await names(page)) == 6
    await page.get_by_label("Search").fill("docker.io")
    await page.get_by_role("button", name="Filter").click()
    assert await names(page) == ["nginx", "redis"]
    await page.get_by_role("link", name="deferred").click()
    assert await names(page) == ["redis"]
    assert page.url == f"{address}/?q=docker.io&state=deferred"
    await page.get_by_role("link", name="中文").click()
    assert await names(page) == ["redis"]
    assert await page.locator("h1").inner_text() == "6 个同步任务中有 1 个失败"
    await page.get_by_role("link", name="深色").click()
    assert await page.locator("html").get_attribute("data-theme") == "dark"


async def test_languages(opened: Opener, address: str) -> None:
    """The browser's language is used until another one is chosen, which is kept."""
    page = await opened(address, locale="zh-CN")
    assert await page.locator("html").get_attribute("lang") == "zh-CN"
    text = await page.locator("main").inner_text()
    assert "12 分钟前" in text
    assert "每六小时" in text
    left = re.findall(r"[a-z]{3,}", re.sub(r"[\w-]+\.(?:io|example|com)\S*|\S+:/\S+", "", text))
    named = {"craned", "nginx", "redis", "grafana", "crane", "fresh", "coding", "ghcr", "local", "gitee"}
    assert {*left} - named <= {"denied", "status", "hosts", "auth", "mirrord", "elm", "hart", "it"}
    await page.get_by_role("link", name="English").click()
    await expect(page.locator("h1")).to_have_text("1 of 6 mirrors is failing")
    await page.goto(address)
    await expect(page.locator("h1")).to_have_text("1 of 6 mirrors is failing")


async def test_themes(opened: Opener, address: str) -> None:
    """The page follows the system until a theme is chosen, which is kept."""
    page = await opened(address, color_scheme="dark")

    async def ground() -> str:
        return str(await page.evaluate("getComputedStyle(document.body).backgroundColor"))

    dark = await ground()
    await page.get_by_role("link", name="Light").click()
    await page.wait_for_url("**/?theme=light")
    light = await ground()
    assert (dark, light) == ("rgb(14, 17, 22)", "rgb(245, 246, 249)")
    await page.goto(address)
    assert await ground() == light


async def test_it_follows(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """A run appears, advances and ends, a failure moves to the top, and mirrors come and go, without a reload."""
    page = await opened(address)
    await page.evaluate("window.same = true")
    await page.locator("#m-nginx h3 a").focus()
    shown.run("nginx", 18, 7)
    row = page.locator("#m-nginx")
    await expect(row.locator(".run")).to_contain_text("7 of 18 steps")
    shown.run("nginx", 18, 7, total=100 << 20, left=60, read=40 << 20, read_rate=1 << 20)
    read = "7 of 18 steps · 0 B of 100.0 MiB · read 40.0 MiB at 1.0 MiB/s · 1 min left"
    await expect(row.locator(".run")).to_contain_text(read)
    local = {"local": Sending(18, 8, 0, 30 << 20, 100 << 20, 2 << 20, 35)}
    shown.run("nginx", 18, 8, sent=30 << 20, total=100 << 20, rate=2 << 20, left=35, targets=local)
    numbers = "8 of 18 steps · 30.0 MiB of 100.0 MiB · 2.0 MiB/s · 35 s left"
    await expect(row.locator(".run")).to_contain_text(numbers)
    await expect(row.locator(".ways li")).to_contain_text(numbers)
    assert await row.locator("progress").evaluate("(one) => one.value / one.max") == 0.3
    await expect(page.locator("[data-total=running]")).to_have_text("1")
    await expect(row.locator("h3 a")).to_be_focused()
    shown.run("nginx")
    shown.stand("nginx", Result.SUCCESS, ago=0)
    await expect(row.locator(".run")).to_have_count(0)
    await expect(row.locator(".when time").first).to_have_text("just now")
    shown.stand("nginx", Result.FAILED, ago=600)
    await expect(page.locator(".row h3")).to_have_text(["craned", "nginx", "crane", "redis", "grafana", "fresh"])
    await expect(page.locator("h1")).to_have_text("2 of 6 mirrors are failing")
    await expect(page.locator("[data-total=failing]")).to_have_text("2")
    await expect(page).to_have_title("2 of 6 mirrors are failing · mirrord")
    shown.add(mirror("another", kind="file"))
    del shown.mirrors["redis"]
    await expect(page.locator(".row h3")).to_have_text(["craned", "nginx", "crane", "grafana", "fresh", "another"])
    shown.more["configuration_error"] = "conf.d/a.yaml:7: bad"
    shown.run("nginx", 1, 0)
    await expect(page.locator("#warnings")).to_contain_text("conf.d/a.yaml:7: bad")
    assert await page.evaluate("window.same")


async def test_a_filtered_page_follows(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """A mirror appears on a filtered page when it begins to match, and leaves it when it no longer does."""
    page = await opened(f"{address}/?state=running")
    await expect(page.locator(".row")).to_have_count(0)
    shown.run("nginx", 3, 1)
    await expect(page.locator(".row h3")).to_have_text(["nginx"])
    shown.run("nginx")
    await expect(page.locator(".row")).to_have_count(0)


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
async def test_times_stay_right(opened: Opener, address: str, locale: str) -> None:
    """The script says times as the server does, while they pass."""
    page = await opened(address, locale=locale)
    before = await page.locator("time[data-rel]").all_inner_texts()
    await page.clock.install()
    await page.reload()
    assert await page.locator("time[data-rel]").all_inner_texts() == before
    await page.clock.run_for(6_000)
    assert await page.locator("time[data-rel]").all_inner_texts() == before
    await page.clock.run_for(2 * 3600_000)
    after = {"en-GB": ["2 hours ago", "in 3 hours"], "zh-CN": ["2 小时前", "3 小时后"]}[locale]
    assert await page.locator("#m-nginx time").all_inner_texts() == after


async def test_a_cron_expression_in_words(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """A schedule by cron is said in words."""
    one = mirror("nightly", every=None)
    shown.add(type(one)(one.name, one.kind, one.spec, one.targets, Schedule(cron="17 3 * * *")))
    page = await opened(address)
    await expect(page.locator("#m-nightly .about")).to_contain_text("daily at 03:17 UTC")


async def test_nothing_configured(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """Without mirrors the page says how to begin, and shows the first one as soon as it is there."""
    shown.mirrors.clear()
    page = await opened(address)
    await expect(page.locator("h1")).to_have_text("No mirror is configured.")
    await expect(page.locator(".begin")).to_contain_text("mirrord init ./conf.d")
    shown.add(mirror("first"))
    await expect(page.locator(".row h3")).to_have_text(["first"])


async def test_copy_a_command_from_the_first_screen(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """One click in the row of a mirror copies, and shows, the command for its nearest healthy target."""
    shown.details["craned"] = {
        "item": "v1",
        "uses": {
            name: [Usage.of("docker", "pull", f"{name}.example/craned:v1")] for name in ("coding", "ghcr", "local")
        },
    }
    page = await opened(
        address, viewport={"width": 1280, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    button = page.locator("#m-craned").get_by_role("link", name="Copy command: craned, local")
    for needed in (page.locator("h1"), page.get_by_text("ghcr.io: status 401: no").first, button):
        await expect(needed).to_be_in_viewport(ratio=1)
    await expect(page.locator("#m-craned .when")).to_contain_text("Last success: 3 days ago")
    await button.click()
    pulled = page.locator("#pulled")
    await expect(pulled.locator("code")).to_have_text("docker pull local.example/craned:v1")
    await expect(pulled.locator("button")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == "docker pull local.example/craned:v1"
    assert page.url == f"{address}/"
    for dark, width in ((False, 1280), (True, 390)):
        await page.emulate_media(color_scheme="dark" if dark else "light")
        await page.set_viewport_size({"width": width, "height": 844})
        assert (await Axe().run(page)).response["violations"] == []
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
    await page.keyboard.press("Escape")
    await expect(pulled).to_be_hidden()


async def test_no_command_without_a_healthy_target(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """The nearest target that is in order is offered; no one where none is; without script it is a link to all."""
    shown.stand("craned", Result.PARTIAL, failed=["local"])
    shown.stand("nginx", Result.FAILED)
    page = await opened(address, java_script_enabled=False)
    await expect(page.locator("#m-nginx .pull, #m-fresh .pull, #m-crane .pull")).to_have_count(0)
    await page.get_by_role("link", name="Copy command: craned, coding").click()
    assert page.url == f"{address}/mirrors/craned#uses"
