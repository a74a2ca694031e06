"""Three replicas under faults F37, F38 and F42: every mirror ends right, nothing is lost, nobody has to help."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from mirrord.commands import Verify
from mirrord.model.verification import Level
from mirrord.serve.remote import ControlClient
from mirrord.testing import DockerRegistry, build_image, push, require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.oci.manifest import ACCEPT
from tests.support.bucketproxy import BucketProxy
from tests.support.fencelog import FencedRun, read, wrong
from tests.support.fleets import FleetWorld
from tests.support.gateway import BUCKET, gateway
from tests.support.postgres import Postgres
from tests.support.quickreplica import shared_record
from tests.support.troubled import ServedReplica, Trouble
from tests.support.walking import walk_at

SECONDS: Final = float(os.environ.get("MIRRORD_FAULT_SECONDS", "30"))
"""For how long there is trouble. By hand ten minutes and more, with figures and logs in the folder of the test:
`MIRRORD_FAULT_SECONDS=600 pytest -o tmp_path_retention_policy=all tests/fleet/test_faults.py`."""
SEED: Final = int(os.environ.get("MIRRORD_FAULT_SEED", "20"))
SETTLES: Final = 60.0  # seconds after the trouble in which every mirror is right
PARALLEL: Final = 2  # batches of a run at the same time: so many may be late at a target
TARGETS: Final[Mapping[str, Sequence[str]]] = {
    f"app{number}": (("local",), ("far",), ("far", "local"))[number % 3] for number in range(12)
}


@dataclass
class Sources:
    """What is mirrored, and changes.

    Attributes:
        registry: where images are; repositories `up/MIRROR`.
        charts: where charts are.
        git: `up.git` is a source, and `down.git` its target.
        images: digests by mirror and tag, the newest that was published.
        versions: of the chart `crane`.
        stop: whether nothing changes any more.
    """

    registry: DockerRegistry
    charts: ChartRepository
    git: GitHost
    images: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    versions: list[str] = field(default_factory=list)
    stop: bool = False

    async def begin(self) -> None:
        """Publish the first of everything."""
        self.git.create("down.git")
        self._upstream = Upstream(self.git.create("up.git"))
        await asyncio.gather(*(self.publish(name, tag) for name in TARGETS for tag in ("v0", "main")))
        self.other(0)

    async def publish(self, name: str, tag: str) -> None:
        """Set a tag to an image that there was not before."""
        image = build_image(["linux/amd64"], layers=1, layer_size=2000, seed=secrets.token_hex(8))
        await push(image, self.registry.url, f"up/{name}", [tag])
        self.images[name][tag] = str(image.digest)

    def other(self, number: int) -> None:
        """Publish a chart and a commit."""
        self.versions.append(f"1.0.{number}")
        self.charts.add(build_chart("crane", self.versions[-1]))
        self._upstream.commit("main", {"README.md": f"{number}\n".encode()})
        self._upstream.tag(f"v{number}", "main")

    async def change(self, seed: int) -> None:
        """Publish something every moment until it is told to stop."""
        chance, number = random.Random(seed), 0
        while not self.stop:
            number += 1
            name = chance.choice(list(TARGETS))
            await self.publish(name, chance.choice((f"v{number}", "main")))
            if not number % 10:
                await asyncio.to_thread(self.other, number)
            await asyncio.sleep(0.25)


@dataclass(slots=True)
class World:
    """Replicas, and all that they use."""

    sources: Sources
    target: DockerRegistry
    proxy: BucketProxy
    postgres: Postgres
    replicas: list[ServedReplica]

    async def wrong(self, name: str, client: aiohttp.ClientSession) -> list[str]:
        """Return something of a mirror that is not as its source has it, if there is anything."""
        match name:
            case "charts":
                async with client.get(f"{self.replicas[0].url}/helm/charts/index.yaml") as answer:
                    text = await answer.text()
                return [one for one in self.sources.versions if f"version: {one}\n" not in text]
            case "code":
                ours, theirs = self.sources.git.refs("down.git"), self.sources.git.refs("up.git")
                return [ref for ref, oid in theirs.items() if ours.get(ref) != oid]
        for url, repository in self.places(name):
            for tag, digest in reversed(self.sources.images[name].items()):
                async with client.head(f"{url}/v2/{repository}/manifests/{tag}", headers={"Accept": ACCEPT}) as answer:
                    if answer.headers.get("Docker-Content-Digest") != digest:
                        return [f"{url}/{repository}:{tag}"]
        return []

    def runs(self) -> Mapping[str, Sequence[FencedRun]]:
        """Return all runs of each mirror, as all processes so far logged them."""
        return read(life for replica in self.replicas for life in replica.lives)

    def at(self, name: str) -> Path:
        """Return the folder of the replica that ran a mirror last."""
        last = {replica.desk.folder: read(replica.lives).get(name, [])[-1:] for replica in self.replicas}
        return max((runs[0].fence, folder) for folder, runs in last.items() if runs)[1]

    def places(self, name: str) -> list[tuple[str, str]]:
        """Return where a mirror of images is to be found."""
        replica = self.replicas[0].url
        places = {"local": (replica, name), "far": (self.target.url, f"far/{name}")}
        return [places[target] for target in TARGETS[name]]

    async def settled(self) -> dict[str, float]:
        """Wait until every mirror is right, and recorded as such; return after how many seconds each was right."""
        loop, after, since = asyncio.get_running_loop(), dict[str, float](), datetime.now(UTC).isoformat()
        begun, names = loop.time(), [*TARGETS, "charts", "code"]
        async with aiohttp.ClientSession() as client:
            while True:
                wrong = {name: bad for name in names if name not in after and (bad := await self.wrong(name, client))}
                for name in names:
                    if name not in wrong:
                        after.setdefault(name, round(loop.time() - begun, 1))
                runs = self.runs()
                unseen = [name for name in names if not any(run.good and run.began > since for run in runs[name])]
                if not wrong and not unseen:
                    return after
                assert loop.time() < begun + SETTLES, f"{wrong}; without a run: {unseen}"
                await asyncio.sleep(0.2)


def configuration(world: World, record: str, prefix: str) -> str:
    """Return what all replicas are configured with."""
    sources = world.sources
    images = "".join(
        f"- {{name: {name}, kind: image, as: {name}, every: 10s, "
        f"from: {{repository: {sources.registry.host}/up/{name}, tags: ['*']}}, to: [{', '.join(targets)}]}}\n"
        for name, targets in TARGETS.items()
    )
    return f"""
