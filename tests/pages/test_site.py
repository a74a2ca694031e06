"""The page that `mirrord docs --format html` writes, in a browser that runs no script."""

from __future__ import annotations

from pathlib import Path

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from tests.support.commands import Desk

TEXT = """
settings: {url: https://mirror.example}
targets: {hub: {kind: image, to: docker.io/team}, quay: {kind: image, to: quay.io/team}}
mirrors:
  - {name: app, kind: image, from: {repository: ghcr.io/team/app, tags: [v1]}, to: [hub, quay, local], every: 6h}
  - {name: web, kind: image, from: {repository: ghcr.io/team/web, tags: [v2]}, to: [hub, quay, local], every: 6h}
"""


async def written(desk: Desk) -> Path:
    desk.configure(TEXT)
    assert (await desk.run("docs", "--format", "html", "--language", "en", "--output", "site")).status == 0
    return desk.folder / "site" / "mirrors.en.html"


async def test_tabs_by_keyboard_without_script(desk: Desk, browser: Browser) -> None:
    """Arrow keys choose the target whose commands are seen, in one mirror and not in the next; paper has them all."""
    page = await browser.new_page(java_script_enabled=False)
    troubles: list[str] = []
    page.on("console", lambda said: troubles.append(said.text))
    await page.goto((await written(desk)).as_uri())
    app = page.get_by_role("radiogroup", name="app")
    commands = page.locator(".tabs pre:visible")
    await expect(commands).to_contain_text(["docker.io/team/app:v1", "docker.io/team/web:v2"])
    await app.get_by_role("radio").first.focus()
    await page.keyboard.press("ArrowRight")
    await expect(app.get_by_role("radio", name="Quay")).to_be_checked()
    await expect(commands).to_contain_text(["quay.io/team/app:v1", "docker.io/team/web:v2"])
    await app.get_by_text("mirror.example", exact=True).click()
    await expect(commands).to_contain_text(["docker pull mirror.example/app:v1", "docker.io/team/web:v2"])
    await page.emulate_media(media="print")
    await expect(commands).to_have_count(6)
    assert troubles == []  # such as of its own Content-Security-Policy


async def test_everybody_can_read_it(desk: Desk, browser: Browser) -> None:
    """Axe finds nothing to mend, light and dark, and a phone shows it without scrolling sideways."""
    file = await written(desk)
    for scheme in ("light", "dark"):
        page = await browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 844})
        await page.goto(file.as_uri())
        found = (await Axe().run(page)).response["violations"]
        assert [one["id"] for one in found] == []
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
