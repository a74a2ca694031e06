"""The page about mirrors for their users: what it says, and that no name can break its Markdown or HTML."""

from __future__ import annotations

import html as entities
import re
import subprocess
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from mirrord.cli.docs import site
from mirrord.config.load import Configuration, read_folder
from mirrord.model.catalog import CatalogEntry
from mirrord.printable import plain
from mirrord.report.board import Board
from mirrord.report.site import Cell, Group, KindPart, MirrorPart, Site, Tab, Table
from mirrord.report.site.describing import NEWEST, SiteData
from mirrord.report.site.html import html
from mirrord.report.site.markdown import markdown
from mirrord.report.words import LANGUAGES
from mirrord.syncer.port import load_syncers

T0 = datetime(2026, 11, 27, 16, 39, 5, tzinfo=UTC)
SYNCERS = load_syncers()
HOSTILE = [
    "<script>alert(1)</script>",
    "a|b",
    "`code` ``x``",
    "</code></td><img src=x onerror=alert(1)>",
    "**bold** _it_ ~~no~~ [a](javascript:alert(1)) ![b](x)",
    "\\| \\` \\<",
    "&amp;&lt;&#60;",
    "a\nb\r\n\n# heading\x1b[31m\x00\u2028",
    "1. one",
    "- two",
    ":smile: ==x== ++y++ ^z^ {: .a } {{ b }} $c$ @d",
    "http://a.example/?x=1&y=2",
    "é漢字\U0001f600\ud800",
    "x" * 10_000,
]
CONFIGURATION = """
settings: {url: https://mirror.example}
targets:
  hub: {kind: image, to: docker.io/team, page: "https://pages.example/{mirror}"}
  quay: {kind: image, to: quay.io/team}
  other: {kind: image, to: quay.io/others}
  disk: {kind: image, to: "oci:/srv/images"}
mirrors:
  - name: nginx
    kind: image
    from: {repository: nginx, tags: ["1.29"]}
    to: [hub, quay, other, disk, local]
    every: 6h
  - {name: own, kind: image, from: {layouts: /srv/builds}, to: [hub], every: 6h}
"""


def read(tmp_path: Path, text: str) -> Configuration:
    (tmp_path / "a.yaml").write_text(text)
    return read_folder(tmp_path, SYNCERS, {})


def site_of(found: Configuration, language: str = "en", live: SiteData | None = None) -> Site:
    return site(found, SYNCERS, language, live)


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_groups_rows_and_commands(tmp_path: Path) -> None:
    """Each target of a kind is a group named as people call its host; places on this machine are no use to others."""
    (kind,) = site_of(read(tmp_path, CONFIGURATION)).kinds
    assert (kind.title, kind.tip) == ("Container images", "Synchronized with upstream every six hours.")
    titles = ["Docker Hub", "Quay (quay)", "Quay (other)", "mirror.example"]
    assert [group.title for group in kind.groups] == titles
    hub = kind.groups[0].table
    assert hub.head == ("Origin", "Mirror", "Type", "Public")
    assert texts(hub) == [
        ["docker.io/library/nginx", "docker.io/team/nginx", "Image", "Public"],
        ["in-house", "docker.io/team/own", "Image", "Public"],
    ]
    other = kind.groups[3].table
    assert other.head == ("Origin", "Mirror", "Type"), "a column that nothing is in"
    assert {len(row) for row in other.rows} == {3}
    assert hub.rows[0][3].link == "https://pages.example/nginx"
    nginx, own = kind.mirrors
    assert [tab.title for tab in nginx.tabs] == titles
    assert nginx.tabs[0].commands[0] == "docker pull docker.io/team/nginx:1.29"
    assert nginx.tabs[3].commands[0] == "docker pull mirror.example/nginx:1.29"
    assert own.tabs[0].commands[0] == "docker pull docker.io/team/own:TAG"
    assert nginx.items is own.items is None


def test_one_tip_or_a_column(tmp_path: Path) -> None:
    """Mirrors that run equally often share a tip; where the times differ a column has them."""
    daily = CONFIGURATION.replace("every: 6h", 'cron: "17 3 * * *"', 1).replace("every: 6h", 'cron: "18 3 * * *"')
    (kind,) = site_of(read(tmp_path, daily)).kinds
    assert kind.tip == "Synchronized with upstream every day."
    assert [row[-1] for row in texts(kind.groups[0].table)] == ["daily at 03:17 UTC", "daily at 03:18 UTC"]
    (kind,) = site_of(read(tmp_path, CONFIGURATION.replace("every: 6h", "every: 1h", 1)), "zh").kinds
    assert kind.tip == ""
    assert [row[-1] for row in texts(kind.groups[0].table)] == ["每小时", "每六小时"]
    (kind,) = site_of(
        read(tmp_path, CONFIGURATION.replace("    every: 6h\n", "").replace(", every: 6h", "")), "zh"
    ).kinds
    assert kind.tip == "手动触发同步。"


