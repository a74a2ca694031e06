"""A registry that limits the rate: runs are deferred and go on later, and receivers get to know of it once."""

from __future__ import annotations

import asyncio
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk


async def test_a_registry_without_requests(desk: Desk, httpserver: HTTPServer) -> None:
    """Runs that are deferred are one notice of the mirror, and one of the host for who is notified of all mirrors."""
    got: dict[str, list[dict[str, Any]]] = {"all": [], "app": []}

    def answer(request: Request) -> Response:
        got[request.path.split("/")[1]] += request.get_json()["notices"]
        return Response(status=204)

    environ = {f"{name.upper()}_URL": httpserver.url_for(f"/{name}/0123456789abcdef") for name in got}
    for name in got:
        httpserver.expect_request(f"/{name}/0123456789abcdef", method="POST").respond_with_handler(answer)
    async with Registry() as registry:
        await push(build_image(["linux/amd64"]), registry, "team/app", ["v1"])
        desk.configure(
            f"settings: {{listen: '127.0.0.1:0'}}\nmirrors:\n"
            f"  - {{name: app, kind: image, from: {{repository: {registry.host}/team/app, tags: [v1]}}, to: local}}\n"
            "notify:\n"
            "  all: {kind: webhook, url: {env: ALL_URL}, every: 0s, on: [budget, failure, recovery]}\n"
            "  app: {kind: webhook, url: {env: APP_URL}, every: 0s, on: [budget, failure, recovery], mirrors: [app]}\n"
        )
        limits = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600", "Retry-After": "3600"}
        limited = registry.faults.on("GET|HEAD", "/v2/team/", times=None)
        limited.status(429, headers=limits)
        async with desk.serving(**environ) as daemon:
            asked = len(registry.log) + 1
            for _ in range(3):
                ran = await desk.run("sync", "app", "--json")
                assert [run["result"] for run in ran.document["runs"]] == ["deferred"]
                async with asyncio.timeout(60):  # the first run is told, and the others are not
                    while [*map(len, got.values())] != [2, 1]:  # noqa: ASYNC110 - another process is looked at
                        await asyncio.sleep(0.05)
            (before,) = (await desk.run("status", "--json")).document["mirrors"]
            assert before["next_run"] == before["deferred_until"]
            assert len(registry.log) == asked  # of three runs the first one alone
            daemon.process.terminate()
            await asyncio.wait_for(daemon.process.wait(), 60)
        async with desk.serving(**environ) as daemon:
            (after,) = (await desk.run("status", "--json")).document["mirrors"]
            assert after["next_run"] == after["deferred_until"] == before["deferred_until"] is not None
            registry.faults.clear()
            ran = await desk.run("sync", "app", "--json")
            assert [run["result"] for run in ran.document["runs"]] == ["success"]
            (after,) = (await desk.run("status", "--json")).document["mirrors"]
            assert (after["next_run"], after["deferred_until"]) == (None, None)
            daemon.process.terminate()
            await asyncio.wait_for(daemon.process.wait(), 60)
    reported = {
        name: sorted((one["occasion"], one["subject"], one["code"]) for one in notices) for name, notices in got.items()
    }
    about_app = ("budget", "app", "throttled")
    assert reported == {"all": sorted([("budget", registry.host, "throttled"), about_app]), "app": [about_app]}
    (notice,) = got["app"]
    assert "status 429 (the host limits the rate; ask again in 1 h" in notice["error"]
    assert notice["until"] == before["deferred_until"]
