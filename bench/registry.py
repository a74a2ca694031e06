"""A registry in memory that costs next to nothing and answers after a round trip: what is measured are its clients.

    python -m bench.registry [--count N] [--delay SECONDS]

Prints the addresses of N registries in one line, and ends with its standard input. Each line there is answered by one:
`fill I R SIZE [L]` puts I images of L layers, else one, into the first registry, over R repositories; `hits` tells,
and forgets, how often each kind of request came to each; `clear` empties all but the first, `empty` all.

A new connection costs one round trip more than a kept one, as TCP's handshake does.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import NamedTuple, cast
from urllib.parse import parse_qs, unquote

import uvloop

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

_PATH = re.compile(r"/v2/(?P<name>.+?)/(?:(?P<kind>manifests|blobs|referrers)/(?P<ref>[^/]+)|(?P<list>tags/list))/?")
_UPLOADS = re.compile(r"/v2/(?P<name>.+?)/blobs/uploads/(?P<session>[^/]*)")
_REASONS = {200: "OK", 201: "Created", 202: "Accepted", 204: "No Content"}


class Answer(NamedTuple):
    """What goes back."""

    status: int
    headers: Mapping[str, str | int] = {}
    body: bytes = b""


class Manifest(NamedTuple):
    """One manifest."""

    media_type: str
    body: bytes


def digest_of(data: bytes | bytearray) -> str:
    """Return the sha256 digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Repository:
    """What one repository has; blobs by digest, manifests by digest, digests by tag."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Registry:
    """One registry; `hits` counts what was asked."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    sessions: dict[str, bytearray] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    numbers: count[int] = field(default_factory=count)

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer one request."""
        path, _, query = target.partition("?")
        path = unquote(path)
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        if found := _UPLOADS.fullmatch(path):
            self.hits[f"{method} {'mount' if 'mount' in asked else 'upload'}"] += 1
            return self._upload(method, found["name"], found["session"], asked, body)
        if found := _PATH.fullmatch(path):
            kind, ref = found["kind"] or "tags", found["ref"] or ""
            by = f" by {'digest' if ':' in ref else 'tag'}" if kind == "manifests" else ""
            self.hits[f"{method} {kind}{by}"] += 1
            if method == "PUT":
                return self._put(found["name"], ref, Manifest(headers.get("content-type", ""), body))
            return (
                self._get(found["name"], kind, ref, headers, asked)
                if found["name"] in self.repositories
                else Answer(404)
            )
        self.hits[f"{method} other"] += 1
        known = path in ("/v2/", "/v2")
        return Answer(200, {"Content-Type": "application/json"}, b"{}") if known else Answer(404)

    def _get(self, name: str, kind: str, ref: str, headers: Mapping[str, str], asked: Mapping[str, str]) -> Answer:
        repository = self.repositories[name]
        if kind == "tags":
            return self._tags(name, repository, asked)
        if kind == "blobs":
            blob = repository.blobs.get(ref)
            return Answer(404) if blob is None else _part(ref, blob, headers.get("range", ""))
        digest = repository.tags.get(ref, ref)
        manifest = repository.manifests.get(digest)
        if manifest is None:
            return Answer(404)
        return Answer(200, {"Content-Type": manifest.media_type, "Docker-Content-Digest": digest}, manifest.body)

    def _tags(self, name: str, repository: Repository, asked: Mapping[str, str]) -> Answer:
        most, last = int(asked.get("n", "1000")), asked.get("last", "")
        names = [tag for tag in sorted(repository.tags) if tag > last]
        headers: dict[str, str | int] = {"Content-Type": "application/json"}
        if len(names) > most:
            headers["Link"] = f'</v2/{name}/tags/list?n={most}&last={names[most - 1]}>; rel="next"'
        return Answer(200, headers, json.dumps({"name": name, "tags": names[:most]}).encode())

    def _put(self, name: str, ref: str, manifest: Manifest) -> Answer:
        """Take a manifest, as registries do, only when all that it refers to is there."""
        repository = self.repositories.setdefault(name, Repository())
        digest, document = digest_of(manifest.body), json.loads(manifest.body)
        blobs = [*document.get("layers", ()), *filter(None, [document.get("config")])]
        known = all(one["digest"] in repository.blobs for one in blobs)
        known = known and all(one["digest"] in repository.manifests for one in document.get("manifests", ()))
        if not known or (":" in ref and ref != digest):
            code = "DIGEST_INVALID" if known else "MANIFEST_BLOB_UNKNOWN"
            return Answer(400, {}, json.dumps({"errors": [{"code": code}]}).encode())
        repository.manifests[digest] = manifest
        if ":" not in ref:
            repository.tags[ref] = digest
        return Answer(201, {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest})

    def _upload(self, method: str, name: str, session: str, asked: Mapping[str, str], body: bytes) -> Answer:
        repository = self.repositories.setdefault(name, Repository())
        if method == "POST" and (mounted := asked.get("mount")):
            there = self.repositories.get(asked.get("from", ""), Repository()).blobs.get(mounted)
            if there is not None:
                repository.blobs[mounted] = there
                return Answer(201, {"Location": f"/v2/{name}/blobs/{mounted}", "Docker-Content-Digest": mounted})
        if method == "POST" and not session:
            session = str(next(self.numbers))
            self.sessions[session] = bytearray()
        held = self.sessions.get(session)
        if held is None:
            return Answer(404)
        held += body
        if digest := asked.get("digest"):
            del self.sessions[session]
            if digest_of(held) != digest:
                return Answer(400, {}, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
            repository.blobs[digest] = bytes(held)
            return Answer(201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})
        if method == "DELETE":
            del self.sessions[session]
            return Answer(204)
        here = {"Location": f"/v2/{name}/blobs/uploads/{session}", "Range": f"0-{max(len(held) - 1, 0)}"}
        return Answer(204 if method == "GET" else 202, here)


def _part(digest: str, blob: bytes, wanted: str) -> Answer:
    headers: dict[str, str | int] = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
    if not (found := re.fullmatch(r"bytes=([0-9]+)-", wanted)):
        return Answer(200, headers, blob)
    first = int(found[1])
    return Answer(206, {**headers, "Content-Range": f"bytes {first}-{len(blob) - 1}/{len(blob)}"}, blob[first:])


class Connection(asyncio.Protocol):
    """One client's connection: one request after the other, each answered after the round trip."""

    def __init__(self, registry: Registry, delay: float) -> None:
        """Wait for bytes."""
        self._registry, self._delay = registry, delay
        self._held = bytearray()
        self._late = delay  # the handshake, which loopback does not show

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self._held += data
        if self._held[:1] == b"\x16":  # TLS, with which some clients begin; registries refuse it as quickly as they can
            asyncio.get_running_loop().call_later(self._delay + self._late, self._transport.close)
            return
        while request := self._request():
            answer = self._registry.answer(*request)
            head = request[0] == "HEAD"
            wait, self._late = self._delay + self._late, 0.0
            if wait:
                asyncio.get_running_loop().call_later(wait, self._send, answer, head)
            else:
                self._send(answer, head)

    def _send(self, answer: Answer, head: bool) -> None:  # noqa: FBT001 - call_later's
        lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'No')}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        lines += [] if answer.status == 204 else [f"Content-Length: {len(answer.body)}"]
        if not self._transport.is_closing():
            self._transport.write("\r\n".join([*lines, "\r\n"]).encode() + (b"" if head else answer.body))

    def _request(self) -> tuple[str, str, Mapping[str, str], bytes] | None:
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self._held[:end].decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        chunked = headers.get("transfer-encoding") == "chunked"
        body, end = self._chunked(end + 4) if chunked else self._sized(end + 4, int(headers.get("content-length", 0)))
        if body is None:
            return None
        del self._held[:end]
        return method, target, headers, body

    def _sized(self, begin: int, size: int) -> tuple[bytes | None, int]:
        end = begin + size
        return (bytes(self._held[begin:end]) if len(self._held) >= end else None), end

    def _chunked(self, at: int) -> tuple[bytes | None, int]:
        body = bytearray()
        while (line := self._held.find(b"\r\n", at)) >= 0:
            size = int(self._held[at:line], 16)
            at = line + 2 + size + 2
            if len(self._held) < at:
                break
            if not size:
                return bytes(body), at
            body += self._held[line + 2 : line + 2 + size]
        return None, at


