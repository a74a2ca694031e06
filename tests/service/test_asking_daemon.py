"""People ask a daemon for images of a real registry: by the API, and by the command line with it and without it."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp

from mirrord.testing import DockerRegistry, build_image, push, require
from mirrord.testing.running import run
from tests.support.commands import Desk


async def test_a_daemon_is_asked(tmp_path: Path) -> None:
    """Skopeo pulls what is answered, the token is in no log, and the command line gets the same answers."""
    require("docker-registry", "skopeo")
    desk = Desk(tmp_path)
    async with DockerRegistry() as source, DockerRegistry() as target:
        images = [build_image(["linux/amd64"], index=False, layers=1, layer_size=500, seed=seed) for seed in "abc"]
        for number, image in enumerate(images):
            await push(image, source.url, f"team/app{number}", ["v1"])
        desk.configure(
            f"settings: {{listen: '127.0.0.1:0'}}\ntargets: {{hub: {{kind: image, to: {target.host}/m}}}}\n"
            f"asking: {{to: [hub, local], allow: ['{source.host}/team/**']}}\nmirrors: []\n"
        )
        token = (await desk.run("token", "add", "ci", "--ask")).out.strip()
        name = f"{source.host}/team/app0:v1"
        async with desk.serving() as daemon:
            assert (await desk.run("verify")).status == 0  # nobody asked for anything yet
            headers = {"Authorization": f"Bearer {token}"}
            url = f"http://{daemon.address}/api/v1/sync"
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.post(url, data=json.dumps({"image": name})) as answer,
            ):
                assert answer.status == 200
                states = [json.loads(line) async for line in answer.content]
            assert (states[-1]["state"], states[-1]["copied"]) == ("done", True)
            for place in states[-1]["places"]:
                raw = await run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{place}")
                assert raw.output.encode() == images[0].body
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://{daemon.address}/status") as answer,
            ):
                assert (await answer.json())["asks"] == {"queued": 0, "deferred": 0, "running": 0}
            again = await desk.run("sync", name)
            assert (again.status, again.out.splitlines()[0]) == (0, f"{name}: is there already")
            other = await desk.run("sync", f"{source.host}/team/app1:v1", "--json")
            assert (other.status, other.document["images"][0]["copied"]) == (0, True)
            assert (await desk.run("sync", "quay.io/a/b")).status == 1
            assert (await desk.run("sync", "asked")).status == 64
            assert (await desk.run("prune", "asked")).status == 64
            assert [run["trigger"] for run in (await desk.run("runs", "asked", "--json")).document["runs"]] == [
                "asked"
            ] * 2
            assert token not in json.dumps(daemon.lines)
        alone = await desk.run("sync", f"{source.host}/team/app2:v1")
        assert (alone.status, alone.out.splitlines()[0]) == (0, f"{source.host}/team/app2:v1: copied")
        assert (await desk.run("verify", "asked")).status == 0
        assert (await desk.run("sync")).status == 0
