"""`settings.record`: where the record is when it is not a file of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, model_validator

from mirrord.config.check import Strict, validator
from mirrord.config.files import AbsentError
from mirrord.config.lines import Problems
from mirrord.config.pem import check_authorities
from mirrord.config.secrets import SecretSource, read_secret
from mirrord.wire.database import EXAMPLE, DatabaseAddress, read_database_url

_TRAIL = ("settings", "record")
_NEEDED: Final = ("psycopg", "psycopg_pool", "procrastinate")  # of the extra: the record, the leases, the queue
RECORD_HINTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("host", "port", "user", "username", "database", "dsn"), "write all of it as url"),
    **dict.fromkeys(("sslmode", "tls", "verify"), "write ca: FILE, or insecure: true to do without TLS"),
}
"""Keys of other programs, and what to write instead."""


@validator
def _url(text: str) -> str:
    read_database_url(text)
    return text


class RecordKeys(Strict):
    """`settings.record`; its URL alone is enough where there is nothing else to say."""

    url: Annotated[
        str,
        AfterValidator(_url),
        Field(
            description=(
                "`postgresql://USER@HOST[:PORT]/DATABASE`, or several `HOST[:PORT]` with commas, of which the one that"
                " takes changes is used; `postgresql:///DATABASE?host=/run/postgresql` for a socket. No password."
            ),
            examples=[EXAMPLE],
        ),
    ]
    password: Annotated[
        SecretSource | None,
        Field(
            description=(
                "Where the password is: exactly one of `env`, `file` and `credential`. Default: none, or what"
                " `psql` would find (`~/.pgpass`, a client certificate)."
            ),
            examples=["{env: PGPASSWORD}"],
        ),
    ] = None
    ca: Annotated[
        str | None,
        Field(
            description="PEM file with the certificate authorities to trust instead of the system's.",
            examples=["/etc/ssl/db.pem"],
        ),
    ] = None
    insecure: bool = Field(
        default=False,
        description=(
            "Do without TLS, or without knowing who answers. By default every server that is not on this machine must"
            " show a certificate for its name (`verify-full`)."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value


def read_record(keys: RecordKeys | None, problems: Problems, environ: Mapping[str, str]) -> DatabaseAddress | None:
    """Return the database with its password; problems are noted. None: the record is a file in the state directory."""
    if keys is None:
        return None
    if lacking := [name for name in _NEEDED if find_spec(name) is None]:
        problems.add(_TRAIL, f"needs {', '.join(lacking)}, not installed here; run pip install 'mirrord[scale]'")
    if keys.ca and keys.insecure:
        problems.add((*_TRAIL, "ca"), "has no effect with `insecure: true`; keep one of them")
    elif keys.ca:
        check_authorities(keys.ca, (*_TRAIL, "ca"), problems)
    address = replace(read_database_url(keys.url), ca=keys.ca, insecure=keys.insecure)
    try:
        if keys.password:
            fresh = partial(read_secret, keys.password, environ)
            address = replace(address, password=fresh(), fresh=fresh)
    except ValueError as error:
        note = problems.lack if isinstance(error, AbsentError) else problems.add
        note((*_TRAIL, "password"), str(error))
    return address
