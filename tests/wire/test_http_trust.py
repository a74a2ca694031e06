"""Trust on the wire: who sees which header, and who is never even connected to (bad inputs 1 to 8, 14, 18, 19)."""

import asyncio
import base64
import functools
import json
import ssl
from typing import Any, ClassVar

import pytest
import trustme
from aiohttp import abc, web

from mirrord.errors import DeniedError, MirrordError, UnreachableError, UntrustedError
from mirrord.events import TrustRefused
from mirrord.wire.host import HostBook, HostPolicy, Login, Logins
from mirrord.wire.http.message import HttpRequest, Limits, Upload
from mirrord.wire.http.transport import AiohttpTransport, Tls
from mirrord.wire.proxy import Proxy
from mirrord.wire.secret import Credential, Secret
from tests.support.played import Played, Said

CANARY = "c4nary-pa55word"
CREDENTIAL = Credential("crane", Secret(CANARY))
SCOPE = "repository:a/b:pull"


class Names(abc.AbstractResolver):
    """A resolver that knows what it is told, and counts."""

    def __init__(self, **names: Any) -> None:
        self.names: dict[str, Any] = names
        self.asked: list[str] = []

    async def resolve(self, host: str, port: Any = 0, family: Any = 0) -> Any:
        self.asked.append(host)
        answers = self.names[host.replace(".", "_").replace("-", "_")]
        addresses = answers.pop(0) if isinstance(answers[0], list) else answers
        return [
            {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


class Either:
    """One host is played by a double, all others are reached."""

    def __init__(self, host: str, double: Any, real: Any) -> None:
        self.host, self.double, self.real = host, double, real

    async def send(self, request: Any) -> Any:
        transport = self.double if request.authority == self.host else self.real
        return await transport.send(request)

    async def aclose(self) -> None:
        await self.real.aclose()


def knowing(**names: Any) -> Any:
    resolver = Names(**names)
    return functools.partial(AiohttpTransport, resolver=resolver), resolver


async def plain(_: Any) -> Any:
    return web.Response(body=b"ok")


def redirecting(location: str | None, status: int = 307) -> Any:
    async def handle(_: Any) -> Any:
        return web.Response(status=status, headers={"Location": location} if location is not None else {})

    return handle


def booked(host: str, **more: Any) -> Any:
    return HostBook({host: HostPolicy(host, **more)})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_7_a_redirect_elsewhere_sees_no_credential(serve: Any, client: Any, status: int) -> None:
    """Followed without Authorization and custom headers; Range and Accept go along (bad input 7)."""
    cdn = await serve(plain)
    server = await serve(redirecting(f"{cdn.url}/blob?X-Amz-Signature=abc", status))
    http = client(booked(server.host, credential=CREDENTIAL))
    secrets = {"Authorization": "Bearer x", "PRIVATE-TOKEN": "x", "X-JFrog-Art-Api": "x", "Cookie": "x"}
    call = HttpRequest("GET", server.url, server.host, headers={**secrets, "Range": "bytes=5-", "Accept": "a/b"})
    answer = await http.fetch(call)
    assert answer.url == f"{cdn.url}/blob?X-Amz-Signature=abc"
    for header in secrets:
        assert cdn.seen(header) == [None]
        assert server.seen(header) != [None]
    assert (cdn.seen("Range"), cdn.seen("Accept")) == (["bytes=5-"], ["a/b"])


async def test_a_redirect_at_home_keeps_what_it_had(serve: Any, client: Any) -> None:
    """Same scheme, host and port: nothing is lost."""

    async def handle(request: Any) -> Any:
        return web.Response(status=302, headers={"Location": "/b"}) if request.path == "/a" else web.Response()

    server = await serve(handle)
    await client().fetch(HttpRequest("GET", f"{server.url}/a", server.host, headers={"X-Key": "k"}))
    assert server.seen("X-Key") == ["k", "k"]


async def test_once_away_credentials_do_not_come_back(serve: Any, client: Any) -> None:
    """A stranger that redirects to our registry cannot choose what is asked with our credential."""
    server: Any = None

    async def handle(request: Any) -> Any:
        if request.path == "/a":
            return web.Response(status=307, headers={"Location": away.url})
        return web.Response()

    async def back(request: Any) -> Any:
        return await redirecting(f"{server.url}/admin")(request)

    away = await serve(back)
    server = await serve(handle)
    await client().fetch(HttpRequest("GET", f"{server.url}/a", server.host, headers={"X-Key": "k"}))
    assert server.seen("X-Key") == ["k", None]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        pytest.param(None, "location", id="8-missing"),
        pytest.param("file:///etc/passwd", "scheme", id="8-file"),
        pytest.param("/", "loop", id="8-loop"),
        pytest.param("http://u:p@127.0.0.1/", "userinfo", id="4-userinfo"),
        pytest.param("http://0x7f.1/", "address", id="18-hex"),
        pytest.param("http://10.0.0.1/", "address", id="8-private"),
        pytest.param("http://169.254.169.254/latest", "address", id="8-link-local"),
        pytest.param("http://[::ffff:10.0.0.1]/", "address", id="18-mapped"),
    ],
)
async def test_8_redirects_that_are_not_followed(
    serve: Any, client: Any, told: Any, location: str | None, reason: str
) -> None:
    """Each with its own word, once, and as an event (bad input 8)."""
    server = await serve(redirecting(location))
    with pytest.raises(UntrustedError) as caught:
        await client().fetch(HttpRequest("GET", f"{server.url}/", server.host))
    assert caught.value.reason == reason
    assert len(server.requests) == 1
    assert [event.reason for event in told if isinstance(event, TrustRefused)] == [reason]


