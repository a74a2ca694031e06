"""The format of a repository: a log in which each line is one publication. Pure.

    {"log":"5f3a…","size":412}
    {"manifests":{"sha256:…":{"mediaType":"…","size":7,"refs":["sha256:…"],"subject":""}},"lost":1764288000}
    {"dropped":{"main-1":{"digest":"sha256:…","set":1764288000,"at":1764374400}}}
    {"tags":{"main":"sha256:…"},"at":1764288000}

The first line identifies the log, and gives the bytes of its initial lines, which have one tag or manifest each.
Publications are appended, and later lines override earlier ones. So one append is one atomic step, and a lookup
searches the bytes for a name and reads the line around it. The single JSON document of earlier versions is read as
one publication.

`at` is when the tags came (seconds since 1970); lines of earlier versions are without it. A log that is rewritten says
of a manifest when it last `lost` a tag, which follows from the lines otherwise. `dropped` has tags that were removed by
retention: only a log that is rewritten can do without a tag.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from typing import Any, Final

from mirrord.blobs.repositories import Addition, DroppedTag, ManifestRef, RepositoryState
from mirrord.errors import ContentError
from mirrord.model.digest import Digest

DAMAGE: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, ContentError)
"""What reading a document of ours raises where it is damaged: whatever JSON can say in the place of what we wrote."""
_KEYS = {"tags", "manifests", "at", "lost", "dropped"}


@dataclass(slots=True)
class Links:
    """The contents of a log.

    Attributes:
        content: the manifests and what they refer to.
        tagged: when each tag got its digest; not of lines without a time.
        lost: when a manifest last lost a tag.
    """

    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, ManifestRef] = field(default_factory=dict)
    content: set[Digest] = field(default_factory=set)
    tagged: dict[str, int] = field(default_factory=dict)
    lost: dict[Digest, int] = field(default_factory=dict)
    dropped: dict[str, DroppedTag] = field(default_factory=dict)

    def add(self, tags: Mapping[str, Digest], manifests: Mapping[Digest, ManifestRef], at: int | None = None) -> Links:
        """Add a publication; the tags last, so that the manifest of a visible tag is visible."""
        self.content.update(manifests, *(link.refs for link in manifests.values()))
        self.manifests.update(manifests)
        if at is not None:
            moved = {self.tags.get(name) for name, digest in tags.items() if self.tags.get(name) != digest}
            self.lost.update((old, at) for old in moved if old is not None)
            self.tagged.update(dict.fromkeys(tags, at))
        for name in tags if self.dropped else ():
            self.dropped.pop(name, None)
        self.tags.update(tags)
        return self

    def only(self, tags: Collection[str], manifests: Collection[Digest], at: int) -> Links:
        """Return some of these, and when they came; manifests that lose a tag lose it `at` that time."""
        links = Links().add(
            {name: digest for name, digest in self.tags.items() if name in tags},
            {digest: link for digest, link in self.manifests.items() if digest in manifests},
        )
        links.tagged = {name: when for name, when in self.tagged.items() if name in tags}
        links.lost = {digest: when for digest, when in self.lost.items() if digest in manifests}
        links.lost |= {digest: at for name, digest in self.tags.items() if name not in tags and digest in manifests}
        links.dropped = {name: gone for name, gone in self.dropped.items() if name not in links.tags}
        return links

    def without(
        self, tags: Collection[str], manifests: Collection[Digest], at: int, most: int, instead: Addition
    ) -> Links:
        """Return these without some tags and manifests, and with an addition.

        The newest `most` tags that were dropped are known.
        """
        links = self.only(self.tags.keys() - set(tags), self.manifests.keys() - set(manifests), at)
        for name in tags:
            links.dropped[name] = DroppedTag(self.tags[name], self.tagged.get(name, at), at)
        if len(links.dropped) > most:
            newest = sorted(links.dropped, key=lambda name: links.dropped[name].at)[-most:]
            links.dropped = {name: links.dropped[name] for name in newest}
        return links.add(instead.tags, instead.manifests, at)

    def state(self, revision: str) -> RepositoryState:
        """Return a copy for others."""
        copies = dict(self.tags), dict(self.manifests), revision
        return RepositoryState(*copies, dict(self.tagged), dict(self.lost), dict(self.dropped))

    def tag(self, name: str) -> Digest | None:
        """Return the digest of a tag."""
        return self.tags.get(name)

    def manifest(self, digest: Digest) -> ManifestRef | None:
        """Return a manifest."""
        return self.manifests.get(digest)

    def links(self, digest: Digest) -> bool:
        """Return whether a manifest has this digest, or refers to it."""
        return digest in self.content

    def read(self) -> Links:
        """Return itself."""
        return self


@dataclass(frozen=True, slots=True)
class Lines:
    """A log of which one line is read at a time.

    All methods raise one of `DAMAGE` for a damaged log.
    """

    log: bytes

    def tag(self, name: str) -> Digest | None:
        """Look for a tag."""
        for entry in self._around(json.dumps(name).encode() + b":"):
            if name in (tags := entry.get("tags", {})):
                return Digest.parse(tags[name])
        return None

    def manifest(self, digest: Digest) -> ManifestRef | None:
        """Look for a manifest."""
        for entry in self._around(f'"{digest}":'.encode()):
            if digest in (manifests := entry.get("manifests", {})):
                return _manifest(manifests[digest])
        return None

    def links(self, digest: Digest) -> bool:
        """Look whether a manifest has this digest, or refers to it."""
        return any(Links().add({}, _entry(entry)[1]).links(digest) for entry in self._around(f'"{digest}"'.encode()))

    def read(self) -> Links:
        """Read all of it."""
        links = Links()
        for text in islice(BytesIO(self.log), 1, None):  # one after the other: many short lines take much in memory
            entry = json.loads(text)
            links.add(*_entry(entry))
            links.dropped.update(_dropped(entry))
            if "lost" in entry:
                links.lost.update(dict.fromkeys(map(Digest.parse, entry["manifests"]), int(entry["lost"])))
        return links

    def _around(self, name: bytes) -> Iterator[dict[str, Any]]:
        """Yield the lines that contain a name, the last one first."""
        end = len(self.log)
        while (at := self.log.rfind(name, 0, end)) >= 0:
            end = self.log.rfind(b"\n", 0, at) + 1
            yield json.loads(self.log[end : self.log.index(b"\n", at)])


def line(
    tags: Mapping[str, Digest],
    manifests: Mapping[Digest, ManifestRef],
    at: int | None = None,
    lost: int | None = None,
) -> bytes:
    """Encode one publication."""
    entry: dict[str, Any] = {}
    if manifests:
        entry["manifests"] = {
            digest: {"mediaType": link.media_type, "size": link.size, "refs": list(link.refs)}
            | ({} if link.subject is None else {"subject": link.subject})
            for digest, link in manifests.items()
        }
    if tags:
        entry["tags"] = dict(tags)
    if at is not None:
        entry["at"] = at
    if lost is not None:
        entry["lost"] = lost
    return _line(entry)


def begin(links: Links, at: int) -> bytes:
    """Encode a new log: one tag or manifest a line; tags of unknown time get `at`."""
    links.tagged = dict.fromkeys(links.tags, at) | links.tagged
    body = [line({}, {digest: link}, lost=links.lost.get(digest)) for digest, link in sorted(links.manifests.items())]
    for name, gone in sorted(links.dropped.items()):  # before the tags, where nobody looks for one
        body.append(_line({"dropped": {name: {"digest": gone.digest, "set": gone.tagged, "at": gone.at}}}))
    body += [line({name: digest}, {}, links.tagged[name]) for name, digest in sorted(links.tags.items())]
    return b"".join([_line({"log": secrets.token_hex(8), "size": sum(map(len, body))}), *body])


def identity(log: bytes) -> tuple[str, int]:
    """Return the identity of a log and the bytes of its initial lines.

    Raises:
        DAMAGE: it does not begin like a log.
    """
    end = log.index(b"\n") + 1
    head = json.loads(log[:end])
    return str(head["log"]), end + int(head["size"])


def sound(log: bytes) -> bytes:
    """Drop an incomplete last line: a crash may have truncated it or left blocks unwritten."""
    whole = log[: log.rfind(b"\n") + 1]
    last = whole.rfind(b"\n", 0, -1) + 1
    return whole[:last] if b"\0" in whole[last:] else whole


def read_document(document: bytes) -> Links:
    """Read the JSON document of earlier versions; raises as `Lines` does."""
    found = json.loads(document)
    return Links().add(*_entry({"tags": found["tags"], "manifests": found["manifests"]}))


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _entry(entry: Any) -> tuple[Mapping[str, Digest], Mapping[Digest, ManifestRef], int | None]:
    if not entry.keys() <= _KEYS:
        raise ValueError(f"unknown keys: {sorted(entry.keys() - _KEYS)}")
    tags = {name: Digest.parse(digest) for name, digest in entry.get("tags", {}).items()}
    manifests = {Digest.parse(digest): _manifest(link) for digest, link in entry.get("manifests", {}).items()}
    return tags, manifests, int(entry["at"]) if "at" in entry else None


def _dropped(entry: Any) -> Mapping[str, DroppedTag]:
    gone = entry.get("dropped", {})
    return {
        name: DroppedTag(Digest.parse(one["digest"]), int(one["set"]), int(one["at"])) for name, one in gone.items()
    }


def _manifest(link: Any) -> ManifestRef:  # our own file; a wrong shape raises and is reported
    return ManifestRef(
        link["mediaType"], int(link["size"]), tuple(map(Digest.parse, link["refs"])), link.get("subject")
    )
