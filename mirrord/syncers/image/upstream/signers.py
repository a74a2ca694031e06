"""Those whose signatures count for a mirror: the keys in the files that it names, or an identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mirrord.config.files import AbsentError, read_file
from mirrord.errors import ConfigError, UsageError
from mirrord.syncer.values import Mirror
from mirrord.syncers.image.names import spec_of
from mirrord.wire.cosign import identity
from mirrord.wire.cosign.keys import LIMIT, KeySigners, PublicKey, read_key

if TYPE_CHECKING:
    from mirrord.wire.cosign.judgement import Signers


def signers_of(mirror: Mirror) -> Signers:
    """Return whose signatures count. Blocking.

    Raises:
        ConfigError: a file cannot be read, or is not what it has to be; names it, and says what to give instead.
    """
    require = spec_of(mirror).signatures.require
    assert require is not None
    try:
        if require.identity:
            path = require.trust_root
            root = (path, _read(path, identity.LIMIT)) if path else None
            return identity.IdentitySigners.of(require.identity, require.issuer, root)
        return KeySigners([_key(path) for path in require.keys])
    except (ValueError, UsageError) as error:
        raise ConfigError(_problem(mirror, error)) from error


def check_signers(mirror: Mirror) -> Sequence[str]:
    """Read each file that says whose signatures count, as `Syncer.check_files` does."""
    notices: list[str] = []
    problems: list[str] = []
    for read in _reads(mirror):
        try:
            read()
        except (ValueError, UsageError) as error:
            absent = isinstance(error.__cause__, AbsentError | ImportError)
            (notices if absent else problems).append(_problem(mirror, error))
    if problems:
        raise ConfigError(*problems)
    return notices


def _reads(mirror: Mirror) -> Iterator[Callable[[], object]]:
    require = spec_of(mirror).signatures.require
    if require is None:
        return
    for path in require.keys:
        yield partial(_key, path)
    if require.identity:
        yield identity.check_installed
    if require.trust_root:
        yield partial(_root, require.trust_root)


def _problem(mirror: Mirror, error: Exception) -> str:
    return f"{mirror.origin}: mirrors.{mirror.name}.signatures.require: {error}"


def _key(path: Path) -> PublicKey:
    data = _read(path, LIMIT)
    try:
        return read_key(data, path.name)
    except UsageError as error:
        raise UsageError(f"{path} {error}") from error


def _root(path: Path) -> None:
    identity.check_root(path, _read(path, identity.LIMIT))


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_file(path, limit)[0]
    except ValueError as error:
        raise UsageError(f"{path} {error}") from error
