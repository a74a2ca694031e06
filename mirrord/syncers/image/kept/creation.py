"""What is created at a target when a push finds no repository, or no project: read from `create:` of the target."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirrord.config.files import read_file
from mirrord.errors import ConfigError, UsageError
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.wire.http.client import Http
from mirrord.wire.oci.endpoint import Create
from mirrord.wire.oci.reference import Reference, parse_repository
from mirrord.wire.vendors.creating import Creation, Creator, misfit

if TYPE_CHECKING:
    from mirrord.syncers.image.spec.create import CreateKey
    from mirrord.wire.host import HostBook

_POLICY: Final = 10_240  # characters that a policy has at most, docs.aws.amazon.com, SetRepositoryPolicy


def creator(http: Http, place: Reference, target: Target) -> Create:
    """Return what creates the repository at a target that has `create:`; the file of its policy is read then."""
    return Creator(http, place, partial(_wanted, target)).create


def check_create(mirror: Mirror, book: HostBook) -> Sequence[str]:
    """Check `create:` of each target of a mirror against its registry; return no notices. Reads files of policies.

    Raises:
        ConfigError: there are problems; holds a line for each.
    """
    problems: list[str] = []
    for target in mirror.targets:
        if target.name == LOCAL or (key := _key(target)) is None:
            continue
        where = f"{target.origin}: targets.{target.name}.create"
        if wrong := _misfit(target, key.keys, book):
            problems.append(f"{where}: {wrong}")
        try:
            _wanted(target)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return ()


def _key(target: Target) -> CreateKey | None:
    key: CreateKey | None = getattr(target.options, "create", None)  # a copy has no options
    return key


def _misfit(target: Target, keys: Collection[str], book: HostBook) -> str:
    """Return what is wrong with `create:` of these keys at a target, "" if nothing."""
    if target.to.startswith("oci:"):
        return f"{target.to} is a folder, which is made anyway; remove create"
    try:  # behind the registry, braces may stand for the names of many repositories
        domain = parse_repository(f"{target.to.partition('{')[0].rstrip('/')}/name").domain
    except UsageError:  # said where addresses are checked
        return ""
    return misfit(book, domain, keys)


def _wanted(target: Target) -> Creation:
    key = _key(target)
    assert key is not None
    encryption = key.encryption
    return Creation(
        mutability=key.mutability,
        exceptions=key.exceptions,
        scan=key.scan,
        encryption=encryption.type if encryption else None,
        key=encryption.key if encryption else None,
        tags=key.tags,
        policy=_policy(target, key.policy),
        public=key.public,
        storage_limit=key.storage_limit,
    )


def _policy(target: Target, written: Path | Mapping[str, object] | None) -> str:
    """Return a policy as AWS takes it, "" for none."""
    where = f"{target.origin}: targets.{target.name}.create.policy"
    if written is None:
        return ""
    document: object = written
    if isinstance(written, Path):
        path = Path(target.origin.file).parent / written
        try:
            document = json.loads(read_file(path, _POLICY * 4)[0])
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{where}: {path} is not JSON; write a policy of AWS, {_SHAPE}") from error
        except ValueError as error:
            raise ConfigError(f"{where}: {path} {error}") from error
    if not isinstance(document, dict) or not document.get("Statement"):
        raise ConfigError(f"{where}: has no Statement; write a policy of AWS, {_SHAPE}")
    try:
        text = json.dumps(document, separators=(",", ":"))
    except (TypeError, ValueError) as error:  # YAML has dates, which JSON lacks
        raise ConfigError(f"{where}: has a value that is no JSON ({error}); put quotes around it") from error
    if len(text) > _POLICY:
        raise ConfigError(f"{where}: has {len(text)} characters, and AWS takes {_POLICY}; make it shorter")
    return text


_SHAPE: Final = '{"Version": "2012-10-17", "Statement": [...]}'
