"""What people write to name an image."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mirrord.errors import MirrordError, UsageError
from mirrord.model.digest import Digest
from mirrord.wire.oci.reference import Reference, valid_repository, valid_tag

HEX = "a" * 64
DIGEST = Digest(f"sha256:{HEX}")
LONG = Digest(f"sha512:{'b' * 128}")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("gocrane/craned", "docker.io/gocrane/craned"),
        ("docker.io/nginx", "docker.io/library/nginx"),
        ("index.docker.io/nginx", "docker.io/library/nginx"),
        ("registry-1.docker.io/a/b", "docker.io/a/b"),
        ("registry.hub.docker.com/library/nginx", "docker.io/library/nginx"),
        ("localhost/x", "localhost/x"),
        ("LOCALHOST/x", "localhost/x"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("127.0.0.1:443/x", "127.0.0.1:443/x"),
        ("[::1]:5000/x", "[::1]:5000/x"),
        ("[0:0::1]/x", "[::1]/x"),
        ("REG.example.com/x", "reg.example.com/x"),
        ("reg.example.com:443/x", "reg.example.com/x"),
        ("reg.example.com:0080/x", "reg.example.com:80/x"),
        ("registry:443/x", "registry:443/x"),
        ("team-docker.pkg.coding.net/p/r/img:v1", "team-docker.pkg.coding.net/p/r/img:v1"),
        ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1@{LONG}", f"docker.io/library/nginx:1@{LONG}"),
        ("x:" + "T" * 128, "docker.io/library/x:" + "T" * 128),
    ],
)
def test_reads_what_docker_reads(text: str, canonical: str) -> None:
    """Short names get Docker's defaults, and every spelling of a host becomes the one it is configured by."""
    assert str(Reference.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param(" \n", "empty", id="blank"),
        pytest.param("https://reg.io/x", "leave it out", id="scheme"),
        pytest.param("docker://nginx", "docker://", id="skopeo"),
        pytest.param("hub.docker.com/r/foo/bar", "write docker.io/foo/bar", id="hub-page"),
        pytest.param("https://hub.docker.com/r/foo/bar/tags?page=1", "write docker.io/foo/bar", id="hub-tags"),
        pytest.param("hub.docker.com/_/nginx", "write docker.io/library/nginx", id="hub-official"),
        pytest.param("hub.docker.com/repository/docker/a/b/general", "write docker.io/a/b", id="hub-owner"),
        pytest.param("hub.docker.com", "write docker.io/owner/name", id="hub-front"),
        pytest.param("hub.docker.com/r/a/b:\n\x1b[31m\ud800", "write docker.io/owner/name", id="hub-hostile"),
        pytest.param("hub.docker.com/r/a/b@c", "write docker.io/owner/name", id="hub-password"),
        pytest.param("foo/Bar:1", "write foo/bar", id="upper-path"),
        pytest.param("Foo/bar", "write foo/bar", id="upper-first"),
        pytest.param("ghcr.io/Bar", "write bar", id="upper-after-host"),
        pytest.param(HEX, "identifier", id="identifier"),
        pytest.param("a//b", "not a repository", id="21-double-slash"),
        pytest.param("reg.io/../../etc/passwd", "not a repository", id="21-dots"),
        pytest.param("reg.io/%2e%2e%2fx", "not a repository", id="21-percent"),
        pytest.param("reg.io/a\\b", "not a repository", id="21-backslash"),
        pytest.param("reg.io/a\0b", "not a repository", id="21-nul"),
        pytest.param("reg.io/" + "a" * 10_000, "too many", id="21-10kB"),
        pytest.param("reg.io/" + "a/" * 255 + "a", "at most 255", id="21-256-components"),
        pytest.param("a" * 240 + ".io/" + "b" * 12, "at most 255", id="21-name-limit"),
        pytest.param("a/", "not a repository", id="slash-behind"),
        pytest.param("/a", "not a repository", id="slash-in-front"),
        pytest.param("./a", "for an OCI layout in a folder write oci:DIR", id="folder"),
        pytest.param("a..b", "not a repository", id="two-dots"),
        pytest.param("a___b", "not a repository", id="three-underscores"),
        pytest.param("nginx:", "not a tag", id="no-tag"),
        pytest.param("nginx:-a", "not a tag", id="dash-tag"),
        pytest.param("nginx:../x", "not a registry host", id="42-path-in-tag"),
        pytest.param("nginx:" + "a" * 129, "at most 128", id="long-tag"),
        pytest.param("nginx:a\n", "not a tag", id="newline"),
        pytest.param("nginx:é", "not a tag", id="accent"),
        pytest.param("reg.example.com./x", "not a registry host", id="10-trailing-dot"),
        pytest.param("ré.io/x", "not a registry host", id="unicode-host"),
        pytest.param("-a.io/x", "not a registry host", id="dash-host"),
        pytest.param("reg.io:99999/x", "between 1 and 65535", id="port-high"),
        pytest.param("reg.io:0/x", "between 1 and 65535", id="port-zero"),
        pytest.param("reg.io:/x", "not a registry host", id="port-none"),
        pytest.param("[::1/x", "not a registry host", id="bracket"),
        pytest.param("[1:2]/x", "not an IPv6 address", id="six"),
        pytest.param("nginx@", "what follows the @", id="no-digest"),
        pytest.param("nginx@sha256:../../x", "not a digest", id="22-path"),
        pytest.param(f"nginx@sha256:{'A' * 64}", "not a digest", id="22-upper"),
        pytest.param(f"nginx@sha256:{'a' * 63}", "not a digest", id="22-63"),
        pytest.param(f"nginx@md5:{'a' * 32}", "not a digest", id="22-md5"),
    ],
)
def test_refuses_and_says_why(text: str, says: str) -> None:
    """What is no reference is refused with a sentence that says what is wrong or what to write instead."""
    with pytest.raises(UsageError) as caught:
        Reference.parse(text)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable(), "it is written to terminals and logs"


