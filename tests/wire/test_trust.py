"""Where secrets may go and what may be dialled: bad inputs 1 to 4, 8 to 10 and 19 of the research, and more."""

from typing import Any

import pytest

from mirrord.errors import UntrustedError
from mirrord.wire import trust
from mirrord.wire.host import HostPolicy
from mirrord.wire.origin import Origin, canonical, check_url
from mirrord.wire.trust import Reach

REG = HostPolicy("registry.example")
HOME = Origin("https", "registry.example", 443)
PUBLIC, LOOPBACK, PRIVATE = Reach(), Reach(loopback=True), Reach(private=True)


@pytest.mark.parametrize(
    ("realm", "reason"),
    [
        pytest.param("https://evil.test/token", "realm", id="1-other-host"),
        pytest.param("https://registry.example.evil.test/token", "realm", id="1-prefix"),
        pytest.param("https://sub.registry.example/token", "realm", id="1-subdomain"),
        pytest.param("https://registry.example:444/token", "realm", id="1-other-port"),
        pytest.param("https://registry.example./token", "realm", id="1-trailing-dot"),
        pytest.param("http://registry.example/token", "downgrade", id="2-downgrade"),
        pytest.param("http://127.0.0.1/", "downgrade", id="3-loopback-plain"),
        pytest.param("https://127.0.0.1/", "realm", id="3-loopback"),
        pytest.param("https://169.254.169.254/latest/meta-data", "realm", id="3-link-local"),
        pytest.param("https://[::1]/", "realm", id="3-v6-loopback"),
        pytest.param("https://user:pw@registry.example/token", "realm", id="4-userinfo"),
        pytest.param("https://@registry.example/token", "realm", id="4-empty-userinfo"),
        pytest.param("file:///etc/passwd", "realm", id="8-file"),
        pytest.param("https://registry.example%0d%0a/token", "realm", id="13-control"),
        pytest.param("", "realm", id="empty"),
    ],
)
def test_a_realm_elsewhere_is_refused(realm: Any, reason: str) -> None:
    """A challenge cannot send our credential anywhere but to the registry itself."""
    with pytest.raises(UntrustedError) as caught:
        trust.check_realm(realm, HOME, REG)
    assert caught.value.reason == reason
    assert "pw@" not in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "home", "realm"),
    [
        (REG, HOME, "https://registry.example/token?x=1"),
        (REG, HOME, "https://REGISTRY.example:443/token"),
        (HostPolicy("docker.io"), Origin("https", "registry-1.docker.io", 443), "https://auth.docker.io/token"),
        (HostPolicy("registry.example", token_realms=("https://sso.example",)), HOME, "https://sso.example/t"),
        (HostPolicy("127.0.0.1:5000"), Origin("http", "127.0.0.1", 5000), "http://127.0.0.1:5000/token"),
    ],
)
def test_a_known_realm_is_allowed(policy: Any, home: Any, realm: Any) -> None:
    """The registry's own authority, the built-in table and `token_realms` are where tokens come from."""
    assert trust.check_realm(realm, home, policy).host in realm.lower()


