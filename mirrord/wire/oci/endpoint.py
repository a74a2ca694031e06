"""One repository's part of `/v2/`: its URLs, its token scopes, and where answers may point to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from mirrord.errors import ContentError, UntrustedError, about
from mirrord.model.digest import Digest
from mirrord.wire.http.client import Http, base_url
from mirrord.wire.http.message import HttpRequest, HttpResponse
from mirrord.wire.number import whole
from mirrord.wire.oci.profiles import Profile
from mirrord.wire.oci.reference import Reference
from mirrord.wire.origin import joined
from mirrord.wire.secret import redact
from mirrord.wire.trust import redirect

PULL = "pull"
PUSH = "pull,push"
DELETE = "pull,delete"

Create = Callable[[], Awaitable[None]]

UNSURE = (400, 401, 403, 404, 405, 500, 501)
"""Answers to a HEAD that say little: registries, gateways and firewalls give them where a GET or a PUT works."""


def scope(path: str, actions: str) -> str:
    """Return a token scope (distribution's token authentication)."""
    return f"repository:{path}:{actions}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one repository answers.

    Attributes:
        http: how to get there.
        reference: the repository.
        base: scheme and authority, without a slash at the end.
        actions: `PULL` or `PUSH`: what tokens are asked for, so that one token serves all requests of a copy.
        profile: quirks of the registry.
        create: creates the repository, once for all who wait; None where nobody may.
    """

    http: Http
    reference: Reference
    base: str
    actions: str
    profile: Profile
    create: Create | None = None

    @classmethod
    def at(cls, http: Http, reference: Reference, actions: str, create: Create | None = None) -> Endpoint:
        """Find the endpoint of a reference's repository."""
        base = base_url(http.book, reference.domain, reference.api_host)
        return cls(http, reference, base, actions, http.book.policy(reference.domain).registry, create)

    @property
    def missing(self) -> frozenset[int]:
        """Statuses that mean "not there". A source that denies is never taken for one that has nothing."""
        return self.profile.missing if self.actions == PUSH else frozenset({404})

    def pushing(self) -> Endpoint:
        """Return the same endpoint with the scope for pushing."""
        return self if self.actions == PUSH else replace(self, actions=PUSH)

    def call(self, method: str, rest: str, **more: Any) -> HttpRequest:
        """Return a request below `/v2/<name>/`, with what else it needs of `HttpRequest`."""
        return self.call_url(method, f"{self.base}/v2/{self.reference.path}/{rest}", **more)

    def call_url(self, method: str, url: str, **more: Any) -> HttpRequest:
        """Return a request to a URL that the registry gave us. `Http` decides what a foreign host gets to see."""
        more.setdefault("scope", scope(self.reference.path, self.actions))
        return HttpRequest(method, url, self.reference.domain, **more)

    def location(self, answer: HttpResponse) -> str:
        """Return where an answer's Location points to, resolved against the URL that answered; never rebuilt.

        Raises:
            ContentError: there is none.
            UntrustedError: it leads from https to http, or to no proper http(s) URL.
        """
        location = answer.headers.get("location")
        if not location:
            raise ContentError(f"{self.reference.name}: an upload was started, but the answer does not say where")
        try:
            url = joined(answer.url, location)
            here, there = urlsplit(self.base), urlsplit(url)
            if (here.scheme, there.scheme) == ("https", "http") and here.netloc == there.netloc:
                url = f"https{url[len('http') :]}"  # a registry behind a TLS proxy that believes its own URL to be http
            return url if url == answer.url else redirect((answer.url,), url)
        except UntrustedError as error:
            about(
                error, f"{self.reference.name}: the Location of an upload that it started: {redact(location[:120])!a}"
            )
            raise


def header_digest(answer: HttpResponse) -> Digest | None:
    """Return `Docker-Content-Digest`, or None when it is missing or none of ours."""
    try:
        return Digest.parse(answer.headers.get("docker-content-digest", ""))
    except ContentError:
        return None


def header_size(answer: HttpResponse) -> int | None:
    """Return `Content-Length`, or None when it is missing or not a number."""
    return whole(answer.headers.get("content-length", ""))
