"""Take pictures of the pages: of real daemons, between registries, chart repositories and Git hosts on loopback.

    pip install -e '.[dev]'    # and Chromium, fonts-noto-core, fonts-noto-cjk and webp, of Debian
    python docs/pictures/pages.py FOLDER [SCENE...]    # such as first, mirror, front, busy, failing, empty, many
    cwebp -near_lossless 40 FOLDER/first.png -o docs/pictures/page-light.webp    # likewise the others

The servers have the names of public ones: the daemon reaches them through a proxy that knows where each one is. Runs
are real; what a page says of days gone by is written into the record first, since nobody waits for ninety days.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from shutil import which

import aiohttp
from playwright.async_api import Browser, async_playwright

sys.path.insert(0, str(Path(__file__).parents[2]))
from world import IMAGES, PLATFORMS, World, name_of

from bench.history import daemon_of
from mirrord.model.history import Day
from mirrord.model.run import Result
from mirrord.record.tables import micros, row_of
from mirrord.testing import build_image, push
from tests.support.commands import Desk, Served

BROKEN = "craned"
FAILED = {BROKEN: (1, 2, 3, 41), "argocd": (12, 13), "redis": (60,)}
"""Days ago on which runs of a mirror failed."""
AGO = (
    "UPDATE standing SET last_success = last_success - :ago, last_attempt = last_attempt - :ago, "
    "behind_since = behind_since - :ago WHERE mirror = :mirror"
)
LONG_AGO = (
    "UPDATE standing SET last_success = last_success - :ago, behind_since = behind_since - :ago, "
    "failing_since = failing_since - :ago, failures = failures * 71 WHERE mirror = :mirror AND failures"
)
DAY = (
    "INSERT INTO days (mirror, day, runs, failed, seconds, longest, read, sent, done, deleted, result) "
    "VALUES (:mirror, :day, :runs, :failed, :seconds, :longest, :read, :sent, :done, :deleted, :result)"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VIEW = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


class Camera:
    """Takes pictures of a daemon's pages."""

    def __init__(self, browser: Browser, folder: Path, wanted: list[str]) -> None:
        self._browser, self._folder, self._wanted = browser, folder, wanted

    async def take(
        self, name: str, url: str, *, language: str = "en-GB", theme: str = "light", full: bool = False, **more: object
    ) -> None:
        """Take a picture, if it is wanted."""
        if self._wanted and not any(name.startswith(one) for one in self._wanted):
            return
        context = await self._browser.new_context(
            **{"locale": language, "color_scheme": theme, "viewport": VIEW, **more}  # type: ignore[arg-type]  # by keyword
        )
        page = await context.new_page()
        await page.goto(url)
        await page.wait_for_timeout(400)
        await page.screenshot(path=self._folder / f"{name}.png", full_page=full)
        await context.close()

    async def all_looks(self, name: str, url: str) -> None:
        """Take a page in both themes, both languages, and on a phone."""
        await self.take(name, url)
        await self.take(f"{name}-dark", url, theme="dark")
        await self.take(f"{name}-zh", url, language="zh-CN")
        await self.take(f"{name}-zh-dark", url, language="zh-CN", theme="dark")
        await self.take(f"{name}-phone", url, viewport=PHONE, device_scale_factor=2)


def remember(file: Path) -> None:
    """Write ninety days into a record, and let what is in it have happened a while ago."""
    today, dice = date.today(), Random(7)  # noqa: DTZ011, S311 - for a picture
    with closing(sqlite3.connect(file)) as link:
        for (name,) in link.execute("SELECT DISTINCT mirror FROM standing ORDER BY mirror").fetchall():
            link.execute(AGO, {"ago": micros(EPOCH + dice.uniform(0.01, 0.9) * timedelta(hours=6)), "mirror": name})
            for number in range(1, 90):
                failed = number in FAILED.get(name, ())
                seconds, sent = dice.uniform(20, 60), int(dice.expovariate(1 / 4e7)) if dice.random() < 0.4 else 0
                result, items = Result.PARTIAL if failed else Result.SUCCESS, sent // 20_000_000
                day = Day(
                    today - timedelta(days=number),
                    24,
                    3 * failed,
                    9 * seconds,
                    seconds,
                    sent,
                    2 * sent,
                    items,
                    0,
                    result,
                )
                link.execute(DAY, {"mirror": name, **row_of(day)})
        link.execute(LONG_AGO, {"ago": micros(EPOCH + timedelta(days=3, hours=2)), "mirror": BROKEN})
        link.execute("UPDATE behind SET since = (SELECT behind_since FROM standing s WHERE s.mirror = behind.mirror)")
        link.commit()


