"""`mirrord probe`: what a registry can do."""

from __future__ import annotations

import json as documents
import os
from dataclasses import asdict
from typing import Final, Unpack

from mirrord.cli.console import note, say, say_json, table
from mirrord.cli.hosts import HostOptions, copy_hosts
from mirrord.daemon import loop
from mirrord.errors import UsageError
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.oci.probe import Probe
from mirrord.wire.oci.reference import Reference, parse_repository
from mirrord.wire.oci.trial import Trial

_TITLES: Final = {
    "tls": "TLS",
    "api": "speaks the registry API",
    "auth": "authentication",
    "realm": "token server",
    "repository": "repository is there",
    "head": "HEAD of a manifest",
    "digest": "digest in the headers",
    "absent": "HEAD of what is not there",
    "referrers": "referrers API",
    "uploads": "upload may begin",
    "minimum": "shortest chunk",
    "cancel": "upload can be cancelled",
    "rate": "rate limit headers",
    "put": "blob in one PUT",
    "chunks": "blob in chunks",
    "mount": "mount",
    "anonymous": "mount without from",
    "push": "manifest by digest",
    "delete": "delete by digest",
    "subject": "takes note of a subject",
    "sparse": "index without its children",
    "delete_tag": "delete a tag alone",
    "tag_query": "tags by ?tag=",
}


def probe(reference: str, *, push: bool, json: bool, **options: Unpack[HostOptions]) -> int:
    """Run the command and return its exit code."""
    named = parse_repository(reference)
    if named.tag or named.digest:
        raise UsageError(f"{reference} has a tag or digest; write {named.name}")
    book = copy_hosts([named.domain], os.environ, **options)
    asked = loop.run(_asked(named, book, push=push), plain=True)
    advice = {named.domain: dict(asked.advice())} if asked.advice() else {}
    if json:
        found = [asdict(asked.found[what]) for what in _TITLES if what in asked.found]
        profile = asked.profile().name
        say_json({"repository": named.name, "found": found, "profile": profile, "hosts": advice, "left": asked.left})
        return 2 if asked.left else 0
    rows = [(title, asked.found[what]) for what, title in _TITLES.items() if what in asked.found]
    table(("WHAT", "ANSWER", "SEEN BY"), [(title, one.answer, one.detail) for title, one in rows])
    say(f"{named.domain} is treated as {asked.profile().title} (`profile: {asked.profile().name}`)")
    if advice:
        say(f"write under hosts: {documents.dumps(advice)}")
    if not push:
        say("add `--push` to try pushes and deletions; what is pushed is deleted")
    _tell(asked)
    return 2 if asked.left else 0


async def _asked(reference: Reference, book: HostBook, *, push: bool) -> Probe:
    async with Http(book) as http:
        probe = Probe(http, reference)
        try:
            await probe.look()
            if push and probe.may_push():
                await Trial(probe).run()
        except BaseException:
            _tell(probe)
            raise
        return probe


def _tell(probe: Probe) -> None:
    for one in probe.left:
        note(f"stays at {probe.reference.name}: {one}")
