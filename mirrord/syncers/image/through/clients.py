"""What is remembered of each client, in bounded memory.

One table holds everything. Each thing that is kept of a client weighs one unit, and a client itself `_CLIENT` more. A
table that weighs more than `most` units forgets clients: of the network with most units (within a factor of two) the
one that did nothing for longest. So a network of n units loses nothing while another has more than 2 n: whoever wants
others forgotten has to hold more than theirs in every one of most / 2 n networks (IPv4 /16, IPv6 /32), and pays for
each unit with a manifest that was granted to it. A million addresses of one network push out one another only.

A unit takes about 100 bytes (measured: `tests/image/through/test_limit_memory.py`), the whole table below 64 MiB.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

MOST_UNITS: Final = 400_000
_CLIENT: Final = 12  # units that the record of a client weighs by itself
MOST_RIGHTS: Final = 8192  # of one client; beyond it those that end first go

IPAddress = IPv4Address | IPv6Address


class ClientKey(NamedTuple):
    """Who shares limits."""

    name: str  # `token NAME`, an IPv4 address, an IPv6 network of 64 bits, or `unknown`
    network: str  # who is forgotten together: the IPv4 /16, the IPv6 /32, or the name itself
    address: IPAddress | None  # None when it is unknown


def client_of(address: str, token: str | None = None) -> ClientKey:
    """Return the key of a client: its read token, else its IPv4 address, else the first 64 bits of its IPv6 address.

    All clients whose address cannot be read are one.
    """
    try:
        found: IPAddress | None = ip_address(address.partition("%")[0])
    except ValueError:
        found = None
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found
    if token is not None:
        return ClientKey(f"token {token}", f"token {token}", found)
    if found is None:
        return ClientKey("unknown", "unknown", None)
    if isinstance(found, IPv6Address):
        prefix = IPv6Address(int(found) >> 64 << 64)
        return ClientKey(f"{prefix}/64", f"{int(found) >> 96:x}::/32", found)
    return ClientKey(str(found), f"{int(found) >> 16:x}/16", found)


@dataclass(slots=True)
class ClientRecord:
    """What is remembered of one client; times are monotonic seconds.

    Attributes:
        key: whose it is.
        seen: when it was last used.
        pulls: when each pull of the last minute was counted, in order.
        rights: hash of (repository, reference) → until when it is free; with reference "" the blobs of the repository.
        sending: hash of (repository, "") → how many answers with its blobs are under way.
        lingering: hash of (repository, "") → until when its pull still counts, in order.
        sent: first and last moment, and bytes sent between them, in order.
        pruned: when `rights` was last cleared of what has ended.
        weight: units that the table counts for it.
    """

    key: ClientKey
    seen: float
    pulls: list[float] = field(default_factory=list)
    rights: dict[int, float] = field(default_factory=dict)
    sending: dict[int, int] = field(default_factory=dict)
    lingering: dict[int, float] = field(default_factory=dict)
    sent: list[tuple[float, float, int]] = field(default_factory=list)
    pruned: float = 0.0
    weight: int = 0

    def allow(self, rights: Iterable[int], until: float) -> None:
        """Let these be free until then, or longer where they are already."""
        for right in rights:
            self.rights[right] = max(until, self.rights.get(right, until))

    def prune(self, now: float) -> None:
        """Forget rights that have ended, at most once a minute, and those that end first where there are too many."""
        full = len(self.rights) > MOST_RIGHTS
        if not full and now - self.pruned < 60:
            return
        self.pruned = now
        running = self.sending.keys() | self.lingering.keys()
        kept = {right: until for right, until in self.rights.items() if until > now or right in running}
        if len(kept) > MOST_RIGHTS:  # a quarter at once, so that this is done once for many
            latest = sorted(kept, key=kept.__getitem__)[-MOST_RIGHTS * 3 // 4 :]
            kept = {right: kept[right] for right in latest}
        self.rights = kept

    def weigh(self) -> int:
        """Return its units."""
        kept = (self.pulls, self.rights, self.sending, self.lingering, self.sent)
        return _CLIENT + sum(map(len, kept))


@dataclass(slots=True)
class _Network:
    """The clients of a network, those that did nothing for longest first, and what they weigh."""

    clients: OrderedDict[str, ClientRecord] = field(default_factory=OrderedDict)
    weight: int = 0


class ClientTable:
    """All clients; see the module for which are forgotten."""

    def __init__(self, most: int = MOST_UNITS) -> None:
        """Keep at most this many units, and one client."""
        self._most, self.weight = most, 0
        self._networks: dict[str, _Network] = {}
        self._crowds: list[OrderedDict[str, None]] = [OrderedDict() for _ in range(64)]  # by bits of their weight
        self._clients: OrderedDict[str, ClientRecord] = OrderedDict()  # those that did nothing for longest first

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self._clients)

    def find(self, key: ClientKey) -> ClientRecord | None:
        """Return what is remembered of a client."""
        return self._clients.get(key.name)

    def keep(self, client: ClientRecord, now: float, idle: float) -> None:
        """Weigh a client again after a change, and forget those beyond the limit, or without use for `idle` seconds."""
        name, network = client.key.name, client.key.network
        client.seen = now
        client.prune(now)
        if name not in self._clients:
            client.weight = 0
        self._clients[name] = client
        self._clients.move_to_end(name)
        clients = self._networks.setdefault(network, _Network()).clients
        clients[name] = client
        clients.move_to_end(name)
        weight = client.weigh()
        self._weigh(network, weight - client.weight)
        client.weight = weight
        for _ in range(4):  # faster than they come
            oldest = next(iter(self._clients.values()))
            if oldest.seen + idle > now:
                break
            self._forget(oldest)
        while self.weight > self._most and len(self._clients) > 1:
            crowd = next(crowd for crowd in reversed(self._crowds) if crowd)
            self._forget(next(iter(self._networks[next(iter(crowd))].clients.values())))

    def _forget(self, client: ClientRecord) -> None:
        network = self._networks[client.key.network]
        del self._clients[client.key.name], network.clients[client.key.name]
        self._weigh(client.key.network, -client.weight)
        client.weight = 0

    def _weigh(self, name: str, more: int) -> None:
        network = self._networks[name]
        before, after = network.weight.bit_length(), (network.weight + more).bit_length()
        network.weight += more
        self.weight += more
        if before != after:
            self._crowds[before].pop(name, None)
            self._crowds[after][name] = None
        if not network.clients:
            self._crowds[after].pop(name, None)
            del self._networks[name]
