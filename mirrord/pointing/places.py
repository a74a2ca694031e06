"""Where an image is at the mirror, for everything that points users there: ONE mapping, without a request.

A tag and a digest stay what they are. What is at the mirror already stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from mirrord.config.load import Configuration
from mirrord.config.pointing import FRONT, Policy, unset
from mirrord.errors import ConfigError, MirrordError, UsageError
from mirrord.names.allows import AllowEntry, AllowList
from mirrord.names.denied import Denied
from mirrord.names.naming import below, registry_prefix
from mirrord.names.workloads import is_template
from mirrord.pointing.image_mirrors import KIND, ImageMirrors, by_naming, place_at, takes
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.wire.oci.reference import Reference

DIRECT: Final = "direct.to/"
"""In front of an image that is to be pulled from where it is."""

LeftReason = Literal[
    "at_mirror",
    "excepted",
    "template",
    "invalid",
    "denied",
    "unlisted",
    "unnamed",
    "absent",
    "unknown",  # the mirror was asked
    "key",
    "split",
    "escaped",
    "shared",  # of rewriting: the text cannot be edited
]  # fmt: skip - by who says it


@dataclass(frozen=True, slots=True)
class MirrorPlace:
    """Where an image is at the mirror.

    Attributes:
        reference: what clients pull, with the tag and the digest that were written.
        where: `front`, `local` or the name of a target.
        mirror: which mirror copies it there; None at the front, and where a naming alone gives the name.
        listed: whether the configuration names it with this tag, in a mirror or in the front's list.
    """

    reference: Reference
    where: str
    mirror: str | None
    listed: bool


@dataclass(frozen=True, slots=True)
class Left:
    """Why an image stays what it is: a code, and a sentence for people without the image."""

    reason: LeftReason
    text: str


@dataclass(frozen=True, slots=True)
class Direct:
    """An image that was written with `direct.to/`; `text` is what stands behind it."""

    text: str


Read: TypeAlias = "Reference | Left | Direct"
Decision: TypeAlias = "MirrorPlace | Direct | Left"


class Places:
    """The mapping of a configuration. Making it reads the lists that are named there (blocking); asking it is pure.

    Attributes:
        to: the places in the order of preference.
        policy: which images are pointed elsewhere.
        problems: what of the configuration is left out, one sentence each; grows.
    """

    def __init__(
        self,
        read: Configuration,
        *,
        to: Sequence[str] = (),
        policy: Policy | None = None,
        denied: Callable[[], Denied] | None = None,
    ) -> None:
        """Read the configuration; `to`, `policy` and what is `denied` at a time take the place of what it says.

        Raises:
            UsageError: it has no place or several, and does not say which.
            ConfigError: our own address is not known.
        """
        self._read = read
        self._denied = denied or (lambda: read.denied)
        self._targets = {name: one for name, one in read.targets.items() if one.kind == KIND}
        self._targets[LOCAL] = Target(LOCAL, KIND, LOCAL, None)
        self.to = tuple(to) or read.pointing.to or self._usual()
        self.policy: Policy = policy or read.pointing.policy
        self._mirrors = ImageMirrors(read, front=FRONT in self.to)
        self._own = own_registry(read) if {FRONT, LOCAL} & {*self.to} else own_host(read)
        self._excepted = AllowList(read.pointing.excepted)
        self._prefixes = [prefix for target in self._targets.values() if (prefix := _prefix(target))]

    @property
    def problems(self) -> Sequence[str]:
        """What of the configuration is left out, one sentence each."""
        return self._mirrors.problems

    @property
    def ours(self) -> Sequence[str]:
        """What the names of images at the mirror begin with, whole segments."""
        return [*filter(None, (self._own, *self._read.names.hosts, *self._prefixes))]

    @property
    def excepted(self) -> Collection[AllowEntry]:
        """Images that are never pointed elsewhere."""
        return self._excepted.entries()

    def sources(self) -> Iterator[Reference]:
        """Yield the repositories that mirrors copy, each part of a list too."""
        yield from filter(None, map(self._mirrors.source, self._mirrors.named))

    def read(self, text: str) -> Read:
        """Return the reference that stands in a text; templates, digests alone and what is no reference are left."""
        if is_template(text):
            return Left("template", "has a template; render it first")
        if text.startswith(DIRECT):
            return Direct(text.removeprefix(DIRECT))
        try:
            return Reference.parse(text)
        except UsageError as error:
            return Left("invalid", str(error))

    def of(self, reference: Reference) -> MirrorPlace | Left:
        """Return where an image is by the configuration alone: for the policies `listed` and `always`."""
        found = self.candidates(reference)
        if isinstance(found, Left):
            return found
        if self.policy == "always":
            return found[0]
        listed = next((place for place in found if place.listed), None)
        return listed or Left("unlisted", "no mirror and no list names it with this tag")

    def candidates(self, reference: Reference) -> Sequence[MirrorPlace] | Left:
        """Return the places that an image may have, at least one, the preferred one first; else why it has none."""
        try:
            source = self._read.names.canonical(reference)
        except UsageError as error:
            return Left("invalid", str(error))
        if self._is_at_mirror(reference):
            return Left("at_mirror", "is at the mirror already")
        if line := self._excepted.line(source):
            return Left("excepted", f"pointing.except has {line.text}")
        if denied := self._denied().image(source.name, source.digest or source.tag or "latest"):
            return Left("denied", f"was taken down: {denied.reason}")
        found = [place for name in self.to for place in self._at(name, reference, source)]
        if not found and FRONT in self.to and (key := self._mirrors.denied_by_front(source)):
            return Left("denied", f"is not served: {key} has it")
        return found or Left("unnamed", " and ".join(self._nameless()))

    def _nameless(self) -> Iterator[str]:
        if FRONT in self.to:
            yield "the front does not serve it"
        if targets := [name for name in self.to if name != FRONT]:
            yield f"no mirror and no naming gives it a name at {' or '.join(targets)}"

    def _at(self, where: str, reference: Reference, source: Reference) -> Iterator[MirrorPlace]:
        """Yield the names of an image at one place: by the mirrors that copy it, by `asking`, else by the naming."""
        if where == FRONT and KIND in self._read.fronts:
            if text := self._mirrors.served(source, self._own):
                yield from _placed(text, reference, FRONT, None, listed=True)
            return
        target = self._targets[where]
        writers = [one for one in self._mirrors.of(reference, source) if _writes(one, where)]
        tried = [(mirror, takes(mirror, source)) for mirror in writers]
        for mirror, listed in sorted(tried, key=lambda each: not each[1]):
            yield from _placed(self._name(mirror, target), reference, where, mirror.name, listed=listed)
        asked = [one for one in self._mirrors.asked(source) if _writes(one, where)]
        for mirror in asked:
            yield from _placed(self._name(mirror, target), reference, where, mirror.name, listed=False)
        if not writers and not asked and (nobody := by_naming(source, target, self._read.names)):
            yield from _placed(self._name(nobody, target), reference, where, None, listed=False)

    def _name(self, mirror: Mirror, target: Target) -> str:
        try:
            return place_at(mirror, target, self._own)
        except MirrordError:
            return ""

    def _is_at_mirror(self, reference: Reference) -> bool:
        return any(below(reference.name, begin) is not None for begin in self.ours)

    def _usual(self) -> tuple[str, ...]:
        if KIND in self._read.fronts:
            return (FRONT,)
        written = {one.name for mirror in self._read.mirrors if mirror.kind == KIND for one in mirror.targets}
        places = [name for name in self._targets if name in written]
        if len(places) != 1:
            raise unset(places)
        return (places[0],)


def webhook_places(read: Configuration, denied: Callable[[], Denied] | None = None) -> Places:
    """Return the places of a configuration with a webhook; for `denied` see `Places`. Blocking.

    Raises:
        ConfigError: it does not say where to point at.
    """
    try:
        return Places(read, denied=denied)
    except UsageError as error:
        raise ConfigError(f"webhook: {error}") from error


def own_registry(read: Configuration) -> str:
    """Return the `host[:port]` of our own address as references have it.

    Raises:
        ConfigError: it is not known.
    """
    if own := own_host(read):
        return own
    raise ConfigError("settings.url: is not set, so nobody knows where clients reach mirrord; write url: https://…")


def own_host(read: Configuration) -> str:
    """Return what `own_registry` does, and "" where it is not known."""
    scheme, _, host = read.settings.address().partition("://")
    if not host or {".", ":"} & {*host} or host == "localhost":
        return host
    # In a reference a word without dot and port is the beginning of a path.
    return f"{host}:{443 if scheme == 'https' else 80}"


def _writes(mirror: Mirror, where: str) -> bool:
    return any(one.name == where for one in mirror.targets)


def _placed(text: str, written: Reference, where: str, mirror: str | None, *, listed: bool) -> Iterator[MirrorPlace]:
    """Yield the place whose name is a text; the folder of a layout is none."""
    try:
        found = Reference.parse(text)
    except UsageError:
        return
    yield MirrorPlace(replace(found, tag=written.tag, digest=written.digest), where, mirror, listed)


def _prefix(target: Target) -> str:
    """Return what the names at a target begin with, whole segments; "" where nothing is known."""
    if target.name == LOCAL or target.to.startswith("oci:"):
        return ""
    begin = target.to.partition("{")[0]
    begin = begin if begin == target.to else begin.rpartition("/")[0]
    try:
        return registry_prefix(begin)
    except UsageError:
        return ""
