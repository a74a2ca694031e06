"""A client certificate of a host, and the proxy on the way to it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from mirrord.testing import Registry
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.http.client import Http
from mirrord.wire.http.message import HttpRequest
from mirrord.wire.proxy import Proxy
from tests.support.forwarding import ForwardProxy
from tests.support.tls import Authority


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_is_not_shown_the_certificate_for_a_host(tmp_path: Path, scheme: str) -> None:
    """The host demands our certificate and gets it; an `https://` proxy asks for one as well and gets none."""
    authority = Authority(tmp_path)
    asks = authority.server(demand_client=True)
    asks.verify_mode = ssl.CERT_OPTIONAL
    own = str(authority.client())
    async with Registry(tls=authority.server("registry.test", demand_client=True)) as registry:
        names = {"registry.test:443": registry.host}
        async with ForwardProxy(names, tls=asks if scheme == "https" else None) as proxy:
            policy = HostPolicy(
                "registry.test", ca=str(authority.ca), certificate=own, proxy=Proxy(f"{scheme}://{proxy.host}")
            )
            book = HostBook({"registry.test": policy})
            async with Http(book) as http:
                for _ in range(2):
                    answer = await http.fetch(HttpRequest("GET", "https://registry.test/v2/", "registry.test"))
                    assert answer.status == 200
    assert proxy.asked
    assert set(proxy.asked) == {"CONNECT registry.test:443"}
    assert proxy.certificates == [False] * len(proxy.asked)
