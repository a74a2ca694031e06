"""A daemon with a webhook, a real registry as its mirror, and a client that trusts what the command prints."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp

from mirrord.config.load import read_folder
from mirrord.daemon.runtime import Runtime
from mirrord.daemon.webhook import WebhookPointing, open_webhook
from mirrord.events import Events
from mirrord.names.denied import Denied, DeniedEntry
from mirrord.pointing.places import Left, MirrorPlace
from mirrord.serve.door import bind
from mirrord.serve.own_certificate import OwnCertificate
from mirrord.syncer.port import load_syncers
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk
from tests.support.pods import patch_in, pod, review


async def test_new_pods_are_pointed_at_what_the_mirror_has(tmp_path: Path) -> None:
    """Of three images the one that is there, by the policy `present`; metrics count each decision (bad input 77).

    The mirror is asked once, and a reload is followed.
    """
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
    """What the mirror is being asked for a Pod is answered, by one request, although the configuration changes.

    No list is read while a Pod waits, also not after a takedown, which counts from then on.
    """
    async with Registry() as registry:
        host = registry.url.partition("://")[2]
        await push(build_image(["linux/amd64"], layers=1, seed="a"), registry, "listed/docker.io/library/nginx", ["1"])
        registry.forget()
        (tmp_path / "a.yaml").write_text(f"""
            settings: {{listen: "127.0.0.1:0"}}
            names: {{naming: path}}
            targets: {{t: {{kind: image, to: '{host}/{{mirror}}/{{name}}'}}}}
            mirrors: [{{name: listed, kind: image, from: {{list: {tmp_path}/images.txt}}, to: [t]}}]
            webhook: {{listen: "127.0.0.1:0", names: [a.svc]}}
        """)
        (tmp_path / "images.txt").write_text("nginx:1\n")
        before, after = (read_folder(tmp_path, load_syncers(), {}) for _ in range(2))
        runtime = SimpleNamespace(events=Events(), snapshot=SimpleNamespace(configuration=before))
        pointing = WebhookPointing(cast("Runtime", runtime))
        await pointing.follow(before)
        held = registry.faults.on("HEAD", "/manifests/").hold()
        asked = asyncio.create_task(pointing.decide(["nginx:1"]))
        await held.reached.wait()
        await pointing.follow(after)
        (tmp_path / "images.txt").unlink()
        held.release()
        assert isinstance((await asked)["nginx:1"], MirrorPlace)
        assert registry.count("HEAD", "/manifests/") == 1
        for configuration in (before, after):  # the runtime takes it up after us
            runtime.snapshot = SimpleNamespace(configuration=configuration)
            assert isinstance((await pointing.decide(["nginx:1"]))["nginx:1"], MirrorPlace)
        denied = Denied([DeniedEntry(1, "a reason", image="docker.io/library/nginx")])
        runtime.snapshot = SimpleNamespace(configuration=replace(after, denied=denied))
        assert (await pointing.decide(["nginx:1"]))["nginx:1"] == Left("denied", "was taken down: a reason")
        await pointing.aclose()


async def test_lists_are_followed(tmp_path: Path) -> None:
    """The file of a mirror and that of the front count without a reload when they change; a bad one does not."""
    (tmp_path / "a.yaml").write_text("""
        settings: {url: "https://m.example"}
        targets: {t: {kind: image, to: x.example/m}}
        mirrors: [{name: listed, kind: image, from: {list: images.txt}, to: [t]}]
        front: {image: {upstreams: [quay.io], allow: allow.txt}}
        pointing: {to: [front, t], policy: listed}
        webhook: {listen: "127.0.0.1:0", names: [a.svc]}
    """)
    images, allowed = tmp_path / "images.txt", tmp_path / "allow.txt"
    images.write_text("nginx:1\n")
    allowed.write_text("quay.io/a/*\n")
    read = read_folder(tmp_path, load_syncers(), {})
    runtime = SimpleNamespace(events=Events(), snapshot=SimpleNamespace(configuration=read))
    pointing = WebhookPointing(cast("Runtime", runtime))
    await pointing.follow(read)

    async def pointed() -> list[bool]:
        names = ("nginx:1", "redis:1", "quay.io/a/x:1", "quay.io/b/x:1")
        found = await pointing.decide(names)
        return [isinstance(found[name], MirrorPlace) for name in names]

    assert [await pointing.look(), await pointed()] == [(), [True, False, True, False]]
    images.write_text("redis:1\n# and no nginx\n")
    allowed.write_text("quay.io/a/*\nquay.io/b/*\n")
    assert [await pointing.look(), await pointed()] == [[], [False, True, True, True]]
    allowed.write_text("quay.io/a/*b*\n")
    [problem] = await pointing.look()
    assert "allow.txt:1: " in problem
    assert [await pointing.look(), await pointed()] == [(), [False, True, True, True]]
    await pointing.aclose()


async def test_a_damaged_authority_stops_the_webhook_alone(tmp_path: Path) -> None:
    """Mirrors go on, nothing listens, and the log and a metric say so; a certificate that is still good is used."""
    desk, state = Desk(tmp_path), tmp_path / "state" / "webhook"
    desk.configure("""
        settings: {listen: "127.0.0.1:0"}
        targets: {t: {kind: image, to: x.example}}
        pointing: {to: t}
        webhook: {listen: "127.0.0.1:0", names: [a.svc]}
    """)
    state.mkdir(parents=True, mode=0o700)
    (state / "authority.pem").write_bytes(b"x")
    async with desk.serving() as daemon, aiohttp.ClientSession() as client:
        said = [str(one.get("message", "")) for one in daemon.lines if one["level"] == "error"]
        assert said[0].startswith("webhook: ")
        assert said[0].endswith("; no Pod is pointed at the mirror until mirrord is started again")
        assert not any("the webhook listens" in str(one.get("message", "")) for one in daemon.lines)
        async with client.get(f"http://{daemon.address}/metrics") as answer:
            assert 'mirrord_certificate_refused{name="webhook"} 1.0' in await answer.text()
    (state / "authority.pem").unlink()
    OwnCertificate(state.parent).renew(["a.svc"], datetime.now(UTC))
    (state / "authority.pem").write_bytes(b"x")
    async with AsyncExitStack() as stack:
        read = read_folder(tmp_path / "conf.d", load_syncers(), {})
        runtime = cast("Runtime", SimpleNamespace(events=Events(), snapshot=SimpleNamespace(configuration=read)))
        connection, said = bind("127.0.0.1:0"), []
        stack.callback(connection.close)
        assert read.webhook is not None
        certificate = await open_webhook(
            stack,
            WebhookPointing(runtime),
            runtime,
            keys=read.webhook,
            connection=connection,
            state=state.parent,
            notice=lambda _, text: said.append(text),
        )
        assert certificate.error == ""
        assert [text.startswith("webhook: the certificate was not renewed: ") for text in said] == [True]
