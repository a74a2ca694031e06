"""Addresses of repositories: three transports, one spelling, nothing that a program could take for an order."""

from __future__ import annotations

import pytest

from mirrord.errors import UntrustedError, UsageError
from mirrord.wire.git.address import Address, check
from mirrord.wire.host import HostPolicy

TAKEN = [
    ("https://github.com/gocrane/crane.git", "https://github.com/gocrane/crane.git", "github.com"),
    ("HTTPS://GitHub.com:443/a/b/", "https://github.com/a/b", "github.com"),
    ("https://git.example:8443/a", "https://git.example:8443/a", "git.example:8443"),
    ("http://127.0.0.1:3000/a/b.git", "http://127.0.0.1:3000/a/b.git", "127.0.0.1:3000"),
    ("https://[::1]:8443/a", "https://[::1]:8443/a", "[::1]:8443"),
    ("ssh://git@e.coding.net/t/p/r.git", "ssh://git@e.coding.net/t/p/r.git", "e.coding.net"),
    ("ssh://Git.Example:22/a", "ssh://git@git.example/a", "git.example"),
    ("ssh://me@git.example:2222/~me/a", "ssh://me@git.example:2222/~me/a", "git.example:2222"),
    ("git@github.com:gocrane/crane.git", "git@github.com:gocrane/crane.git", "github.com"),
    ("git@github.com:/srv/crane.git", "ssh://git@github.com/srv/crane.git", "github.com"),
    ("git@[::1]:a/b", "git@[::1]:a/b", "[::1]"),
]


@pytest.mark.parametrize(("text", "url", "host"), TAKEN, ids=[row[0] for row in TAKEN])
def test_taken(text: str, url: str, host: str) -> None:
    """What people write is taken, and spelled in one way."""
    address = Address.parse(text)
    assert (address.url, str(address), address.host) == (url, url, host)
    assert Address.parse(address.url) == address


def test_two_spellings() -> None:
    """Both spellings of an ssh address are the same repository for whoever compares them."""
    assert Address.parse("git@github.com:a/b") == Address.parse("ssh://git@github.com/a/b")


REFUSED = [
    "ext::sh -c touch% /tmp/x", "ext::sh", "fd::17", "file:///etc", "/etc", "./x", "../x", "C:\\x", "git://h/x",
    "ftp://h/x", "--upload-pack=touch /tmp/x", "-oProxyCommand=touch", "ssh://-oProxyCommand=x/y", "ssh://h:x/y",
    "-u@h:x", "git@-oProxyCommand=x:y", "ssh://h:0/x", "ssh://h:70000/x", "git@h:-x", "ssh://h/-x", "git@h::x",
    "https://h/%0ahost=evil", "https://h/%0Ahost=evil", "https://h/a\r\nb", "https://h/a\x00b", "https://h/a b",
    "https://h/a%00b", "https://h/a\u2028b", "https://h/a%5c..%5cb", "https://h/../x", "https://h/a/%2e%2E/b",
    "https://h/a//b", "ssh://h/a/../b", "git@h:../x", "https://h", "https://h/", "ssh://h/", "git@h:", "h:x", "",
    "https://0x7f.1/x", "https://2130706433/x", "git@2130706433:x", "ssh://0x7f.1/x", "https://h/x?y", "https://h/x#y",
    "https:///x", "https://h:99999/x", "http+unix://h/x", "https://h/" + "x" * 3000, "github.com/gocrane/crane",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: f"57-{text[:40]!a}")
def test_57_refused(text: str) -> None:
    """Bad input 57: other transports, options, control characters and detours are refused before any process starts."""
    with pytest.raises(UsageError) as caught:
        Address.parse(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "https://me:hunter2@h/x",
        "https://hunter2@h/x",
        "ssh://git:hunter2@h/x",
        "git:hunter2@h:x",
        "ssh://git:hunter2@h/" + "x" * 3000,
        "ext::https://git:hunter2@h/x",
        "-https://git:hunter2@h/x",
    ],
)
def test_66_no_password_in_an_address(text: str) -> None:
    """Bad input 66: a password in an address is refused, and not repeated; the text says where it belongs."""
    with pytest.raises(UsageError) as caught:
        Address.parse(text)
    assert "hunter2" not in str(caught.value)
    if text.startswith("https"):
        assert "`auth:`" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("http://127.0.0.1:3000/x", HostPolicy("127.0.0.1:3000")),
        ("http://git.example/x", HostPolicy("git.example", insecure=True)),
        ("https://git.example/x", HostPolicy("git.example")),
        ("ssh://git.example/x", HostPolicy("git.example")),
    ],
)
def test_57_encrypted_or_allowed(text: str, policy: HostPolicy) -> None:
    """Loopback and hosts that the operator marked may be spoken to in plain HTTP."""
    check(Address.parse(text), policy)


def test_57_plain_http() -> None:
    """Bad input 57: `http://` to anybody else is refused, and the text says what to write."""
    with pytest.raises(UntrustedError, match=r"write https://, or `insecure: true` for git\.example"):
        check(Address.parse("http://git.example/x"), HostPolicy("git.example"))
