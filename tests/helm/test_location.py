"""Where an index may lead to, and what its names may be."""

from __future__ import annotations

import pytest

from mirrord.errors import ContentError, MirrordError, UnsupportedError, UntrustedError
from mirrord.syncers.helm.upstream.location import locate, locate_oci, resolve
from mirrord.syncers.helm.upstream.reading import read_index
from mirrord.testing.charts import build_chart, build_index
from mirrord.wire.host import HostBook, HostPolicy

BASE = "https://charts.example.org/stable"
REFUSED = {
    "file": ("file:///etc/passwd", UnsupportedError, "http, https and oci only"),
    "data": ("data:;base64,AAAA", UnsupportedError, "http, https and oci only"),
    "s3": ("s3://bucket/x.tgz", UnsupportedError, "http, https and oci only"),
    "ftp": ("FTP://host/x.tgz", UnsupportedError, "http, https and oci only"),
    "12 not encrypted": ("http://charts.example.org/stable/x.tgz", UntrustedError, "insecure: true"),
    "not encrypted elsewhere": ("http://other.example.org/x.tgz", UntrustedError, "insecure: true"),
    "metadata service": ("https://169.254.169.254/latest", UntrustedError, "allow_private"),
    "this machine": ("https://127.0.0.1:8080/x.tgz", UntrustedError, "allow_private"),
    "this machine by name": ("https://localhost:8080/x.tgz", UntrustedError, "this machine"),
    "this machine in six": ("https://[::ffff:127.0.0.1]/x.tgz", UntrustedError, "."),
    "this machine as a number": ("https://2130706433/x.tgz", UntrustedError, "."),
    "private": ("https://10.0.0.1/x.tgz", UntrustedError, "allow_private"),
    "userinfo": ("https://ann:secret@charts.example.org/x.tgz", UntrustedError, "."),
    "control character": ("charts/x\r\nHost: y.tgz", UntrustedError, "control characters"),
    "backslash": ("\\\\host\\x.tgz", UntrustedError, "."),
}


@pytest.mark.parametrize(("url", "kind", "said"), REFUSED.values(), ids=REFUSED)
def test_where_an_index_must_not_lead(url: str, kind: type[MirrordError], said: str) -> None:
    """An index leads neither to this machine, nor to a private network, nor to an unencrypted or unknown door."""
    with pytest.raises(kind, match=said) as caught:
        locate(BASE, url, HostBook())
    assert "secret" not in str(caught.value)


def test_what_the_operator_wrote_about() -> None:
    """A host under `hosts:` may be unencrypted or private, since its rules were written for that."""
    book = HostBook({"10.0.0.1": HostPolicy("10.0.0.1", insecure=True, allow_private=True)})
    assert locate(BASE, "http://10.0.0.1/x.tgz", book).foreign


@pytest.mark.parametrize(
    ("base", "url", "result"),
    [
        (BASE, "x-1.tgz", f"{BASE}/x-1.tgz"),
        (f"{BASE}/", "x-1.tgz", f"{BASE}/x-1.tgz"),
        ("https://h.example.org", "x-1.0.0+a.tgz", "https://h.example.org/x-1.0.0+a.tgz"),
        (BASE, "../abs/x.tgz", "https://charts.example.org/abs/x.tgz"),
        (BASE, "../../../x.tgz", "https://charts.example.org/x.tgz"),
        (BASE, "/../x.tgz", "https://charts.example.org/x.tgz"),
        (f"{BASE}?a=b", "../x.tgz", "https://charts.example.org/x.tgz?a=b"),
        (BASE, "charts/a b-1.tgz", f"{BASE}/charts/a%20b-1.tgz"),
        (BASE, "https://h.example.org/a b.tgz", "https://h.example.org/a%20b.tgz"),
        (f"{BASE}?a=b", "x.tgz", f"{BASE}/x.tgz?a=b"),
        (f"{BASE}?a=b", "https://h.example.org/x.tgz?c=d", "https://h.example.org/x.tgz?c=d"),
        (f"{BASE}?a=b", "//h.example.org/x.tgz", "https://h.example.org/x.tgz"),
    ],
)
def test_resolution_as_helm_does_it(base: str, url: str, result: str) -> None:
    """URLs are resolved as by helm's ResolveReferenceURL, except that a repository's query stays at its host."""
    assert resolve(base, url) == result


OCI_REFUSED = {
    "this machine": ("oci://127.0.0.1:5000/a/b", UntrustedError, "insecure: true"),
    "no host": ("oci://team/crane:1", ContentError, "names no registry"),
    "capitals": ("oci://ghcr.io/Team/crane:1", ContentError, "lower case"),
    "userinfo": ("oci://ann:secret@ghcr.io/team/crane:1", ContentError, "."),
    "query": ("oci://ghcr.io/team/crane?x=1", ContentError, "."),
    "climbing": ("oci://ghcr.io/../crane:1", ContentError, "."),
    "nothing": ("oci://", ContentError, "names no registry"),
}


@pytest.mark.parametrize(("url", "kind", "said"), OCI_REFUSED.values(), ids=OCI_REFUSED)
def test_registries_where_an_index_must_not_lead(url: str, kind: type[MirrordError], said: str) -> None:
    """What is true of URLs is true of references."""
    with pytest.raises(kind, match=said) as caught:
        locate_oci(BASE, url, "1.0.0", HostBook())
    assert "secret" not in str(caught.value)


NAMES = {
    "51 climbing": ("../../x", "1.0.0"),
    "51 slash": ("a/b", "1.0.0"),
    "51 backslash": ("a\\b", "1.0.0"),
    "51 empty": ("", "1.0.0"),
    "51 dots": ("..", "1.0.0"),
    "51 300 characters": ("x" * 300, "1.0.0"),
    "51 zero": ("a\u2028b", "1.0.0"),
    "51 version with a slash": ("a", "1.0.0/../../x"),
    "51 version with dots": ("a", ".."),
}


@pytest.mark.parametrize(("name", "version"), NAMES.values(), ids=NAMES)
def test_names_that_are_paths(name: str, version: str) -> None:
    """A name or version that could lead out of a folder is never fetched: its entry is left out and said to be."""
    index = read_index(build_index([build_chart(name, version).entry(), build_chart("crane", "1.3.0").entry()]))
    assert [one.item for one in index.entries] == ["crane-1.3.0"]
    assert [problem.left_out for problem in index.problems] == [True]
