"""How connections to PostgreSQL are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import psycopg  # noqa: TID251 - this is the door

from mirrord.wire.certificate import system_authorities
from mirrord.wire.database import DatabaseAddress
from mirrord.wire.trust import verified

_CONNECTING: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "gssencmode": "disable",
    "target_session_attrs": "read-write",  # of several servers the one that takes changes
    "application_name": "mirrord",
    "client_encoding": "utf8",
}


def connection_keys(address: DatabaseAddress) -> dict[str, Any]:
    """Return what libpq is told for a new connection: the password, too. Blocks.

    Raises:
        psycopg.OperationalError: the password cannot be read.
    """
    try:
        login = address.login()
    except ValueError as error:
        raise psycopg.OperationalError(f"the password of the record cannot be read: {error}") from None
    keys = {
        **_CONNECTING,
        "host": ",".join(server.host for server in address.servers),
        "port": ",".join(str(server.port) for server in address.servers),
        "dbname": address.name,
        "sslmode": "prefer",
        **login,
    }
    if verified(address):
        keys |= {"sslmode": "verify-full", "sslrootcert": address.ca or system_authorities()}
    return keys
