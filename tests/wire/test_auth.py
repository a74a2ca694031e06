"""The authentication flow, driven by hand: bad inputs 1, 5 and 16 of the research, expiry, scopes, refusals."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mirrord.errors import ContentError, DeniedError, ServerError, ThrottledError, UntrustedError
from mirrord.wire.host import HostPolicy
from mirrord.wire.http import auth, token
from mirrord.wire.http.auth import Attempt, Identify, Need, Reply
from mirrord.wire.http.message import HttpResponse
from mirrord.wire.http.token import AuthState, Token, parse_token
from mirrord.wire.secret import Credential, Secret

POLICY = HostPolicy("reg.example")
URL = "https://reg.example/v2/a/b/manifests/v1"
REALM = "https://reg.example/token"
PULL, PUSH = "repository:a/b:pull", "repository:a/b:pull,push"
CREDENTIAL = Credential("crane", Secret("pa55word"))


def bearer(scope: str = PULL, realm: Any = REALM, **more: Any) -> Any:
    extra = "".join(f',{name}="{value}"' for name, value in more.items())
    return f'Bearer realm="{realm}",service="reg",scope="{scope}"{extra}'


class Driver:
    """Answers a flow and writes down what it asked."""

    def __init__(self, flow: Any, credential: Credential | None = CREDENTIAL) -> None:
        self.flow, self.credential = flow, credential
        self.asked: list[Any] = []
        self.tokens = 0
        self.now = 0.0
        self.step = self._to_attempt(next(flow))

    def reply(self, status: int, *challenges: Any, url: str = URL) -> Any:
        """Answer the pending attempt; return the next one's Authorization, or `done`."""
        try:
            self.step = self._to_attempt(self.flow.send(Reply(status, challenges, url, self.now)))
        except StopIteration:
            return "done"
        return self.step.authorization

    def _to_attempt(self, step: Any) -> Any:
        while not isinstance(step, Attempt):
            self.asked.append(step)
            step = self.flow.send(self.credential if isinstance(step, Identify) else self._token())
        return step

    def _token(self) -> Any:
        self.tokens += 1
        return Token(Secret(f"token-{self.tokens}"), self.now, 300.0)

    @property
    def scopes(self) -> Any:
        return [step.scope for step in self.asked if isinstance(step, Need)]


def start(desk: Any = None, scope: str = PUSH, credential: Credential | None = CREDENTIAL, now: Any = 0.0) -> Any:
    return Driver(auth.authenticate(desk or AuthState(), POLICY, scope, now), credential)


def test_open_registries_are_asked_once() -> None:
    """No challenge, no token, no credential looked up."""
    flow = start()
    assert flow.step.authorization is None
    assert flow.reply(200) == "done"
    assert flow.asked == []


def test_a_token_is_fetched_for_our_own_scope() -> None:
    """One token serves reading and writing: the caller's scope wins over that of the first challenge."""
    flow = start()
    assert flow.reply(401, bearer(PULL)) == "Bearer token-1"
    assert flow.scopes == [PUSH]
    assert flow.reply(200) == "done"


def test_the_challenge_names_the_scope_when_the_caller_does_not() -> None:
    """A call without a scope takes the one it is told."""
    flow = start(scope="")
    assert flow.reply(401, bearer(PULL)) == "Bearer token-1"
    assert flow.scopes == [PULL]


def test_known_hosts_are_not_asked_twice() -> None:
    """Once a host is known to want Bearer or Basic, the first request already has it."""
    desk = AuthState()
    start(desk).reply(401, bearer())
    assert start(desk).step.authorization == "Bearer token-1"
    desk = AuthState()
    start(desk).reply(401, 'Basic realm="x"')
    assert start(desk).step.authorization == CREDENTIAL.basic


def test_a_kept_token_is_used_again() -> None:
    """Same scope, enough life: no new token."""
    desk = AuthState(scheme="bearer", realm=REALM)
    desk.keep(PUSH, Token(Secret("kept"), 0.0, 300.0))
    flow = start(desk, now=100.0)
    assert flow.step.authorization == "Bearer kept"
    assert flow.scopes == []


