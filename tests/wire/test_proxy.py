"""Which proxy leads where: the variables as Go's programs read them (golang.org/x/net/http/httpproxy)."""

from __future__ import annotations

from typing import Any

import pytest

from mirrord.errors import ConfigError
from mirrord.wire.origin import check_url
from mirrord.wire.proxy import Proxies, Proxy
from mirrord.wire.secret import Credential, Secret, redact

PROXY = "http://proxy.test:3128"


def url_of(environ: dict[str, str], url: str) -> str | None:
    proxy = Proxies.of(environ).to(check_url(url))
    return proxy.url if proxy else None


@pytest.mark.parametrize(
    ("environ", "secure", "plain"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": PROXY}, PROXY, None),
        ({"https_proxy": PROXY}, PROXY, None),
        ({"HTTP_PROXY": PROXY}, None, PROXY),
        ({"http_proxy": PROXY}, None, PROXY),
        ({"HTTPS_PROXY": PROXY, "https_proxy": "http://other.test:1"}, PROXY, None),
        ({"HTTPS_PROXY": "", "https_proxy": PROXY}, PROXY, None),
        ({"HTTPS_PROXY": "proxy.test:3128"}, PROXY, None),
        ({"HTTPS_PROXY": "HTTP://Proxy.Test:3128/"}, PROXY, None),
        ({"HTTPS_PROXY": "https://proxy.test"}, "https://proxy.test", None),
        ({"ALL_PROXY": PROXY}, None, None),
    ],
)
def test_variables(environ: dict[str, str], secure: str | None, plain: str | None) -> None:
    """One variable for each scheme of the origin, upper case before lower case; a scheme may be missing."""
    assert url_of(environ, "https://reg.example/v2/") == secure
    assert url_of(environ, "http://reg.example/v2/") == plain


COVERED = [
    ("*", "https://reg.example"),
    ("a.test, *", "https://reg.example"),
    ("reg.example", "https://reg.example"),
    ("REG.Example", "https://reg.example"),
    ("example", "https://reg.example"),
    ("reg.example", "https://a.b.reg.example"),
    (".example", "https://reg.example"),
    ("*.example", "https://reg.example"),
    (" x.test ,reg.example:443 ", "https://reg.example"),
    ("reg.example:5000", "https://reg.example:5000"),
    ("10.0.0.0/8", "https://10.1.2.3:5000"),
    ("10.1.2.3", "https://10.1.2.3:5000"),
    ("10.1.2.3:5000", "https://10.1.2.3:5000"),
    ("fd00::/8", "https://[fd00::1]"),
    ("fd00::1", "https://[fd00::1]:5000"),
    ("[fd00::1]:5000", "https://[fd00::1]:5000"),
    ("m\u00fcller.example", "https://xn--mller-kva.example"),
    ("", "https://localhost:5000"),
    ("", "https://127.0.0.1:5000"),
    ("", "https://[::1]:5000"),
]

PROXIED = [
    ("", "https://reg.example"),
    (",,", "https://reg.example"),
    ("reg.example", "https://xreg.example"),
    (".reg.example", "https://reg.example"),
    ("*.reg.example", "https://reg.example"),
    ("reg.example:443", "https://reg.example:5000"),
    ("10.0.0.0/8", "https://11.1.2.3"),
    ("10.0.0.0/8", "https://reg.example"),
    ("10.0.0.0/99", "https://10.0.0.1"),
    ("10.1.2.3:5000", "https://10.1.2.3"),
    ("0.0.0.0/0", "https://[fd00::1]"),
    ("reg.example.", "https://reg.example"),
    (".", "https://reg.example"),
]


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(
    ("exceptions", "url", "expected"),
    [*((text, url, None) for text, url in COVERED), *((text, url, PROXY) for text, url in PROXIED)],
)
def test_exceptions(name: str, exceptions: str, url: str, expected: str | None) -> None:
    """Domains cover the hosts below them, networks addresses; ports and `*` count; this machine has no proxy."""
    assert url_of({"HTTPS_PROXY": PROXY, name: exceptions}, url) == expected


def test_a_password_in_a_proxy_is_a_secret() -> None:
    """It goes to the proxy and is in no representation; whatever repeats it is redacted."""
    proxy = Proxies.of({"HTTPS_PROXY": "http://cor%40p:c4nary%3Ax@proxy.test:3128"}).by_scheme["https"]
    assert proxy == Proxy(PROXY, Credential("cor@p", Secret("c4nary:x")))
    assert proxy.full() == "http://cor%40p:c4nary%3Ax@proxy.test:3128"
    assert "c4nary" not in repr(proxy)
    assert redact("say c4nary:x or c4nary%3Ax") == "say *** or ***"


@pytest.mark.parametrize(
    "text",
    [
        "socks5://u:c4nary@proxy.test",
        "ftp://u:c4nary@proxy.test",
        "http://u:c4nary@",
        "http://u:c4nary@a b",
        "u:c4na\x01ry@p",
    ],
)
def test_what_is_no_proxy(text: Any) -> None:
    """The variable is named, and its password is not repeated."""
    with pytest.raises(ConfigError) as caught:
        Proxies.of({"https_proxy": text})
    assert str(caught.value).startswith("https_proxy: ")
    assert "c4na" not in str(caught.value)
    assert "http://proxy.example.com:3128" in str(caught.value)
