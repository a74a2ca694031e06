"""`mirrord copy` in a company: a proxy in between, certificates of the company's own, token servers of its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.cli.grammar import COMMANDS
from mirrord.cli.hosts import copy_hosts
from mirrord.testing import DockerRegistry, Registry, build_image, push, require
from mirrord.testing.running import run
from mirrord.wire import advice
from tests.support.auth import Auth
from tests.support.commands import Desk, Said
from tests.support.forwarding import ForwardProxy
from tests.support.tls import Authority

Typed = Callable[..., Said]
LOGIN = ("corp@user", "c4nary:p/w")
TYPED = "http://corp%40user:c4nary%3Ap%2Fw@"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_and_an_authority(desk: Desk, authority: Authority, scheme: str) -> None:
    """HTTPS_PROXY and `--ca` reach two registries that only the proxy knows, as skopeo does; a proxy may speak TLS."""
    require("docker-registry", "skopeo")
    image = build_image(layer_size=100_000)
    pair = authority.pair("registry.test")
    async with Registry(tls=authority.server("source.test")) as source, DockerRegistry(tls=pair) as target:
        await push(image, source, "a", ["v1"])
        names = {"source.test:443": source.host, "registry.test:443": target.host}
        async with ForwardProxy(names, LOGIN, authority.server() if scheme == "https" else None) as proxy:
            environ = {"HTTPS_PROXY": f"{TYPED}{proxy.host}".replace("http", scheme)}
            words = ("copy", "--ca", "ca.pem", "source.test/a:v1", "registry.test/x/a")
            said = await desk.run(*words, **environ)
            assert said.status == 0, said.err
            assert source.count("GET", "/blobs/") == len(image.blobs)
            tunnels = Counter(proxy.asked)
            assert set(tunnels) == {"CONNECT source.test:443", "CONNECT registry.test:443"}
            assert max(tunnels.values()) <= 8  # no more than requests may be under way at one host
            proxy.asked.clear()
            again = await desk.run(*words, **environ)
            assert again.out.startswith("copy: noop in ")
            assert sorted(proxy.asked) == ["CONNECT registry.test:443", "CONNECT source.test:443"]
            judge = await run(
                *("skopeo", "inspect", "--raw", "docker://registry.test/x/a:v1"),
                env={**desk.environ, **environ, "SSL_CERT_FILE": str(authority.ca)},
            )
            assert judge.output.encode() == image.body
            for text in (said.out, said.err, again.out):
                assert "c4nary" not in text


async def test_no_proxy_and_plain_http(desk: Desk) -> None:
    """HTTP_PROXY forwards plain HTTP of an `--insecure` host; NO_PROXY and this machine are reached directly."""
    image = build_image(layer_size=50_000)
    async with Registry() as source, Registry() as target:
        await push(image, source, "a", ["v1"])
        async with ForwardProxy({"registry.test": target.host}) as proxy:
            environ = {"HTTP_PROXY": f"http://{proxy.host}"}
            words = ("copy", f"{source.host}/a:v1", "registry.test/a", "--insecure", "registry.test")
            said = await desk.run(*words, **environ)
            assert said.status == 0, said.err
            assert target.tags["a"] == {"v1": image.digest}
            assert {line.split("/v2/")[0] for line in proxy.asked} == {
                "HEAD http://registry.test",
                "POST http://registry.test",
                "PUT http://registry.test",
            }
            proxy.asked.clear()
            direct = await desk.run(*words, **environ, NO_PROXY="test,10.0.0.0/8")
            assert "registry.test: the name cannot be resolved" in direct.out + direct.err
            assert proxy.asked == []


async def test_mirrors_take_a_proxy_from_hosts_alone(desk: Desk) -> None:
    """`sync` asks no proxy of the environment, which `check` says, and asks that of `hosts:` whatever NO_PROXY says."""
    image = build_image(layer_size=50_000)
    async with Registry() as source, Registry() as target, ForwardProxy({"registry.test": target.host}) as proxy:
        await push(image, source, "a", ["v1"])
        rest = (
            "targets: {there: {kind: image, to: registry.test/x}}\n"
            f"mirrors: [{{name: a, kind: image, to: there, from: {{repository: {source.host}/a, tags: [v1]}}}}]\n"
        )
        desk.configure(f"hosts: {{registry.test: {{insecure: true}}}}\n{rest}")
        environ = {"HTTP_PROXY": f"http://{proxy.host}"}
        assert "HTTP_PROXY is set, and only `mirrord copy` uses it" in (await desk.run("check", **environ)).err
        said = await desk.run("sync", **environ)
        assert "registry.test: the name cannot be resolved" in said.out + said.err
        assert proxy.asked == []
        desk.configure(f"hosts: {{registry.test: {{insecure: true, proxy: 'http://{proxy.host}'}}}}\n{rest}")
        assert (await desk.run("sync", NO_PROXY="*")).status == 0
        assert target.tags["x/a"] == {"v1": image.digest}
        assert proxy.asked


@pytest.mark.parametrize(
    ("scheme", "given", "text"),
    [
        ("https", "http://", "wants credentials (status 407)"),
        (
            "https",
            "http://corp:wrong-c4nary@",
            "wants other credentials than it got (status 407); correct the user and",
        ),
        ("https", TYPED, "does not let us through (status 403)"),
        ("http", "http://", "wants credentials (status 407)"),
        ("http", "http://corp:wrong-c4nary@", "wants other credentials than it got (status 407)"),
    ],
)
async def test_a_proxy_that_says_no(desk: Desk, scheme: str, given: str, text: str) -> None:
    """The line names the proxy, what it wants and where to write it; one try, and no password anywhere."""
    async with ForwardProxy({}, LOGIN) as proxy:
        plain = ("--insecure", "registry.test") if scheme == "http" else ()
        environ = {f"{scheme}_proxy": given + proxy.host}
        said = await desk.run("copy", "registry.test/a:v1", "oci:out", *plain, **environ)
        assert said.status == 69
        assert f"mirrord: registry.test: the proxy http://{proxy.host} {text}" in said.err
        assert "HTTPS_PROXY" in said.err
        assert "hosts:" not in said.err
        assert "c4nary" not in said.err
        assert len(proxy.asked) == 1


async def test_a_proxy_that_is_not_there(desk: Desk, dead: str) -> None:
    """It is the proxy that is named, not the registry alone."""
    said = await desk.run("copy", "registry.test/a:v1", "oci:out", HTTPS_PROXY=f"http://u:c4nary@{dead}")
    assert said.status == 69
    assert f"registry.test: the proxy http://{dead} cannot be reached: Connection refused" in said.err
    assert "c4nary" not in said.err


def test_each_key_has_its_option() -> None:
    """Whatever an error advises to write under `hosts:`, commands without a configuration have an option for."""
    advised = copy_hosts([], {}).advice
    known = {text for name, text in vars(advice).items() if name.isupper()}
    assert set(advised) == known - {advice.OWN_AUTH}  # of Git hosts, which these commands do not ask
    assert not any("hosts:" in text for text in advised.values())
    options = {word for text in advised.values() for word in re.findall(r"--[a-z-]+", text)}
    assert len(options) == 5
    for command in ("copy", "tags", "list check"):
        assert options <= {name for parameter in COMMANDS[command].params for name in parameter.opts}


async def test_a_token_server_elsewhere(desk: Desk) -> None:
    """A realm on another host is refused with the option that allows it; with that option the copy goes on."""
    image = build_image(layer_size=50_000)
    issuer = Auth(bearer=("", ""))
    async with Registry(auth=issuer) as tokens:
        guard = Auth(bearer=("", ""), realm=f"{tokens.url}/token", issued=issuer.issued)
        async with Registry(auth=guard) as source:
            await push(image, source, "a", ["v1"])
            words = ("copy", f"{source.host}/a:v1", "oci:out")
            refused = await desk.run(*words)
            option = f"--token-realm {source.host}={tokens.url}"
            assert (refused.status, f"if it is right, add `{option}`" in refused.err) == (1, True), refused.err
            assert tokens.log == []
            assert (await desk.run(*words, *option.split())).status == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--insecure", "other.test"), "--insecure 'other.test': not a host of this command; its hosts: reg.test"),
        (("--tls", "other.test"), "--tls 'other.test': not a host of this command"),
        (("--tls", "reg.test", "--insecure", "reg.test"), "these contradict"),
        (("--token-realm", "reg.test"), "write HOST=https://SERVER"),
        (("--token-realm", "reg.test=https://a.test/token"), "write reg.test=https://a.test"),
        (("--token-realm", "a.test=https://b.test"), "--token-realm 'a.test': not a host of this command"),
        (("--ca", "none.pem"), "--ca none.pem: cannot be read: No such file or directory"),
        (("--ca", "empty.pem"), "--ca empty.pem: holds no PEM certificate"),
    ],
)
def test_options_that_cannot_be_meant(desk: Desk, typed: Typed, words: tuple[str, ...], text: str) -> None:
    """Each is refused with 64 and one line, before anybody is asked."""
    (desk.folder / "empty.pem").write_text("nothing\n")
    said = typed("copy", "reg.test/a:v1", "oci:out", *words)
    assert (said.status, said.out, said.err.count("\n")) == (64, "", 1), said
    assert text in said.err


async def test_a_redirect_to_a_store_of_the_company(desk: Desk, authority: Authority) -> None:
    """A registry that sends its blobs from a host with an unknown authority: that host is named, and the option."""
    image = build_image(layer_size=50_000)
    async with (
        Registry(tls=authority.server()) as store,
        Registry(redirect_blobs_to=store.url) as source,
    ):
        await push(image, source, "a", ["v1"])
        said = await desk.run("copy", f"{source.host}/a:v1", "oci:out")
        unknown = f"{store.host}: TLS: its certificate is from an authority that is not known here"
        assert (said.status, f"{unknown}; to trust it add `--ca FILE`" in said.out) == (69, True), said
        assert "hosts:" not in said.out + said.err


async def test_a_source_that_breaks_off(desk: Desk) -> None:
    """A source that ends the connection in the middle of a blob, each time: it is named, with what happened."""
    image = build_image(layer_size=50_000)
    async with Registry() as source:
        await push(image, source, "a", ["v1"])
        source.faults.on("GET", "/blobs/", times=None).truncate(100)
        said = await desk.run("copy", f"{source.host}/a:v1", "oci:out")
        assert (said.status, f"{source.host}: " in said.out) == (69, True), said
        assert "the connection ended in the middle" in said.out
