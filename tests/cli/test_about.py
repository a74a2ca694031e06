"""What an operator says of a mirror: on every page, in documents, and where something was taken down."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp

from tests.support.commands import Desk, Said

SAID = """
settings:
  listen: 127.0.0.1:0
  url: https://mirror.example
  denied: %s
  about: {takedown: takedown@corp.example, disclaimer: {en: "As it *is* <b>&</b>", zh: 按原样提供。}}
"""
REST = """
front: {image: {upstreams: [docker.io], allow: [docker.io/*]}}
mirrors:
  - {name: app, kind: image, from: {repository: quay.io/team/app, tags: [v1]}, to: local}
  - {name: charts, kind: helm, from: https://charts.example/stable, to: local}
"""
PAGES = ("/", "/mirrors/app", "/mirrors/nothing", "/front", "/front/clients")


async def test_pages_and_refusals(desk: Desk) -> None:
    """Every page has it, in the language of its reader and as text; a refusal names the address; a reload takes it."""
    denied = desk.folder / "denied.yaml"
    entries = ["image: docker.io/team/bad", "mirror: app", "mirror: charts"]
    denied.write_text("".join(f"- {{{entry}, reason: ticket 4711}}\n" for entry in entries))
    desk.configure(SAID % denied + REST)
    async with desk.serving() as daemon, aiohttp.ClientSession(f"http://{daemon.address}") as session:
        for page in PAGES:
            async with session.get(page, headers={"Accept-Language": "en"}) as answer:
                text = await answer.text()
                assert "As it *is* &lt;b&gt;&amp;&lt;/b&gt;" in text, page
                assert '<a href="mailto:takedown@corp.example">takedown@corp.example</a>' in text
            async with session.get(f"{page}?lang=zh") as answer:
                assert "按原样提供。" in await answer.text()
        async with session.get("/status") as answer:
            assert (await answer.json())["about"]["takedown"] == "takedown@corp.example"
        for name in ("docker.io/team/bad", "app"):
            async with session.get(f"/v2/{name}/manifests/v1") as answer:
                assert answer.status == 451
                wrong = "; if that is wrong, write to takedown@corp.example"
                assert wrong in (await answer.json())["errors"][0]["message"]
                assert wrong in answer.headers["Warning"]
        async with session.get("/helm/charts/index.yaml") as answer:
            assert (answer.status, wrong in await answer.text()) == (451, True)
        desk.configure(f"settings: {{listen: '127.0.0.1:0', url: https://mirror.example, denied: {denied}}}\n{REST}")
        assert (await desk.run("reload")).status == 0
        for page in PAGES:
            async with session.get(page) as answer:
                assert "takedown@" not in await answer.text(), page
                assert 'class="disclaimer"' not in await answer.text()
        async with session.get("/v2/docker.io/team/bad/manifests/v1") as answer:
            assert (await answer.json())["errors"][0]["message"].endswith("ticket 4711")


def test_documents(desk: Desk, typed: Callable[..., Said]) -> None:
    """Markdown and HTML end with it, and nothing of it becomes markup; without it nothing is there."""
    desk.configure(
        "settings:\n  url: https://mirror.example\n  about: {disclaimer: 'As it *is* <b>', takedown: a@c.example}\n"
    )
    said = typed("docs").out.splitlines()
    assert said[-5:] == [
        "---",
        "",
        "As it &#42;is&#42; &#60;b&#62;",
        "",
        "You hold rights in something that is mirrored here? Write to [a&#64;c.example](mailto:a@c.example)",
    ]
    page = typed("docs", "--format", "html", "--language", "zh").out
    assert "<p>As it *is* &lt;b&gt;</p>" in page
    assert '请联系 <a href="mailto:a@c.example">a@c.example</a></p>\n</footer>' in page
    desk.configure("settings: {url: https://mirror.example}\n")
    assert "---" not in typed("docs").out.splitlines()[4:]
    assert "<footer>" not in typed("docs", "--format", "html").out
