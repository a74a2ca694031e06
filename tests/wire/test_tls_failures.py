"""What is wrong with TLS: each cause is named in one sentence with its fix, after one try."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from mirrord.errors import MirrordError, RefusedError
from mirrord.testing import DockerRegistry, require
from mirrord.testing.ports import free_port
from mirrord.testing.running import run, started
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.message import HttpRequest
from tests.support.tls import Authority

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@dataclass
class World:
    """Two authorities, of which clients know one, and what the server is to have."""

    known: trustme.CA
    other: trustme.CA
    context: ssl.SSLContext

    def serve(self, authority: trustme.CA, *names: str, **more: Any) -> None:
        authority.issue_cert(*(names or ("127.0.0.1",)), **more).configure_cert(self.context)

    def demand_client(self, version: ssl.TLSVersion) -> None:
        self.serve(self.known)
        self.context.maximum_version = version
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.known.configure_trust(self.context)


@contextmanager
def serving(context: ssl.SSLContext | None) -> Iterator[tuple[str, list[object]]]:
    """Serve with blocking sockets, which send TLS alerts as servers do (asyncio's drop them); counts connections."""
    connections: list[object] = []

    def answer(connection: socket.socket) -> None:
        connection.settimeout(20)
        if context:
            connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with connection, suppress(OSError):
            try:
                connection.recv(4096)
                connection.sendall(OK)
            except OSError:
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):  # a reset would overtake the alert
                    pass

    def accept() -> None:
        with suppress(OSError):
            while True:
                connections.append(accepted := listener.accept()[0])
                answer(accepted)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield "{}:{}".format(*listener.getsockname()), connections
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(trustme.CA(), trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    made.known.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name, authority in (("known", made.known), ("other", made.other)):
        authority.issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    return made


async def failed(client: Any, host: str, method: str = "GET", **policy: Any) -> MirrordError:
    http = client(HostBook({host: HostPolicy(host, **policy)}))
    scheme = "http" if policy.get("insecure", False) else "https"
    with pytest.raises(MirrordError) as caught:
        await http.fetch(HttpRequest(method, f"{scheme}://{host}/v2/", host))
    return caught.value


def old_cipher(world: World) -> None:
    world.serve(world.known)
    world.context.maximum_version = ssl.TLSVersion.TLSv1_2
    world.context.set_ciphers("ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0")  # no client offers this


def old_version(world: World) -> None:
    world.serve(world.known)
    world.context.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        world.context.minimum_version = ssl.TLSVersion.TLSv1
        world.context.maximum_version = ssl.TLSVersion.TLSv1_1


def self_signed(world: World) -> None:
    with world.other.private_key_pem.tempfile() as key, world.other.cert_pem.tempfile() as certificate:
        world.context.load_cert_chain(certificate, key)


CA = "to trust it write `ca: FILE` under hosts:"
CASES: dict[str, tuple[Callable[[World], None], dict[str, str], str]] = {
    "cipher": (old_cipher, {}, "no cipher in common"),
    "version": (old_version, {}, "no version of TLS in common; mirrord speaks TLS 1.2 and 1.3"),
    "client-1.2": (
        lambda world: world.demand_client(ssl.TLSVersion.TLSv1_2), {}, "or it wants a client certificate",
    ),
    "client-1.3": (
        lambda world: world.demand_client(ssl.TLSVersion.TLSv1_3), {},
        "the host wants a client certificate; check `certificate:` under hosts:",
    ),
    "other-client-1.2": (
        lambda world: world.demand_client(ssl.TLSVersion.TLSv1_2), {"certificate": "other.pem"},
        "the host refuses our client certificate; check `certificate:` under hosts:",
    ),
    "other-client-1.3": (
        lambda world: world.demand_client(ssl.TLSVersion.TLSv1_3), {"certificate": "other.pem"},
        "the host refuses our client certificate; check `certificate:` under hosts:",
    ),
    "name": (
        lambda world: world.serve(world.known, "reg.test", "*.reg.test", "10.0.0.1", "a.test", "b.test", "c.test"), {},
        "its certificate is for another name (reg.test, *.reg.test, 10.0.0.1, a.test, b.test and 1 more); write",
    ),
    "authority": (lambda one: one.serve(one.other), {}, f"authority that is not known here; {CA}"),
    "self-signed": (self_signed, {}, f"its certificate is self-signed; {CA}"),
    "expired": (
        lambda world: world.serve(world.known, not_before=NOW - 2 * DAY, not_after=NOW - DAY), {},
        f"its certificate has expired (valid until {NOW - DAY:%Y-%m-%d %H:%M} UTC); it must be renewed",
    ),
    "early": (
        lambda world: world.serve(world.known, not_before=NOW + DAY, not_after=NOW + 2 * DAY), {},
        f"its certificate is not valid yet (valid from {NOW + DAY:%Y-%m-%d %H:%M} UTC); check the clock",
    ),
}  # fmt: skip


LOOKED_AT = {"name", "expired", "early"}  # once more, for what the certificate says


@pytest.mark.parametrize("case", CASES)
async def test_what_is_wrong(case: str, world: World, client: Any, tmp_path: Path) -> None:
    """The sentence says what the server or its certificate lacks, with its time or names, and what to write (F28)."""
    prepare, policy, text = CASES[case]
    prepare(world)
    files = {key: str(tmp_path / name) for key, name in policy.items()}
    with serving(world.context) as (host, connections):
        error = await failed(client, host, insecure=False, ca=str(tmp_path / "ca.pem"), **files)
    assert len(connections) == (2 if case in LOOKED_AT else 1)
    assert str(error).startswith(f"{host}: TLS: ")
    assert text in str(error)
    assert (error.code, error.retry) == ("unreachable", False)


async def test_plain_http_where_tls_is_expected(client: Any) -> None:
    """A server without TLS is called so, and the fix is `insecure: true`."""
    with serving(None) as (host, connections):
        error = await failed(client, host, insecure=False)
    assert len(connections) == 1
    fix = "write `insecure: true` under hosts:"
    assert str(error) == f"{host}: TLS: the host does not speak TLS; if plain HTTP is meant, {fix}"


async def test_tls_where_plain_http_is_spoken(world: World, client: Any, tmp_path: Path) -> None:
    """A server with TLS that is spoken to in plain HTTP: by a server that hangs up, and by a registry that says so."""
    require("docker-registry")
    fix = "if the host speaks TLS, write `insecure: false` under hosts:"
    world.serve(world.known)
    with serving(world.context) as (host, _):
        assert fix in str(await failed(client, host, insecure=True))
    async with DockerRegistry(tls=Authority(tmp_path).pair("127.0.0.1")) as registry:
        error = await failed(client, registry.host, method="HEAD", insecure=True)  # whose answer has a body: no HTTP
        assert (error.retry, fix in str(error)) == (False, True)
        error = await failed(client, registry.host, insecure=True)
        assert isinstance(error, RefusedError)
        assert "status 400: Client sent an HTTP request to an HTTPS server." in str(error)
        assert fix in str(error)


async def test_plain_http_to_a_web_server_with_tls(client: Any, tmp_path: Path) -> None:
    """A server answers with a page that says so (nginx): the page is not quoted, and the fix is named."""
    require("nginx")
    certificate, key = Authority(tmp_path).pair("127.0.0.1")
    host, at = f"127.0.0.1:{free_port()}", tmp_path / "nginx"
    at.mkdir()
    places = " ".join(f"{one}_temp_path {at}/{one};" for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    server = f"server {{ listen {host} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; }}"
    text = f"daemon off; pid {at}/pid; events {{}} http {{ access_log off; {places} {server} }}"
    (at / "nginx.conf").write_text(text)
    async with started("nginx", "-c", at / "nginx.conf", "-e", at / "error.log"):
        retried = ("--retry", "20", "--retry-delay", "1", "--retry-connrefused")
        assert (await run("curl", "--silent", "--insecure", *retried, f"https://{host}/")).status == 0
        for method in ("GET", "HEAD"):
            fix = "this was plain HTTP: if the host speaks TLS, write `insecure: false` under hosts:"
            assert str(await failed(client, host, method, insecure=True)) == (
                f"{host}: {method} /v2/: status 400 ({fix})"
            )
