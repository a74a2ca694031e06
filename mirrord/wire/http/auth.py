"""Basic and Bearer as generators without I/O: they yield actions and receive the results.

Whether a token server may be asked at all is decided by `mirrord.wire.trust`. The flow follows the distribution
token specification, with the leniency that registries need: `access_token`, missing lifetimes, scopes that are
named only in a second challenge, identity tokens (OAuth2) with the older GET as a way back. Challenges are read as
RFC 9110 section 11.6.1 writes them: several in one header, or in several, or both.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mirrord.errors import UntrustedError
from mirrord.wire import trust
from mirrord.wire.host import HostPolicy
from mirrord.wire.http.token import AuthState, Token
from mirrord.wire.origin import check_url, joined
from mirrord.wire.secret import Credential

_MOST_SCOPES: Final = 2


LONGEST: Final = 16 * 1024
MOST: Final = 16

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word
_SCHEME = re.compile(rf"[ \t,]*+({_TOKEN})(?:[ \t]++|(?=,)|$)")
_PARAM = re.compile(rf'[ \t,]*+({_TOKEN})[ \t]*+=[ \t]*+(?:([^",=\s][^",\s]*+)|"((?:[^"\\]|\\.)*+)")[ \t]*+(?=,|$)')
_TOKEN68 = re.compile(r"[0-9A-Za-z._~+/-]++=*+[ \t]*+(?=,|$)")
_ESCAPE = re.compile(r"\\(.)")


class Challenge(NamedTuple):
    """One way to authenticate that a server offers."""

    scheme: str  # lower-case (`bearer`, `basic`)
    params: Mapping[str, str]  # lower-case names; of a repeated name the first value counts


def parse(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Return all challenges in order; what follows a syntax error, and a header beyond `LONGEST`, is dropped.

    Takes time linear in the length of the headers whatever they hold.
    """
    found: list[Challenge] = []
    for header in headers:
        position = 0
        while len(header) <= LONGEST and len(found) < MOST and (scheme := _SCHEME.match(header, position)):
            params, position = _params(header, scheme.end())
            found.append(Challenge(scheme[1].lower(), params))
    return tuple(found)


def _params(header: str, position: int) -> tuple[dict[str, str], int]:
    params: dict[str, str] = {}
    while match := _PARAM.match(header, position):
        name, bare, quoted = match.groups()
        params.setdefault(name.lower(), bare if quoted is None else _ESCAPE.sub(r"\1", quoted))
        position = match.end()
    if not params and (match := _TOKEN68.match(header, position)):
        position = match.end()
    return params, position


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send the request with this `Authorization`; answer with a `Reply`."""

    authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Identify:
    """Find our credential for the host; answer with it or None."""


@dataclass(frozen=True, slots=True)
class Need:
    """Get a token, from `AuthState.tokens` or by `token.obtain`; answer with it."""

    scope: str  # which one
    reject: Token | None = None  # a token that the host has just refused, or None


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of an attempt."""

    status: int  # of the answer
    headers: tuple[str, ...]  # the values of all its `WWW-Authenticate`
    url: str  # where it came from
    now: float  # monotonic time


Wanted = Attempt | Identify | Need
Answer = Reply | Credential | Token | None


