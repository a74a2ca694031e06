"""What a registry can do, found out by asking it.

Reading, and one upload that is begun and cancelled; `mirrord.wire.oci.trial` goes on with pushes. Every question is one
request without repetition, with a deadline, and every status is an answer.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mirrord.errors import MirrordError, UntrustedError
from mirrord.model.digest import Digest
from mirrord.wire.http import auth
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest, HttpResponse
from mirrord.wire.number import whole
from mirrord.wire.oci.descriptor import OCI_INDEX
from mirrord.wire.oci.endpoint import PULL, PUSH, Endpoint, header_digest
from mirrord.wire.oci.manifest import ACCEPT, LIMIT
from mirrord.wire.oci.profiles import GENERIC, PROFILES, Profile, profile_of
from mirrord.wire.oci.reference import Reference, valid_tag
from mirrord.wire.origin import check_url, joined
from mirrord.wire.secret import redact
from mirrord.wire.trust import check_realm

WAIT: Final = 20.0  # seconds for an answer
DONE: Final = (200, 202, 204)
"""Statuses that say that something was deleted."""
GONE: Final = (*DONE, 404)
"""Those that say that it is not there."""
UPLOAD: Final = "an upload"
"""What one that was begun is called; its URL is the right to go on with it."""
ACCEPTED: Final = {"Accept": ACCEPT}
_ANY: Final = tuple(range(200, 600))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found out: what about, a short answer (`yes`, `no`, …), and what it was seen by."""

    what: str
    answer: str
    detail: str = ""


