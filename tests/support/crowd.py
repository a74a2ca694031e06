"""Many clients of one HTTP server at once, in one thread, which cost so little that the server is what is seen.

What they read is counted and thrown away inside the kernel (`MSG_TRUNC`, tcp(7)). Each has a connection of its own and
one request, and says how it ended: nobody is left out of the count.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

Address = tuple[str, int]
_HEAD: Final = 1 << 14
_TICK: Final = 0.1
_bin = bytearray(1 << 20)


@dataclass(slots=True, eq=False)
class Client:
    """One client and how it fared.

    Attributes:
        request: what it sends, as `request` writes it.
        pace: bytes of the body that it reads a second, or None for all that comes.
        source: address of this machine that it comes from, "" for any.
        status: of the answer, or 0.
        size: bytes of the body that came.
        first: when the first byte of the body came, on the clock of `time.monotonic`, which all processes share.
        seconds: from before it connected until its end.
        trouble: what befell it, or "": the name of an error, `short`, or `late` when the time was over.
    """

    request: bytes
    pace: float | None = None
    source: str = ""
    status: int = 0
    size: int = 0
    first: float = 0.0
    seconds: float = 0.0
    trouble: str = ""

    @property
    def good(self) -> bool:
        """Whether it got a whole answer that is no refusal."""
        return not self.trouble and 200 <= self.status < 400


def request(path: str, *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    """Write a request after which the connection ends."""
    head = [f"{method} {path} HTTP/1.1", "Host: h", "Connection: close", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def crowd(address: Address, clients: Sequence[Client], seconds: float) -> Sequence[Client]:
    """Let all clients connect, ask and read at once, for at most so many seconds; return them. Blocks."""
    began = time.monotonic()
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        open_ = [stack.enter_context(_Connection(client, address, began, selector)) for client in clients]
        while any(one.open for one in open_) and time.monotonic() < began + seconds:
            for key, _ in selector.select(_TICK):
                key.data.turn()
            for one in open_:
                one.stroll()
        for one in open_:
            one.end("late")
    return clients


class _Connection:
    """The connection of one client."""

    def __init__(self, client: Client, address: Address, began: float, selector: selectors.BaseSelector) -> None:
        self._client, self._began, self._selector = client, began, selector
        self._socket = socket.socket(socket.AF_INET)
        self._head, self._length, self._sent = b"", -1, 0
        self.open = True
        self._socket.settimeout(0)
        if client.source:
            self._socket.bind((client.source, 0))
        self._socket.connect_ex(address)
        selector.register(self._socket, selectors.EVENT_WRITE, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def turn(self) -> None:
        """Go on as far as it goes."""
        with self._trouble():
            if self._sent < len(self._client.request):
                self._sent += self._socket.send(self._client.request[self._sent :])
                if self._sent == len(self._client.request):
                    self._selector.modify(self._socket, selectors.EVENT_READ, self)
            elif not self._client.status:
                self._read_head()
            else:
                self._read(len(_bin))

    def stroll(self) -> None:
        """Read what a client with a pace may read by now."""
        client = self._client
        if self.open and client.pace is not None and client.status:
            due = int(client.pace * (time.monotonic() - self._began)) - client.size
            with self._trouble():
                self._read(min(due, len(_bin)))

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            pass
        except OSError as error:
            self.end(type(error).__name__)

    def _read(self, count: int) -> None:
        if count <= 0:
            return
        taken = self._socket.recv_into(_bin, count, socket.MSG_TRUNC)
        self._client.first = self._client.first or time.monotonic()
        self._client.size += taken
        if not taken or self._client.size == self._length:
            self.end("" if self._length in {-1, self._client.size} else "short")

    def _read_head(self) -> None:
        piece = self._socket.recv(_HEAD)
        self._head += piece
        head, found, body = self._head.partition(b"\r\n\r\n")
        if not piece or (found and not head.startswith(b"HTTP/1.1 ")):
            self.end("no answer")
        elif found:
            first, *lines = head.split(b"\r\n")
            told = dict(line.lower().split(b": ", 1) for line in lines)
            self._length = int(told.get(b"content-length", -1))
            self._client.status, self._client.size = int(first.split()[1]), len(body)
            self._client.first = time.monotonic() if body else 0.0
            if self._client.size == self._length:
                self.end("")
            elif self._client.pace is not None:
                self._selector.unregister(self._socket)

    def end(self, trouble: str) -> None:
        """Be done, well or ill."""
        if self.open:
            self.open = False
            self._client.seconds = time.monotonic() - self._began
            self._client.trouble = trouble
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._socket)


def troubles(clients: Iterable[Client]) -> dict[str, int]:
    """Count how those ended that got no good answer."""
    found: dict[str, int] = {}
    for client in clients:
        if not client.good:
            name = client.trouble or str(client.status)
            found[name] = found.get(name, 0) + 1
    return found