def test_a_refused_token_is_replaced_once() -> None:
    """401 on a kept token gets a fresh one; 401 on that is final (no hammering, regclient #922)."""
    desk = AuthState(scheme="bearer", realm=REALM)
    kept = Token(Secret("kept"), 0.0, 300.0)
    desk.keep(PUSH, kept)
    flow = start(desk)
    assert flow.reply(401, bearer(PUSH)) == "Bearer token-1"
    assert flow.asked[-1] == Need(PUSH, kept)
    assert flow.reply(401, bearer(PUSH)) == "done"
    assert flow.tokens == 1


def test_400_to_a_kept_token_where_the_kind_says_so() -> None:
    """ECR Public has no challenge for a token that ran out: it is replaced once, and 400 to that is final (F20)."""
    for host, renewed in (("public.ecr.aws", True), ("registry.example", False)):
        desk, url = AuthState(scheme="bearer", realm=f"https://{host}/token/"), f"https://{host}/v2/a/b/manifests/v1"
        desk.keep(PULL, Token(Secret("kept"), 0.0, 300.0))
        flow = Driver(auth.authenticate(desk, HostPolicy(host), PULL, 100.0))
        flow.now = 100.0
        assert flow.step.authorization == "Bearer kept"
        if renewed:
            assert flow.reply(400, url=url) == "Bearer token-1"
        assert flow.reply(400, url=url) == "done"
        assert flow.tokens == renewed


def test_400_to_a_fresh_token_is_no_matter_of_tokens() -> None:
    """A manifest that ECR Public does not take costs no second token."""
    host = "public.ecr.aws"
    flow = Driver(auth.authenticate(AuthState(), HostPolicy(host), PUSH, 0.0))
    url = f"https://{host}/v2/a/b/manifests/v1"
    assert flow.reply(401, bearer(realm=f"https://{host}/token/"), url=url) == "Bearer token-1"
    assert flow.reply(400, url=url) == "done"


def test_insufficient_scope_names_another() -> None:
    """A second challenge with other scopes is followed once, and remembered when it worked."""
    desk = AuthState()
    flow = start(desk, scope=PULL)
    flow.reply(401, bearer(PULL))
    assert flow.reply(401, bearer("repository:a/b:delete", error="insufficient_scope")) == "Bearer token-2"
    assert flow.reply(200) == "done"
    assert flow.scopes == [PULL, "repository:a/b:delete"]
    assert start(desk, scope=PULL).scopes == ["repository:a/b:delete"]


def test_the_same_scope_in_another_order_is_the_same() -> None:
    """`push,pull` is not a new offer after `pull,push`."""
    flow = start()
    flow.reply(401, bearer(PUSH))
    assert flow.reply(401, bearer("repository:a/b:push,pull")) == "done"


def test_a_stubborn_host_gets_three_attempts() -> None:
    """Whatever new scopes it invents."""
    flow = start(scope=PULL)
    answers = [flow.reply(401, bearer(f"repository:a/b:x{n}", error="insufficient_scope")) for n in range(3)]
    assert answers == ["Bearer token-1", "Bearer token-2", "done"]


def test_403_is_final_while_the_token_lives() -> None:
    """Forbidden is forbidden."""
    flow = start()
    flow.reply(401, bearer())
    assert flow.reply(403, bearer()) == "done"


def test_403_after_the_token_ran_out_is_tried_again() -> None:
    """A long upload may outlive its token, and some registries then say 403."""
    desk = AuthState(scheme="bearer", realm=REALM)
    desk.keep(PUSH, Token(Secret("kept"), 0.0, 300.0))
    flow = start(desk)
    flow.now = 400.0
    assert flow.reply(403, bearer()) == "Bearer token-1"


def test_a_token_that_ran_out_may_be_refused_without_a_challenge() -> None:
    """The token server that is known is asked for another one, once."""
    desk = AuthState(scheme="bearer", realm=REALM)
    desk.keep(PUSH, Token(Secret("kept"), 0.0, 300.0))
    flow = start(desk)
    flow.now = 400.0
    assert flow.reply(403) == "Bearer token-1"
    assert flow.reply(403) == "done"


