"""The page at `/` for everybody: readers of screens, keyboards, phones, paper; and of what others have written."""

from __future__ import annotations

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from mirrord.model.run import Result
from mirrord.report.status import Running
from mirrord.serve.pages import live
from mirrord.syncer.values import Target
from tests.pages.conftest import Opener
from tests.support.shownmirrors import Nothing, ShownMirrors, mirror

LONG = "A" * 10_000
EVIL = f"<script>window.evil=1</script><img src=x onerror=evil=1>\x1b[31m\r\n\u202e{LONG}"


@pytest.fixture
def shown() -> ShownMirrors:
    """One mirror in each state."""
    made = ShownMirrors()
    for name in ("broken", "old", "waiting", "fresh", "good", "busy"):
        made.add(mirror(name, "coding", "local"), coding="https://coding.example/public")
    made.stand("broken", Result.FAILED, ago=86400)
    made.stand("old", ago=3 * 86400)
    made.stand("waiting", Result.DEFERRED)
    made.stand("good")
    made.stand("busy")
    made.running["busy"] = Running("schedule", made.now, 9, 4)
    made.more["configuration_error"] = "conf.d/a.yaml:7: bad"
    return made


async def test_too_many_readers(browser: Browser, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader for whom there is no place is told so, not that mirrord is gone, and follows the page once there is."""
    monkeypatch.setattr(live, "MOST", 0)
    page = await browser.new_page()
    await page.clock.install()
    await page.goto(address)
    await expect(page.locator("#busy")).to_contain_text("Too many readers")
    await expect(page.locator("#lost")).to_be_hidden()
    monkeypatch.undo()
    await page.clock.fast_forward(59_000)  # no sooner than Retry-After says
    await expect(page.locator("#busy")).to_be_visible()
    await page.clock.fast_forward(31_000)
    await expect(page.locator("#busy")).to_be_hidden()
    await page.close()


async def findings(page: Page) -> list[str]:
    found = (await Axe().run(page)).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


async def sideways(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return int(await page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
async def test_no_barriers(opened: Opener, address: str, shown: ShownMirrors, scheme: str, locale: str) -> None:
    """Axe finds nothing, with mirrors, with a filter, and without any mirror; nothing goes over the side."""
    page = await opened(address, color_scheme=scheme, locale=locale)

    async def look(at: str) -> None:
        await page.goto(f"{address}{at}")
        for width in (1280, 390):
            await page.set_viewport_size({"width": width, "height": 844})
            assert (await findings(page), await sideways(page)) == ([], 0)

    await look("/")
    await look("/?state=failing&q=b")
    shown.mirrors.clear()
    shown.run("nobody")
    await expect(page.locator(".begin")).to_be_visible()
    await look("/")


async def test_keyboard(opened: Opener, address: str) -> None:
    """The first key of Tab offers to skip to the content; what has the focus is outlined; `/` leads to the search."""
    page = await opened(address)
    await page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    await expect(skip).to_be_focused()
    await expect(skip).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert await focused.get_attribute("class") == "tile all"
    assert await focused.evaluate("(one) => getComputedStyle(one).outlineStyle") == "solid"
    await page.keyboard.press("/")
    await page.keyboard.type("goo/")
    await expect(page.get_by_label("Search")).to_be_focused()
    await expect(page.get_by_label("Search")).to_have_value("goo/")


async def test_fingers(opened: Opener, address: str) -> None:
    """On a phone whatever is touched is at least 44 pixels high, except for links within a sentence."""
    page = await opened(address, viewport={"width": 390, "height": 844})
    for one in await page.locator("header a, .tile, .filter input:visible, .filter select, .row h3 a, footer a").all():
        box = await one.bounding_box()
        assert box is None or box["height"] >= 44, await one.inner_text()


async def test_paper(opened: Opener, address: str) -> None:
    """In print all mirrors are there in light colours, and what can only be clicked is not."""
    page = await opened(address, color_scheme="dark")
    await page.emulate_media(media="print")
    await expect(page.locator(".filter")).to_be_hidden()
    await expect(page.locator("#m-good")).to_be_visible()
    assert await page.locator("h1").evaluate("(one) => getComputedStyle(one).color") == "rgb(24, 28, 37)"


async def test_less_motion(opened: Opener, address: str) -> None:
    """Who prefers less motion sees nothing turn; all else looks the same, on every page."""
    for motion, turning in (("no-preference", "turn"), ("reduce", "none")):
        page = await opened(address, reduced_motion=motion)
        sign = page.locator("#m-busy .run .sign")
        assert await sign.evaluate("(one) => getComputedStyle(one).animationName") == turning
        await page.goto(f"{address}/mirrors/busy")
        assert await page.locator(".numbers").evaluate("(one) => getComputedStyle(one).display") == "flex"


async def test_what_others_wrote(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """Names, addresses and errors are text, whatever is in them, and however long (bad inputs 81 and 83)."""
    one = mirror("evil", "a")
    target = Target(EVIL[:300], "image", "x", Nothing())
    pages = {target.name: "javascript:evil=1"}
    shown.add(type(one)("evil", EVIL, one.spec, (target,)), EVIL, {target.name: EVIL}, **pages)
    shown.stand("evil", Result.FAILED, code="x<y", error=f"<!--ago 2020-01-01T00:00:00+00:00-->{EVIL}")
    shown.more["configuration_error"] = EVIL
    for width in (390, 1280):
        page = await opened(address, viewport={"width": width, "height": 844})
        assert await page.evaluate("window.evil") is None
        row = page.locator("#m-evil")
        text = await row.inner_text()
        assert "<script>window.evil=1</script>" in text
        assert r"\x1b[31m\r\n\u202e" in text
        assert "<!--ago 2020-01-01T00:00:00+00:00-->" in text
        assert await row.locator("a").all_inner_texts() == ["evil"]
        assert await page.locator("script, img, iframe").count() == 2  # the script and the sign of mirrord
        assert await sideways(page) == 0
        assert len(await page.content()) < 60_000
    row_before = await row.inner_text()
    shown.run("evil", 3, 1)  # comes as an event
    await expect(row.locator(".run")).to_be_visible()
    assert (await row.inner_text()).startswith(row_before[:200])
    assert await page.evaluate("window.evil") is None


async def test_searches_of_strangers(opened: Opener, address: str) -> None:
    """A filter of any length and content is text, too."""
    page = await opened(f"{address}/?q=%22%3E%3Cscript%3Eevil=1%3C/script%3E%00{'a' * 3000}&state=%3Cb%3E&kind=%27")
    assert await page.evaluate("window.evil") is None
    await expect(page.locator(".nothing")).to_be_visible()
    assert '"><script>evil=1' in await page.get_by_label("Search").input_value()


async def test_a_thousand_mirrors(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """A thousand mirrors are one page: all are found, the one that fails is at the top, and a change is one row."""
    for number in range(1000):
        shown.add(mirror(f"team-{number:04}", "coding", "local", kind=("image", "helm", "git")[number % 3]))
        shown.stand(f"team-{number:04}", ago=60.0 * number)
    shown.stand("team-0777", Result.FAILED)
    page = await opened(address)
    await expect(page.locator(".row")).to_have_count(1006)
    assert (await page.locator(".row h3").all_inner_texts())[:2] == ["broken", "team-0777"]
    assert await page.locator("[data-total='']").inner_text() == "1,006"
    await page.evaluate("document.querySelector('#m-team-0500').dataset.kept = 'yes'")
    shown.run("team-0003", 4, 1)
    await expect(page.locator("#m-team-0003 .run")).to_have_count(1)
    assert await page.locator("#m-team-0500").get_attribute("data-kept") == "yes"
    await page.get_by_label("Search").fill("team-0999")
    await expect(page.locator(".row h3")).to_have_text(["team-0999"])
    assert await page.locator("#m-team-0999 .when time").inner_text() == "16 hours ago"
