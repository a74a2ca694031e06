"""Faults on order: which request goes wrong, how, and how often.

    faults = Faults()
    faults.on("GET", r"/blobs/sha256:").truncate(1000)
    slow = faults.on("GET", r"/blobs/", times=None).stall(after=4096)
    await slow.reached.wait()
    slow.release()

Faults wait for events, not for time, wherever that is possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from mirrord.testing.exchange import matches


@dataclass(slots=True, eq=False)
class Fault:
    """What goes wrong with the requests it matches; the verbs return the fault, so that they chain.

    Attributes:
        method: `GET`, `PUT|PATCH`, `*`.
        pattern: searched in path?query.
        times: how many requests are hit, None for all.
        skip: how many matching requests pass first.
        hits: how many were hit so far.
        gate: what `hold` and `stall` wait for; `release` opens it.
        reached: set when a request waits at the gate.
    """

    method: str
    pattern: str
    times: int | None = 1
    skip: int = 0
    hits: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    instead: tuple[int, Mapping[str, str], bytes] | None = None
    after_received: int = 0
    body: bytes | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    flips: list[int] = field(default_factory=list)
    length: int | None = None
    stalled_at: int | None = None
    held: bool = False
    rate_out: float | None = None
    rate_in: float | None = None
    dropped: bool = False
    half_header: bool = False
    before: list[Callable[[], object]] = field(default_factory=list)
    afterwards: list[Callable[[], object]] = field(default_factory=list)

    @property
    def distorts(self) -> bool:
        """Whether the true answer is sent, with another body or not as fast or as far as it should be."""
        return self.body is not None or self.length is not None or self.stalled_at is not None or bool(self.flips)

    def status(self, code: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Self:
        """Answer with this instead of doing anything; the request's body is not read."""
        self.instead = (code, headers or {}, body)
        return self

    def refuse_after(self, received: int, code: int = 401, headers: Mapping[str, str] | None = None) -> Self:
        """Answer with `code` as soon as `received` bytes of the request's body have come."""
        self.after_received = received
        return self.status(code, headers=headers)

    def redirect(self, location: str, code: int = 307) -> Self:
        """Send the client elsewhere."""
        return self.status(code, headers={"Location": location})

    def answer(self, body: bytes, media_type: str | None = None) -> Self:
        """Send other bytes (and another Content-Type) than the true ones, all other headers as they would be."""
        self.body = body
        return self if media_type is None else self.header("Content-Type", media_type)

    def header(self, name: str, value: str | None) -> Self:
        """Set a header of the answer, or take it away with None."""
        self.headers[name] = value
        return self

    def oversize(self, size: int = 100_000) -> Self:
        """Add a header of `size` bytes to the answer."""
        return self.header("X-Oversize", "x" * size)

    def encode(self, encoding: str = "gzip") -> Self:
        """Claim a Content-Encoding without encoding anything."""
        return self.header("Content-Encoding", encoding)

    def corrupt(self, *offsets: int) -> Self:
        """Flip the bytes at `offsets` of the answer's body (negative ones count from the end)."""
        self.flips.extend(offsets)
        return self

    def truncate(self, length: int) -> Self:
        """Close the connection after `length` bytes of the answer's body; the headers promise all of it."""
        self.length = length
        return self

    def stall(self, after: int) -> Self:
        """Stop sending after `after` bytes of the answer's body, until `release`."""
        self.stalled_at = after
        return self

    def hold(self) -> Self:
        """Do not answer until `release`."""
        self.held = True
        return self

    def drip(self, rate: float) -> Self:
        """Send the answer's body at `rate` bytes a second."""
        self.rate_out = rate
        return self

    def throttle(self, rate: float) -> Self:
        """Read the request's body at `rate` bytes a second."""
        self.rate_in = rate
        return self

    def close(self) -> Self:
        """Close the connection instead of answering."""
        self.dropped = True
        return self

    def close_mid_header(self) -> Self:
        """Close the connection in the middle of the answer's headers."""
        self.half_header = True
        return self

    def do(self, action: Callable[[], object]) -> Self:
        """Call `action` before the request is worked on."""
        self.before.append(action)
        return self

    def then(self, action: Callable[[], object]) -> Self:
        """Call `action` when the answer is out: the world changes between two requests."""
        self.afterwards.append(action)
        return self

    def release(self) -> None:
        """Let all go on who wait now or later."""
        self.gate.set()

    async def wait(self) -> None:
        """Stand at the gate."""
        self.reached.set()
        await self.gate.wait()

    def takes(self, method: str, target: str) -> bool:
        """Count a request; whether it is to be hit."""
        if not matches(method, target, self.method, self.pattern):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


@dataclass(slots=True, eq=False)
class Faults:
    """All faults of one double; of several that match, the one ordered first acts."""

    scripted: list[Fault] = field(default_factory=list)

    def on(self, method: str, pattern: str, *, times: int | None = 1, skip: int = 0) -> Fault:
        """Order a fault for the next `times` (None: all) matching requests after `skip` of them; its verbs say what."""
        fault = Fault(method, pattern, times, skip)
        self.scripted.append(fault)
        return fault

    def take(self, method: str, target: str) -> Fault | None:
        """Return the fault for this request, if any."""
        return next((fault for fault in self.scripted if fault.takes(method, target)), None)

    def clear(self) -> None:
        """Heal: forget all faults and let go who waits."""
        for fault in self.scripted:
            fault.release()
        self.scripted.clear()