def fill(registry: Registry, images: int, repositories: int, size: int, layers: int = 1) -> None:
    """Put in so many images with layers of `size` bytes, `bench/app<R>:v<I>`; no two share anything."""
    for number in range(images):
        repository = registry.repositories.setdefault(f"bench/app{number % repositories}", Repository())
        each = [hashlib.shake_256(f"{number}{'-' * layer}".encode()).digest(size) for layer in range(layers)]
        rootfs = {"type": "layers", "diff_ids": [digest_of(layer) for layer in each]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "number": number, "rootfs": rootfs}).encode()
        parts = [(CONFIG, config), *((LAYER, layer) for layer in each)]
        entries = [{"mediaType": kind, "digest": digest_of(data), "size": len(data)} for kind, data in parts]
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": entries[0], "layers": entries[1:]}
        body = json.dumps(document).encode()
        repository.blobs |= {digest_of(data): data for _, data in parts}
        repository.manifests[digest_of(body)] = Manifest(MANIFEST, body)
        repository.tags[f"v{number // repositories}"] = digest_of(body)


async def serve(registries: list[Registry], delay: float, told: Callable[[str], None]) -> None:
    """Serve all until standard input ends, and obey its lines."""
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(partial(Connection, registry, delay), "127.0.0.1", 0) for registry in registries
    ]
    told(" ".join("{}:{}".format(*server.sockets[0].getsockname()) for server in servers))
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, *numbers = line.split()
        if word == "fill":
            fill(registries[0], *map(int, numbers))
        if word in ("clear", "empty"):
            for registry in registries[word == "clear" :]:
                registry.repositories.clear()
        told(json.dumps([registry.hits for registry in registries]))
        for registry in registries:
            registry.hits.clear()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1, help="how many registries (default 1)")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds of a round trip (default 0.02)")
    given = parser.parse_args()
    registries = [Registry() for _ in range(given.count)]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(registries, given.delay, lambda line: print(line, flush=True)))


if __name__ == "__main__":
    main()