def test_local_is_for_those_who_reach_it(tmp_path: Path) -> None:
    """Without an address for others, what mirrord has itself is in no document."""
    text = markdown(site_of(read(tmp_path, CONFIGURATION.replace("{url: https://mirror.example}", "{}"))))
    assert "127.0.0.1" not in text
    assert "local" not in text
    assert "/srv" not in text


def entry(item: str, target: str, digest: str = "sha256:1", minute: int = 0, **more: object) -> CatalogEntry:
    at = T0 + timedelta(minutes=minute)
    return CatalogEntry("nginx", "image", item, f"q/a:{item}", target, f"r/b:{item}", digest, at, **more)  # type: ignore[arg-type]  # fields by keyword


def test_live_items(tmp_path: Path) -> None:
    """With what is known, items have digest, size, platforms and the targets that have that content, newest first."""
    found = read(tmp_path, CONFIGURATION)
    entries = [
        *(entry("1.9", target, "sha256:9", size=2048, platforms=("linux/amd64",)) for target in ("hub", "quay")),
        *(entry("1.9", target, "sha256:9", size=2048) for target in ("other", "local")),
        entry("1.10", "hub", "sha256:new", 5),
        entry("1.10", "quay", "sha256:old", 1),
        entry("1.10", "disk", "sha256:new", 3),
    ]
    status = Board().status("1", T0, found.mirrors)
    site = site_of(found, live=SiteData(status, entries))
    assert site.about[1] == "State as of 2026-11-27 16:39:05 UTC."
    (kind,) = site.kinds
    assert kind.groups[0].table.head[-2:] == ("State", "Last success")
    assert texts(kind.groups[0].table)[0][-2:] == ["no success yet", "never"]
    nginx = kind.mirrors[0]
    assert nginx.items
    assert nginx.items.head == ("Item", "Digest", "Size", "Platforms", "Targets")
    assert texts(nginx.items) == [
        ["1.10", "sha256:new", "", "", "Docker Hub"],
        ["1.9", "sha256:9", "2.0 KiB", "linux/amd64", "all"],
    ]
    assert nginx.tabs[1].commands[0] == "docker pull quay.io/team/nginx:1.29"


def test_long_mirrors_are_cut(tmp_path: Path) -> None:
    """Of many items the highest are listed, and the number of the others."""
    found = read(tmp_path, CONFIGURATION)
    entries = [entry(f"1.{number}", "hub") for number in range(NEWEST + 7)]
    (kind,) = site_of(found, live=SiteData(Board().status("1", T0, found.mirrors), entries)).kinds
    items = kind.mirrors[0].items
    assert items
    assert items.below == "and 7 more items"
    assert [row[0] for row in texts(items)] == [f"1.{number}" for number in reversed(range(7, NEWEST + 7))]


def test_nothing_is_said_of_what_nobody_can_use(tmp_path: Path) -> None:
    """A mirror whose targets are all on this machine is in no document, nor is a kind of such mirrors."""
    text = CONFIGURATION.replace("to: [hub, quay, other, disk, local]", "to: [disk]").replace("to: [hub]", "to: [disk]")
    found = read(tmp_path, text)
    assert site_of(found, live=SiteData(Board().status("1", T0, found.mirrors), [entry("1.9", "disk")])).kinds == ()


def test_a_list_is_shown_as_its_images(tmp_path: Path) -> None:
    """Each image of a list has a row and a command; a registry has a row of its own beside its known repositories."""
    (tmp_path / "images.txt").write_text("nginx:1.29\nquay.io/calico/node:v3.30\nquay.io/calico/node:v3.31\n")
    text = """
settings: {url: https://mirror.example}
mirrors:
  - {name: list, kind: image, from: {list: images.txt}, to: [local], every: 6h}
  - {name: some, kind: image, from: {registry: quay.io, repositories: [team/a, "team/b*"], tags: [v1]}, to: [local]}
"""
    (kind,) = site(read(tmp_path, text), SYNCERS, "en").kinds
    (group,) = kind.groups
    assert [row[:2] for row in texts(group.table)] == [
        ["docker.io/library/nginx", "mirror.example/docker.io/library/nginx"],
        ["quay.io/calico/node", "mirror.example/quay.io/calico/node"],
        ["quay.io", "mirror.example/*"],
        ["quay.io/team/a", "mirror.example/quay.io/team/a"],
    ]
    listed, some = kind.mirrors
    assert listed.tabs[0].commands == (
        "docker pull mirror.example/docker.io/library/nginx:1.29",
        "docker pull mirror.example/quay.io/calico/node:v3.30",
    )
    assert some.tabs[0].commands == ("docker pull mirror.example/quay.io/team/a:v1",)


