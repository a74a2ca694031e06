"""A real browser, and a page of mirrors that a test moves as it likes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import which

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from mirrord.testing.servers import require
from tests.support.commands import Desk
from tests.support.frontserver import showing
from tests.support.shownmirrors import ShownMirrors

Opener = Callable[..., Awaitable[Page]]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, without its sandbox: the tests run as root."""
    require("chromium")
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])


def refused(said: ConsoleMessage) -> bool:
    """Return whether a message is an error, such as of the Content-Security-Policy; a server may end meanwhile."""
    return said.type == "error" and "net::" not in said.text


@pytest.fixture
async def opened(browser: Browser) -> AsyncIterator[Opener]:
    """Open an address in a window of its own, and fail at the end if the page reported an error or asked elsewhere.

    What is given besides are options of a browser's context, such as `locale` and `color_scheme`.
    """
    troubles: list[str] = []
    async with AsyncExitStack() as stack:

        async def open_at(address: str, **options: object) -> Page:
            context = await browser.new_context(**{"locale": "en-GB", **options})  # type: ignore[arg-type]  # by keyword
            stack.push_async_callback(context.close)
            page = await context.new_page()
            host = address.split("/")[2]
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on("console", lambda said: troubles.append(said.text) if refused(said) else None)
            page.on(
                "request",
                lambda asked: troubles.append(asked.url) if asked.url.split("/")[2] != host else None,
            )
            answer = await page.goto(address)
            assert answer is not None
            assert answer.status == 200
            return page

        yield open_at
    assert troubles == []


@pytest.fixture
def shown() -> ShownMirrors:
    return ShownMirrors()


@pytest.fixture
async def address(shown: ShownMirrors) -> AsyncIterator[str]:
    """Serve what is shown."""
    async with showing(shown) as (host, port):
        yield f"http://{host}:{port}"