@pytest.mark.parametrize(
    ("host", "url", "belongs"),
    [
        pytest.param("reg.example.com", "https://reg.example.com/v2/", True, id="10-same"),
        pytest.param("reg.example.com", "https://REG.example.com/v2/", True, id="10-case"),
        pytest.param("reg.example.com", "https://reg.example.com:443/v2/", True, id="10-default-port"),
        pytest.param("reg.example.com", "https://reg.example.com.evil.test/v2/", False, id="10-suffix"),
        pytest.param("reg.example.com", "https://evil.test/reg.example.com/", False, id="10-path"),
        pytest.param("reg.example.com", "https://reg.example.com./v2/", False, id="10-dot"),
        pytest.param("reg.example.com", "https://reg.example.com:8443/v2/", False, id="10-port"),
        pytest.param("reg.example.com", "https://r\u0435g.example.com/v2/", False, id="10-punycode-twin"),
        pytest.param("reg.example.com", "http://reg.example.com/v2/", False, id="2-plain"),
        pytest.param("docker.io", "https://registry-1.docker.io/v2/", True, id="hub-api"),
        pytest.param("docker.io", "https://production.cloudflare.docker.com/x", False, id="hub-cdn"),
        pytest.param("127.0.0.1:5000", "http://127.0.0.1:5000/v2/", True, id="loopback"),
        pytest.param("127.0.0.1:5000", "http://127.0.0.1:5001/v2/", False, id="loopback-other-port"),
        pytest.param("[::1]:5000", "http://[::1]:5000/v2/", True, id="v6"),
    ],
)
def test_credentials_belong_to_one_authority(host: str, url: str, belongs: Any) -> None:
    """Equality after case folding and dropping the default port decides, nothing like a prefix."""
    assert trust.belongs(check_url(url), HostPolicy(host)) is belongs


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("http://0x7f.1/", "address", id="18-hex"),
        pytest.param("http://2130706433/", "address", id="18-integer"),
        pytest.param("http://0177.0.0.1/", "address", id="18-octal"),
        pytest.param("http://127.1/", "address", id="18-short"),
        pytest.param("http://127.0.0.1./", "address", id="18-dot"),
        pytest.param("ftp://x/", "scheme", id="8-ftp"),
        pytest.param("//x/", "scheme", id="8-none"),
        pytest.param("https://u@x/", "userinfo", id="4-user"),
        pytest.param("https://x/\n", "url", id="13-newline"),
        pytest.param("https://x%0a/", "url", id="13-encoded-newline"),
        pytest.param("https://x\\@y/", "url", id="backslash"),
        pytest.param("https:///x", "url", id="no-host"),
        pytest.param("https://x:99999/", "url", id="port"),
        pytest.param("https://[::1/", "url", id="bracket"),
        pytest.param("https://x y/", "url", id="space"),
        pytest.param("https://ex%61mple/", "url", id="encoded-host"),
    ],
)
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str, reason: str) -> None:
    """What is judged is what would be dialled: odd spellings never reach a resolver."""
    with pytest.raises(UntrustedError) as caught:
        check_url(url)
    assert caught.value.reason == reason


@pytest.mark.parametrize("reach", [PUBLIC, LOOPBACK, PRIVATE])
@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("93.184.216.34", "public"), ("2606:2800:220:1::1", "public"),
        ("127.0.0.1", "loopback"), ("127.9.9.9", "loopback"), ("::1", "loopback"), ("::ffff:127.0.0.1", "loopback"),
        ("10.0.0.5", "private"), ("192.168.1.1", "private"), ("172.16.0.1", "private"), ("169.254.169.254", "private"),
        ("fe80::1%eth0", "private"), ("fd00::1", "private"), ("100.64.0.1", "private"), ("0.0.0.0", "private"),
        ("::", "private"), ("64:ff9b::7f00:1", "private"), ("64:ff9b::5db8:d822", "private"),
        ("2002:7f00:1::", "private"),
        ("::7f00:1", "private"), ("::ffff:10.0.0.1", "private"), ("240.0.0.1", "private"),
        ("168.63.129.16", "private"), ("::ffff:168.63.129.16", "private"), ("168.63.129.17", "public"),
        ("224.0.0.1", "never"), ("ff02::1", "never"), ("239.255.255.255", "never"),
    ],
)  # fmt: skip
def test_addresses_are_judged_by_value(address: Any, kind: Any, reach: Any) -> None:
    """Only public addresses are dialled, unless the operator opened loopback or private ones (bad input 19)."""
    allowed = {
        "public": True,
        "loopback": reach.loopback or reach.private,
        "private": reach.private,
        "never": False,
    }[kind]
    if allowed:
        trust.check_addresses("h", [address], reach)
    else:
        with pytest.raises(UntrustedError) as caught:
            trust.check_addresses("h", [address], reach)
        assert caught.value.reason == "address"


def test_a_mixed_answer_is_refused() -> None:
    """One private address among public ones condemns the whole name (bad input 19)."""
    with pytest.raises(UntrustedError):
        trust.check_addresses("h", ["93.184.216.34", "10.0.0.5"], PUBLIC)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "localhost", "169.254.169.254"])
def test_a_literal_is_judged_before_dialling(host: str) -> None:
    """A resolver is never asked about literals, so they are judged where they are read."""
    with pytest.raises(UntrustedError):
        trust.check_literal(check_url(f"http://{host}:1/"), PUBLIC)


