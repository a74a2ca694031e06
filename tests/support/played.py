"""A transport that is played: for what `Http` decides, without a socket.

played = Played(lambda request: Said(307, {"location": "https://elsewhere.example/"}))
http = Http(book, connect=lambda route, limits: played)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from mirrord.wire.http.message import WireRequest


@dataclass(frozen=True, slots=True)
class Said:
    """An answer; the names of `headers` are in lower case."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def challenges(self) -> tuple[str, ...]:
        """Return what `headers` ask for."""
        return tuple(value for name, value in self.headers.items() if name == "www-authenticate")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body in one piece."""
        if self.body:
            yield self.body

    async def aclose(self) -> None:
        """Nothing is open."""

    def abort(self) -> None:
        """Nothing is open."""


class Played:
    """Every host, played by one function.

    Attributes:
        asked: what was sent, in order.
    """

    def __init__(self, play: Callable[[WireRequest], Said]) -> None:
        self.asked: list[WireRequest] = []
        self._play = play

    async def send(self, request: WireRequest) -> Said:
        """Answer as the function says."""
        self.asked.append(request)
        return self._play(request)

    async def aclose(self) -> None:
        """Nothing is open."""
