"""The part of the port for kinds that list their names in `local` in an index, which has to go on being right."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from mirrord.model.digest import Digest
from mirrord.model.keep import Ranks


@dataclass(frozen=True, slots=True)
class ListedNames:
    """The names of a repository, as its index lists them.

    Attributes:
        ranks: what the names mean.
        called: by name, what the ledger calls it.
        beside: names that go with another one, by name, with its content.
        drop: drops names, and in the same step lists them no more; as `Repositories.drop`. Gets the names, further
            manifests, those of the names that go with others, and the revision of the repository.
    """

    ranks: Ranks
    called: Mapping[str, str]
    drop: Callable[
        [Mapping[str, Digest], frozenset[Digest], Mapping[str, Digest], str],
        Awaitable[tuple[frozenset[str], frozenset[Digest]]],
    ] = field(repr=False)
    beside: Mapping[str, Digest] = field(default_factory=dict)
