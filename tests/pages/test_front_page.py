"""The page of the registry front: its numbers, in words of the reader, and safe with what strangers asked for."""

from __future__ import annotations

import asyncio
import gzip
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from playwright.async_api import expect

from mirrord.report.front import FrontStatus, SharedCacheStatus, UpstreamStatus
from mirrord.report.status import Status
from mirrord.report.words import words
from mirrord.serve.pages.frame import Look
from mirrord.serve.pages.front import FrontPages, FrontShown, page, share_of
from mirrord.testing import DockerRegistry, build_image, push, require
from tests.pages.conftest import Opener
from tests.support.frontdesk import fronted
from tests.support.judges import judged

NOW = datetime(2026, 11, 27, 16, 39, 5, tzinfo=UTC)
FRONT = FrontStatus(
    answers={"hit": 6, "local": 2, "miss": 2},
    refusals={"not_allowed": 41},
    from_upstream=1 << 20,
    to_clients=8 << 20,
    cache_bytes=1 << 30,
    cache_entries=4213,
    cache_limit=4 << 30,
    shared=SharedCacheStatus(NOW, 3 << 30, 12345, 17, 1 << 20),
    upstreams={
        "docker.io": UpstreamStatus({"hit": 6, "miss": 2}, 3, 1 << 20, 7 << 20, 17, 100),
        "quay.io": UpstreamStatus(),
    },
    top={"docker.io/library/nginx": 8},
    refused_names={"not_allowed docker.io/evil/miner": 41},
)


def text_of(front: FrontStatus | None, language: str = "en") -> str:
    """Return the page without markup, its words parted by single spaces."""
    made = page(FrontShown(Status("1", "ready", NOW, NOW, "", (), front), "1"), Look(language))
    return " ".join(re.sub(r"<(style|script|svg)\b.*?</\1>|<[^>]*>", " ", made, flags=re.DOTALL).split())


@pytest.mark.parametrize(
    ("language", "wanted"),
    [
        (
            "en",
            [
                "Hit rate 80 % of 10 answers with content",
                "Sent to clients 8.0 MiB Read from upstream: 1.0 MiB",
                (
                    "Cache 1.0 GiB 1.0 GiB of 4.0 GiB · 4,213 blobs and manifests · 0 evicted"
                    " Shared with other replicas: 3.0 GiB · 12,345 blobs and manifests · 17 evicted"
                    " · counted 2026-11-27 16:39:05 UTC"
                ),
                "Refused 41 41 not on the allow list",
                "2 from mirrors 6 from the cache 2 read from upstream",
                "docker.io 75 % 1.0 MiB 7.0 MiB 3 17 of 100 requests left",
                "quay.io unknown 0 B 0 B 0",
                "docker.io/library/nginx 8",
                "docker.io/evil/miner not on the allow list 41",
            ],
        ),
        (
            "zh",
            [
                "命中率 80 % 共 10 次有内容的应答",
                "剩余 17/100 次请求",
                "请求最多的镜像",
                "拒绝最多",
                "41 不在允许列表中",
            ],
        ),
    ],
)
def test_numbers(language: str, wanted: list[str]) -> None:
    """Hit rate, traffic, cache, refusals, upstreams with their quotas, and the images, in the reader's language."""
    text = text_of(FRONT, language)
    assert [one for one in wanted if one not in text] == []


@pytest.mark.parametrize("front", [None, FrontStatus()])
def test_nothing_yet(front: FrontStatus | None) -> None:
    """Without anything that was pulled through, the page says so, and has no empty tables."""
    text = text_of(front)
    assert "Nothing has been pulled through the front yet." in text
    assert "Hit rate" not in text


def test_hostile_names() -> None:
    """What clients asked for is text, never markup, and of bounded length."""
    evil = "<img src=x onerror=alert(1)>\x1b" + "y" * 10_000
    hosts = {evil: UpstreamStatus({evil: 1})}
    front = FrontStatus({"hit": 1, evil: 3}, {evil: 1}, upstreams=hosts, top={evil: 1}, refused_names={evil: 1})
    made = page(FrontShown(Status("1", "ready", NOW, NOW, "", (), front), "1"), Look())
    assert "<img src=x" not in made
    assert "\x1b" not in made
    assert len(made) < 60_000


class Shown:
    """A daemon with a front, as far as the page asks it."""

    async def status(self) -> Status:
        return Status("1", "ready", NOW, NOW, "", (), FRONT)

    def edition(self) -> int:
        return 0


async def test_all_readers_of_a_look_share_one_rendering() -> None:
    """However many ask, a page is made once for each look, packed for who takes that, and 304 for who has it."""
    pages = FrontPages(Shown())  # type: ignore[arg-type]  # the page asks nothing else
    pages._shown._lasts = 600.0

    async def get(query: str = "", **headers: str) -> tuple[int, str, bytes]:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await pages.pages()["/front"](make_mocked_request("GET", f"/front{query}", headers=fields))
        body = answer.body if isinstance(answer, web.Response) else None
        return answer.status, answer.headers["ETag"], body if isinstance(body, bytes) else b""

    found = {await one for one in asyncio.as_completed([get(Accept_Encoding="gzip") for _ in range(8)])}
    ((status, tag, packed),) = found
    _, other, plain = await get()
    assert (status, gzip.decompress(packed)) == (200, plain)
    assert b"docker.io/library/nginx" in plain
    assert await get(Accept_Encoding="gzip", If_None_Match=tag) == (304, tag, b"")
    dark = await get("?theme=dark&lang=zh")
    assert b'lang="zh-CN" data-theme="dark"' in dark[2]
    assert len({tag, other, dark[1]}) == 3
    await pages.close(None)  # type: ignore[arg-type]  # nobody uses it


SHARES = [(0.0, "0 %"), (0.001, "1 %"), (0.5, "50 %"), (0.999, "99 %"), (1.0, "100 %"), (None, "unknown")]


@pytest.mark.parametrize(("part", "wanted"), SHARES)
def test_shares(part: float | None, wanted: str) -> None:
    """Only all is 100 %, and only none is 0 %."""
    assert share_of(words("en"), part) == wanted


async def test_it_follows_clients(opened: Opener, tmp_path: Path) -> None:
    """A client that pulls is seen on the open page: the image, and that the second pull came from the cache."""
    require("docker-registry", "skopeo")
    image = build_image(layer_size=50_000, seed="followed")
    async with DockerRegistry() as upstream:
        await push(image, upstream.url, "library/app", ["v1"])
        async with fronted(tmp_path, upstream.host) as front:
            page = await opened(f"http://{front.host}/front")
            await expect(page.locator("#front")).to_contain_text("Nothing has been pulled through the front yet.")
            reference = front.reference("prefix", "library/app:v1")
            assert await judged("skopeo", reference, tmp_path / "first") == image.digest
            await expect(page.locator("tbody th")).to_have_text([upstream.host, f"{upstream.host}/library/app"])
            rate = page.locator("[aria-labelledby=hits] .figure")
            assert int((await rate.inner_text()).removesuffix(" %")) < 50
            table = page.get_by_role("region", name="Upstreams: Registry front")
            await table.focus()
            assert await judged("skopeo", reference, tmp_path / "second") == image.digest
            await expect(rate).to_have_text(re.compile("^[5-9][0-9] %$"))
            await expect(table).to_be_focused()
            sizes = await page.locator("#front h2[id=upstreams], .halves h2").evaluate_all(
                "all => all.map((one) => getComputedStyle(one).fontSize)"
            )
            assert (len(sizes), len(set(sizes))) == (2, 1)
            await expect(page.locator("#lost")).to_be_hidden()
