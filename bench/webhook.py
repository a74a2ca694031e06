"""The admission webhook under a steady load: how long reviews take whose answers are known.

A daemon with a webhook and a registry as its mirror, each in a process of its own on loopback. Reviews of Pods with
three images come over TLS at a steady rate, on connections that stay open, as the API server keeps them. The mirror is
asked before, so that what is measured is the webhook itself.

    python -m bench.webhook [--rate N] [--seconds S] [--images N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from bench.measure import child, machine
from tests.support.pods import pod, review
from tests.support.processes import cpu_of

P99: Final = 0.020
"""Seconds that 99 of 100 reviews may take at 50 a second."""
NAME: Final = "mirrord-webhook.bench.svc"


def configure(folder: Path, target: str) -> Path:
    """Write a configuration with a webhook that asks `target`."""
    conf = folder / "conf.d"
    conf.mkdir()
    sections = {
        "settings": {"listen": "127.0.0.1:0", "log": {"format": "json"}},
        "targets": {"t": {"kind": "image", "to": f"{target}/bench"}},
        "pointing": {"to": ["t"]},
        "names": {"naming": "path"},
        "webhook": {"listen": "127.0.0.1:0", "names": [NAME]},
        "mirrors": [{"name": "app", "kind": "image", "from": {"repository": "quay.io/bench/app"}, "to": ["t"]}],
    }
    (conf / "all.yaml").write_text(json.dumps(sections))
    return conf


async def load(url: str, trust: ssl.SSLContext, bodies: Sequence[bytes], rate: int, seconds: float) -> list[float]:
    """Ask at a steady rate, whatever the answers take; return how long each took from when it was due."""
    loop, taken = asyncio.get_running_loop(), list[float]()

    async def ask(client: aiohttp.ClientSession, body: bytes, due: float) -> None:
        await asyncio.sleep(due - loop.time())
        async with client.post(url, data=body, ssl=trust, server_hostname=NAME) as answer:
            found = json.loads(await answer.read())
        assert "patch" in found["response"], found
        taken.append(loop.time() - due)

    async with aiohttp.ClientSession() as client:
        for body in bodies:
            await ask(client, body, loop.time())  # the mirror is asked
        taken.clear()
        begin = loop.time() + 0.5
        count = int(rate * seconds)
        await asyncio.gather(*(ask(client, bodies[at % len(bodies)], begin + at / rate) for at in range(count)))
    return taken


async def fill(target: str, images: int) -> None:
    """Put an image into each repository that the webhook will ask for."""
    kind, config = "application/vnd.oci.image.manifest.v1+json", b"{}"
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": len(config)}
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": described, "layers": []}).encode()
    async with aiohttp.ClientSession(f"http://{target}") as client:
        for number in range(images):
            repository = f"/v2/bench/quay.io/bench/app{number}"
            async with client.post(f"{repository}/blobs/uploads/") as answer:
                upload = URL(answer.headers["Location"]).path
            async with client.put(upload, params={"digest": digest}, data=config) as answer:
                assert answer.status == 201, await answer.text()
            url = f"{repository}/manifests/v1"
            async with client.put(url, data=body, headers={"Content-Type": kind}) as answer:
                assert answer.status == 201, await answer.text()


async def measure(given: argparse.Namespace, folder: Path, target: str) -> dict[str, float]:
    """Start a daemon, ask it, and return milliseconds."""
    conf = configure(folder, target)
    program = [sys.executable, "-m", "mirrord"]
    options = ["-c", str(conf), "--state", str(folder / "state")]
    bundle = subprocess.run([*program, "webhook", "certificate", *options], check=True, capture_output=True).stdout
    trust = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
    daemon = await asyncio.create_subprocess_exec(*program, "serve", *options, stdout=asyncio.subprocess.PIPE)
    try:
        address, public = await _addresses(daemon)
        draining = asyncio.create_task(_drain(daemon))
        images = [f"quay.io/bench/app{number}:v1" for number in range(given.images)]
        pods = [pod(*(images[(at + step) % len(images)] for step in range(3))) for at in range(len(images))]
        bodies = [json.dumps(review(one)).encode() for one in pods]
        await fill(target, given.images)
        before = cpu_of(daemon.pid)
        taken = await load(f"https://{address}/mutate", trust, bodies, given.rate, given.seconds)
        cpu = cpu_of(daemon.pid) - before
        within = await _within(public)
        draining.cancel()
    finally:
        daemon.kill()
        await daemon.wait()
    cuts = statistics.quantiles(taken, n=1000)
    spread = {"median": statistics.median(taken), "p99": cuts[989], "p99.9": cuts[998], "longest": max(taken)}
    return {**{name: 1000 * value for name, value in spread.items()}, "cpu": 1000 * cpu / len(taken), "within": within}


async def _within(public: str) -> float:
    """Return which share of the reviews took 20 ms by the daemon's own clock, which waits for no busy client."""
    async with aiohttp.ClientSession() as client, client.get(f"http://{public}/metrics") as answer:
        text = await answer.text()
    name = "mirrord_webhook_review_duration_seconds"
    series = re.findall(rf'^{name}_(?:bucket\{{le="0.02"|(count)).* (\S+)$', text, re.MULTILINE)
    counted = {part: float(value) for part, value in series}
    return counted[""] / counted["count"]


async def _addresses(daemon: asyncio.subprocess.Process) -> tuple[str, str]:
    """Return where the webhook listens, and the public side."""
    assert daemon.stdout is not None
    address = ""
    async for line in daemon.stdout:
        found = json.loads(line)
        if str(found.get("message", "")).startswith("the webhook listens on "):
            address = str(found["message"]).rpartition(" ")[2]
        if found["event"] == "daemon.ready":
            return address, str(found["address"])
    raise RuntimeError("the daemon ended at once")


async def _drain(daemon: asyncio.subprocess.Process) -> None:
    assert daemon.stdout is not None
    async for _ in daemon.stdout:
        pass


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=50, help="reviews a second (default 50)")
    parser.add_argument("--seconds", type=float, default=20, help="for how long (default 20)")
    parser.add_argument("--images", type=int, default=200, help="different images (default 200)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = parser.parse_args()
    with child("bench.registry", "--delay", 0) as target, tempfile.TemporaryDirectory(prefix="webhook-") as folder:
        found = await measure(given, Path(folder), target.first)
    if given.json:
        print(json.dumps(found))
        return
    print(machine({}))
    shown = ", ".join(f"{name} {value:.1f} ms" for name, value in found.items() if name not in ("cpu", "within"))
    print(f"  {given.rate} reviews a second for {given.seconds:.0f} s: {shown}; {found['cpu']:.2f} ms of CPU a review")
    print(f"  {100 * found['within']:.1f} % within 20 ms by the daemon's own clock")
    print(f"  99 of 100 within {1000 * P99:.0f} ms: {'yes' if found['p99'] <= 1000 * P99 else 'NO'}")


if __name__ == "__main__":
    asyncio.run(main())