@pytest.mark.parametrize(
    "realm", ["https://evil.test/t", "http://reg.example/t", "https://169.254.169.254/t", "https://["]
)
def test_1_an_evil_realm_ends_the_flow(realm: Any) -> None:
    """No token is asked for there, with or without credentials (bad inputs 1 to 3)."""
    for credential in (CREDENTIAL, None):
        flow = start(credential=credential)
        with pytest.raises(UntrustedError):
            flow.reply(401, bearer(realm=realm))
        assert flow.scopes == []


def test_5_the_good_one_of_two_challenges_is_used() -> None:
    """First evil, second good: the good one counts (bad input 5)."""
    desk = AuthState()
    flow = start(desk)
    assert flow.reply(401, bearer(realm="https://evil.test/t"), bearer()) == "Bearer token-1"
    assert desk.realm == REALM


def test_basic_stays_at_home_when_bearer_is_evil() -> None:
    """Basic goes to the registry itself, so an untrusted Bearer beside it does no harm."""
    assert start().reply(401, bearer(realm="https://evil.test/t"), "Basic realm=x") == CREDENTIAL.basic


def test_wrong_basic_credentials_are_sent_once() -> None:
    """A second 401 is final."""
    flow = start()
    assert flow.reply(401, "Basic realm=x") == CREDENTIAL.basic
    assert flow.reply(401, "Basic realm=x") == "done"


def test_basic_without_a_credential_is_final() -> None:
    """There is nothing to say."""
    assert start(credential=None).reply(401, "Basic realm=x") == "done"


def test_a_stranger_cannot_ask_for_our_credential() -> None:
    """A 401 from where a redirect led to is not answered (bad input 7)."""
    flow = start()
    assert flow.reply(401, "Basic realm=x", url="https://cdn.example/x") == "done"
    assert flow.asked == []


def test_a_relative_realm_is_relative_to_the_answer() -> None:
    """Some servers write only a path."""
    desk = AuthState()
    start(desk).reply(401, bearer(realm="/auth/token?x=1"))
    assert desk.realm == "https://reg.example/auth/token?x=1"


@pytest.mark.parametrize(
    ("now", "need", "fit"), [(0, 0, True), (239, 0, True), (241, 0, False), (0, 100, True), (250, 1, False),
                             (150, 200, False), (0, 10_000, True), (100, 10_000, False)]
)  # fmt: skip
def test_tokens_are_renewed_before_they_run_out(now: Any, need: Any, fit: Any) -> None:
    """A fifth of the life is kept back; long work gets as fresh a token as there can be (fault F20)."""
    assert Token(Secret("x"), 0.0, 300.0).fit(now, need) is fit


@pytest.mark.parametrize(
    ("data", "lifetime"),
    [
        ({"token": "abc"}, 60), ({"access_token": "abc"}, 60), ({"token": "abc", "expires_in": 300}, 300),
        ({"token": "abc", "expires_in": 0}, 60), ({"token": "abc", "expires_in": -1}, 60),
        ({"token": "abc", "expires_in": 10**12}, 86400), ({"token": "abc", "expires_in": None}, 60),
        ({"token": "", "access_token": "abc", "expires_in": 5}, 5), ({"token": "abc", "expires_in": 10**400}, 86400),
    ],
)  # fmt: skip
def test_16_lifetimes_are_clamped(data: Any, lifetime: Any) -> None:
    """Missing, zero and negative mean 60 seconds, and no token lives longer than a day (bad input 16)."""
    token = parse_token(json.dumps(data).encode(), "h", 7.0)
    assert (token.secret.reveal(), token.issued, token.lifetime) == ("abc", 7.0, lifetime)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"token":""}', b'{"token":1}', b'{"token":"a b"}', b'{"token":"a\\nb"}',
     b'{"token":"abc","expires_in":"60"}', b'{"token":"abc","expires_in":true}', b'{"token":"abc","expires_in":NaN}',
     b"[" * 100_000],
)  # fmt: skip
def test_16_unusable_tokens_are_refused(body: Any) -> None:
    """No token, one that no header carries, or a lifetime that is no number (bad input 16)."""
    with pytest.raises(ContentError) as caught:
        parse_token(body, "h", 0.0)
    assert "abc" not in str(caught.value)


