"""What the formats find, in mirrord's terms: copies of images, and mirrors of other kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mirrord.errors import ContentError
from mirrord.model.digest import Digest
from mirrord.model.origin import ConfigOrigin
from mirrord.patterns import compiled
from mirrord.wire.oci.reference import Reference, valid_tag

Keys = Mapping[str, object]
"""Keys of a configuration as they are written: texts, numbers, flags, lists and mappings."""

ALL = ("*",)
_SIGNATURE = f"sha256-{'0' * 64}.sig"


def _takes(pattern: str) -> bool:
    return pattern.startswith("/") and compiled(pattern[1:-1]).fullmatch(_SIGNATURE)


@dataclass(frozen=True, slots=True)
class TagFilter:
    """Which tags of a repository are copied.

    Attributes:
        tags: tags by name, which have to exist, or `ALL`.
        match: globs and `/re/`, one of which has to match; nothing has to exist.
        exclude: globs and `/re/` that take tags out.
        versions: a range of versions.
        newest: only so many versions; 0 for all.
        digest: of the one manifest that is copied; then there are no tags.
        named: the tag of a single tag or a digest at the target, where it has another one there.
    """

    tags: tuple[str, ...] = ()
    match: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    versions: str = ""
    newest: int = 0
    digest: str = ""
    named: str = ""

    def wrong(self) -> str:
        """Return what is wrong with a tag or the digest, or ""; the text is not shown: it may be a password."""
        if self.digest:
            try:
                Digest.parse(self.digest)
            except ContentError:
                return "what follows the @ is not a digest; write sha256:<64 hex>"
        names = [*(self.tags if self.tags != ALL else ()), *filter(None, (self.named,))]
        if bad := next((number for number, name in enumerate(names, 1) if not valid_tag(name)), 0):
            return f"tag {bad} is not a tag; write letters, digits and _.- with neither . nor - in front"
        return ""

    @property
    def joinable(self) -> bool:
        """Whether it can be joined with others like it: names and patterns, and nothing that limits them."""
        return not (self.exclude or self.versions or self.newest or self.digest or self.named)

    @property
    def takes_signatures(self) -> bool:
        """Whether the other tool copies tags such as `sha256-….sig` by this rule, without naming them."""
        if self.versions or self.newest or self.digest or any(map(_takes, self.exclude)):
            return False
        return ALL in (self.tags, self.match) or any(map(_takes, self.match))

    def of_registry(self, registry: str, match: Sequence[str], exclude: Sequence[str] = ()) -> Keys:
        """Return the value of `from:` for repositories of a registry: globs and `/re/`, those that take some out."""
        rules = {**({"match": list(match)} if match else {}), "exclude": list(exclude)}
        return {
            "registry": registry,
            "repositories": rules if exclude else list(match or ALL),
            "tags": self.source("")["tags"],
        }

    def source(self, repository: str) -> Keys:
        """Return the value of `from:`."""
        named: Keys = {"names": [self.named]} if self.named else {}
        if self.digest:
            return {"repository": f"{repository}@{self.digest}", **named}
        if not (self.match or self.exclude or self.versions or self.newest):
            return {"repository": repository, "tags": list(self.tags), **named}
        choice: dict[str, object] = {}
        if self.match or self.tags:
            choice["match"] = [*self.tags, *self.match]
        if self.versions:
            choice["versions"] = self.versions
        if self.newest:
            choice["newest"] = self.newest
        choice["prereleases"] = True  # what the other tool takes is in the patterns and ranges
        if self.exclude:
            choice["exclude"] = list(self.exclude)
        return {"repository": repository, "tags": choice, **named}


def single(source: Reference, tag: str | None) -> TagFilter:
    """Return the rule for one image that gets `tag` at the target, or the one that it has."""
    name = tag or source.tag or ("" if source.digest else "latest")
    if source.digest:
        return TagFilter(digest=str(source.digest), named=name)
    return TagFilter((source.tag or "latest",), named="" if name == (source.tag or "latest") else name)


def united(rules: Sequence[TagFilter]) -> TagFilter | None:
    """Return the rule for what any of these takes, all tags without one; None where mirrord has no such rule."""
    if not rules or all(rule == rules[0] for rule in rules):
        return rules[0] if rules else TagFilter(ALL)
    if not all(rule.joinable for rule in rules):
        return None
    if any(rule.tags == ALL for rule in rules):
        return TagFilter(ALL)
    tags = dict.fromkeys(tag for rule in rules for tag in rule.tags)
    match = dict.fromkeys(pattern for rule in rules for pattern in rule.match)
    return TagFilter(tuple(tags), tuple(match))


@dataclass(frozen=True, slots=True)
class ImageCopy:
    """Tags of one repository that are copied to one other; `rule` says which, and not the references."""

    origin: ConfigOrigin
    key: str  # where the file says so, for messages
    source: Reference
    target: Reference
    rule: TagFilter
    own: Keys = field(default_factory=dict)  # further keys of the mirror: `every`, `cron`, `timezone`, `platforms`


@dataclass(frozen=True, slots=True)
class OtherMirror:
    """A mirror that is written as it is found.

    Attributes:
        origin: where the file says so.
        name: what it should be called, before it becomes a valid and unique name.
        keys: everything but `name` and `to`.
        targets: the targets by name, with their keys; none for `local`.
    """

    origin: ConfigOrigin
    name: str
    keys: Keys
    targets: Mapping[str, Keys] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Options:
    """What the other tool has on its command line instead of in its file, and the variables of the environment."""

    to: str = ""  # HOST or HOST/PATH of the target
    scoped: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
