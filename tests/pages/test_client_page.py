"""The page with the files of clients: what it shows to strangers, in a browser and without one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from mirrord.pointing.client.clients import CLIENTS
from mirrord.pointing.client.mirror import ClientMirror, PointedRegistry
from mirrord.report.status import Status
from mirrord.serve.pages.clients import page
from mirrord.serve.pages.frame import Look
from mirrord.testing import Registry
from tests.pages.conftest import Opener
from tests.support.frontdesk import ALIAS, fronted

NOW = datetime(2026, 11, 28, 5, 0, 0, tzinfo=UTC)
STATUS = Status("1", "ready", NOW, NOW, "", (), None)
HOST = "mirror.example.com"


def registry(name: str, place: str = "") -> PointedRegistry:
    return PointedRegistry(name, HOST, place or f"{HOST}/{name}")


def test_what_an_alias_hides() -> None:
    """A registry with a port is called by its alias, as in all answers of the front."""
    both = (registry("secret.corp:5000", f"{HOST}/corp.example"), registry("corp.example"))
    made = page(STATUS, ClientMirror("https", HOST, both), Look())
    assert "secret.corp" not in made
    assert f"{HOST}/corp.example" in made


def test_clients_that_cannot_use_it() -> None:
    """Who asks for other registries than those that are served is left out."""
    made = page(STATUS, ClientMirror("https", HOST, (registry("quay.io"),)), Look())
    assert [name for name in CLIENTS if f'id="{name}"' not in made] == ["docker", "kubeadm"]


@pytest.mark.parametrize("mirror", [None, ClientMirror("https", HOST, (registry("secret.corp:5000", "x"),))])
def test_nothing_to_point_at(mirror: ClientMirror | None) -> None:
    """Without a registry that may be shown, the page says so."""
    assert "No registry is served to clients." in page(STATUS, mirror, Look())


def test_a_token() -> None:
    """Where clients need one, they read of it, in their language."""
    mirror = ClientMirror("https", HOST, (registry("docker.io"),), hub=HOST, token=True)
    assert "Clients need a token" in page(STATUS, mirror, Look())
    assert "客户端需要令牌" in page(STATUS, mirror, Look("zh"))


@pytest.mark.parametrize(("locale", "title"), [("en-GB", "Point clients here"), ("zh-CN", "配置客户端")])
async def test_in_a_browser(opened: Opener, tmp_path: Path, locale: str, title: str) -> None:
    """From the page of the front one finds the files, opens those of a client, and meets no barrier."""
    async with Registry() as upstream, fronted(tmp_path, upstream.host) as front:
        shown = await opened(f"http://{front.host}/front", locale=locale)
        await shown.get_by_role("link", name=title).click()
        await expect(shown.get_by_role("heading", level=1)).to_have_text(title)
        podman = shown.locator("#podman")
        await expect(podman.locator("pre")).to_be_hidden()
        await podman.locator("summary").click()
        said = await front.desk.run("client-config", "podman", MIRRORD_LISTEN=front.host)
        text = await podman.locator("pre").inner_text()
        tables = [table for table in said.out.split("\n\n")[1:] if table.strip()]
        assert [table for table in text.strip().split("\n\n")[1:] if table not in tables] == []
        assert f'location = "{front.host}/{ALIAS}"' in text.splitlines()
        assert upstream.host not in await shown.content()
        for width in (1280, 390):
            await shown.set_viewport_size({"width": width, "height": 844})
            assert (await Axe().run(shown)).response["violations"] == []
            assert await shown.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