def obtained(desk: Any, credential: Credential | None, *answers: Any, scope: str = PUSH, now: Any = 0.0) -> Any:
    flow = token.obtain(desk, POLICY, credential, scope, now=now, wall=0.0)
    calls = [next(flow)]
    try:
        for status, data in answers:
            calls.append(
                flow.send(HttpResponse(status, {"content-type": "application/json"}, json.dumps(data).encode(), ""))
            )
    except StopIteration as done:
        return calls, done.value
    raise AssertionError(calls)


def test_the_classic_token_request() -> None:
    """GET with service, one scope parameter for each scope, and Basic when we have a credential."""
    desk = AuthState("bearer", REALM + "?x=1", "reg")
    (call,), token = obtained(desk, CREDENTIAL, (200, {"token": "t"}), scope=f"{PUSH} repository:c:pull")
    assert parse_qs(urlsplit(call.url).query) == {"x": ["1"], "service": ["reg"], "scope": [PUSH, "repository:c:pull"]}
    assert call.headers["Authorization"] == CREDENTIAL.basic
    assert desk.token(f"{PUSH} repository:c:pull", 0.0) is token


def test_anonymous_token_request() -> None:
    """Without a credential nothing is sent that could be one."""
    (call,), _ = obtained(AuthState("bearer", REALM), None, (200, {"token": "t"}))
    assert set(call.headers) == {"Accept"}


@pytest.mark.parametrize("status", [404, 405])
def test_identity_tokens_are_refresh_tokens(status: int) -> None:
    """POST OAuth2 first; a server that does not know it gets the older GET."""
    identity = Credential("<token>", Secret("identity-1"))
    (call,), _ = obtained(AuthState("bearer", REALM, "reg"), identity, (200, {"access_token": "t"}))
    assert call.method == "POST"
    assert parse_qs(call.body.decode())["refresh_token"] == ["identity-1"]
    assert "identity-1" not in call.url
    calls, _ = obtained(AuthState("bearer", REALM, "reg"), identity, (status, {}), (200, {"token": "t"}))
    assert [call.method for call in calls] == ["POST", "GET"]


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, DeniedError), (403, DeniedError), (404, ServerError), (429, ThrottledError), (500, ServerError)],
)
def test_token_servers_that_refuse(status: int, error: Any) -> None:
    """Each refusal keeps its meaning, and names no secret; a missing server does not mean a missing image."""
    with pytest.raises(error) as caught:
        obtained(
            AuthState("bearer", REALM), CREDENTIAL, (status, {"errors": [{"code": "X", "message": "pa55word wrong"}]})
        )
    assert "pa55word" not in str(caught.value)


def test_a_refused_credential_rests_for_a_minute() -> None:
    """No second request within 60 seconds, one after that."""
    desk = AuthState("bearer", REALM)
    with pytest.raises(DeniedError):
        obtained(desk, CREDENTIAL, (401, {}))
    with pytest.raises(DeniedError):
        next(token.obtain(desk, POLICY, CREDENTIAL, PUSH, now=59.0, wall=0.0))
    assert next(token.obtain(desk, POLICY, CREDENTIAL, PUSH, now=61.0, wall=0.0)).method == "GET"


@pytest.mark.parametrize(
    ("answer", "formal"),
    [({"errors": []}, True), ({"details": "no"}, True), ({"error": "invalid_grant"}, True), ("<html>", False)],
)
def test_whose_refusal_it_is(answer: Any, formal: bool) -> None:
    """A page that is no error of a token server is known as that, also while the refusal is remembered."""
    desk = AuthState("bearer", REALM)
    with pytest.raises(DeniedError) as first:
        obtained(desk, None, (403, answer))
    with pytest.raises(DeniedError) as second:
        next(token.obtain(desk, POLICY, None, PUSH, now=59.0, wall=0.0))
    assert (first.value.formal, second.value.formal) == (formal, formal)


def test_tokens_do_not_pile_up() -> None:
    """Thousands of repositories do not grow the desk without bound."""
    desk = AuthState()
    for number in range(2000):
        desk.keep(str(number), Token(Secret("x"), 0.0, 60.0))
    assert len(desk.tokens) == 512
    assert "1999" in desk.tokens


def test_an_attempt_shows_no_secret() -> None:
    """What is to be sent is never written out, by whoever writes out a step of the flow."""
    assert "c4nary" not in repr(Attempt("Bearer c4nary"))
    assert Attempt().authorization is None
