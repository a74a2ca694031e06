"""What names mean: aliases of registries, and hosts of ours that stand for one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import UsageError
from mirrord.names.book import NameBook
from mirrord.wire.oci.reference import Reference

DIGEST = f"sha256:{'ab' * 32}"
BOOK = NameBook(
    {
        "K8S.gcr.io": "registry.k8s.io",
        "asia.gcr.io": "gcr.io",
        "gcr.io/google-containers": "registry.k8s.io",
        "gcr.io/google-containers/special": "quay.io/kept/special",
        "public.ecr.aws/docker/library": "docker.io/library",
        "hub.corp.example": "docker.io",
    },
    {"docker.m.example": "docker.io", "lib.m.example:8443": "docker.io/library", "m.example": "*"},
)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("k8s.gcr.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        ("k8s.gcr.io/pause:3.9@" + DIGEST, "registry.k8s.io/pause:3.9@" + DIGEST),
        ("k8s.gcr.io.example/pause", "k8s.gcr.io.example/pause"),
        ("asia.gcr.io/google-containers/pause", "registry.k8s.io/pause"),
        ("gcr.io/google-containers/special", "quay.io/kept/special"),
        ("gcr.io/google-containers-x/pause", "gcr.io/google-containers-x/pause"),
        ("public.ecr.aws/docker/library/nginx", "docker.io/library/nginx"),
        ("public.ecr.aws/eks/pause", "public.ecr.aws/eks/pause"),
        ("hub.corp.example/nginx", "docker.io/library/nginx"),
        ("nginx", "docker.io/library/nginx"),
    ],
)
def test_the_longest_alias_applies_and_then_those_of_the_result(written: str, canonical: str) -> None:
    """Whole segments count, tag and digest stay, and Docker Hub gets its `library/`."""
    assert str(BOOK.canonical(Reference.parse(written))) == canonical


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("docker.m.example/nginx:1.29", "docker.io/library/nginx:1.29"),
        ("docker.m.example/bitnami/redis", "docker.io/bitnami/redis"),
        ("lib.m.example:8443/nginx", "docker.io/library/nginx"),
        ("lib.m.example/nginx", "lib.m.example/nginx"),
        (f"m.example/quay.io/a/b@{DIGEST}", f"quay.io/a/b@{DIGEST}"),
        ("m.example/localhost:5000/a", None),
        ("m.example/nginx", "docker.io/library/nginx"),
        ("quay.io/a/b", "quay.io/a/b"),
    ],
)
def test_a_host_of_ours_stands_for_its_registry(written: str, meant: str | None) -> None:
    """The form with a host for each registry, and the form with the registry in the path."""
    if meant is None:
        with pytest.raises(UsageError):
            BOOK.meant(written)
    else:
        assert str(BOOK.meant(written)) == meant


@pytest.mark.parametrize(
    ("aliases", "hosts", "words"),
    [
        ({"a.example": "a.example"}, {}, "aliases lead back to themselves (a.example: a.example); remove one of them"),
        ({"a.example": "a.example/x"}, {}, "aliases lead back to themselves"),
        ({"a.example/x": "b.example", "b.example/x": "a.example/x"}, {}, "aliases lead back to themselves"),
        ({"nginx": "docker.io"}, {}, "'nginx' does not begin with a registry; write a host, such as docker.io/nginx"),
        ({"a.example": "nginx"}, {}, "'nginx' does not begin with a registry"),
        ({}, {"m.example/x": "docker.io"}, "has a path; write the host alone: m.example"),
        ({}, {"m.example": "hub"}, "'hub' does not begin with a registry"),
    ],
)
def test_a_wrong_name_is_refused(aliases: Mapping[str, str], hosts: Mapping[str, str], words: str) -> None:
    """No name is looked up in a book that cannot answer."""
    with pytest.raises(UsageError) as refused:
        NameBook(aliases, hosts)
    assert words in str(refused.value)


def test_an_alias_of_one_repository_needs_a_repository() -> None:
    """`k8s.gcr.io/pause` cannot be a whole registry."""
    book = NameBook({"k8s.gcr.io/pause": "registry.k8s.io"})
    with pytest.raises(UsageError) as refused:
        book.canonical(Reference.parse("k8s.gcr.io/pause"))
    assert "a registry without a repository; write registry.k8s.io/NAME" in str(refused.value)


prefixes = st.from_regex(r"[ab]\.x(?:/[ab]){0,2}", fullmatch=True)


@given(st.dictionaries(prefixes, prefixes, max_size=5), st.from_regex(r"[ab]\.x(?:/[abc]){3}", fullmatch=True))
def test_canonical_twice_is_once(aliases: Mapping[str, str], written: str) -> None:
    """Whatever aliases are accepted, the result stands for nothing else."""
    try:
        book = NameBook(aliases)
    except UsageError:
        return
    once = book.canonical(Reference.parse(written))
    assert book.canonical(once) == once
