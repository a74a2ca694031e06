"""How much each client may pull through the front; without clock and I/O.

A client is a read token, else an IPv4 address, else an IPv6 network of 64 bits (`client_of`). What is not configured is
not limited, and networks under `exempt` have no limits at all, whatever token they send.

- Only a manifest is refused, and a blob of a repository of which the client got no manifest: with 429,
  `TOOMANYREQUESTS`, the reason, and `Retry-After`. Nothing that was begun is cut off.
- A granted manifest is free by its digest for an hour, and so are the manifests that it lists and all blobs of its
  repository; the blobs also for as long as the pull goes on without a pause, up to six hours. Free: no limit is asked,
  nothing is counted, and the hour does not begin again. The same tag is free for a minute, so that HEAD and GET are one
  pull, and fifty machines behind one address that pull one tag at once are one, too.
- `pulls_a_minute`: what is granted and was not free counts, for exactly 60 seconds. What is refused does not count.
- `pulls`: repositories in which a pull runs: from its manifest until 5 seconds after the last request for a manifest
  or the end of the last blob. Connections and ranges do not count.
- `bytes`: content really sent within the last `each`. Whoever has had `amount` gets no further manifest until less than
  that remains; a pull may go beyond it, since its blobs are not refused. Measured in 60 steps of `each`, rounded in
  favour of the limit.
- `Retry-After`: whole seconds, at least 1, after which the same request is granted when the client asks for nothing
  else and nothing more is sent. Where blobs of all its pulls are under way nobody knows: then it is the earliest.

A refused request can be repeated at any rate: it changes nothing. Another configuration (`PullLimits.keys`) holds for
the next request; what was counted and granted stays.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mirrord.config.units import spell_duration, spell_size
from mirrord.syncers.image.spec.front import BandwidthKeys, LimitKeys
from mirrord.syncers.image.through.clients import ClientKey, ClientRecord, ClientTable

GRANTED_LASTS: Final = 3600.0
"""Seconds for which children and blobs of a granted manifest are free."""
LINGER: Final = 5.0
"""Seconds for which a pull still counts after its last transfer."""
_LONGEST_PULL: Final = 6 * 3600.0
_MINUTE: Final = 60.0
_STEPS: Final = 60  # in which the bytes of a window are forgotten
_MOST_CHILDREN: Final = 512  # of one index that are free
_ANY: Final = BandwidthKeys()
_CLOSE: Final = 1e-6  # seconds; sums of times are rounded


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request is granted, and if not why."""

    limit: str = ""  # the key of the limit that refuses (`pulls`, `pulls_a_minute`, `bytes`); "" when granted
    reason: str = ""  # a sentence for the client
    retry_after: int = 0  # whole seconds, at least 1 when refused
    until: float = 0.0  # until when the children and blobs of a granted manifest are free, in monotonic seconds

    @property
    def granted(self) -> bool:
        """Whether it is."""
        return not self.limit


