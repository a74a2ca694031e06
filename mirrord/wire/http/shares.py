"""The limits of all hosts: what each gets at once and a second, what it allows an account, and of all hosts together.

`settings.requests` and `settings.bandwidth` limit all hosts together, by the rules of a host that runs and front share.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Final

from mirrord.wire.host import HostPolicy
from mirrord.wire.http.budget import Budget
from mirrord.wire.http.limiter import HostLimiter, HostSlot
from mirrord.wire.http.pace import Bucket, Party, RequestClass
from mirrord.wire.http.sender import Deadline

MOST: Final = 100
"""Accounts of a host whose budgets are kept: a credential that is renewed is another one."""
_NO_BUDGETS: Final[Mapping[Hashable, Budget]] = {}


class HostShares:
    """The limits of all hosts, for the `Http` of each party."""

    def __init__(
        self, front: Collection[str] = (), *, requests: int | None = None, bandwidth: float | None = None
    ) -> None:
        """Let both parties share the hosts that the front asks, as `HostBook` spells them.

        Args:
            front: those hosts.
            requests: how many requests all hosts together get at once, None without limit.
            bandwidth: bytes a second for content of all hosts together, in each direction; None without limit.
        """
        self._front, self._bandwidth = frozenset(front), bandwidth
        self._limiters: dict[str, HostLimiter] = {}
        self._overall = requests and HostLimiter(requests, bool(self._front), "all hosts", "settings:")
        self._buckets: dict[tuple[str, bool], dict[Party, Bucket]] = {}
        self._budgets: dict[str, dict[Hashable, Budget]] = {}

    def slot(
        self, policy: HostPolicy, kind: RequestClass, deadline: Deadline | None, party: Party, patience: float | None
    ) -> HostSlot:
        """Return a slot for one request to a host; see `HostLimiter.slot`."""
        further = self._overall.slot(kind, deadline, party, patience=patience) if self._overall else None
        return self.limiter(policy).slot(kind, deadline, party, patience=patience, further=further)

    def limiter(self, policy: HostPolicy) -> HostLimiter:
        """Return the admission to a host."""
        if policy.host not in self._limiters:
            self._limiters[policy.host] = HostLimiter(policy.requests, policy.host in self._front, policy.host)
        return self._limiters[policy.host]

    def at_once(self) -> Mapping[str, int]:
        """Return how many requests each host gets at once at present."""
        return {host: limiter.pace.limit for host, limiter in self._limiters.items()}

    def budgets(self, host: str) -> Mapping[Hashable, Budget]:
        """Return the budgets that are known for a host, by account."""
        return self._budgets.get(host, _NO_BUDGETS)

    def budget(self, host: str, account: Hashable) -> Budget:
        """Return the budget of an account; for a new one the budget that ends first makes room."""
        budgets = self._budgets.setdefault(host, {})
        if account not in budgets and len(budgets) >= MOST:
            del budgets[min(budgets, key=lambda known: budgets[known].until)]
        return budgets.setdefault(account, Budget())

    def bucket(self, policy: HostPolicy, party: Party, *, up: bool) -> Bucket | None:
        """Return the bandwidth of a host for a party in one direction, None without limit."""
        if self._bandwidth is None:
            return self._host_bucket(policy.host, policy.bandwidth, party, up=up)
        overall = self._host_bucket("", self._bandwidth, party, up=up)
        own = self._host_bucket(policy.host, policy.bandwidth, party, up=up)
        if own is not None:
            own.above = overall
        return own or overall

    def _host_bucket(self, host: str, rate: float | None, party: Party, *, up: bool) -> Bucket | None:
        if rate is None:
            return None
        if (host, up) not in self._buckets:
            runs, front = Bucket(rate), Bucket(rate)
            runs.other, front.other = front, runs
            self._buckets[host, up] = {Party.RUNS: runs, Party.FRONT: front}
        return self._buckets[host, up][party]
