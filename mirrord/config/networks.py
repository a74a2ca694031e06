"""Networks as people write them: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`; a ValueError says what to write. Pure."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

IPNetwork = IPv4Network | IPv6Network


def parse_network(value: object) -> IPNetwork:
    """Return a network; a single address is one, too."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = value if isinstance(value, str) else ""
    try:
        interface = ip_interface(text)
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is not a network; write one such as 10.0.0.0/8, or an address") from error
    if interface.ip != interface.network.network_address:
        raise ValueError(f"{text[:60]!r} has an address within the network; write {interface.network}")
    return interface.network


Network = Annotated[
    IPNetwork, BeforeValidator(parse_network), WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]})
]
"""A network, in a model of a syncer's or of ours."""