async def test_8_ten_redirects_and_no_more(serve: Any, client: Any) -> None:
    """The eleventh is refused (bad input 8)."""

    async def handle(request: Any) -> Any:
        return web.Response(status=307, headers={"Location": f"/{int(request.path[1:]) + 1}"})

    server = await serve(handle)
    with pytest.raises(UntrustedError) as caught:
        await client().fetch(HttpRequest("GET", f"{server.url}/0", server.host))
    assert caught.value.reason == "hops"
    assert len(server.requests) == 11


@pytest.mark.parametrize("target", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "inner.test"])
async def test_8_a_public_host_cannot_lead_us_home(serve: Any, client: Any, target: Any) -> None:
    """A redirect from elsewhere to this machine is refused before a packet is sent (bad input 8)."""
    victim = await serve(plain)
    port = victim.host.partition(":")[2]
    connect, _ = knowing(inner_test=["127.0.0.1"], localhost=["127.0.0.1"])

    def public_first(route: Any, limits: Any) -> Any:  # the public registry is a double, everything behind it is real
        registry = Played(lambda _: Said(307, {"location": f"http://{target}:{port}/"}))
        return Either("registry.test", registry, connect(route, limits))

    http = client(booked("registry.test", insecure=True), connect=public_first)
    with pytest.raises(UntrustedError) as caught:
        await http.fetch(HttpRequest("GET", "http://registry.test/", "registry.test"))
    assert caught.value.reason == "address"
    assert victim.requests == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["10.0.0.5"], ["169.254.169.254"], ["93.184.216.34", "10.0.0.5"], ["::1"], ["fd00::1"]]
)
async def test_19_names_with_private_addresses_are_not_dialled(client: Any, addresses: Any) -> None:
    """Private, mixed and loopback answers: refused by the resolver inside the connector (bad input 19)."""
    connect, resolver = knowing(registry_test=addresses)
    with pytest.raises(UntrustedError) as caught:
        await client(connect=connect).fetch(HttpRequest("GET", "https://registry.test/", "registry.test"))
    assert caught.value.reason == "address"
    assert resolver.asked == ["registry.test"]


async def test_19_rebinding_finds_no_second_chance(serve: Any, client: Any) -> None:
    """What was checked is what is dialled: the name is resolved once for each connection (bad input 19)."""
    server = await serve(plain)
    port = server.host.partition(":")[2]
    connect, resolver = knowing(registry_test=[["127.0.0.1"], ["10.0.0.5"]])
    host = f"registry.test:{port}"
    http = client(booked(host, insecure=True, allow_private=True), connect=connect)
    await http.fetch(HttpRequest("GET", f"http://{host}/", host))
    assert resolver.asked == ["registry.test"]
    assert len(server.requests) == 1