async def scenes(camera: Camera, folder: Path) -> None:
    """Take all pictures of mirrors that run."""
    world, desk = World(folder), Desk(folder)
    async with world.open() as proxy:
        desk.configure("settings: {listen: '127.0.0.1:0'}\nmirrors: []\n")
        async with desk.serving() as daemon:
            await camera.all_looks("empty", f"http://{daemon.address}/")
        desk.configure(world.configuration(proxy))
        async with desk.serving() as daemon:
            await desk.run("sync", "--quiet")
            coding = world.places["coding"]
            coding.faults.on("*", "/v2/", times=None).status(
                401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "the token has expired"}]}'
            )
            image = await asyncio.to_thread(build_image, PLATFORMS, layer_size=90_000, seed="a fix")
            await push(image, world.registries["docker.io"], "gocrane/craned", ["v0.11.0"])
            await desk.run("sync", "--quiet", BROKEN)
            daemon.process.terminate()
            await daemon.process.wait()
        await asyncio.to_thread(remember, next(folder.rglob("mirrord.db")))  # noqa: ASYNC240 - a small folder
        async with desk.serving() as daemon:
            url = f"http://{daemon.address}"
            await desk.run("sync", "--quiet", BROKEN)
            await camera.all_looks("first", f"{url}/")
            await camera.all_looks("mirror", f"{url}/mirrors/{BROKEN}")
            await camera.take("mirror-full", f"{url}/mirrors/{BROKEN}", full=True)
            await camera.take("mirror-healthy", f"{url}/mirrors/nginx", full=True, theme="dark")
            await pulls(world, daemon)
            await camera.all_looks("front", f"{url}/front")
            await busy(world, desk, camera, url)
            await failing(world, desk)
            await camera.all_looks("failing", f"{url}/")


async def pulls(world: World, daemon: Served) -> None:
    """Let clients pull through the front: some of it mirrored, some cached, some refused."""
    hub = world.registries["docker.io"]
    hub.faults.on("GET|HEAD", "/manifests/", times=None).header("RateLimit-Limit", "200;w=21600").header(
        "RateLimit-Remaining", "61;w=21600"
    )
    for name in ("busybox", "memcached", "httpd", "traefik", "mariadb"):
        image = await asyncio.to_thread(build_image, PLATFORMS, layer_size=200_000, seed=name)
        await push(image, hub, f"library/{name}", ["latest"])
    names = {"nginx": "1.29", "redis": "8.2"} | dict.fromkeys(("busybox", "memcached", "httpd", "traefik"), "latest")
    async with aiohttp.ClientSession(f"http://{daemon.address}") as session:
        for turn in range(12):
            for number, (name, tag) in enumerate(names.items()):
                if turn % (number + 1) == 0:
                    await _pull(session, f"docker.io/library/{name}", tag)
            await _pull(session, "ghcr.io/acme/secret", "latest")
        await _pull(session, "registry.k8s.io/etcd", "3.6")


async def _pull(session: aiohttp.ClientSession, name: str, reference: str) -> None:
    async with session.get(f"/v2/{name}/manifests/{reference}", headers={"Accept": "*/*"}) as answer:
        if answer.status != 200:
            return
        document = json.loads(await answer.read())
    for child in document.get("manifests", ()):
        await _pull(session, name, child["digest"])
    for blob in document.get("layers", ()):
        async with session.get(f"/v2/{name}/blobs/{blob['digest']}") as answer:
            await answer.read()


async def busy(world: World, desk: Desk, camera: Camera, url: str) -> None:
    """Let five mirrors run against slow registries."""
    runs, slow = [], []
    for image in (
        "docker.io/library/nginx",
        "docker.io/library/postgres",
        "quay.io/cilium/cilium",
        "ghcr.io/dexidp/dex",
    ):
        host, _, path = image.partition("/")
        for tag in IMAGES[image]:
            made = await asyncio.to_thread(build_image, PLATFORMS, layer_size=6_000_000, seed=f"new {image} {tag}")
            await push(made, world.registries[host], path, [tag])
        slow.append(world.registries[host].faults.on("GET", f"/{path}/blobs/", times=None).drip(350_000))
        runs.append(asyncio.create_task(desk.run("sync", "--quiet", name_of(image))))
    await asyncio.sleep(12)
    await camera.all_looks("busy", f"{url}/")
    await camera.take("mirror-busy", f"{url}/mirrors/postgres")
    for one in slow:
        one.rate_out = 1e9
    await asyncio.gather(*runs)


async def failing(world: World, desk: Desk) -> None:
    """Let more fail: a registry is dead, one has no tag any more, and one says 429."""
    await world.dead.stop()
    image = await asyncio.to_thread(build_image, PLATFORMS, layer_size=90_000, seed="a newer one")
    await push(image, world.registries["registry.k8s.io"], "kube-apiserver", ["v1.34.1"])
    del world.registries["quay.io"].tags["argoproj/argocd"]["v3.0.16"]
    world.registries["quay.io"].faults.on("*", "/v2/prometheus/", times=None).status(
        429, headers={"Retry-After": "3600"}
    )
    for name in ("kube-apiserver", "argocd", "alertmanager", "prometheus"):
        await desk.run("sync", "--quiet", name)


async def main(folder: Path, wanted: list[str]) -> None:
    """Take the pictures that are wanted; all of them if none is named."""
    with tempfile.TemporaryDirectory(prefix="mirrord-pages-") as work:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
            camera = Camera(browser, folder, wanted)
            await scenes(camera, Path(work))
            async with daemon_of(Path(work) / "many", 1000, 1) as many:
                await camera.all_looks("many", f"{many.url}/")
            await browser.close()


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
