"""Which repositories of a registry are mirrored. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from mirrord.patterns import as_expression
from mirrord.plan.select import is_glob, matcher


@dataclass(frozen=True, slots=True)
class RepositoryChoice:
    """Rules for the repositories of a registry: those that `match` names or matches, without those of `exclude`.

    Attributes:
        match: paths, globs and `/regular expressions/` of the whole path.
        exclude: like `match`, but none may match; a path that `match` names is left out, too.
    """

    match: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()

    @property
    def patterns(self) -> Sequence[str]:
        """What the registry must list its repositories for: all of `match` that is no path."""
        return [one for one in self.match if is_glob(one) or as_expression(one) is not None]

    def select(self, listed: Iterable[str]) -> Sequence[str]:
        """Return the paths that `match` names and `exclude` leaves, and then those of `matching`, each once."""
        patterns = {*self.patterns}
        named = (one for one in self.match if one not in patterns)
        return list(dict.fromkeys((*self._left(named), *self.matching(listed))))

    def matching(self, listed: Iterable[str]) -> Sequence[str]:
        """Return the listed paths that one of `patterns` matches and `exclude` leaves, in their order."""
        including = [*map(matcher, self.patterns)]
        return self._left(path for path in listed if any(include(path) for include in including))

    def _left(self, paths: Iterable[str]) -> Sequence[str]:
        excluding = [*map(matcher, self.exclude)]
        return [path for path in paths if not any(exclude(path) for exclude in excluding)]

    def idle(self, listed: Collection[str]) -> Sequence[str]:
        """Return those of `patterns` that match no listed path, excluded or not."""
        return [pattern for pattern in self.patterns if not any(map(matcher(pattern), listed))]