def hostile_site(text: str) -> Site:
    """Return a site that has a text wherever one from outside can be."""
    link = f"https://a.example/{text[:200]}"
    cells = (Cell(text, code=True), Cell(text), Cell("Public", link), Cell(text, link))
    table = Table(("one", "two", "three", "four"), (cells, cells), text)
    part = MirrorPart(text, (Tab(text, ("docker pull a", "git clone b")),), table)
    kind = KindPart(text, text, (Group(text, table),), text, (part,))
    return Site("en", text, text, (text,), text, (kind,))


@pytest.mark.parametrize("text", HOSTILE)
def test_names_cannot_break_markdown(text: str) -> None:
    """Whatever a name is, a renderer finds the same tables with the same texts, and no markup but ours."""
    rendered = MarkdownIt("commonmark").enable("table").render(markdown(hostile_site(text)).split("---\n", 2)[2])
    allowed = {"p", "h2", "h3", "h4", "table", "thead", "tbody", "tr", "th", "td", "code", "a", "pre"}
    assert set(re.findall(r"<([a-zA-Z0-9]+)", rendered)) <= allowed
    rows = re.findall(r"<tr>\n(.*?)</tr>", rendered, re.DOTALL)
    assert len(rows) == 6
    cells = [re.findall(r"<t[dh]>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    assert {len(row) for row in cells} == {4}
    wanted = plain(text).strip()
    for row in (cells[1], cells[2], cells[4], cells[5]):
        bare = [entities.unescape(re.sub(r"<[^>]*>", "", cell)).strip() for cell in row]
        assert bare == [wanted, wanted, "Public", wanted]
    assert all(link.startswith("https://a.example/") for link in re.findall(r'href="([^"]*)"', rendered))
    assert "docker pull a\n" in rendered


@pytest.mark.parametrize("text", HOSTILE)
def test_names_cannot_break_html(text: str) -> None:
    """Whatever a name is, the page has the same elements, and shows the name."""
    page = html(hostile_site(text))
    root = tree(page)
    assert [one.tag for one in root.iter()] == [one.tag for one in tree(html(hostile_site("harmless"))).iter()]
    cells = ["".join(cell.itertext()) for cell in root.iter("td")]
    assert cells == [plain(text), plain(text), "Public", plain(text)] * 4
    assert all((link.get("href") or "").startswith("https://a.example/") for link in root.iter("a"))


def tree(page: str) -> ET.Element:
    return ET.fromstring(re.sub(r"<((?:meta|input) [^>]*)>", r"<\1/>", page.partition("\n")[2]))


def test_tabs_of_html(tmp_path: Path) -> None:
    """Each mirror has one group of radio buttons, the first one chosen; each has its label, then its commands."""
    root = tree(html(site_of(read(tmp_path, CONFIGURATION))))
    nginx, own = (one for one in root.iter("div") if one.get("role") == "radiogroup")
    assert [one.tag for one in nginx] == ["input", "label", "pre"] * 4
    buttons = list(nginx.iter("input"))
    assert {one.get("name") for one in buttons} == {nginx.get("aria-label")} == {"nginx"}
    assert [one.get("checked") is not None for one in buttons] == [True, False, False, False]
    assert [one.get("for") for one in nginx.iter("label")] == [one.get("id") for one in buttons]
    assert {one.get("name") for one in own.iter("input")} == {"own"}
    ids = [one.get("id") for one in root.iter("input")]
    assert len(set(ids)) == len(ids) == 5


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_valid_html(tmp_path: Path, language: str) -> None:
    """HTML Tidy has no warning about a page with all its parts, and the page needs no other file and no script."""
    found = read(tmp_path, CONFIGURATION)
    live = SiteData(Board().status("1", T0, found.mirrors), [entry("1.29", "hub", size=1)])
    page = html(site_of(found, language, live))
    done = subprocess.run(["tidy", "-q", "-e", "-utf8"], input=page, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"<(?:script|link|img|iframe)|@import|url\(", page) == []
    assert f'<html lang="{"zh-Hans" if language == "zh" else "en"}">' in page
