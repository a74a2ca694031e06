"""Collects what is found in all files, and joins it to hosts, targets and mirrors that mirrord takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from mirrord.errors import MirrordError
from mirrord.importing.report import Report, one_line
from mirrord.importing.values import ImageCopy, Keys, Options, OtherMirror, TagFilter, united
from mirrord.model.origin import ConfigOrigin
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import redact

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")
_NOT_IN_A_VARIABLE = re.compile(r"[^A-Z0-9]+")
_LONGEST = 60
_ONE_WRITER = "is written by another part already, and one mirror writes a repository"
_SAID = {"platforms": "choice of platforms"}
_ALONE = "gets other tags already, and a digest, a renamed tag or a filter cannot be joined with them"


@dataclass(slots=True)
class HostDraft:
    """What is known of a host."""

    origin: ConfigOrigin
    keys: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Draft:
    """Everything that was found."""

    options: Options = field(default_factory=Options)
    report: Report = field(default_factory=Report)
    hosts: dict[str, HostDraft] = field(default_factory=dict)
    # by repository at the target; all of one repository have one source, and rules that can be joined
    copies: dict[str, list[ImageCopy]] = field(default_factory=dict)
    others: list[OtherMirror] = field(default_factory=list)
    _signatures: bool = False  # whether a rule was seen that takes their tags, too

    def host(self, name: str, origin: ConfigOrigin, keys: Keys) -> None:
        """Add keys of a host; one that has another value already is reported."""
        known = self.hosts.setdefault(name, HostDraft(origin))
        for key, value in keys.items():
            if known.keys.setdefault(key, value) != value:
                self.report.lose(origin, f"{key} of {name}", f"differs from the one at {known.origin}, which is used")

    def login(self, name: str, origin: ConfigOrigin, username: str, password: Keys) -> None:
        """Add user name and password of a host."""
        variable = password.get("env")
        if isinstance(variable, str):
            self.report.secrets.setdefault(variable, one_line(f"password of {username} at {name}"))
        self.host(name, origin, {"auth": {"username": username, "password": dict(password)}})

    def reference(self, text: str, origin: ConfigOrigin, key: str) -> Reference | None:
        """Read a reference; what is none is reported."""
        try:
            return Reference.parse(text)
        except MirrordError as error:
            self.report.lose(origin, key, str(error))
            return None

    def copy(self, copy: ImageCopy) -> None:
        """Add a copy, joined with an earlier one between the same repositories."""
        if copy.source.name == copy.target.name:
            self.report.lose(copy.origin, copy.key, "copies a repository to itself")
            return
        if wrong := copy.rule.wrong():
            self.report.lose(copy.origin, copy.key, wrong)
            return
        if not self._signatures and copy.rule.takes_signatures:
            what = (
                "all tags include those of signatures (sha256-…), here and elsewhere; "
                "mirrord copies them only where sha256-* is added"
            )
            self.report.tell(copy.origin, copy.key, what)
            self._signatures = True
        known = self.copies.setdefault(copy.target.name, [])
        if not known or self._joins(known[0], copy):
            known.append(copy)

    def repositories(self, origin: ConfigOrigin, name: str, source: Keys, target: str, own: Keys) -> None:
        """Add a mirror of repositories of a registry; each keeps its path below the target."""
        where = {f"{target}-repositories": {"kind": "image", "to": target, "naming": "{path}"}}
        self.many(OtherMirror(origin, name, {"kind": "image", "from": source, **own}, where))

    def many(self, mirror: OtherMirror) -> None:
        """Add a mirror of many images; a second one that writes below the same place is reported."""
        places = list(mirror.targets.values())
        first = next((one for one in self.others if places and list(one.targets.values()) == places), None)
        if first is None:
            self.others.append(mirror)
        else:
            what = f"writes to the same place as {first.origin}; import it with a --to of its own, or join the two"
            self.report.lose(mirror.origin, mirror.name, what)

    def _joins(self, known: ImageCopy, copy: ImageCopy) -> bool:
        """Whether a copy can be joined with another one into the same repository; if not, that is reported."""
        alike = known.source.name == copy.source.name
        if not alike or not (known.rule == copy.rule or (known.rule.joinable and copy.rule.joinable)):
            why = _ALONE if alike else _ONE_WRITER
            tag = f"{copy.rule.tags[0]} as {copy.rule.named}: " if copy.rule.tags and copy.rule.named else ""
            what = f"{tag}{copy.target.name} {why} ({known.origin}); copy one of them to another repository"
            self.report.lose(copy.origin, copy.key, what)
            return False
        for key in sorted(known.own.keys() | copy.own.keys()):
            if known.own.get(key) != copy.own.get(key):
                what = f"has another {_SAID.get(key, 'schedule')} than {known.origin}, which is used for both"
                self.report.lose(copy.origin, copy.key, what)
                break
        return True


@dataclass(frozen=True, slots=True)
class MirrorDraft:
    """A mirror as it is written, and where it comes from."""

    origins: tuple[ConfigOrigin, ...]
    keys: Keys


@dataclass(slots=True)
class Arranged:
    """Targets and mirrors with their final names."""

    targets: dict[str, tuple[ConfigOrigin, Keys]] = field(default_factory=dict)
    mirrors: list[MirrorDraft] = field(default_factory=list)
    called: dict[str, str] = field(default_factory=dict)  # names of targets by their keys
    taken: dict[str, int] = field(default_factory=lambda: {"local": 1})  # names of targets


def arrange(draft: Draft) -> Arranged:
    """Give everything its name, and make one mirror of copies of one repository to several places."""
    arranged = Arranged()
    names: dict[str, int] = {}
    for (source, rule, *_), group in _groups(draft.copies.values()).items():
        firsts = [copies[0] for copies in group]
        shared = _common(firsts)
        targets = [_target(arranged, copy, shared) for copy in firsts]
        keys: dict[str, object] = {
            "name": _unique(_slug(shared), names),
            "kind": "image",
            "from": rule.source(source),
            "to": targets,
            "as": shared,
            **firsts[0].own,
        }
        origins = tuple(copy.origin for copies in group for copy in copies)
        arranged.mirrors.append(MirrorDraft(origins, keys))
    for other in draft.others:
        named = [_add(arranged, name, other.origin, keys) for name, keys in other.targets.items()]
        keys = {"name": _unique(_slug(other.name), names), **other.keys, "to": named or ["local"]}
        arranged.mirrors.append(MirrorDraft((other.origin,), keys))
    return arranged


def _groups(
    repositories: Iterable[list[ImageCopy]],
) -> dict[tuple[str, TagFilter, str, str], list[list[ImageCopy]]]:
    """Return what one mirror can do: by source, rule, own keys and last segment, the copies into each repository."""
    groups: dict[tuple[str, TagFilter, str, str], list[list[ImageCopy]]] = {}
    for copies in repositories:
        first, rule = copies[0], united([copy.rule for copy in copies])
        assert rule is not None  # others are not joined
        last = first.target.path.rpartition("/")[2]
        groups.setdefault((first.source.name, rule, repr(first.own), last), []).append(copies)
    return groups


def _common(copies: list[ImageCopy]) -> str:
    """Return the segments that the paths of all targets end with; "" for none."""
    paths = [copy.target.path.split("/")[::-1] for copy in copies]
    length = 0
    while length < min(map(len, paths)) and len({path[length] for path in paths}) == 1:
        length += 1
    return "/".join(paths[0][:length][::-1])


def _target(arranged: Arranged, copy: ImageCopy, shared: str) -> str:
    """Return the name of the target below which a copy has the shared path."""
    place = copy.target.name.removesuffix(f"/{shared}")
    return _add(arranged, place, copy.origin, {"kind": "image", "to": place})


def _add(arranged: Arranged, name: str, origin: ConfigOrigin, keys: Keys) -> str:
    written = repr(keys)
    if written not in arranged.called:
        arranged.called[written] = free = _unique(_slug(name), arranged.taken)
        arranged.targets[free] = (origin, keys)
    return arranged.called[written]


def _slug(text: str) -> str:
    """Return a text as the name of a mirror or target: its end is what tells names apart."""
    return _NOT_IN_A_NAME.sub("-", redact(text).lower()).strip("-")[-_LONGEST:].strip("-") or "mirror"


def _unique(name: str, taken: dict[str, int]) -> str:
    """Return the name, or with the first number that makes it unique, and add it to those that are taken.

    `taken` also has the last number behind each beginning, under `beginning-`, which is no name.
    """
    free, begin = name, f"{name[:55]}-"
    while free in taken:
        taken[begin] = taken.get(begin, 1) + 1
        free = f"{begin}{taken[begin]}"
    taken[free] = 1
    return free


def variable(text: str) -> str:
    """Return the name of an environment variable for the password of a host: `REGISTRY_CORP_EXAMPLE_5000_PASSWORD`."""
    name = _NOT_IN_A_VARIABLE.sub("_", text.upper()).strip("_")
    return f"{'HOST_' if not name[:1].isalpha() else ''}{name}_PASSWORD"