class PullLimits:
    """Decides what each client gets; see the module for the rules. `now` is monotonic time in seconds."""

    def __init__(self, keys: LimitKeys, table: ClientTable | None = None) -> None:
        """Begin with nobody known; `keys` may be replaced at any time."""
        self.keys = keys
        self._table = ClientTable() if table is None else table

    @property
    def bandwidth(self) -> BandwidthKeys:
        """Return the rates at which content is sent."""
        return self.keys.bandwidth or _ANY

    def exempt(self, client: ClientKey) -> bool:
        """Whether nothing limits this client."""
        address = client.address
        return address is not None and any(address in network for network in self.keys.exempt)

    def admit_manifest(self, client: ClientKey, repository: str, reference: str, now: float) -> Admission:
        """Decide about HEAD or GET of a manifest by tag or digest, before anything is fetched.

        `repository` is the canonical name with its registry. What is granted is counted, whether it exists or not.
        """
        return self._admit(client, repository, reference, now, blob=False)

    def admit_blob(self, client: ClientKey, repository: str, digest: str, now: float) -> Admission:
        """Decide about HEAD or GET of a blob, in any range: granted after a manifest, else it counts as one."""
        return self._admit(client, repository, digest, now, blob=True)

    def grant(
        self,
        client: ClientKey,
        repository: str,
        digest: str,
        children: Iterable[str],
        *,
        admission: Admission,
        now: float,
    ) -> None:
        """Note that an admitted manifest was found: it, the manifests that it lists and the blobs are free.

        Args:
            client: who gets it.
            repository: as for `admit_manifest`.
            digest: of the manifest.
            children: digests of the manifests that it lists; of very many the first count.
            admission: what `admit_manifest` returned.
            now: monotonic time.
        """
        if not self._counts(client):
            return
        free = [digest]
        for child in children:
            if len(free) > _MOST_CHILDREN:
                break
            free.append(child)
        record = self._record(client, now)
        record.allow([hash((repository, one)) for one in (*free, "")], admission.until)
        self._keep(record, now)

    def began(self, client: ClientKey, repository: str, now: float) -> None:
        """Note that content of a repository goes to a client."""
        if self._counts(client):
            record, pull = self._record(client, now), hash((repository, ""))
            record.lingering.pop(pull, None)
            record.sending[pull] = record.sending.get(pull, 0) + 1
            self._keep(record, now)

    def sent(self, client: ClientKey, count: int, now: float) -> None:
        """Note bytes that a client got."""
        if self._counts(client) and count > 0:
            record, each = self._record(client, now), self._each()
            if record.sent and now - record.sent[-1][0] < each / _STEPS:
                first, _, before = record.sent.pop()
                record.sent.append((first, now, before + count))
            else:
                record.sent.append((now, now, count))
                record.sent[:] = [part for part in record.sent if part[1] + each > now]
            self._keep(record, now)

    def ended(self, client: ClientKey, repository: str, now: float) -> None:
        """Note the end of what `began`."""
        record, pull = self._table.find(client), hash((repository, ""))
        if record is None or pull not in record.sending:  # forgotten, or begun without limits
            return
        record.sending[pull] -= 1
        if not record.sending[pull]:
            del record.sending[pull]
            record.lingering[pull] = now + LINGER
        self._keep(record, now)

    def _admit(self, client: ClientKey, repository: str, reference: str, now: float, *, blob: bool) -> Admission:
        if not self._counts(client):
            return Admission(until=now + GRANTED_LASTS)
        record = self._record(client, now)
        _end(record.lingering, now)
        pull, asked = hash((repository, "")), hash((repository, reference))
        lasts = GRANTED_LASTS if ":" in reference else _MINUTE
        until = self._blobs(record, pull) if blob else 0.0
        until = max(until, record.rights.get(asked, 0.0))
        if until <= now:
            refused = self._refuse(record, pull, now)
            if refused is not None:
                return refused
            if self.keys.pulls_a_minute is not None:
                record.pulls.append(now)
            until = now + lasts
            record.allow([asked, pull] if blob else [asked], until)
        if pull not in record.sending:
            record.lingering.pop(pull, None)  # to the end of the order
            record.lingering[pull] = now + LINGER
        self._keep(record, now)
        return Admission(until=until + GRANTED_LASTS - lasts)

    def _blobs(self, record: ClientRecord, pull: int) -> float:
        """Return until when the blobs of a repository are free, 0.0 for never."""
        until = record.rights.get(pull, 0.0)
        runs = until and (pull in record.sending or pull in record.lingering)
        return until + _LONGEST_PULL - GRANTED_LASTS if runs else until

    def _refuse(self, record: ClientRecord, pull: int, now: float) -> Admission | None:
        """Return the refusal by the limit that refuses for longest, or None."""
        found = [*self._running(record, pull, now), *self._counted(record, now), *self._taken(record, now)]
        if not found:
            return None
        wait, limit, reason = max(found)
        seconds = max(1, math.ceil(wait - _CLOSE))
        return Admission(limit, f"{reason}; {record.key.name} may ask again in {seconds} s", seconds)

    def _running(self, record: ClientRecord, pull: int, now: float) -> Iterable[tuple[float, str, str]]:
        most, running = self.keys.pulls, len(record.sending) + len(record.lingering)
        if most is not None and running >= most and pull not in record.sending and pull not in record.lingering:
            ends = list(record.lingering.values())  # in order
            surplus = running - most
            wait = ends[surplus] - now if surplus < len(ends) else LINGER
            yield wait, "pulls", f"{_many(most, 'pull')} at once {_allowed(most)} for each client"

    def _counted(self, record: ClientRecord, now: float) -> Iterable[tuple[float, str, str]]:
        most = self.keys.pulls_a_minute
        del record.pulls[: bisect_right(record.pulls, now + _CLOSE - _MINUTE)]
        if most is not None and len(record.pulls) >= most:
            wait = record.pulls[-most] + _MINUTE - now
            yield wait, "pulls_a_minute", f"{_many(most, 'pull')} a minute {_allowed(most)} for each client"

    def _taken(self, record: ClientRecord, now: float) -> Iterable[tuple[float, str, str]]:
        window = self.keys.bytes
        if window is None:
            return
        sent = [part for part in record.sent if part[1] + window.each > now + _CLOSE]
        left = sum(count for _, _, count in sent)
        for _, last, count in sent if left >= window.amount else ():
            left -= count
            if left < window.amount:
                amount = f"{spell_size(window.amount)} in {spell_duration(window.each)}"
                yield last + window.each - now, "bytes", f"{amount} are allowed for each client"
                return

    def _counts(self, client: ClientKey) -> bool:
        """Whether anything is remembered of a client."""
        limited = (self.keys.pulls, self.keys.pulls_a_minute, self.keys.bytes) != (None, None, None)
        return limited and not self.exempt(client)

    def _each(self) -> float:
        return self.keys.bytes.each if self.keys.bytes is not None else _MINUTE

    def _record(self, client: ClientKey, now: float) -> ClientRecord:
        return self._table.find(client) or ClientRecord(client, now)

    def _keep(self, record: ClientRecord, now: float) -> None:
        self._table.keep(record, now, max(GRANTED_LASTS, self._each()))


def _end(lingering: dict[int, float], now: float) -> None:
    """Remove the pulls that have ended."""
    while lingering:
        first = next(iter(lingering))
        if lingering[first] > now + _CLOSE:
            break
        del lingering[first]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _allowed(count: int) -> str:
    return "is allowed" if count == 1 else "are allowed"
