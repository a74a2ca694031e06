"""Signatures and changed indexes of what was mirrored: in the status, on the page, in the API and in the catalog."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import aiohttp
from rich.cells import cell_len

from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.cosigning import build_bundle, bundle_of, new_key, pem_of, signature_tag, simple_by, statement_of
from tests.support.terminal import drawn

KEY = new_key()
BOTH, LATER, PLAIN = (build_image(["linux/amd64", "linux/arm64"], layers=1, seed=seed) for seed in "abc")


async def filled(desk: Desk, source: Registry, one: Registry) -> None:
    """Mirror images that are signed, one platform of one of them, and another one without a signature."""
    for tag, image in (("v9", BOTH), ("v10", LATER)):
        await push(image, source, "app", [tag])
        await push(simple_by(image.digest, KEY), source, "app", [signature_tag(image)])
    await push(build_bundle(LATER, bundle_of(KEY, statement_of(LATER.digest))), source, "app")
    await push(PLAIN, source, "plain", ["v1"])
    (desk.folder / "release.pub").write_bytes(pem_of(KEY))
    named = "signatures: {require: {key: " + str(desk.folder / "release.pub") + "}}"
    app, plain = (f"from: {{repository: {source.host}/{name}, tags: ['v*']}}" for name in ("app", "plain"))
    desk.configure(
        "settings: {listen: '127.0.0.1:0'}\n"
        f"targets: {{one: {{kind: image, to: {one.host}/m}}}}\n"
        "mirrors:\n"
        f"- {{name: app, kind: image, {app}, to: [one, local], {named}, every: 6h}}\n"
        f"- {{name: cut, kind: image, {app}, to: local, platforms: [linux/arm64], {named}, every: 6h}}\n"
        f"- {{name: plain, kind: image, {plain}, to: local, every: 6h}}\n"
        f"- {{name: bare, kind: image, {plain}, to: local, signatures: {{copy: false}}, every: 6h}}\n"
    )
    ran = await desk.run("sync")
    assert ran.status == 0, ran


def rows(text: str) -> dict[str, str]:
    """Return the rows of a table of items in a pipe, behind digest and size."""
    found = re.findall(r"^(v\d+) +sha256:[0-9a-f]{64} +\S+ \S+ +(.*)$", text, re.MULTILINE)
    return {item: re.sub(" +", " ", rest) for item, rest in found}


async def read(address: str, path: str, **headers: str) -> str:
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}{path}", headers=headers) as answer:
        assert answer.status == 200
        return await answer.text()


def cells(page: str) -> dict[str, list[str]]:
    """Return by item the texts of the wide cells in the table of items: digest, platforms, signatures."""
    table = page.partition('<table class="items">')[2].partition("</table>")[0]
    found = {}
    for row in table.split("<tr")[2:]:
        name, *wide = re.findall(r'<a href=[^>]*>(.*?)</a>|<td class="[^"]*wide">(.*?)</td>', row)
        found[name[0]] = [unescape(re.sub("<[^>]*>", "", one[1])).strip() for one in wide]
    return found


async def test_they_are_shown_everywhere(desk: Desk) -> None:
    """How many signatures each item has, by whom, and what was changed; of what nobody looked for nothing is said."""
    async with Registry() as source, Registry() as one:
        await filled(desk, source, one)
        said = {name: (await desk.run("status", name)).out for name in ("app", "cut", "plain", "bare")}
        document: Any = (await desk.run("status", "cut", "--json")).document
        async with desk.serving() as served:
            english = await read(served.address, "/mirrors/app?lang=en")
            chinese = await read(served.address, "/mirrors/cut?lang=zh")
            plain = await read(served.address, "/mirrors/plain?lang=en")
            items = json.loads(await read(served.address, "/api/v1/mirrors/app/items"))["items"]
            catalog = json.loads(await read(served.address, "/api/v1/catalog.json"))["entries"]
    both = "linux/amd64, linux/arm64"
    assert rows(said["app"]) == {
        "v9": f"{both} 1, signed by release.pub all targets",
        "v10": f"{both} 2, signed by release.pub all targets",
    }
    assert rows(said["cut"]) == dict.fromkeys(
        ("v9", "v10"), "linux/arm64 (index changed) 0, signed by release.pub local"
    )
    assert rows(said["plain"]) == {"v1": f"{both} 0 local"}
    assert rows(said["bare"]) == {"v1": f"{both} - local"}, "nobody looked, and it is said that there is none"
    (at,) = (row["at"] for row in document["mirrors"][0]["detail"]["items"] if row["item"] == "v10")
    assert (at["local"]["referrers"], at["local"]["signer"]) == (0, "release.pub")
    assert at["local"]["origin"] == LATER.digest
    assert [item["item"] for item in items] == ["v9", "v10"], "numbers in names are no numbers"
    assert [{at["referrers"] for at in item["at"].values()} for item in items] == [{1}, {2}]
    assert {(at["signer"], at["origin"]) for item in items for at in item["at"].values()} == {("release.pub", "")}
    assert {(one["mirror"], one["item"], one["referrers"], one["signer"], one["origin"]) for one in catalog} == {
        ("app", "v9", 1, "release.pub", ""),
        ("app", "v10", 2, "release.pub", ""),
        ("cut", "v9", 0, "release.pub", BOTH.digest),
        ("cut", "v10", 0, "release.pub", LATER.digest),
        ("plain", "v1", 0, "", ""),
        ("bare", "v1", None, "", ""),
    }
    assert {item: found[1:] for item, found in cells(english).items()} == {
        "v9": [both, "1 signed by release.pub"],
        "v10": [both, "2 signed by release.pub"],
    }
    assert cells(chinese)["v9"][1:] == ["linux/arm64 (索引已改动)", "0 签名者：release.pub"]
    assert f'title="{BOTH.digest}"' in chinese
    assert cells(plain)["v1"][1:] == [both], "a column without a signature in it"


async def test_on_a_terminal(desk: Desk) -> None:
    """A wide terminal shows them, and a narrow one leaves them out; no line is too wide."""
    async with Registry() as source, Registry() as one:
        await filled(desk, source, one)
        wide, narrow = [await drawn(desk, "status", "cut", columns=columns) for columns in (200, 60)]
    text = "\n".join(wide.lines)
    assert re.search(r"v10 .* linux/arm64 \(index changed\) +0, signed by release.pub +local", text), text
    assert "SIGNATURES" not in "\n".join(narrow.lines)
    assert max(cell_len(line) for line in "\n".join(narrow.lines).partition("How to use it")[0].split("\n")) <= 60