@dataclass(slots=True)
class Probe:
    """Asks one repository's registry.

    Attributes:
        http: how to get there.
        reference: the repository.
        found: what is known so far, by what it is about.
        rates: headers about limits of the rate, as they came.
        left: what stays although it was to be deleted, and why.
        mark: in the name of whatever is pushed, so that it can be recognised and never exists already.
    """

    http: Http
    reference: Reference
    found: dict[str, Finding] = field(default_factory=dict)
    rates: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    mark: str = field(default_factory=lambda: f"mirrord-probe-{secrets.token_hex(8)}")
    _kind: Profile | None = None
    _realm: str = ""

    async def ask(self, method: str, rest: str, actions: str = PULL, **more: Any) -> HttpResponse:
        """Send one request below the repository, or to a URL that the registry gave us, and return its answer."""
        endpoint = replace(self.endpoint, actions=actions)
        url = rest if "://" in rest else f"{endpoint.base}/v2/{self.reference.path}/{rest}"
        return await self._sent(endpoint.call_url(method, url, ok=_ANY, cap=LIMIT, attempts=1, deadline=WAIT, **more))

    @property
    def endpoint(self) -> Endpoint:
        """Where the repository answers."""
        return Endpoint.at(self.http, self.reference, PUSH)

    def note(self, what: str, answer: object, detail: str = "") -> None:
        """Write down what was found out: `yes`, `no`, or a word."""
        text = ("yes" if answer else "no") if isinstance(answer, bool) else str(answer)
        self.found[what] = Finding(what, text, detail)

    async def look(self) -> None:
        """Ask what can be asked without writing anything.

        Raises:
            MirrordError: there is no registry that answers.
        """
        await self._look_at_root()
        parts = {
            "repository": self._look_at_tags,
            "absent": self._look_at_absent,
            "referrers": self._look_at_referrers,
            "uploads": self._look_at_uploads,
        }
        for what, part in parts.items():
            try:
                await part()
            except MirrordError as error:
                self.note(what, "failed", str(error))
        limits = ", ".join(f"{name}: {value}" for name, value in sorted(self.rates.items()))
        self.note("rate", limits or "none seen")

    async def _look_at_root(self) -> None:
        url = f"{self.endpoint.base}/v2/"
        call = HttpRequest("GET", url, self.reference.domain, ok=_ANY, cap=LIMIT, anonymous=True, deadline=WAIT)
        answer = await self._sent(call)
        version = redact(answer.headers.get("docker-distribution-api-version", ""))[:80]
        self.note("tls", url.startswith("https:"))
        self.note("api", answer.status in (200, 401), f"status {answer.status}" + (version and f", {version}"))
        self._kind = next((one for one in PROFILES.values() if one.recognised(answer.headers)), None)
        offer = next(iter(auth.parse([answer.headers.get("www-authenticate", "")])), None)
        if answer.status != 401 or offer is None:
            self.note("auth", "none" if answer.status == 200 else "unknown")
            return
        self.note("auth", offer.scheme[:20])
        if offer.scheme == "bearer":
            self._look_at_realm(joined(answer.url, offer.params.get("realm", "")), answer.url)

    def _look_at_realm(self, realm: str, home: str) -> None:
        origin = check_url(realm)
        self.note("realm", str(origin))
        try:
            check_realm(realm, check_url(home), self.http.book.policy(self.reference.domain))
        except UntrustedError:
            self._realm = str(origin)

    async def _look_at_tags(self) -> None:
        answer = await self.ask("GET", "tags/list?n=2")
        tags = _tags_in(answer) if answer.status == 200 else []
        self.note("repository", answer.status == 200, f"status {answer.status}")
        if not tags:
            self.note("head", "unknown", "there is no tag to ask for")
            return
        head = await self.ask("HEAD", f"manifests/{tags[0]}", headers=ACCEPTED)
        self.note_head(head)

    def note_head(self, head: HttpResponse) -> None:
        """Write down what HEAD of a manifest that is there says."""
        digest = header_digest(head) if head.status == 200 else None
        self.note("head", head.status == 200, f"status {head.status}")
        self.note("digest", digest is not None, "Docker-Content-Digest")

    async def _look_at_absent(self) -> None:
        head = await self.ask("HEAD", f"manifests/{self.mark}", PUSH, headers=ACCEPTED)
        self.note("absent", str(head.status), "status of HEAD for a tag that is not there")

    async def _look_at_referrers(self) -> None:
        subject = Digest.of(self.mark.encode())
        answer = await self.ask("GET", f"referrers/{subject}", headers={"Accept": OCI_INDEX})
        kind = redact(answer.headers.get("content-type", "")).partition(";")[0].strip().lower()
        self.note("referrers", answer.status == 200 and kind == OCI_INDEX, f"status {answer.status}, {kind[:60]}")

    async def _look_at_uploads(self) -> None:
        answer = await self.ask("POST", "blobs/uploads/", PUSH, body=b"")
        self.note("uploads", answer.status == 202, f"status {answer.status}")
        if answer.status != 202:
            return
        least = whole(answer.headers.get("oci-chunk-min-length", ""))
        self.note("minimum", str(least or "none"), "OCI-Chunk-Min-Length, bytes")
        self.left.append(f"{UPLOAD}: no answer to DELETE")  # until there is one, and if there is none before Ctrl-C
        try:
            gone = await self.ask("DELETE", self.endpoint.location(answer), PUSH)
        except MirrordError as error:
            self.note("cancel", "failed", str(error))
            return
        self.note("cancel", gone.status in DONE, f"status {gone.status}")
        self.left.pop()
        if gone.status not in GONE:
            self.left.append(f"{UPLOAD}: status {gone.status} to DELETE")

    def may_push(self) -> bool:
        """Whether uploads may begin, and whether they end: nothing more is begun where a DELETE had no answer."""
        answers = [self.found[what].answer for what in ("uploads", "cancel") if what in self.found]
        return answers[:1] == ["yes"] and answers[1:] != ["failed"]

    async def _sent(self, call: HttpRequest) -> HttpResponse:
        answer = await self.http.fetch(call)
        for name, value in answer.headers.items():
            if "ratelimit" in name.lower():
                self.rates[redact(name).lower()[:60]] = redact(value)[:80]
        return answer

    def profile(self) -> Profile:
        """Return the profile that mirrord uses for this registry now."""
        return self.endpoint.profile

    def advice(self) -> Mapping[str, object]:
        """Return what is missing under `hosts:` for this registry, as keys and values."""
        keys: dict[str, object] = {}
        if self._realm:
            keys["token_realms"] = [self._realm]
        now, fits = self.profile(), self._fitting()
        if fits is not None and fits is not now:
            keys["profile"] = fits.name
        return keys

    def _fitting(self) -> Profile | None:
        """Return the profile that this registry needs, or None where what is used now will do."""
        now = self.profile()
        blind = "head" in self.found and self.found["head"].answer == "no"
        denies = "absent" in self.found and self.found["absent"].answer == "403"
        if (blind and now.head) or (denies and 403 not in now.missing):
            known = (one for one in PROFILES.values() if one.head is not blind and (403 in one.missing) is denies)
            return next(known, self._kind)
        return self._kind if now is GENERIC and profile_of(self.reference.domain) is GENERIC else None


def _tags_in(answer: HttpResponse) -> list[str]:
    try:
        tags = json.loads(answer.body).get("tags")
    except (ValueError, AttributeError, RecursionError):
        return []
    return [tag for tag in tags if isinstance(tag, str) and valid_tag(tag)] if isinstance(tags, list) else []
