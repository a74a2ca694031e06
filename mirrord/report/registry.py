"""The only door to prometheus_client: a registry of our own, its families of series, and the text format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import (  # noqa: TID251 - this is the door
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest  # noqa: TID251 - this is the door

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "SeriesRegistry"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
"""The media type of `SeriesRegistry.text`."""

# The creation times of series are a fifth of all lines, and nothing uses them.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no type for it


class SeriesRegistry:
    """All series of one process. Names get the prefix `mirrord_`; those of the process itself have their own."""

    def __init__(self) -> None:
        """Begin with the series that every Python process has."""
        self.collectors = CollectorRegistry()
        ProcessCollector(registry=self.collectors)
        PlatformCollector(registry=self.collectors)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Add a family of values that go up and down."""
        return Gauge(f"mirrord_{name}", text, labels, registry=self.collectors)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Add a family of counters; the text format adds `_total` to the name."""
        return Counter(f"mirrord_{name}", text, labels, registry=self.collectors)

    def histogram(self, name: str, text: str, label: str, buckets: Sequence[float]) -> Histogram:
        """Add a family of histograms with these upper bounds, in seconds."""
        return Histogram(f"mirrord_{name}", text, (label,), buckets=buckets, registry=self.collectors)

    def text(self) -> bytes:
        """Return all series in the Prometheus text format."""
        return generate_latest(self.collectors)
