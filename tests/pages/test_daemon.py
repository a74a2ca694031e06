"""The page of a real daemon, in a real browser."""

from __future__ import annotations

import asyncio
import re

from playwright.async_api import expect

from mirrord.testing import Registry, build_image, push
from tests.pages.conftest import Opener
from tests.support.commands import Desk

CONFIGURATION = """
settings: {{listen: "127.0.0.1:0"}}
targets:
  away: {{kind: image, to: "{away}/mirror", page: "https://registry.example/{{mirror}}"}}
mirrors:
  - {{name: good, kind: image, from: {{repository: "{source}/a", tags: [v1]}}, to: [away, local]}}
  - {{name: bad, kind: image, from: {{repository: "{source}/b", tags: [v1]}}, to: local}}
"""


async def test_a_run_from_beginning_to_end(desk: Desk, opened: Opener) -> None:
    """A run is seen while it goes on, and then its result, the addresses to pull from, and a failure with its cause."""
    async with Registry() as source, Registry() as away:
        await push(build_image(layer_size=50_000), source, "a", ["v1"])
        desk.configure(CONFIGURATION.format(source=source.host, away=away.host))
        gate = source.faults.on("GET", "/blobs/", times=None).hold()
        async with desk.serving() as daemon:
            page = await opened(f"http://{daemon.address}/")
            good, bad = page.locator("#m-good"), page.locator("#m-bad")
            await expect(good.locator(".ways")).to_contain_text(f"{source.host}/a")
            syncing = asyncio.create_task(desk.run("sync", "good"))
            await asyncio.wait_for(gate.reached.wait(), 60)
            await expect(good.locator(".run")).to_contain_text("0 of 2 steps")
            await expect(page.locator("[data-total=running]")).to_have_text("1")
            gate.release()
            assert (await syncing).status == 0
            await expect(good.locator(".run")).to_have_count(0)
            await expect(good).to_have_class("row ok")
            await expect(good.locator(".when time").first).to_have_text("just now")
            await expect(good.locator(".ways li").first).to_contain_text("1 written")
            link = good.get_by_role("link", name=f"{away.host}/mirror/good")
            assert await link.get_attribute("href") == "https://registry.example/good"
            await expect(good.locator(".ways li").last).to_contain_text(f"{daemon.address}/good")
            assert (await desk.run("sync", "bad")).status != 0
            await expect(bad).to_have_class("row failing")
            await expect(bad.locator(".trouble")).to_contain_text(f"{source.host}/b:v1 does not exist")
            await expect(page.locator("h1")).to_have_text("1 of 2 mirrors is failing")
            assert await page.locator(".row h3").all_inner_texts() == ["bad", "good"]
            await expect(page.locator("#lost")).to_be_hidden()
            await expect(bad.locator(".trouble")).to_contain_text("First failure just now · failed once")
            await page.goto(f"http://{daemon.address}/mirrors/bad")
            await expect(page.locator(".numbers")).to_contain_text(re.compile("First failure *just now"))
            await expect(page.locator(".trouble")).to_contain_text("Check names and tags in from:")
            await expect(page.locator(".use")).to_contain_text("Nothing is here yet.")
            assert await page.get_by_role("link", name="Registry front").count() == 0, "no front is configured"
            await page.goto(f"http://{daemon.address}/mirrors/good")
            await expect(page.locator("#uses")).not_to_contain_text("Nothing is here yet.")
            await page.goto(f"http://{daemon.address}/")
            daemon.process.terminate()  # a reader does not keep the daemon from ending
            assert await asyncio.wait_for(daemon.process.wait(), 60) == 0
            await expect(page.locator("#lost")).to_contain_text("No connection to mirrord")