def authenticate(
    state: AuthState, policy: HostPolicy, scope: str, now: float, need: float = 0.0
) -> Generator[Wanted, Answer, None]:
    """Yield attempts until one is final; the last `Reply` is the answer, whatever its status.

    At most three attempts: without or with what we have; with a fresh token; with the scope that a second
    challenge names; further scopes of the host are ignored. The scheme and realm of the host are kept in
    `state`, so that later calls begin with it.

    Raises:
        UntrustedError: the host names only token servers that must not see us, not even anonymously.
    """
    wanted, tried = state.aliases.get(scope, scope), set[str]()
    token: Token | None = None
    authorization: str | None = None
    renewed = False
    if state.scheme == "basic":
        authorization = _basic((yield Identify()))
    elif state.scheme == "bearer":
        token = state.token(wanted, now, need) or _token((yield Need(wanted)))
        authorization = _bearer(token)
    while True:
        reply = yield Attempt(authorization)
        assert isinstance(reply, Reply)
        stale = token is not None and token.issued < now and reply.status == policy.registry.expired
        if not (stale or _retried(reply, token, authorization)) or not trust.belongs(check_url(reply.url), policy):
            if token is not None and wanted != scope and reply.status < 400:
                state.aliases[scope] = wanted
            return
        credential = yield Identify()
        assert credential is None or isinstance(credential, Credential)
        offer = _choose(reply, policy, credential) or _same(reply, state, token, credential)
        if offer is None:
            return
        if offer.scheme == "basic":
            state.scheme = "basic"
            if renewed or authorization == _basic(credential):
                return
            renewed = _is_basic(authorization)  # a keyring has a newer one, which is tried once
            authorization = _basic(credential)
            continue
        state.scheme, state.realm, state.service = "bearer", offer.params["realm"], offer.params.get("service", "")
        following = _next_scope(offer, wanted, tried, first=token is None)
        if following is None:
            return
        wanted = following
        tried.add(_canonical(wanted))
        token = _token((yield Need(wanted, token)))
        authorization = _bearer(token)


def _retried(reply: Reply, token: Token | None, authorization: str | None) -> bool:
    """Whether an answer may only mean that we have to authenticate, at first or anew.

    Some registries answer 403 when a token ran out, ECR also to one that is sent as a password (deis/builder#426).
    """
    ran_out = token is not None and token.expired(reply.now)
    return reply.status == 401 or (reply.status == 403 and (ran_out or _is_basic(authorization)))


def _same(reply: Reply, state: AuthState, token: Token | None, credential: Credential | None) -> Challenge | None:
    """Return the way to authenticate that was used, where a refusal that is not 401 names none."""
    if reply.status == 401:
        return None
    if token is not None:
        return Challenge("bearer", {"realm": state.realm, "service": state.service})
    return Challenge("basic", {}) if credential is not None else None


def _is_basic(authorization: str | None) -> bool:
    return authorization is not None and authorization.startswith("Basic ")


def _choose(reply: Reply, policy: HostPolicy, credential: Credential | None) -> Challenge | None:
    """Return the first bearer challenge with a trusted realm, else basic if we have a credential, else None."""
    home, refused, basic = check_url(reply.url), None, None
    for offer in parse(reply.headers):
        if offer.scheme == "basic":
            basic = offer
        elif offer.scheme == "bearer" and offer.params.get("realm"):
            try:
                realm = joined(reply.url, offer.params["realm"])
                trust.check_realm(realm, home, policy)
            except UntrustedError as error:
                refused = refused or error
            else:
                return Challenge("bearer", {**offer.params, "realm": realm})
    if basic is not None and credential is not None:
        return basic
    if refused is not None:
        raise refused
    return None


def _next_scope(offer: Challenge, wanted: str, tried: set[str], *, first: bool) -> str | None:
    named = offer.params.get("scope", "")
    if len(tried) == _MOST_SCOPES:
        return None
    if first:
        return wanted or named
    narrow = offer.params.get("error") == "insufficient_scope" and named
    for scope in (named, wanted) if narrow else (wanted, named):
        if scope and _canonical(scope) not in tried:
            return scope
    return None if wanted or "" in tried else ""


def _canonical(scope: str) -> str:
    """Return `scope` with its parts and their actions in order, for comparison."""
    parts = (part.rpartition(":") for part in scope.split())
    return " ".join(sorted(f"{name}:{','.join(sorted(actions.split(',')))}" for name, _, actions in parts))


def _basic(credential: Answer) -> str | None:
    return credential.basic if isinstance(credential, Credential) else None


def _token(answer: Answer) -> Token:
    assert isinstance(answer, Token)
    return answer


def _bearer(token: Token) -> str:
    return f"Bearer {token.secret.reveal()}"
