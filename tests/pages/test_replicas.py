"""The replicas on the page at `/`: who is there, who leads, what each runs, and what is wrong with them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from mirrord.report.replicas import ReplicaStatus
from tests.pages.conftest import Opener
from tests.support.shownmirrors import NOW, ShownMirrors, mirror

DAY = timedelta(days=1)
ONE = ReplicaStatus("one-1a2b3c", "1.0", NOW - DAY, NOW, alive=True, running=("nginx",), leads=True)
TWO = ReplicaStatus("two-4d5e6f", "1.1", NOW - DAY, NOW, alive=True, running=("redis",))
DEAD = ReplicaStatus("three-7a8b9c", "1.0", NOW - DAY, NOW - timedelta(hours=3), alive=False)


@pytest.fixture
def shown() -> ShownMirrors:
    """Two mirrors that run: one here, one at another replica; a third replica is dead."""
    made = ShownMirrors()
    for name in ("nginx", "redis"):
        made.add(mirror(name))
        made.stand(name)
    made.run("nginx", 10, 2)
    made.run("redis", 12, 3, replica=TWO.name)
    made.share(ONE, TWO, DEAD, replica=ONE.name, waiting=2)
    return made


async def said(page: Page) -> list[str]:
    found = await page.locator("#replicas li.row").all_inner_texts()
    return [re.sub(r"\s+", " ", text) for text in found]


async def test_who_is_there(opened: Opener, address: str) -> None:
    """Each has its version, its last sign of life and what it runs; one that is dead is said above all."""
    page = await opened(address)
    await expect(page.locator("#replicas h2")).to_have_text("Replicas 3")
    living = "Last sign of life: just now started 1 day ago"
    assert await said(page) == [
        f"one-1a2b3c aliveleadsmirrord 1.0shows this page nginx 2 of 10 steps {living}",
        f"two-4d5e6f alivemirrord 1.1 redis 3 of 12 steps {living}",
        "three-7a8b9c deadmirrord 1.0 Last sign of life: 3 hours ago started 1 day ago",
    ]
    await expect(page.locator("#warnings .warning").first).to_contain_text(
        "Replica three-7a8b9c has given no sign of life since"
    )
    await expect(page.locator("#m-redis .run")).to_contain_text("running at two-4d5e6f")
    await expect(page.locator("#m-nginx .run")).not_to_contain_text("at ")
    await expect(page.locator("#replicas")).to_contain_text("2 runs are due and wait for a replica")
    found = await Axe().run(page)
    assert found.response["violations"] == []


async def test_it_follows(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """A replica that dies, and what another one runs then, are shown without a reload, also in Chinese."""
    page = await opened(f"{address}/?q=nginx&lang=zh")
    await expect(page.locator("#replicas h2")).to_have_text("副本 3")
    await page.evaluate("window.kept = true")
    shown.share(ONE, replace(TWO, running=("redis", "later")), DEAD)
    await expect(page.locator("#replicas li.row").nth(1)).to_contain_text("later")
    shown.share(replace(ONE, running=()), replace(TWO, alive=False, running=()), DEAD)
    await expect(page.locator("#warnings .warning").first).to_contain_text("two-4d5e6f")
    await expect(page.locator("#replicas")).to_contain_text("当前没有运行")
    assert await page.evaluate("window.kept")
    assert await page.locator(".row h3").first.inner_text() == "nginx"


async def test_configurations_that_differ(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """It says which replicas have which one; that of a dead one does not matter."""
    shown.share(replace(ONE, configuration="aaa"), replace(TWO, configuration="aaa"), replace(DEAD, configuration="b"))
    page = await opened(address)
    await expect(page.locator("#warnings .warning")).to_have_count(1)
    shown.share(replace(ONE, configuration="aaa"), replace(TWO, configuration="bbb"))
    await expect(page.locator("#warnings .warning")).to_contain_text("one-1a2b3c aaa, two-4d5e6f bbb")
    await expect(page.locator("#replicas li.row").nth(1)).to_contain_text("configuration bbb")


async def test_one_alone(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """Without other replicas nothing of this is there; they come, and go, without a reload."""
    shown.share(replica="", waiting=0)
    page = await opened(address)
    await expect(page.locator("#m-nginx")).to_be_visible()
    assert "eplica" not in await page.content()
    shown.share(ONE)
    await expect(page.locator("#replicas h2")).to_have_text("Replicas 1")
    shown.share()
    await expect(page.locator("#replicas")).to_have_count(0)


async def test_an_old_look(opened: Opener, address: str, shown: ShownMirrors) -> None:
    """While the record is not reached the page says as of when it knows the others, and of none that it is alive."""
    shown.share(ONE, TWO, DEAD, replica=ONE.name, replicas_at=NOW - timedelta(minutes=2))
    page = await opened(address)
    warnings = page.locator("#warnings .warning")
    await expect(warnings.nth(1)).to_contain_text("The record was last reached at 2026-11-27 16:37:05 UTC")
    here, other, dead = await said(page)
    assert here.startswith("one-1a2b3c aliveleads")
    assert other.startswith("two-4d5e6f alive thenmirrord 1.1")
    assert dead.startswith("three-7a8b9c deadmirrord 1.0")
