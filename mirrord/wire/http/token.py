"""Tokens: their lifetime, and the requests for them as a generator without I/O.

Whether a token server may be asked at all was decided before, by `mirrord.wire.trust.check_realm`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import urlencode

from mirrord.errors import ContentError, DeniedError, MirrordError, MissingError, ServerError
from mirrord.wire.host import HostPolicy
from mirrord.wire.http.budget import limited, pause_of
from mirrord.wire.http.message import CAPS, HttpRequest, HttpResponse, permanent, refusal
from mirrord.wire.secret import Credential, Secret
from mirrord.wire.trust import answering

LIFETIME: Final = 60.0
"""Seconds a token lives when its server does not say (token specification)."""

LONGEST_LIFETIME: Final = 24 * 3600.0
REFUSAL_LASTS: Final = 60.0
"""Seconds for which a refused credential is not tried again: repeated attempts lock accounts (regclient #922)."""

_RESERVE: Final = 0.2
_MOST: Final = 512  # scopes of which something is remembered
_SENDABLE = re.compile(r"[!-~]+")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token and when it was issued."""

    secret: Secret  # its text
    issued: float  # monotonic time of the answer that brought it
    lifetime: float  # seconds

    def fit(self, now: float, need: float = 0.0) -> bool:
        """Whether it lasts for `need` seconds of work, with a reserve of a fifth of its lifetime."""
        reserve = self.lifetime * _RESERVE
        return self.issued + self.lifetime - now > max(reserve, min(need, self.lifetime - reserve - 1.0))

    def expired(self, now: float) -> bool:
        """Whether its lifetime is over."""
        return now >= self.issued + self.lifetime


@dataclass(slots=True)
class AuthState:
    """What is known about one host's authentication; shared by all its calls."""

    scheme: str = ""  # `basic`, `bearer` or "" before the first challenge
    realm: str = ""  # the trusted token server of the last challenge
    service: str = ""  # its service name
    # by scope; never one for several repositories, such tokens grow until servers refuse them
    tokens: dict[str, Token] = field(default_factory=dict)
    # scope that was asked for → scope that the host turned out to want
    aliases: dict[str, str] = field(default_factory=dict)
    # scope → (until when, error): what the token server said no to
    refused: dict[str, tuple[float, DeniedError]] = field(default_factory=dict)
    failed: dict[str, MirrordError] = field(default_factory=dict)  # scope → why the last request for a token failed
    asked: bool = False  # whether the host ever asked for credentials

    def token(self, scope: str, now: float, need: float = 0.0) -> Token | None:
        """Return a token that lasts long enough, or None."""
        token = self.tokens.get(scope)
        return token if token is not None and token.fit(now, need) else None

    def keep(self, scope: str, token: Token) -> None:
        """Remember `token`, and forget the oldest when there are too many."""
        self.refused.pop(scope, None)
        self.failed.pop(scope, None)
        _put(self.tokens, scope, token)

    def fail(self, scope: str, error: MirrordError) -> None:
        """Remember why there is no token."""
        _put(self.failed, scope, error)

    def refuse(self, scope: str, error: DeniedError, until: float) -> None:
        """Remember what the token server said no to, for as long as that stands."""
        _put(self.refused, scope, (until, error))


def _put(known: dict[str, _Value], scope: str, value: _Value) -> None:
    known.pop(scope, None)
    known[scope] = value
    while len(known) > _MOST:
        del known[next(iter(known))]


def obtain(
    state: AuthState,
    policy: HostPolicy,
    credential: Credential | None,
    scope: str,
    *,
    now: float,
    wall: float,
    login: str = "",
) -> Generator[HttpRequest, HttpResponse, Token]:
    """Yield the requests that get a token for `scope` from `state.realm`, and return it.

    Args:
        state: of the host.
        policy: of the host.
        credential: ours, or None to ask anonymously.
        scope: what for.
        now: monotonic time.
        wall: Unix time.
        login: a clause that says where the credential is from, for messages.

    Raises:
        DeniedError: the token server refuses our credential, now or less than a minute ago.
        ServerError: it failed, or is not where the host says.
        ThrottledError: it wants us later.
        ContentError: it answers with no token.
    """
    until, refused = state.refused.get(scope, (0.0, None))
    if refused is not None and now < until:
        raise DeniedError(str(refused), 401, formal=refused.formal)
    identity = credential if credential is not None and credential.identity else None
    request = _refresh(state, policy, identity, scope) if identity else _classic(state, policy, credential, scope)
    answer = yield request
    if identity and answer.status in (404, 405):  # an older server, which takes it as a password
        request = _classic(state, policy, credential, scope)
        answer = yield request
    if answer.status != 200:
        after, throttled = pause_of(answer.headers, wall), limited(answer.status, answer.headers)
        error = refusal(
            request,
            answer.status,
            answer.headers,
            answer.body,
            url=request.url,
            after=after,
            throttled=throttled,
            login=login,
        )
        if isinstance(error, DeniedError):
            state.refuse(scope, error, now + REFUSAL_LASTS)
        if isinstance(error, MissingError):  # the token server is not there, which says nothing of the repository
            raise permanent(ServerError(str(error)))
        raise error
    token = parse_token(answer.body, answering(request.url, request.host), now)
    state.keep(scope, token)
    return token


def parse_token(body: bytes, host: str, now: float) -> Token:
    """Read the answer of a token server.

    Raises:
        ContentError: not a JSON object, no `token` or `access_token`, one that no header can carry, or an
            `expires_in` that is not a number.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{host}: the token server answers with something that is not JSON") from error
    if not isinstance(data, dict):
        raise ContentError(f"{host}: the token server answers with JSON that is not an object")
    text = data.get("token") or data.get("access_token")
    if not isinstance(text, str) or not _SENDABLE.fullmatch(text):
        raise ContentError(f"{host}: the token server answers without a usable token")
    seconds = data.get("expires_in")
    if seconds is None:
        seconds = LIFETIME
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds != seconds:  # noqa: PLR0124 - NaN
        raise ContentError(f"{host}: the token server's expires_in is not a number")
    return Token(Secret(text), now, min(seconds, LONGEST_LIFETIME) if seconds > 0 else LIFETIME)


def _classic(state: AuthState, policy: HostPolicy, credential: Credential | None, scope: str) -> HttpRequest:
    query = [("service", state.service)] if state.service else []
    query += [("scope", part) for part in scope.split()]
    joint = "&" if "?" in state.realm else "?"
    url = f"{state.realm}{joint}{urlencode(query)}" if query else state.realm
    headers = {} if credential is None else {"Authorization": credential.basic}
    return HttpRequest("GET", url, policy.host, headers={"Accept": "application/json", **headers}, cap=CAPS.token)


def _refresh(state: AuthState, policy: HostPolicy, credential: Credential, scope: str) -> HttpRequest:
    form = {
        "grant_type": "refresh_token",
        "refresh_token": credential.password.reveal(),
        "client_id": "mirrord",
        "service": state.service,
        "scope": scope,
    }
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    return HttpRequest("POST", state.realm, policy.host, headers=headers, body=urlencode(form).encode(), cap=CAPS.token)
