"""Who we are to a host: what the operator wrote, else what a keyring says, which is asked once for many."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mirrord.errors import ConfigError, DeniedError, MissingError
from mirrord.testing import Registry
from mirrord.wire import host as module
from mirrord.wire.host import KEYRING_LASTS, REFUSED_LASTS, HostBook, HostPolicy, Login, Logins
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.secret import Credential, Secret
from tests.support.auth import Auth


class Keyring:
    """Knows one password for all hosts."""

    def __init__(self, password: str | None) -> None:
        self.password = password
        self.asked = list[str]()

    async def find(self, host: str) -> Logins:
        self.asked.append(host)
        await asyncio.sleep(0)
        if self.password == "":
            raise ConfigError("broken")
        known = Credential("crane", Secret(self.password)) if self.password else None
        return Logins((Login("", known, "a keyring"),) if known else ())


class Clock:
    """Time that stands still."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "monotonic", made)
    return made


async def password(book: HostBook, host: str = "h") -> str | None:
    found = await book.credential(host)
    return None if found is None else found.password.reveal()


async def test_what_the_operator_wrote_comes_first() -> None:
    """A keyring is not asked about a host whose credential is written down; without a keyring nobody is known."""
    keyring = Keyring("other")
    book = HostBook({"h": HostPolicy("h", Credential("u", Secret("written")))}, keyring)
    assert (await password(book), await password(book, "i"), keyring.asked) == ("written", "other", ["i"])
    book.refused("h")
    assert (await password(book), await password(HostBook())) == ("written", None)


@pytest.mark.parametrize("known", ["known-password", None])
async def test_many_ask_at_once(clock: Clock, known: str | None) -> None:
    """A keyring is asked once a host for all who ask, also when it knows nothing, and again some time later."""
    keyring = Keyring(known)
    book = HostBook(keyring=keyring)
    assert await asyncio.gather(*(password(book, host) for host in "hhhihh")) == [known] * 6
    assert sorted(keyring.asked) == ["h", "i"]
    clock.now += KEYRING_LASTS - 1
    await password(book)
    assert len(keyring.asked) == 2
    clock.now += 1
    await password(book)
    assert len(keyring.asked) == 3


async def test_whoever_asks_first_may_leave(clock: Clock) -> None:
    """One who asks and is cancelled leaves the question to the next; an error is for whoever asks, and is not kept."""
    keyring = Keyring("known-password")
    book = HostBook(keyring=keyring)
    first, second = (asyncio.create_task(password(book)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "known-password"
    keyring.password = ""
    clock.now += KEYRING_LASTS
    with pytest.raises(ConfigError):
        await book.credential("h")
    keyring.password = "known-again"
    assert await password(book) == "known-again"


async def test_what_was_refused(clock: Clock) -> None:
    """A refused credential is asked for anew at once, and when it is the same, once a minute at most."""
    keyring = Keyring("old-password")
    book = HostBook(keyring=keyring)
    book.refused("h")
    for count in (1, 2, 2, 2):
        assert await password(book) == "old-password"
        assert len(keyring.asked) == count
        book.refused("h")
    clock.now += REFUSED_LASTS - 1
    book.refused("h")
    keyring.password = "new-password"
    assert await password(book) == "old-password"
    clock.now += 1
    assert await password(book) == "new-password"
    book.refused("h")
    assert (await password(book), len(keyring.asked)) == ("new-password", 4)


async def test_a_host_that_nobody_knows_is_not_asked_about_again(clock: Clock) -> None:
    """A refusal of a credential that never was changes nothing for long."""
    keyring = Keyring(None)
    book = HostBook(keyring=keyring)
    for _ in range(5):
        assert await password(book) is None
        book.refused("h")
    assert len(keyring.asked) == 1


async def test_strangers_get_nothing_of_ours() -> None:
    """On behalf of strangers no credential, certificate or keyring is used, except at hosts that opted in."""
    ours = Credential("u", Secret("written"))
    keyring = Keyring("from-keyring")
    policy = HostPolicy(
        "h", ours, certificate="c.pem", key="k.pem", token_realms=("https://a",), ssh_key="s", requests=3
    )
    book = HostBook({"h": policy, "i": replace(policy, host="i")}, keyring)
    plain = book.for_strangers(())
    assert [await password(plain, host) for host in "hij"] == [None, None, None]
    assert plain.policy("h") == HostPolicy("h", requests=3)
    assert keyring.asked == []
    chosen = book.for_strangers({"i", "j"})
    assert [await password(chosen, host) for host in "hijk"] == [None, "written", "from-keyring", None]
    assert (chosen.policy("i"), keyring.asked) == (book.policy("i"), ["j"])


async def test_strangers_are_sent_no_secret() -> None:
    """A registry that asks for a password gets none, and the error says how the operator opts in."""
    auth = Auth(basic=("u", "written"))
    async with Registry(auth=auth) as registry:
        book = HostBook({registry.host: HostPolicy(registry.host, Credential("u", Secret("written")))})
        request = HttpRequest("GET", f"{registry.url}/v2/a/tags/list", registry.host)
        async with Http(book.for_strangers(())) as http:
            with pytest.raises(DeniedError, match="write `credentials: true` under front: and `auth:` under hosts:"):
                await http.fetch(request)
        assert [seen.headers.get("authorization") for seen in registry.log] == [None]
        async with Http(book.for_strangers({registry.host})) as http:
            with pytest.raises(MissingError):
                await http.fetch(request)
