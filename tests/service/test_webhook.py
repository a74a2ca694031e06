"""A daemon with a webhook, a real registry as its mirror, and a client that trusts what the command prints."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp

from mirrord.config.load import read_folder
from mirrord.daemon.runtime import Runtime
from mirrord.daemon.webhook import WebhookPointing
from mirrord.events import Events
from mirrord.pointing.places import MirrorPlace
from mirrord.syncer.port import load_syncers
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.pods import patch_in, pod, review


async def test_new_pods_are_pointed_at_what_the_mirror_has(tmp_path: Path) -> None:
    """Of three images the one that is there; the mirror is asked once, metrics count, and a reload is followed."""
    async with Registry() as registry:
        host = registry.url.partition("://")[2]
        await push(build_image(["linux/amd64"], layers=1, seed="a"), registry, "m/docker.io/library/nginx", ["1"])
        registry.forget()
        desk = Desk(tmp_path)
        sections: dict[str, Any] = {
            "settings": {"listen": "127.0.0.1:0"},
            "names": {"naming": "path"},
            "targets": {"t": {"kind": "image", "to": f"{host}/m"}},
            "mirrors": [{"name": "nginx", "kind": "image", "from": {"repository": "nginx"}, "to": ["t"]}],
            "webhook": {"listen": "127.0.0.1:0", "names": ["mirrord-webhook.shop.svc"]},
        }
        desk.configure(json.dumps(sections))
        bundle = base64.b64decode((await desk.run("webhook", "certificate")).out)
        trust = ssl.create_default_context(cadata=bundle.decode())
        async with desk.serving() as daemon, aiohttp.ClientSession() as client:
            notices = [str(one.get("message", "")) for one in daemon.lines]
            [address] = [text.rpartition(" ")[2] for text in notices if text.startswith("the webhook listens on ")]

            async def ask(*images: str) -> list[str]:
                async with client.post(
                    f"https://{address}/mutate",
                    json=review(pod(*images)),
                    ssl=trust,
                    server_hostname="mirrord-webhook.shop.svc",
                ) as answer:
                    return [str(one["value"]) for one in patch_in(await answer.read()) if one["op"] == "replace"]

            for _ in range(3):
                assert await ask("nginx:1", "nginx:2", "quay.io/x/y:1") == [f"{host}/m/docker.io/library/nginx:1"]
            assert registry.count("HEAD", "/manifests/") == 3
            line = await daemon.logged("webhook.answered")
            assert (line["outcome"], line["pod"]) == ("pointed", "shop/web")
            assert line["images"] == {"pointed": 1, "absent": 2}
            async with client.get(f"http://{daemon.address}/metrics") as answer:
                metrics = await answer.text()
            assert 'mirrord_webhook_reviews_total{outcome="pointed"} 3.0' in metrics
            assert 'mirrord_webhook_images_total{decision="absent"} 6.0' in metrics
            assert 'mirrord_certificate_not_after_timestamp_seconds{name="webhook"}' in metrics

            desk.configure(json.dumps({**sections, "pointing": {"except": ["docker.io/library/nginx"]}}))
            assert (await desk.run("reload")).status == 0
            assert await ask("nginx:1") == []
            desk.configure(json.dumps({**sections, "targets": {}, "mirrors": []}))
            refused = await desk.run("reload")
            assert (refused.status, "there is no place to point at" in refused.err) == (78, True)
            assert await ask("nginx:1") == []


async def test_a_reload_breaks_no_question(tmp_path: Path) -> None:
    """What the mirror is being asked for a Pod is answered, by one request, although the configuration changes."""
    async with Registry() as registry:
        host = registry.url.partition("://")[2]
        await push(build_image(["linux/amd64"], layers=1, seed="a"), registry, "m/docker.io/library/nginx", ["1"])
        registry.forget()
        (tmp_path / "a.yaml").write_text(f"""
            settings: {{listen: "127.0.0.1:0"}}
            names: {{naming: path}}
            targets: {{t: {{kind: image, to: {host}/m}}}}
            mirrors: [{{name: nginx, kind: image, from: {{repository: nginx}}, to: [t]}}]
            webhook: {{listen: "127.0.0.1:0", names: [a.svc]}}
        """)
        before, after = (read_folder(tmp_path, load_syncers(), {}) for _ in range(2))
        runtime = SimpleNamespace(events=Events(), snapshot=SimpleNamespace(configuration=before))
        pointing = WebhookPointing(cast("Runtime", runtime))
        held = registry.faults.on("HEAD", "/manifests/").hold()
        asked = asyncio.create_task(pointing.decide(["nginx:1"]))
        await held.reached.wait()
        runtime.snapshot = SimpleNamespace(configuration=after)
        await pointing.follow(after)
        held.release()
        assert isinstance((await asked)["nginx:1"], MirrorPlace)
        assert registry.count("HEAD", "/manifests/") == 1
        await pointing.aclose()