class Registry:
    """A registry that wants Bearer, and its token server at /token."""

    def __init__(self, realm: Any = None, lifetime: Any = 300) -> None:
        self.realm, self.lifetime, self.accept_tokens = realm, lifetime, True
        self.valid: set[str] = set()
        self.server: Any = None

    async def handle(self, request: Any) -> Any:
        if request.path == "/token":
            token = f"t0ken-{len(self.valid)}"
            self.valid.add(token)
            return web.json_response({"token": token, "expires_in": self.lifetime})
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.accept_tokens and sent in self.valid:
            return web.Response(body=await request.read())
        realm = self.realm or f"http://{request.host}/token"
        header = f'Bearer realm="{realm}",service="s",scope="{SCOPE}"'
        return web.Response(status=401, headers={"WWW-Authenticate": header})

    def paths(self) -> Any:
        return [request.path for request in self.server.requests]


@pytest.fixture
async def registry(serve: Any) -> Any:
    registry = Registry()
    registry.server = await serve(registry.handle)
    return registry


async def test_one_token_for_many(registry: Any, client: Any) -> None:
    """Twenty calls at once fetch one token; later ones none, and no 401 any more."""
    host, url = registry.server.host, registry.server.url
    http = client(booked(host, credential=CREDENTIAL))
    await asyncio.gather(*(http.fetch(HttpRequest("GET", f"{url}/v2/", host, scope=SCOPE)) for _ in range(20)))
    assert registry.paths().count("/token") == 1
    asked = len(registry.paths())
    await http.fetch(HttpRequest("GET", f"{url}/v2/", host, scope=SCOPE))
    assert len(registry.paths()) == asked + 1
    tokens = [request.headers.get("Authorization") for request in registry.server.requests if request.path == "/token"]
    assert tokens == ["Basic " + base64.b64encode(f"crane:{CANARY}".encode()).decode()]


async def test_a_refused_upload_is_sent_again_with_a_new_token(registry: Any, client: Any) -> None:
    """401 in the middle of an upload: new token, the body from its beginning (F20)."""
    host, url = registry.server.host, registry.server.url
    http = client()
    await http.fetch(HttpRequest("GET", f"{url}/v2/", host, scope=SCOPE))
    registry.valid.clear()
    registry.valid.add("keeps the next token's name new")
    opened = []

    async def body() -> Any:
        opened.append(1)
        for _ in range(50):
            yield b"x" * 100_000

    answer = await http.fetch(
        HttpRequest("PUT", f"{url}/up", host, scope=SCOPE, body=Upload(5_000_000, body), cap=6_000_000)
    )
    assert len(answer.body) == 5_000_000
    assert len(opened) == 2


async def test_permanent_denial_is_not_hammered(registry: Any, client: Any) -> None:
    """One fresh token, then `DeniedError`; and no retry of it (F21)."""
    registry.accept_tokens = False
    with pytest.raises(DeniedError):
        await client().fetch(HttpRequest("GET", f"{registry.server.url}/v2/", registry.server.host, scope=SCOPE))
    assert registry.paths() == ["/v2/", "/token", "/v2/"]


async def test_a_dead_credential_is_asked_once_a_minute(serve: Any, client: Any) -> None:
    """A hundred tags with a revoked credential make one request to the token server (F21, regclient #922)."""

    async def handle(request: Any) -> Any:
        header = {"WWW-Authenticate": f'Bearer realm="http://{request.host}/token"'} if request.path != "/token" else {}
        return web.Response(status=401, headers=header)

    server = await serve(handle)
    http = client(booked(server.host, credential=CREDENTIAL))
    for _ in range(20):
        with pytest.raises(DeniedError):
            await http.fetch(HttpRequest("GET", f"{server.url}/v2/", server.host, scope=SCOPE))
    assert [request.path for request in server.requests].count("/token") == 1


async def test_1_an_evil_realm_gets_no_packet(serve: Any, client: Any, told: Any) -> None:
    """Neither our credential nor an anonymous request goes there (bad input 1)."""
    evil = await serve(plain)
    registry = Registry(realm=f"{evil.url}/token")
    server = await serve(registry.handle)
    for credential in (CREDENTIAL, None):
        with pytest.raises(UntrustedError) as caught:
            await client(booked(server.host, credential=credential)).fetch(HttpRequest("GET", server.url, server.host))
        assert caught.value.reason == "realm"
    assert evil.requests == []
    assert [event.reason for event in told if isinstance(event, TrustRefused)] == ["realm", "realm"]


