"""A running daemon whose bucket hangs and comes back: readiness, status, page and metrics say so."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import aiohttp
import pytest

from mirrord.cli.overview import overview
from mirrord.cli.screen import Screen
from mirrord.commands import GetStatus, Sync
from mirrord.daemon import bucket_watch
from mirrord.daemon.bucket_watch import BucketWatch
from mirrord.errors import StorageError
from mirrord.model.remote import BucketAsked
from mirrord.serve.remote import ControlClient
from mirrord.testing import Registry, build_image, push
from tests.support.bucketproxy import BucketProxy
from tests.support.commands import Desk
from tests.support.fleets import until
from tests.support.frontdesk import NAMESPACE, FrontDesk, configuration
from tests.support.gateway import ACCESS, BUCKET, SECRET, gateway

HURRY = """
from mirrord.daemon import bucket_watch
bucket_watch.EVERY = bucket_watch.AGAIN = 0.1
bucket_watch.PATIENCE = 3
"""


async def get(address: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.get(f"http://{address}{path}") as answer:
        return answer.status, await answer.text()


async def shown(desk: Desk) -> str:
    """Return what `mirrord status` prints."""
    return "\n".join(overview(await ControlClient(desk.folder / "state").carry_out(GetStatus()), Screen()))


async def test_the_bucket_hangs(tmp_path: Path) -> None:
    """/readyz is 503 with the reason and /livez 200 until it answers again, by itself; nothing else is said of it."""
    server = gateway()
    desk = prepared(
        tmp_path,
        f"settings:\n  listen: '127.0.0.1:0'\n  blobs:\n    {{url: 's3://{BUCKET}/{tmp_path.name}', endpoint: "
        f"'{server.endpoint}', access_key: {{env: S3_ACCESS}}, secret_key: {{env: S3_SECRET}}}}\n",
    )
    said = "the bucket of `local` cannot be used: no answer in 3 s"
    async with desk.serving() as daemon:

        async def ready(code: int) -> bool:
            return (await get(daemon.address, "/readyz"))[0] == code

        assert "[+]bucket ok" in (await get(daemon.address, "/readyz?verbose"))[1]
        with server.stopped():
            await until(lambda: ready(503))
            assert (await get(daemon.address, "/readyz"))[1] == "no answer in 3 s\n"
            assert await get(daemon.address, "/readyz?exclude=bucket") == (200, "ok\n")
            assert (await get(daemon.address, "/livez"))[0] == 200
            assert "mirrord_bucket_failing 1.0" in (await get(daemon.address, "/metrics"))[1]
            assert "The bucket of local cannot be used" in (await get(daemon.address, "/"))[1]
            assert said in await shown(desk)
        await until(lambda: ready(200))

        async def well() -> bool:
            return "mirrord_bucket_failing 0.0" in (await get(daemon.address, "/metrics"))[1]

        await until(well)
        series = (await get(daemon.address, "/metrics"))[1]
        assert 'mirrord_bucket_requests_total{operation="put",outcome="conflict"} ' in series  # of the start
        assert "bucket" not in await shown(desk)
        notices = [line["message"] for line in daemon.lines if line["event"] == "daemon.notice"]
    assert [text for text in notices if "bucket" in text] == [said, "the bucket of `local` answers again"]


def prepared(folder: Path, text: str) -> Desk:
    """Return a desk whose daemons look at the bucket often."""
    hurry = folder / "hurry"
    hurry.mkdir()
    (hurry / "sitecustomize.py").write_text(HURRY)
    desk = Desk(folder, S3_ACCESS=ACCESS, S3_SECRET=SECRET, PYTHONPATH=str(hurry))
    desk.configure(text)
    return desk


async def test_clients_while_it_hangs(tmp_path: Path) -> None:
    """Once that is known they get 503 without a request to it, and what the front has; afterwards all of it again."""
    server, kept, image = gateway(), build_image(layer_size=60_000), build_image(layer_size=50_000)
    async with Registry() as upstream, BucketProxy() as proxy:
        await push(kept, upstream, "team/kept", ["v1"])
        await push(image, upstream, "team/app", ["v1"])
        blobs = {"url": f"s3://{BUCKET}/{tmp_path.name}", "endpoint": proxy.base}
        keys = {"access_key": {"env": "S3_ACCESS"}, "secret_key": {"env": "S3_SECRET"}}
        source = {"repository": f"{upstream.host}/team/kept", "tags": ["*"]}
        mirror = {"name": "kept", "kind": "image", "as": "here/kept", "from": source, "to": "local"}
        text = configuration(upstream.host, f"mirrors: {json.dumps([mirror])}\n")
        desk = prepared(tmp_path, text.replace('{"listen"', f'{{"blobs": {json.dumps({**blobs, **keys})}, "listen"'))

        def asked() -> int:
            of_local = re.compile(rf"^/{BUCKET}/{tmp_path.name}/(?:repositories|blobs)/|list-type")
            return len([one for one in proxy.log if of_local.search(one.target)])

        async with desk.serving() as daemon:
            front = FrontDesk(daemon, desk, upstream.host)
            await ControlClient(desk.folder / "state").carry_out(Sync())
            digest = next(iter(kept.blobs))
            of_local = [
                "/v2/here/kept/manifests/v1",
                f"/v2/here/kept/blobs/{digest}",
                "/v2/here/kept/tags/list",
                "/v2/here/kept/referrers/" + kept.digest,
                "/v2/_catalog",
            ]
            unknown = ["/v2/short/manifests/v1", "/helm/charts/index.yaml"]
            of_front = [f"/v2/team/app/manifests/v1?ns={NAMESPACE}"]
            of_front += [f"/v2/team/app/blobs/{one}?ns={NAMESPACE}" for one in image.blobs.keys() - image.manifests]

            async def statuses(paths: list[str]) -> set[tuple[int, str]]:
                found = [await front.get(path) for path in paths]
                return {(one.status, one.headers.get("Retry-After", "")) for one in found}

            async def ready(code: int) -> bool:
                return (await get(daemon.address, "/readyz"))[0] == code

            assert await statuses(of_local + of_front) == {(200, "")}
            assert await statuses(unknown) == {(404, "")}
            with server.stopped():
                await until(lambda: ready(503))
                before = asked()
                assert await statuses(of_local + unknown) == {(503, "10")}
                assert asked() == before
                assert await statuses(of_front) == {(200, "")}
            await until(lambda: ready(200))
            assert await statuses(of_local + of_front) == {(200, "")}
            assert await statuses(unknown) == {(404, "")}
            assert asked() > before


async def test_when_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that fails is followed by one look, which decides; while others are answered nobody looks."""
    monkeypatch.setattr(bucket_watch, "EVERY", 600.0)
    monkeypatch.setattr(bucket_watch, "AGAIN", 0.0)
    looks, trouble = 0, ""

    async def look() -> None:
        nonlocal looks
        looks += 1
        if trouble:
            raise StorageError(trouble)

    watch = BucketWatch(look, lambda *_: None)
    watching = asyncio.create_task(watch.watch())
    for outcome in ("done", "absent", "conflict"):
        watch(BucketAsked("get", outcome, 0.1))
    await asyncio.sleep(0)
    assert (looks, watch.away) == (0, "")
    for _ in range(10):
        watch(BucketAsked("get", "failed", 40.0))
    await until(lambda: looks)
    assert (looks, watch.away) == (1, "")
    trouble = "s3://b: no"
    watch(BucketAsked("get", "failed", 40.0))
    await until(lambda: watch.away)
    assert watch.away == trouble
    before, trouble = looks, ""
    await until(lambda: looks > before)  # it is looked for until it is back
    assert watch.away == ""
    trouble = "s3://b: no"
    await watch.look()
    watch(BucketAsked("head", "absent", 0.1))
    assert watch.away == ""
    watching.cancel()


async def test_nobody_asks_for_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for so many seconds after the last answer, and not after the watch began to wait."""
    now, looked = 0.0, asyncio.Event()
    monkeypatch.setattr(bucket_watch, "monotonic", lambda: now)

    async def look() -> None:
        looked.set()

    watch = BucketWatch(look, lambda *_: None)
    now = bucket_watch.EVERY
    watching = asyncio.create_task(watch.watch())
    async with asyncio.timeout(bucket_watch.EVERY / 2):
        await looked.wait()
    watching.cancel()