@pytest.mark.parametrize(
    ("policy", "reach"),
    [
        (HostPolicy("127.0.0.1:5000"), LOOPBACK),
        (HostPolicy("localhost:5000"), LOOPBACK),
        (HostPolicy("[::1]:5000"), LOOPBACK),
        (HostPolicy("10.0.0.1"), PUBLIC),
        (HostPolicy("registry.corp", allow_private=True), PRIVATE),
        (HostPolicy("localhost.evil.test"), PUBLIC),
        (HostPolicy("docker.io"), PUBLIC),
    ],
)
def test_reach_follows_what_the_operator_wrote(policy: Any, reach: Any) -> None:
    """Loopback is open to those written as loopback; everything private needs `allow_private`."""
    assert trust.reach_of(policy) == reach


@pytest.mark.parametrize(
    ("chain", "location", "reason"),
    [
        pytest.param(["https://a/1"], "http://a/2", "downgrade", id="8-downgrade"),
        pytest.param(["https://a/1"], None, "location", id="8-missing"),
        pytest.param(["https://a/1"], "", "location", id="8-empty"),
        pytest.param(["https://a/1"], "file:///etc/passwd", "scheme", id="8-file"),
        pytest.param(["https://a/1", "https://a/2"], "/1", "loop", id="8-loop"),
        pytest.param(["https://a/1"], "/1#again", "loop", id="8-fragment"),
        pytest.param([f"https://a/{n}" for n in range(11)], "/x", "hops", id="8-eleventh"),
        pytest.param(["https://a/1"], "https://u:p@b/", "userinfo", id="4-userinfo"),
        pytest.param(["https://a/1"], "http://[", "url", id="8-no-url"),
    ],
)
def test_redirects_that_are_not_followed(chain: Any, location: str | None, reason: str) -> None:
    """Each has its own word."""
    with pytest.raises(UntrustedError) as caught:
        trust.redirect(chain, location)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("location", "url"),
    [("/2", "https://a/2"), ("2?x=%2F", "https://a/2?x=%2F"), ("//b/2", "https://b/2"), ("https://b/3", "https://b/3")],
)
def test_redirects_are_relative_to_where_they_come_from(location: str | None, url: str) -> None:
    """RFC 9110 section 10.2.2."""
    assert trust.redirect(["https://a/1"], location) == url


def test_the_tenth_redirect_is_followed() -> None:
    """Ten hops are allowed, the eleventh is not."""
    assert trust.redirect([f"https://a/{n}" for n in range(10)], "/x") == "https://a/x"


def test_strangers_see_only_harmless_headers() -> None:
    """Custom headers are credentials as often as not (bad input 7)."""
    headers = {
        "Accept": "a", "Range": "bytes=1-", "Authorization": "s", "Cookie": "s", "PRIVATE-TOKEN": "s",
        "X-JFrog-Art-Api": "s", "Proxy-Authorization": "s", "content-type": "c",
    }  # fmt: skip
    assert set(trust.carry(headers, home=False)) == {"Accept", "Range", "content-type"}
    assert trust.carry(headers, home=True) == headers


@pytest.mark.parametrize(
    ("policy", "scheme"),
    [
        (HostPolicy("127.0.0.1:5000"), "http"), (HostPolicy("localhost"), "http"), (HostPolicy("quay.io"), "https"),
        (HostPolicy("127.0.0.1:5000", insecure=False), "https"), (HostPolicy("reg:5000", insecure=True), "http"),
    ],
)  # fmt: skip
def test_loopback_is_plain_by_default(policy: Any, scheme: Any) -> None:
    """As docker does."""
    assert trust.scheme_of(policy) == scheme


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://Registry.Example:443/v2/?a=%2f&b={c}|'\"#part", "https://registry.example/v2/?a=%2f&b={c}|'\""),
        ("https://registry.example/v2/ä?b=é", "https://registry.example/v2/%C3%A4?b=%C3%A9"),
        ("http://[::0:1]:80", "http://[::1]"),
    ],
)
def test_a_url_goes_out_as_it_was_written(written: str, sent: str) -> None:
    """What a signature may cover is not respelled; only the origin is, and what is not ASCII is percent-encoded."""
    assert canonical(written) == sent
