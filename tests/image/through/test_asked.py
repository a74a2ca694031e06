"""What a request to the front means. Pure: no test here has a network, a disk or a clock."""

from __future__ import annotations

import pytest

from mirrord.names.book import NameBook
from mirrord.syncers.image.front.path import BadRequestError, RegistryPath
from mirrord.syncers.image.through.asked import Asked, asked_for

BOOK = NameBook(
    aliases={
        "k8s.gcr.io": "registry.k8s.io",
        "corp.m.example": "registry.corp.example:5000",
        "docker.elastic.co/beats": "quay.io/beats",
    },
    hosts={
        "docker.m.example": "docker.io",
        "team.m.example": "quay.io/team",
        "ghcr.m.example:8443": "ghcr.io",
        "m.example": "*",
    },
)
UPSTREAMS = ("docker.io", "quay.io", "registry.k8s.io", "registry.corp.example:5000")
HEX = "a" * 64


def means(name: str, host: str = "m.example", ns: str | None = None, upstreams: tuple[str, ...] = UPSTREAMS) -> Asked:
    return asked_for(RegistryPath.parse(f"{name}/manifests/v1"), host, ns, BOOK, upstreams)


def text(asked: Asked) -> str:
    return asked.reference.name if asked.reference else ""


@pytest.mark.parametrize(
    ("name", "host", "aliases"),
    [
        ("a.example", "m.example", {"a.example/x": "private.corp:5000"}),
        ("a.example/x", "m.example", {"a.example/x": "private.corp:5000"}),
        ("a.example/" + "b" * 240, "m.example", {"a.example": "private.corp:5000"}),
        ("b" * 250, "team.m.example", {}),
    ],
)
def test_no_mistake_shows_where_an_alias_leads(name: str, host: str, aliases: dict[str, str]) -> None:
    """A name that is wrong, or becomes too long, does not tell a client of the registry behind its alias."""
    book = NameBook(aliases, {"team.m.example": "private.corp:5000/team"})
    try:
        wrong = asked_for(RegistryPath.parse(f"{name}/manifests/v1"), host, None, book, ()).wrong
    except BadRequestError as error:
        wrong = error
    assert wrong
    assert wrong.status == 404
    assert "private" not in str(wrong)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a/manifests/v1", RegistryPath("a", "manifests", "v1")),
        ("a/manifests/b/manifests/v1", RegistryPath("a/manifests/b", "manifests", "v1")),
        ("blobs/tags/manifests/manifests/tags", RegistryPath("blobs/tags/manifests", "manifests", "tags")),
        ("v2/v2/tags/list", RegistryPath("v2/v2", "tags", "list")),
        ("manifests/manifests/manifests", RegistryPath("manifests", "manifests", "manifests")),
        ("docker.io%2fnginx/blobs/sha256%3A" + HEX, RegistryPath("docker.io/nginx", "blobs", f"sha256:{HEX}")),
    ],
)
def test_paths_are_read_from_the_right(path: str, found: RegistryPath) -> None:
    """T10: a repository may contain every word that the paths of a registry have."""
    read = RegistryPath.parse(path)
    assert (read.name, read.verb, read.ref) == (found.name, found.verb, found.ref)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("../../etc/passwd", 404, "NAME_INVALID"),
        ("a/../b/manifests/v1", 404, "NAME_INVALID"),
        ("%2e%2e/manifests/v1", 404, "NAME_INVALID"),
        ("a%00/manifests/v1", 404, "NAME_INVALID"),
        ("A/manifests/v1", 404, "NAME_INVALID"),
        ("a//b/manifests/v1", 404, "NAME_INVALID"),
        ("a" * 256 + "/manifests/v1", 404, "NAME_INVALID"),
        ("a" * 100_000, 404, "NAME_INVALID"),
        ("a/uploads/v1", 404, "NAME_INVALID"),
        ("a/manifests", 404, "NAME_INVALID"),
        ("a/manifests/", 404, "NAME_INVALID"),
        ("registry.corp.example:5000/a/manifests/v1", 404, "NAME_INVALID"),
        ("127.0.0.1:22/a/manifests/v1", 404, "NAME_INVALID"),
        ("[::1]/a/manifests/v1", 404, "NAME_INVALID"),
        (f"a/blobs/sha256:{'A' * 64}", 400, "DIGEST_INVALID"),
        (f"a/blobs/sha256:{'a' * 63}", 400, "DIGEST_INVALID"),
        (f"a/manifests/md5:{'a' * 32}", 400, "DIGEST_INVALID"),
        ("a/blobs/v1", 400, "DIGEST_INVALID"),
        ("a/referrers/v1", 400, "DIGEST_INVALID"),
    ],
)
def test_paths_that_name_nothing(path: str, status: int, code: str) -> None:
    """Bad inputs 18, 21 and 22: the grammar refuses them before anything else looks at them."""
    with pytest.raises(BadRequestError) as caught:
        RegistryPath.parse(path)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("docker.io/library/nginx", "docker.io/library/nginx"),
        ("docker.io/nginx", "docker.io/library/nginx"),
        ("index.docker.io/nginx", "docker.io/library/nginx"),
        ("registry-1.docker.io/bitnami/redis", "docker.io/bitnami/redis"),
        ("quay.io/a/b/c", "quay.io/a/b/c"),
        ("k8s.gcr.io/pause", "registry.k8s.io/pause"),
        ("corp.m.example/team/app", "registry.corp.example:5000/team/app"),
        ("docker.elastic.co/beats/filebeat", "quay.io/beats/filebeat"),
        ("docker.elastic.co/kibana/kibana", "docker.elastic.co/kibana/kibana"),
        ("evil.test/foo", "evil.test/foo"),  # who may be asked is decided by the list of upstreams
        ("127.0.0.1/foo", "127.0.0.1/foo"),
        ("localhost/foo", "localhost/foo"),
    ],
)
def test_a_name_that_begins_with_a_registry(name: str, found: str) -> None:
    """T11: a first segment with a dot is a registry, by its name, another spelling of it, or an alias."""
    asked = means(name)
    assert (text(asked), asked.local, asked.short) == (found, name, False)


