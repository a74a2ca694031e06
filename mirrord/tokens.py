"""Tokens of clients, and the file that has them: a token has 256 random bits, and only its SHA-256 is kept."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from mirrord.errors import MissingError, StorageError, UsageError
from mirrord.files import make_folder, storage_errors, write_durably

NAME: Final = "tokens.json"
"""Name of the file in the state directory."""
_PREFIX: Final = "mirrord_"  # lets scanners for leaked secrets recognise a token
_VALID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_LARGEST: Final = 4 << 20


READ: Final = "read"
"""Scope of a token that reads `/v2/`; one that does not say has this one."""
ASK: Final = "ask"
"""Scope of a token that asks for images."""
SCOPES: Final = (READ, ASK)


@dataclass(frozen=True, slots=True)
class ClientToken:
    """What is kept of a token."""

    name: str
    sha256: str  # of the whole token, in hexadecimal digits
    created: datetime
    scopes: tuple[str, ...] = (READ,)  # what it is for


class TokenFile:
    """The tokens of a state directory. Everything blocks; commands and the daemon may use it at the same time."""

    def __init__(self, state: Path) -> None:
        """Use the file in this directory, which need not exist."""
        self.path = state / NAME

    def add(self, name: str, now: datetime, scopes: Sequence[str] = (READ,)) -> str:
        """Make a token, and return it: it cannot be shown again.

        Raises:
            UsageError: the name is not valid, or taken.
            StorageError: the file cannot be read or written.
        """
        if not _VALID.fullmatch(name):
            raise UsageError(
                f"{name[:80]!r} is no name for a token; write up to 63 of a-z, 0-9, '.', '_' and '-', such as cluster-1"
            )
        token = _PREFIX + secrets.token_urlsafe(32)
        with self._changing() as tokens:
            if any(one.name == name for one in tokens):
                raise UsageError(f"there is a token {name!r} already; revoke it, or take another name")
            tokens.append(ClientToken(name, sha256(token.encode()).hexdigest(), now, tuple(scopes)))
        return token

    def revoke(self, name: str) -> None:
        """Let a token count no more; the daemon refuses it within a second or two. Raises as `add`."""
        with self._changing() as tokens:
            left = [one for one in tokens if one.name != name]
            if len(left) == len(tokens):
                raise UsageError(f"there is no token {name[:80]!r}; `mirrord token list` shows them")
            tokens[:] = left

    def read(self) -> Sequence[ClientToken]:
        """Return all tokens, the oldest first. StorageError: the file cannot be read, or is damaged."""
        try:
            with storage_errors(self.path, missing=True), self.path.open("rb") as file:
                data = file.read(_LARGEST + 1)
            return _parsed(data)
        except MissingError:
            return ()
        except (ValueError, TypeError, KeyError, RecursionError):
            raise StorageError(
                f"{self.path}: is damaged; restore it from a backup, or remove it and make new tokens"
            ) from None  # the cause repeats what is in it

    def notices(self) -> Sequence[str]:
        """Say that a token is needed if there is none. A file that cannot be read is reported when clients come."""
        try:
            there = any(READ in one.scopes for one in self.read())
        except StorageError:
            return ()
        make = f"there is none in {self.path.parent}; make one: mirrord token add NAME --read"
        return () if there else (f"all of /v2/ needs a token, and {make}",)

    def stamp(self) -> tuple[int, ...]:
        """Return what differs after each change; () for a missing file."""
        try:
            found = self.path.stat()
        except OSError:  # reading it says why
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[ClientToken]]:
        """Yield the tokens to change, and write them; one process at a time."""
        folder = self.path.parent
        with storage_errors(folder):
            make_folder(folder)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            tokens = list(self.read())
            yield tokens
            document = {"tokens": [{**asdict(one), "created": one.created.isoformat()} for one in tokens]}
            write_durably(self.path, (json.dumps(document, indent=1) + "\n").encode())
            owner = os.fstat(handle)
            if os.geteuid() == 0 and owner.st_uid:  # the daemon has to read what root has written
                with storage_errors(self.path):
                    os.chown(self.path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        finally:
            os.close(handle)


def _parsed(data: bytes) -> Sequence[ClientToken]:
    written = json.loads(data)["tokens"]
    scopes = [one.get("scopes", [READ]) for one in written]  # a token of an earlier version has none
    if not all(isinstance(listed, list) for listed in scopes):
        raise ValueError
    tokens = [
        ClientToken(one["name"], one["sha256"], datetime.fromisoformat(one["created"]), tuple(listed))
        for one, listed in zip(written, scopes, strict=True)
    ]
    if not all(_VALID.fullmatch(one.name) and _HASH.fullmatch(one.sha256) for one in tokens):
        raise ValueError
    return tokens
