"""The world in which the contract suite drives the Helm syncer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from mirrord.model.digest import Digest
from mirrord.syncer.values import LOCAL, Mirror, Services, Target
from mirrord.syncers.helm.names import CHARTS, INDEX
from mirrord.syncers.helm.syncer import SYNCER
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.contract import Scenario
from tests.support.chartservers import CodingServer
from tests.support.chartworld import read_entries
from tests.support.localstore import files_in
from tests.support.opening import open_services

CODING, FOLDER = "coding", "folder"


class ChartScenario:
    """A repository with three chart versions, mirrored to Coding, a folder and the local store."""

    def __init__(self, services: Services, source: ChartRepository, coding: CodingServer, folder: Path) -> None:
        """Use doubles that are running."""
        self.syncer = SYNCER
        self.services = services
        self._source, self._coding, self._folder = source, coding, folder
        spec = self.syncer.spec.model_validate({"from": source.url})
        options = self.syncer.target_spec.model_validate({"api": "coding"})
        plain = self.syncer.target_spec()
        made = (
            Target(CODING, "helm", coding.url, options),
            Target(FOLDER, "helm", str(folder), plain),
            Target(LOCAL, "helm", LOCAL, plain),
        )
        self.mirror = Mirror("app", "helm", spec, made)

    def fill(self, *versions: tuple[str, str]) -> None:
        """Add chart versions to the source."""
        for name, version in versions:
            self._source.add(build_chart(name, version))

    async def change(self) -> None:
        """Add one more version."""
        self.fill(("crane", "0.12.0"))

    def wanted(self) -> Mapping[str, str]:
        """Return the digests of the source's archives by item."""
        return {item: str(digest) for item, digest in read_entries(self._source.files[INDEX]).items()}

    def found(self, target: str) -> Mapping[str, str]:
        """Return what the index of a target lists."""
        files = self._files(target)
        if target == CODING:
            return {name[: -len(".tgz")]: str(Digest.of(data)) for name, data in files.items()}
        listed = read_entries(files[INDEX]) if INDEX in files else {}
        return {item: str(digest) for item, digest in listed.items()}

    def flaws(self, target: str) -> Sequence[str]:
        """Name entries whose archive is missing or another one, and leftovers."""
        files = self._files(target)
        if target == CODING:
            return []
        wrong = [
            item
            for item, digest in self.found(target).items()
            if Digest.of(files.get(f"{CHARTS}/{item}.tgz", b"")) != digest
        ]
        return wrong + [name for name in files if name.endswith(".tmp")]

    def _files(self, target: str) -> Mapping[str, bytes]:
        if target == CODING:
            return self._coding.files
        if target == FOLDER:
            files = [file for file in self._folder.rglob("*") if file.is_file()]
            return {file.relative_to(self._folder).as_posix(): file.read_bytes() for file in files}
        assert self.services.keep is not None
        return files_in(self.services.keep / "links", self.services.keep / "blobs", "_helm/app")

    @contextlib.asynccontextmanager
    async def broken(self) -> AsyncIterator[None]:
        """Let Coding refuse everything."""
        self._coding.faults.on("*", "", times=None).status(403, b"no")
        try:
            yield
        finally:
            self._coding.faults.clear()

    @contextlib.asynccontextmanager
    async def blocked(self) -> AsyncIterator[asyncio.Event]:
        """Let uploads to Coding hang."""
        fault = self._coding.faults.on("POST", "", times=None).hold()
        try:
            yield fault.reached
        finally:
            self._coding.faults.clear()


@contextlib.asynccontextmanager
async def chart_scenario(folder: Path) -> AsyncIterator[Scenario]:
    """Open the world of the Helm syncer."""
    async with ChartRepository() as source, CodingServer() as coding, open_services(folder) as services:
        scenario = ChartScenario(services, source, coding, folder / "site")
        scenario.fill(("crane", "0.11.0"), ("crane", "0.10.0"), ("fadvisor", "1.0.0-rc.1"))
        yield scenario