async def test_a_token_server_that_the_operator_named_is_asked(serve: Any, client: Any) -> None:
    """`token_realms:` opens exactly that origin."""
    tokens = Registry()
    sso = await serve(tokens.handle)
    registry = Registry(realm=f"{sso.url}/token")
    registry.valid = tokens.valid
    server = await serve(registry.handle)
    http = client(booked(server.host, credential=CREDENTIAL, token_realms=(sso.url,)))
    assert (await http.fetch(HttpRequest("GET", server.url, server.host, scope=SCOPE))).status == 200


async def test_token_servers_do_not_redirect(serve: Any, client: Any) -> None:
    """What a token request holds does not follow a Location; the error names the token server."""
    evil = await serve(plain)
    sso = await serve(redirecting(evil.url))

    async def handle(_: Any) -> Any:
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{sso.url}/token"'})

    server = await serve(handle)
    book = booked(server.host, credential=CREDENTIAL, token_realms=(sso.url,))
    with pytest.raises(MirrordError, match=rf"^{sso.host} \(for {server.host}\): GET /token: status 307"):
        await client(book).fetch(HttpRequest("GET", server.url, server.host))
    assert len(sso.requests) == 1
    assert evil.requests == []


async def test_a_location_elsewhere_is_a_stranger(serve: Any, client: Any) -> None:
    """An upload that continues on another origin carries the content, and no credential (regclient GHSA-qvqc)."""
    storage = await serve(plain)
    server = await serve(plain)
    http = client(booked(server.host, credential=CREDENTIAL))
    headers = {"Content-Type": "application/octet-stream", "X-Key": "k", "Authorization": "x"}
    await http.fetch(HttpRequest("PUT", f"{storage.url}/up", server.host, headers=headers, body=b"abc", scope=SCOPE))
    assert (storage.seen("X-Key"), storage.seen("Authorization")) == ([None], [None])
    assert storage.seen("Content-Type") == ["application/octet-stream"]


async def test_a_stranger_s_401_is_not_answered(serve: Any, client: Any) -> None:
    """Basic is never offered to where a redirect led, and the error names who refused."""

    async def demanding(_: Any) -> Any:
        return web.Response(status=401, headers={"WWW-Authenticate": "Basic realm=x"})

    stranger = await serve(demanding)
    server = await serve(redirecting(f"{stranger.url}/blob?X-Amz-Signature=abc"))
    with pytest.raises(DeniedError, match=rf"^{stranger.host} \(for {server.host}\): GET /blob: status 401$"):
        await client(booked(server.host, credential=CREDENTIAL)).fetch(HttpRequest("GET", server.url, server.host))
    assert stranger.seen("Authorization") == [None]


async def test_the_keyring_is_asked_once_and_only_when_needed(registry: Any, serve: Any, client: Any) -> None:
    """A helper is a process: it runs when a registry asks who we are, not before, and not for each call."""

    class Keys:
        asked: ClassVar[list[str]] = []

        async def find(self, host: str) -> Any:
            self.asked.append(host)
            return Logins((Login("", CREDENTIAL, "a keyring"),))

    open_server = await serve(plain)
    http = client(HostBook(keyring=Keys()))
    await http.fetch(HttpRequest("GET", open_server.url, open_server.host))
    assert Keys.asked == []
    host = registry.server.host
    calls = (http.fetch(HttpRequest("GET", f"{registry.server.url}/{n}", host, scope=f"{SCOPE}{n}")) for n in range(5))
    await asyncio.gather(*calls)
    assert Keys.asked == [host]


async def test_14_the_canary_shows_nowhere(serve: Any, client: Any, told: Any) -> None:
    """Whatever fails, no message, cause or event holds the secret (bad input 14)."""
    seen = []

    async def echo(request: Any) -> Any:
        sent = request.headers.get("Authorization", "")
        header = {"WWW-Authenticate": "Basic realm=x"}
        message = {"errors": [{"code": "DENIED", "message": f"{sent} {CANARY}"}]}
        return web.Response(status=401, headers=header, body=json.dumps(message).encode())

    server = await serve(echo)
    host, url = server.host, server.url
    http = client(booked(host, credential=CREDENTIAL), limits=Limits(attempts=1))
    for target in (f"{url}/v2/", f"{url}/x?token={CANARY}", "http://127.0.0.1:1/"):
        with pytest.raises(MirrordError) as caught:
            await http.fetch(HttpRequest("GET", target, host if target.startswith(url) else "127.0.0.1:1"))
        error: BaseException | None = caught.value
        while error is not None:
            seen.append(f"{error} {error!r} {error.args}")
            error = error.__cause__
    text = " ".join(seen) + repr(told)
    assert CANARY not in text
    assert base64.b64encode(f"crane:{CANARY}".encode()).decode() not in text


