"""What `Http` knows about hosts while it works: how far each may be followed, how long each token will do."""

import json
from typing import Any

import pytest

from mirrord.errors import UntrustedError
from mirrord.wire import trust
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http import sender
from mirrord.wire.http.message import HttpRequest, Upload, WireRequest
from mirrord.wire.origin import normal_host
from tests.support.played import Played, Said

STORE = "10.1.2.3:9000"


@pytest.mark.parametrize(
    ("store", "followed"),
    [
        (HostPolicy(STORE, insecure=False, allow_private=True), True),
        (HostPolicy(STORE, insecure=False), False),
        (None, False),
    ],
    ids=["opened", "written", "unknown"],
)
async def test_19_a_redirect_to_a_private_store_that_the_operator_opened(
    client: Any, store: Any, followed: Any
) -> None:
    """`allow_private` counts where it is written: at the host that is private, whoever leads there (bad input 19)."""
    reaches: list[Any] = []

    def play(request: WireRequest) -> Said:
        if request.authority == "reg.example":
            return Said(307, {"location": f"https://{STORE}/blob"})
        return Said(body=b"blob")

    played = Played(play)
    book = HostBook({} if store is None else {STORE: store})

    def connect(route: Any, _: Any) -> Played:
        reaches.append(route.reach)
        return played

    http = client(book, connect=connect)
    call = HttpRequest("GET", "https://reg.example/v2/a/blobs/x", "reg.example")
    if followed:
        assert (await http.fetch(call)).body == b"blob"
        assert [reach.private for reach in reaches] == [False, True]  # the way to the registry is no wider
    else:
        with pytest.raises(UntrustedError, match=r"10\.1\.2\.3:9000 is a private or reserved address"):
            await http.fetch(call)
        assert len(played.asked) == 1


@pytest.mark.parametrize(("size", "tokens"), [(1, 1), (75 * 4 * 1024 * 1024, 2)], ids=["short", "long"])
async def test_a_token_outlives_its_upload(client: Any, monkeypatch: Any, size: int, tokens: int) -> None:
    """A token with 70 seconds left does for a short upload; before one of 75 seconds a new one is fetched."""
    now, given = [1000.0], list[str]()
    monkeypatch.setattr("mirrord.wire.http.authenticator.monotonic", lambda: now[0])

    def play(request: WireRequest) -> Said:
        if request.url.startswith("https://reg.example/token"):
            given.append(f"token-{len(given)}")
            return Said(body=json.dumps({"token": given[-1], "expires_in": 100}).encode())
        if request.headers.get("Authorization") is None:
            return Said(401, {"www-authenticate": 'Bearer realm="https://reg.example/token"'})
        return Said()

    played = Played(play)
    http = client(connect=lambda *_: played)
    call = HttpRequest("GET", "https://reg.example/v2/", "reg.example", scope="repository:a:push")
    await http.fetch(call)
    now[0] += 30
    await http.fetch(
        HttpRequest("PUT", call.url, call.host, scope=call.scope, body=Upload(size, lambda: pytest.fail("read")))
    )
    assert len(given) == tokens
    assert played.asked[-1].headers["Authorization"] == f"Bearer token-{tokens - 1}"


async def test_an_origin_is_judged_once(client: Any, monkeypatch: Any) -> None:
    """However many requests go there: its spelling, its address, and whether it may see the host's credentials."""
    judged: list[str] = []

    def counted(name: str) -> Any:
        judge = getattr(trust, name)

        def call(*given: Any) -> Any:
            judged.append(name)
            return judge(*given)

        return call

    for name in ("belongs", "check_literal"):
        monkeypatch.setattr(trust, name, counted(name))

    def play(request: WireRequest) -> Said:
        return Said(307, {"location": "https://cdn.example/x"}) if "reg" in request.url else Said()

    played = Played(play)
    http = client(connect=lambda *_: played)
    normal_host.cache_clear()
    for number in range(20):
        await http.fetch(HttpRequest("GET", f"https://reg.example/v2/{number}", "reg.example"))
    assert len(played.asked) == 40
    assert sorted(judged) == ["belongs", "belongs", "check_literal", "check_literal"]
    assert normal_host.cache_info().misses <= 2


async def test_ways_are_not_remembered_without_end(client: Any, monkeypatch: Any) -> None:
    """A registry that redirects to ever new hosts makes nothing grow for ever."""
    monkeypatch.setattr(sender, "_MOST_WAYS", 10)

    def play(request: WireRequest) -> Said:
        number = request.url.rpartition("/")[2]
        return Said(307, {"location": f"https://c{number}.example/"}) if "reg" in request.url else Said()

    http = client(connect=lambda *_: Played(play))
    for number in range(30):
        await http.fetch(HttpRequest("GET", f"https://reg.example/v2/{number}", "reg.example"))
        assert len(http._sender._ways) <= 10
