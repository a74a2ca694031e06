"""Durations, sizes and rates as people write them: `6h`, `20GiB`, `40MiB/s`; a ValueError says what to write. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SPELLED = "x-spelled"
"""Key of a JSON schema: as what a value is written, `duration`, `size` or `rate`; its default is a number."""
# Lengths are bounded so that no text, however long, becomes an expensive number.
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"
_PART = re.compile(rf"({_NUMBER})([smhd])")
_DURATION = re.compile(rf"(?:{_NUMBER}[smhd]){{1,4}}")
_SIZE = re.compile(rf"({_NUMBER}) ?([A-Za-z]{{1,3}})")


def parse_duration(value: object) -> float:
    """Return seconds: `90s`, `15m`, `6h`, `1d`, `1h30m`; numbers (from code, not from files) are seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ValueError(
            f"{_quote(value)} is not a duration; write a number with s, m, h or d, such as 90s, 15m, 6h, 1d"
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(value))


def parse_size(value: object) -> int:
    """Return bytes: `20GiB`, `500 MB`; numbers (from code, not from files) are bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match or match[2] not in _BYTES:
        raise ValueError(
            f"{_quote(value)} is not a size; write a number with a unit ({', '.join(_BYTES)}), such as 20GiB"
        )
    return int(float(match[1]) * _BYTES[match[2]])


def parse_rate(value: object) -> float:
    """Return bytes per second: `40MiB/s`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    size, slash, per = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash or per != "s" or not _SIZE.fullmatch(size):
        raise ValueError(f"{_quote(value)} is not a rate; write bytes per second, such as 40MiB/s")
    return float(parse_size(size))


def parse_network(value: object) -> IPv4Network | IPv6Network:
    """Return the addresses that `10.0.0.0/8`, `fd00::/8` or a single address means."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = value if isinstance(value, str) and len(value) <= 64 and not value.isdecimal() else ""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{_quote(value)} is no address and no network; write one such as 10.0.0.0/8") from None
    if "/" in text and network.network_address != ip_address(text.partition("/")[0]):
        raise ValueError(f"{text!r} has digits beyond its prefix; write {network}")
    return network


def spell_duration(seconds: float) -> str:
    """Write seconds the way `parse_duration` reads them."""
    for unit, length in reversed(_SECONDS.items()):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


def spell_size(count: int) -> str:
    """Write bytes the way `parse_size` reads them."""
    for unit, length in reversed(_BYTES.items()):
        if count >= length and count % length == 0:
            return f"{count // length}{unit}"
    return f"{count}B"


def between(low: str, high: str, parse: Callable[[object], float] = parse_duration) -> Callable[[float], float]:
    """Return a check that a duration (or what `parse` reads) is at least `low` and at most `high`, as people write."""
    least, most = parse(low), parse(high)

    def check(amount: float) -> float:
        if not least <= amount <= most:
            if parse is not parse_duration:
                raise ValueError(f"is outside {low} to {high}; write something between them")
            raise ValueError(f"{spell_duration(amount)} is outside {low} to {high}; write a duration between them")
        return amount

    return check


def _quote(value: object) -> str:
    return repr(value[:40]) if isinstance(value, str) else "this"


def _schema(kind: str, pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", SPELLED: kind, "pattern": f"^{pattern}$", "examples": [example]})


_SIZES = rf"{_NUMBER} ?(?:{'|'.join(_BYTES)})"
Duration = Annotated[float, BeforeValidator(parse_duration), _schema("duration", _DURATION.pattern, "6h")]
"""Seconds, in a model of a syncer's or of ours."""

Size = Annotated[int, BeforeValidator(parse_size), _schema("size", _SIZES, "20GiB")]
"""Bytes, in a model."""

Rate = Annotated[float, BeforeValidator(parse_rate), _schema("rate", f"{_SIZES}/s", "40MiB/s")]
"""Bytes per second, in a model."""

Network = Annotated[
    IPv4Network | IPv6Network,
    BeforeValidator(parse_network),
    WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$", "examples": ["10.0.0.0/8"]}),
]
"""Addresses of clients or proxies, in a model."""

Deadline = Annotated[Duration, AfterValidator(between("10s", "30d"))]
"""Seconds after which a run is cancelled."""

Stale = Annotated[Duration, AfterValidator(between("1m", "3660d"))]
"""Seconds without a success after which a mirror is stale."""

Trust = Annotated[Duration, AfterValidator(between("0s", "366d"))]
"""Seconds for which a recorded digest is trusted; `0s` asks every time."""
