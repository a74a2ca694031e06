"""Creates what a push needs and nobody created: repositories of Amazon ECR, projects of Harbor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from copy import copy
from dataclasses import dataclass, field
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary

from mirrord.errors import DeniedError, MirrordError, QuotaError, RefusedError, UnsupportedError, about
from mirrord.wire.ecr import EcrRegistry, ecr_registry
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.reference import Reference
from mirrord.wire.vendors.harbor import Harbor

_ECR: Final = frozenset({"mutability", "except", "scan", "encryption", "tags", "policy"})
_ECR_PUBLIC: Final = frozenset({"tags", "policy"})
_HARBOR: Final = frozenset({"public", "storage_limit"})
_KEYS: Final[Mapping[str, Collection[str]]] = {"ecr": _ECR, "ecr-public": _ECR_PUBLIC, "harbor": _HARBOR}
_RESTS: Final = 300.0  # seconds for which a registry that lets us create nothing is not asked to
_refused: Final[WeakKeyDictionary[Http, dict[str, tuple[float, RefusedError]]]] = WeakKeyDictionary()
"""By registry, until when (monotonic time) it is left alone, and why: a quota that is full is full for all."""


@dataclass(frozen=True, slots=True)
class Creation:
    """How something is created; what is None is left to the registry.

    Attributes:
        mutability: `mutable` or `immutable`: whether a tag may move.
        exceptions: globs of tags for which the opposite holds.
        scan: whether images are scanned when they are pushed.
        encryption: `aes256`, `kms` or `kms-dsse`.
        key: ARN, id or alias of the key for `kms`.
        tags: AWS's own, for bills and rules.
        policy: of the repository, as JSON; "" for none.
        public: whether a project is public.
        storage_limit: of a project, in bytes.
    """

    mutability: str | None = None
    exceptions: tuple[str, ...] = ()
    scan: bool | None = None
    encryption: str | None = None
    key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    policy: str = ""
    public: bool | None = None
    storage_limit: int | None = None


def misfit(book: HostBook, domain: str, keys: Collection[str]) -> str:
    """Return what is wrong with `create:` of these keys at a registry, and what to write instead; "" if nothing."""
    profile = book.policy(domain).registry
    if profile.name not in _KEYS:
        does = "mirrord creates repositories at Amazon ECR and projects at Harbor"
        if profile.name == "generic":
            return f"{does}; if {domain} is one of these, write `profile: harbor` or `ecr` for it under hosts:"
        return f"{does}, and {domain} is {profile.title}; remove create"
    if wrong := sorted(set(keys) - set(_KEYS[profile.name])):
        able = ", ".join(sorted(_KEYS[profile.name]))
        return f"{profile.title} has no {' and no '.join(wrong)}; it knows {able}"
    return ""


class Creator:
    """Creates one repository, or the project around it, once for all who wait for it."""

    def __init__(self, http: Http, reference: Reference, wanted: Callable[[], Creation]) -> None:
        """Prepare; nothing is asked, and `wanted`, which may read files, is called in a thread when it is needed."""
        self._http, self._reference, self._wanted = http, reference, wanted
        self._lock = asyncio.Lock()
        self._done: MirrordError | bool = False

    async def create(self) -> None:
        """Create it, unless that was done, or failed, before.

        Raises:
            RefusedError: the registry does not create it.
            ConfigError: what is wanted cannot be read.
            MirrordError: it cannot be asked.
        """
        async with self._lock:
            if self._done is False:
                try:
                    await self._ask()
                except MirrordError as error:
                    about(error, f"{self._reference.name} could not be created")
                    self._done = error
                else:
                    self._done = True
        if isinstance(self._done, MirrordError):
            raise self._done

    async def _ask(self) -> None:
        """Ask the registry, unless it refused a moment ago."""
        domain, noted = self._reference.domain, _refused.setdefault(self._http, {})
        until, refused = noted.get(domain, (0.0, None))
        if refused is not None and monotonic() < until:
            raise copy(refused)
        wanted = await asyncio.to_thread(self._wanted)
        try:
            registry = ecr_registry(self._http.book.policy(domain))
            await (self._repository(registry, wanted) if registry else self._project(wanted))
        except (DeniedError, QuotaError) as error:
            noted[domain] = monotonic() + _RESTS, copy(error)  # others say it about a repository of their own
            raise

    async def _repository(self, registry: EcrRegistry, wanted: Creation) -> None:
        from mirrord.wire.vendors.aws import create_repository  # noqa: PLC0415 - only Amazon's registries need it

        name = registry.repository(self._reference.path)
        await create_repository(registry, name, registry.arguments(wanted), wanted.policy)

    async def _project(self, wanted: Creation) -> None:
        name, slash, _ = self._reference.path.partition("/")
        if not slash:
            raise UnsupportedError(f"at Harbor a repository is in a project; write {self._reference.domain}/PROJECT/…")
        keys: dict[str, object] = {}
        if wanted.public is not None:
            keys["metadata"] = {"public": "true" if wanted.public else "false"}
        if wanted.storage_limit is not None:
            keys["storage_limit"] = wanted.storage_limit
        harbor = Harbor()
        api = await harbor.open(self._http, self._reference.domain, self._reference.path)
        try:
            await harbor.create_project(api, name, keys)
        except RefusedError as error:
            why = f"{error}; let an administrator create project {name}, or use a system robot that may create projects"
            raise type(error)(why, error.status) from error
