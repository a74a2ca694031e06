"""Removes chart versions from a registry: each version is a tag, and goes as the tag of an image does."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mirrord.errors import MirrordError
from mirrord.model.digest import Digest
from mirrord.syncer.values import Ledger
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.transfer.target import Report
from mirrord.transfer.fanout import Workers
from mirrord.transfer.removal import remove
from mirrord.transfer.renamed import Move, RenamedLedger
from mirrord.wire.oci.client import Repository

AT_ONCE: Final = 4  # repositories of charts; each has requests of its own at once


async def remove_charts(
    target: str,
    charts: Sequence[ChartVersion],
    ledger: Ledger,
    report: Report,
    *,
    manifests: Mapping[str, Digest],
    open_repository: Callable[[ChartVersion], Repository],
) -> None:
    """Remove tags that still stand for the manifests that were seen; what others put about these stays.

    Args:
        target: its name in the configuration.
        charts: the versions, with the digests of their archives, as they are in the ledger.
        ledger: where each removal is written down before it happens.
        report: is told the end of each version, by its item.
        manifests: by item, what the tag of each was seen to stand for.
        open_repository: opens the repository of a chart.
    """

    def by_chart() -> Mapping[str, Mapping[str, ChartVersion]]:
        alike = defaultdict[str, dict[str, ChartVersion]](dict)
        for chart in charts:
            alike[chart.name][chart.tag] = chart
        return alike

    async def of_chart(tags: Mapping[str, ChartVersion]) -> None:

        def renamed(tag: str, _: Move) -> tuple[str, Move]:
            return tags[tag].reference, (tags[tag].digest, None)

        def ended(tag: str, error: MirrordError | None) -> None:
            report(tags[tag].item, error)

        names = await asyncio.to_thread(lambda: {tag: manifests[chart.item] for tag, chart in tags.items()})
        repository = open_repository(next(iter(tags.values())))
        await remove(target, repository, names, RenamedLedger(ledger, renamed), ended, alone=True)

    failed: list[MirrordError] = []

    async def each(tags: Mapping[str, ChartVersion]) -> None:
        try:
            await of_chart(tags)
        except MirrordError as error:  # one chart that cannot be listed does not stop others
            failed.append(error)

    await Workers(AT_ONCE).each((await asyncio.to_thread(by_chart)).values(), each)
    if failed:
        raise failed[0]
