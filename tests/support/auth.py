"""The doors of a registry double: Basic, or Bearer with its own token endpoint.

Follows docker's token specification (auth/token, auth/oauth) and its well-known quirks.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from mirrord.testing.reply import Reply, refusal

NO_QUIRK = object()


@dataclass(slots=True, eq=False)
class Token:
    """One token that was given out.

    Attributes:
        text: the token itself.
        scopes: `repository:name:action` each, split by action.
        user: who asked, "" for anonymous.
        until: end of its life by the clock of its `Auth`.
        left: how many requests it may still be used for, None for any number.
    """

    text: str
    scopes: frozenset[str]
    user: str
    until: float
    left: int | None


@dataclass(slots=True, eq=False)
class Auth:
    """Who may do what at a `Registry`.

    Attributes:
        basic: user and password asked for with Basic.
        bearer: user and password that the token endpoint asks for; `("", "")` gives tokens to everybody.
        anonymous_pull: the token endpoint gives `pull` without credentials.
        realm: where tokens are said to be had; None for the registry's own `/token`.
        service: name of the service in the challenge.
        lifetime: seconds for which a token really works.
        uses: requests for which a token really works, None for any number.
        expires_in: what the token answer says instead of `lifetime`; None leaves it out.
        key: name of the token's field in the answer: `token` or `access_token`.
        identity: refresh token accepted by POST (oauth2), or None: POST answers 404.
        clock: seconds, for `lifetime`.
        issued: all tokens given out.
        asked: the scopes of each token request, as asked.
    """

    basic: tuple[str, str] | None = None
    bearer: tuple[str, str] | None = None
    anonymous_pull: bool = False
    realm: str | None = None
    service: str = "registry.test"
    lifetime: float = 300
    uses: int | None = None
    expires_in: object = NO_QUIRK
    key: str = "token"
    identity: str | None = None
    clock: Callable[[], float] = time.monotonic
    issued: list[Token] = field(default_factory=list)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def check(self, authorization: str, needs: tuple[str, ...], base: str) -> Reply | None:
        """Return None when the request may pass, else the 401; `base` is the URL of the registry."""
        if self.basic is not None:
            if authorization == _basic(*self.basic):
                return None
            return _unauthorized('Basic realm="registry.test"')
        if self.bearer is None:
            return None
        token = self._find(authorization)
        if token is not None and token.scopes.issuperset(_split(needs)):
            return None
        challenge = f'Bearer realm="{self.realm or base + "/token"}",service="{self.service}"'
        if needs:
            challenge += f',scope="{" ".join(needs)}"'
        if authorization.startswith("Bearer "):
            challenge += ',error="invalid_token"' if token is None else ',error="insufficient_scope"'
        return _unauthorized(challenge)

    def token(self, method: str, query: str, authorization: str, body: bytes) -> Reply:
        """Answer a request to the token endpoint."""
        form = parse_qs(query if method == "GET" else body.decode("utf-8", "replace"))
        scopes = tuple(" ".join(form.get("scope", [])).split())
        self.asked.append(scopes)
        user = self._user(method, form, authorization)
        if user is None:
            return Reply(404) if method == "POST" and self.identity is None else _unauthorized('Basic realm="token"')
        granted = frozenset(scope for scope in _split(scopes) if user or not self._closed or scope.endswith(":pull"))
        token = Token(f"token-{len(self.issued)}-{id(self):x}", granted, user, self.clock() + self.lifetime, self.uses)
        self.issued.append(token)
        said = self.lifetime if self.expires_in is NO_QUIRK else self.expires_in
        answer: dict[str, object] = {self.key: token.text} | ({} if said is None else {"expires_in": said})
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def expire(self) -> None:
        """End the life of every token given out so far."""
        for token in self.issued:
            token.until = float("-inf")

    @property
    def _closed(self) -> bool:
        return self.bearer not in (None, ("", ""))

    def _user(self, method: str, form: Mapping[str, list[str]], authorization: str) -> str | None:
        """Return who asks, "" for anonymous where that is allowed, None for a refusal."""
        if method == "POST":
            known = self.identity is not None and form.get("refresh_token") == [self.identity]
            return "<token>" if known else None
        if not self._closed or (not authorization and self.anonymous_pull):
            return ""
        assert self.bearer is not None
        return self.bearer[0] if authorization == _basic(*self.bearer) else None

    def _find(self, authorization: str) -> Token | None:
        text = authorization.removeprefix("Bearer ")
        for token in self.issued:
            if token.text == text and token.until > self.clock() and token.left != 0:
                if token.left is not None:
                    token.left -= 1
                return token
        return None


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _split(scopes: tuple[str, ...]) -> frozenset[str]:
    """Turn `repository:a:pull,push` into one entry for each action."""
    pairs = (scope.rpartition(":") for scope in scopes)
    return frozenset(f"{what}:{action}" for what, _, actions in pairs for action in actions.split(","))


def _unauthorized(challenge: str) -> Reply:
    return refusal(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})