def test_a_short_name() -> None:
    """Without a registry it is a repository of `local`, else one at Docker Hub where that is an upstream."""
    for name, found in (("nginx", "docker.io/library/nginx"), ("team/app", "docker.io/team/app")):
        asked = means(name)
        assert (text(asked), asked.local, asked.short) == (found, name, True)
    alone = means("nginx", upstreams=("quay.io",))
    assert (alone.reference, alone.local, alone.short) == (None, "nginx", True)


@pytest.mark.parametrize(
    ("host", "name", "found"),
    [
        ("docker.m.example", "nginx", "docker.io/library/nginx"),
        ("DOCKER.M.EXAMPLE:8080", "library/nginx", "docker.io/library/nginx"),
        ("docker.m.example", "docker.io/library/nginx", "docker.io/library/nginx"),
        ("team.m.example", "app", "quay.io/team/app"),
        ("ghcr.m.example:8443", "a/b", "ghcr.io/a/b"),
        ("ghcr.m.example", "a/b", "docker.io/a/b"),  # of another port of that host nothing is known
        ("", "a/b", "docker.io/a/b"),
        ("other.example", "a/b", "docker.io/a/b"),
    ],
)
def test_a_host_that_stands_for_a_registry(host: str, name: str, found: str) -> None:
    """The host form: what `names.hosts` has, with or without a port, names the registry."""
    assert text(means(name, host)) == found


@pytest.mark.parametrize(
    ("ns", "name", "host", "found"),
    [
        ("docker.io", "library/nginx", "m.example", "docker.io/library/nginx"),
        ("docker.io", "nginx", "m.example", "docker.io/library/nginx"),
        ("index.docker.io", "nginx", "m.example", "docker.io/library/nginx"),
        ("docker.io", "docker.io/library/nginx", "m.example", "docker.io/library/nginx"),
        ("k8s.gcr.io", "pause", "m.example", "registry.k8s.io/pause"),
        ("k8s.gcr.io", "registry.k8s.io/pause", "m.example", "registry.k8s.io/pause"),
        ("docker.io", "nginx", "docker.m.example", "docker.io/library/nginx"),
        ("registry.corp.example:5000", "app", "m.example", "registry.corp.example:5000/app"),
        ("evil.test", "app", "m.example", "evil.test/app"),
    ],
)
def test_the_namespace_of_containerd(ns: str, name: str, host: str, found: str) -> None:
    """T23: `?ns=` names the registry, is sent back, and never lets a repository of `local` be meant by the path."""
    asked = means(name, host, ns)
    assert (text(asked), asked.local) == (found, "")
    assert asked.namespace == ("docker.io" if ns == "index.docker.io" else ns)


@pytest.mark.parametrize(
    ("ns", "name", "host"),
    [
        ("docker.io", "quay.io/a/b", "m.example"),
        ("docker.io", "evil.test/a", "m.example"),
        ("quay.io", "nginx", "docker.m.example"),
        ("", "nginx", "m.example"),
        ("not a host", "nginx", "m.example"),
        ("docker.io/library", "nginx", "m.example"),
        ("user:pass@evil.test", "nginx", "m.example"),
        ("http://evil.test", "nginx", "m.example"),
        ("a" * 100_000 + ".test", "nginx", "m.example"),
    ],
)
def test_a_namespace_that_contradicts(ns: str, name: str, host: str) -> None:
    """Bad input 20: a namespace that is no registry, or another one than the name or the host, is 400."""
    with pytest.raises(BadRequestError) as caught:
        means(name, host, ns)
    assert (caught.value.status, caught.value.code) == (400, "NAME_INVALID")


@pytest.mark.parametrize(
    ("name", "host", "why"),
    [
        ("docker.io", "m.example", "a registry without a repository"),
        ("k8s.gcr.io", "m.example", "a registry without a repository"),
        ("docker.io__library__alpine", "m.example", "a registry without a repository"),
        ("127.0.0.1_5601/library/alpine", "m.example", "not a registry host"),
        ("my.team_x/app", "m.example", "not a registry host"),
        ("quay.io/a/b", "docker.m.example", "the request is for the registry behind docker.m.example"),
        ("a" * 250, "m.example", "more than 255 characters"),
    ],
)
def test_a_name_that_no_registry_can_have(name: str, host: str, why: str) -> None:
    """It is none of a registry, whatever upstreams there are; a repository of `local` may still be called so."""
    asked = means(name, host)
    assert (asked.reference, asked.local, asked.short) == (None, name, False)
    assert asked.wrong
    assert (asked.wrong.status, why in str(asked.wrong)) == (400 if host == "docker.m.example" else 404, True)


def test_a_namespace_with_a_name_that_no_registry_can_have() -> None:
    """Beside a namespace a name is never one of `local`, so it is refused at once."""
    with pytest.raises(BadRequestError, match="not a registry host"):
        means("my.team_x/app", ns="docker.io")