settings:
  listen: 127.0.0.1:0
  parallel: {PARALLEL}
  trust: 1d
  record: {record}
  blobs: {{url: 's3://{BUCKET}/{prefix}', endpoint: '{world.proxy.base}', access_key: {{env: S3_ACCESS}},
    secret_key: {{env: S3_SECRET}}}}
targets:
  far: {{kind: image, to: {world.target.host}/far}}
  down: {{kind: git, to: '{sources.git.url("down.git")}'}}
mirrors:
{images}- {{name: charts, kind: helm, from: '{sources.charts.url}', to: local, every: 10s}}
- {{name: code, kind: git, from: '{sources.git.url("up.git")}', to: down, every: 10s}}
"""


@asynccontextmanager
async def opened(postgres: Postgres, folder: Path) -> AsyncIterator[World]:
    """Start everything; what is left of replicas is killed at the end."""
    await FleetWorld.made(postgres)
    server = gateway()
    (folder / "git").mkdir()
    async with AsyncExitStack() as stack:
        sources = Sources(
            await stack.enter_async_context(DockerRegistry()),
            await stack.enter_async_context(ChartRepository()),
            await stack.enter_async_context(GitHost(folder / "git")),
        )
        target, proxy = DockerRegistry(), BucketProxy()
        world = World(
            sources, await stack.enter_async_context(target), await stack.enter_async_context(proxy), postgres, []
        )
        await sources.begin()
        text = configuration(world, shared_record(folder, postgres), f"faults/{server.endpoint[-5:]}-{folder.name}")
        for number in range(3):
            replica = ServedReplica.at(folder / f"replica{number}", text)
            stack.push_async_callback(replica.aclose)
            world.replicas.append(replica)
        await asyncio.gather(*(replica.start() for replica in world.replicas))
        yield world


def figures(runs: Mapping[str, Sequence[FencedRun]]) -> Counter[str]:
    """Count runs, and those that began or ended in another way than usual."""
    found = Counter[str]()
    for run in (run for some in runs.values() for run in some):
        found += Counter({"runs": 1, "doubtful": run.doubtful, "moves": len(run.moves)})
        found[f"{run.result or 'unended'} {run.code}".strip()] += 1
    return found


@pytest.mark.timeout(SECONDS + 4 * SETTLES)
async def test_f37_f38_three_replicas_under_faults(postgres: Postgres, tmp_path: Path) -> None:
    """F37, F38, F42: replicas die and hang, the database crashes and hangs, the bucket hangs and refuses.

    Afterwards all mirrors are right without a hand: each tag that was ever published stands for its newest content,
    and every byte is there. The logs show that nobody wrote more than one batch after somebody else had taken a mirror
    over, and that whoever takes over does not trust the record. All replicas end when they are asked to.
    """
    require("docker-registry", "versitygw")
    async with opened(postgres, tmp_path) as world:
        trouble = Trouble(world.replicas, postgres, world.proxy, SEED)
        changing = asyncio.create_task(world.sources.change(SEED))
        await trouble.make(SECONDS)
        world.sources.stop = True
        await changing
        after = await world.settled()
        for name in TARGETS:
            for url, repository in world.places(name):
                assert await walk_at(url, repository) == world.sources.images[name]
        verified = await ControlClient(world.at("code") / "state").carry_out(Verify(level=Level.DEEP))
        differ = [target.findings for one in verified if not one.whole.equal for target in one.targets]
        assert differ == [], differ
        assert [await replica.end() for replica in world.replicas] == [0, 0, 0]
        runs = world.runs()
        tags = sum(map(len, world.sources.images.values()))
        said = f"faults: {dict(trouble.count)}\nruns: {dict(figures(runs))}\n{tags} tags, right after: {after}\n"
        (tmp_path / "figures").write_text(said)
        assert [text for some in runs.values() for text in wrong(some, PARALLEL)] == []
        assert set(runs) == set(after)
