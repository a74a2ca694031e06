"""A daemon under crowds: everybody is answered, whole, its probes too, and synchronisations go on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from mirrord.commands import Sync
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.syncers.git.names import MARK
from mirrord.testing import build_image
from mirrord.testing.gitrepos import Upstream
from mirrord.testing.running import run
from mirrord.wire.git.pktline import DELIMITER, FLUSH, encode
from tests.support.commands import Desk
from tests.support.crowd import Client, crowd, request, troubles
from tests.support.gitcontent import fill
from tests.support.layouts import write_layout

MIRRORS = 1000
LAYER = 8_000_000
GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}


async def repository(state: Path) -> str:
    """Put a cache there that is served as `app`; return the tip of its branch."""
    folder = state / "git" / "app.git"
    await run("git", "init", "--quiet", "--bare", "-b", "main", folder, env=GIT)
    (folder / MARK).write_text("app")
    upstream = Upstream(folder)
    fill(upstream, 20, 1_000_000)
    return upstream.commit("main", {f"docs/{number}": b"a page\n" for number in range(20)})


def everybody(blob: str, tip: str) -> list[Client]:
    """Return 200 who download, 50 at `/status`, 100 at `/raw/`, and 30 who clone; their kinds mixed."""
    body = encode("command=fetch") + DELIMITER + encode(f"want {tip}") + encode("done") + FLUSH
    told = ("Content-Type: application/x-git-upload-pack-request", "Git-Protocol: version=2")
    kinds = {
        request(f"/v2/big/blobs/{blob}"): 200,
        request("/status"): 50,
        request("/git/app.git/git-upload-pack", *told, method="POST", body=body): 30,
        **{request(f"/raw/app/main/docs/{number}"): 5 for number in range(20)},
    }
    clients = [Client(asked) for asked, count in kinds.items() for _ in range(count)]
    return clients[::2] + clients[1::2]


async def test_crowds_are_served(tmp_path: Path) -> None:
    """Of hundreds of clients at once, at a daemon with a thousand mirrors, none is refused, reset or cut short."""
    desk = Desk(tmp_path)
    image = build_image(layers=1, layer_size=LAYER)
    write_layout(image, tmp_path / "layout", "v1")
    tip = await repository(desk.folder / "state")
    others = (
        f"  - {{name: m{number}, kind: image, from: {{repository: 127.0.0.1:9/a/m{number}, tags: [v1]}}, to: local}}\n"
        for number in range(MIRRORS - 1)
    )
    desk.configure(
        "settings: {listen: '127.0.0.1:0'}\nmirrors:\n"
        f"  - {{name: big, kind: image, from: {{layout: {tmp_path / 'layout'}}}, to: local}}\n" + "".join(others)
    )
    async with desk.serving() as daemon:
        host, _, port = daemon.address.partition(":")
        address, control = (host, int(port)), ControlClient(desk.folder / "state")
        assert [one.result for one in await control.carry_out(Sync(("big",)))] == [Result.SUCCESS]
        blob = max(image.blobs, key=lambda digest: len(image.blobs[digest]))
        clients = everybody(blob, tip)
        loose = asyncio.create_task(asyncio.to_thread(crowd, address, clients, 100))
        probes, syncs = list[Client](), list[Result]()
        while not loose.done():
            probes += await asyncio.to_thread(crowd, address, [Client(request("/livez"))], 60)
            syncs += [one.result for one in await control.carry_out(Sync(("big",)))]
        await loose
    assert troubles(clients) == {}
    assert troubles(probes) == {}
    assert sum(client.size == len(image.blobs[blob]) for client in clients) == 200
    assert set(syncs) == {Result.NOOP}
