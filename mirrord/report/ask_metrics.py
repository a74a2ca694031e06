"""The series of images that people ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mirrord.events import Event
from mirrord.model.request import AskEnded, ImageAsked
from mirrord.report.registry import SeriesRegistry

_SECONDS: Final = (0.5, 2, 5, 15, 60, 300, 900, 3600, 6 * 3600, 86_400)


class AskMetrics:
    """Counts questions and their ends; listens to events by being called with them."""

    def __init__(self, registry: SeriesRegistry) -> None:
        """Add the families."""
        self.asked = registry.counter("asks", "Images that were asked for, each time.", "by")
        self.ended = registry.counter("asks_ended", "Those that ended or were refused.", "result", "reason")
        self.open = registry.gauge("asks_open", "Those that have not ended.", "state")
        self.seconds = registry.histogram(
            "ask_duration_seconds", "Time from the question to the end.", "result", _SECONDS
        )

    def stand(self, counts: Mapping[str, int]) -> None:
        """Take how many have not ended, by state."""
        for state, count in counts.items():
            self.open.labels(state).set(count)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case ImageAsked(operator):
                self.asked.labels("operator" if operator else "client").inc()
            case AskEnded(result, reason, seconds):
                self.ended.labels(result, reason).inc()
                if result != "refused":
                    self.seconds.labels(result).observe(seconds)
            case _:
                pass