@pytest.mark.parametrize("text", ["https://ann:s3cret@reg.io/x", "ann:s3cret@reg.io/x", "docker://a:s3cret@reg.io/x:1"])
def test_does_not_repeat_a_password(text: str) -> None:
    """A password that somebody put into a reference is refused and stands in no message."""
    with pytest.raises(UsageError) as caught:
        Reference.parse(text)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "parts",
    [
        ("docker.io", "nginx"),
        ("index.docker.io", "library/nginx"),
        ("REG.io", "x"),
        ("host", "x"),
        ("reg.io:443", "x"),
        ("reg.io", "../x"),
        ("reg.io", "x", "a/b"),
        ("reg.io", "x", None, "sha256:short"),
    ],
)
def test_no_malformed_reference_exists(parts: tuple[str, ...]) -> None:
    """A reference that is put together by hand obeys the same grammar, so its parts are safe in URLs and paths."""
    with pytest.raises(UsageError):
        Reference(*parts)  # type: ignore[arg-type]  # a digest that is none is the point


def test_tells_where_the_api_is() -> None:
    """Docker Hub answers on another host than its name; everybody else on their own."""
    assert Reference.parse("nginx").api_host == "registry-1.docker.io"
    assert Reference.parse("ghcr.io/a/b").api_host == "ghcr.io"
    assert Reference.parse("localhost:5000/a").api_host == "localhost:5000"


def test_moves_within_the_repository() -> None:
    """`with_tag` names another manifest of the same repository, and only that."""
    reference = Reference.parse(f"ghcr.io/a/b:v1@{DIGEST}")
    assert str(reference.with_tag("v2")) == "ghcr.io/a/b:v2"
    assert reference.name == "ghcr.io/a/b"
    with pytest.raises(UsageError):
        reference.with_tag("a b")


def test_grammar_of_parts() -> None:
    """The predicates take the grammar's limits and nothing beyond."""
    assert valid_tag("_" + "-" * 127)
    assert not valid_tag("a" * 129)
    assert not valid_tag("")
    assert valid_repository("a" * 255)
    assert not valid_repository("a" * 256)
    assert not valid_repository("a\n")


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAMED = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
DOMAIN = st.one_of(
    NAMED,
    st.tuples(NAMED, st.integers(1, 65535)).map(lambda pair: f"{pair[0]}:{pair[1]}"),
    st.ip_addresses(v=6).map(lambda address: f"[{address.compressed}]"),
    st.just("localhost"),
).filter(lambda text: not text.endswith(":443"))
COMPONENT = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
PATH = st.lists(COMPONENT, min_size=2, max_size=4).map("/".join)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True)
DIGESTS = st.binary(max_size=4).flatmap(
    lambda data: st.sampled_from(["sha256", "sha512"]).map(lambda algorithm: Digest.of(data, algorithm))
)


@settings(deadline=None)  # a loaded machine is no failure
@given(DOMAIN, PATH, st.none() | TAG, st.none() | DIGESTS)
def test_text_and_value_are_the_same(domain: str, path: str, tag: str | None, digest: Digest | None) -> None:
    """Every reference reads back from its text to an equal value."""
    reference = Reference(domain, path, tag, digest)
    assert Reference.parse(str(reference)) == reference


@settings(deadline=None)  # a loaded machine is no failure
@given(st.text() | st.from_regex(r"[a-zA-Z0-9./:@\[\]_ -]{0,40}", fullmatch=True))
@example("[::ffff:1.2.3.4]:443/x")
@example("localhost:00443/x")
@example("1.2.3.4:443/x")
def test_parsing_is_total_and_stable(text: str) -> None:
    """Any text either is refused by an error of ours, or has a canonical form that stays what it is."""
    try:
        reference = Reference.parse(text)
    except MirrordError:
        return
    assert Reference.parse(str(reference)) == reference