@pytest.fixture
def authority() -> Any:
    return trustme.CA()


async def test_certificates_are_checked(authority: Any, raw: Any, client: Any, tmp_path: Any) -> None:
    """Unknown authority: refused once; the operator's `ca:` opens it, `certificate:` tells who we are (F28)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    ca, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    authority.cert_pem.write_to_path(str(ca))
    authority.issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(str(own))
    served: list[bool] = []

    async def talk(reader: Any, writer: Any) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            served.append(bool(writer.get_extra_info("peercert")))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    host = (await raw(talk, context)).host
    call = HttpRequest("GET", f"https://{host}/", host)
    with pytest.raises(UnreachableError, match="TLS") as caught:
        await client().fetch(call)
    assert caught.value.retry is False
    assert served == []
    await client(booked(host, ca=str(ca))).fetch(call)
    await client(booked(host, ca=str(ca), certificate=str(own))).fetch(call)
    assert served == [False, True]
    twin = host.replace("127.0.0.1", "localhost")  # a name that the certificate does not have
    with pytest.raises(UnreachableError, match="TLS"):
        await client(booked(twin, ca=str(ca))).fetch(HttpRequest("GET", f"https://{twin}/", twin))


def test_missing_tls_files_are_named(tmp_path: Any) -> None:
    """The error names the file, and is not worth a retry."""
    with pytest.raises(UnreachableError, match=r"nowhere\.pem") as caught:
        Tls(ca=str(tmp_path / "nowhere.pem")).context()
    assert caught.value.retry is False


async def test_names_that_do_not_resolve(client: Any) -> None:
    """NXDOMAIN and a broken resolver are `UnreachableError`, tried again (F27)."""

    class Broken(Names):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
            self.asked.append(host)
            raise OSError(-2, "Name or service not known")

    resolver = Broken()
    http = client(connect=functools.partial(AiohttpTransport, resolver=resolver), limits=Limits(attempts=3))
    with pytest.raises(UnreachableError, match="resolved"):
        await http.fetch(HttpRequest("GET", "https://registry.test/", "registry.test"))
    assert len(resolver.asked) == 3


async def test_a_proxy_takes_credentials_from_its_url(raw: Any, client: Any) -> None:
    """They go to the proxy, in its own header, and show in no message."""
    heads = []

    async def talk(reader: Any, writer: Any) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")

    proxy = await raw(talk)
    http = client(
        booked("registry.test", proxy=Proxy(proxy.url, Credential("user", Secret(CANARY)))), limits=Limits(attempts=1)
    )
    with pytest.raises(UnreachableError, match="proxy") as caught:
        await http.fetch(HttpRequest("GET", "https://registry.test/", "registry.test"))
    assert heads[0].startswith(b"CONNECT registry.test:443 ")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(f"user:{CANARY}".encode()) in heads[0]
    assert CANARY not in str(caught.value)


async def test_a_proxy_resolves_names(raw: Any, client: Any) -> None:
    """With a proxy, names are not looked up here, and literals are still judged (T2.4)."""
    heads = []

    async def talk(reader: Any, writer: Any) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    proxy = await raw(talk)
    connect, resolver = knowing()
    http = client(booked("registry.test", insecure=True, proxy=Proxy(proxy.url)), connect=connect)
    await http.fetch(HttpRequest("GET", "http://registry.test/v2/", "registry.test"))
    assert heads[0].startswith(b"GET http://registry.test/v2/ HTTP/1.1\r\n")
    assert resolver.asked == []
    with pytest.raises(UntrustedError):
        await http.fetch(HttpRequest("GET", "http://10.0.0.1/", "registry.test"))
    assert len(heads) == 1
