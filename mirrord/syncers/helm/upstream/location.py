"""Where a chart's files are, and in whose name they are asked for: decided without I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from mirrord.errors import ContentError, UnsupportedError, UntrustedError, UsageError
from mirrord.syncers.helm.names import OCI, PROVENANCE, is_oci, oci_tag
from mirrord.wire import trust
from mirrord.wire.host import HostBook
from mirrord.wire.oci.reference import Reference
from mirrord.wire.origin import Origin, check_url, joined
from mirrord.wire.secret import redact

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class ChartLocation:
    """One file at one place."""

    url: str  # absolute
    host: str  # whose rules and credentials hold: the `host[:port]` that the HostBook knows it by
    foreign: bool  # whether that is another origin than the repository's

    @property
    def provenance(self) -> ChartLocation:
        """Where helm looks for the provenance: `.prov` after the path (helm appends it to the URL, query and all)."""
        parts = urlsplit(self.url)
        return replace(self, url=parts._replace(path=f"{parts.path}{PROVENANCE}").geturl())

    def __str__(self) -> str:
        """Return host and path: a query may hold a signature."""
        return f"{self.host}: {urlsplit(self.url).path[:300]}"


def home(repository: str, book: HostBook) -> Origin:
    """Return the origin of a repository (http, https, or oci).

    Raises:
        UntrustedError: the URL is not one that everybody reads alike.
        ContentError: an oci one that names no registry.
    """
    if not is_oci(repository):
        return check_url(repository)
    return _registry(oci_reference(f"{repository.rstrip('/')}/chart", "0").domain, book)


def resolve(repository: str, url: str) -> str:
    """Resolve the URL of an index entry as helm's `ResolveReferenceURL` does.

    An absolute one stays; any other is relative to the repository as a folder, and has the repository's query, where
    some keep a token, instead of its own. Unlike helm's, that query never goes to another host (`//host/x.tgz`).
    Spaces are escaped. An entry may lead anywhere on the repository's host, as it may lead to any other public one.

    Raises:
        UnsupportedError: neither http, https nor oci.
        UntrustedError: no URL at all.
    """
    if any(char < " " or char == "\x7f" for char in url):
        raise UntrustedError(f"{redact(url)[:200]!a} holds control characters", "url")
    url = url.replace(" ", "%20")
    scheme = _SCHEME.match(url)
    if scheme is not None:
        if scheme[0].lower() not in ("http:", "https:", "oci:"):
            raise UnsupportedError(f"{redact(url)[:200]!a}: charts are fetched by http, https and oci only")
        return url
    folder = urlsplit(repository)
    root = folder._replace(path=folder.path.rstrip("/") + "/", query="", fragment="").geturl()
    relative = url.partition("#")[0].partition("?")[0]
    resolved = urlsplit(joined(root, relative))
    near = resolved.netloc == folder.netloc
    return resolved._replace(query=folder.query if near else "").geturl()


def locate(repository: str, url: str, book: HostBook) -> ChartLocation:
    """Decide where `url` (http, https or relative) of an entry of `repository` leads to, and whether it may.

    Raises:
        UnsupportedError: as `resolve`.
        UntrustedError: it may not; says why.
    """
    absolute = resolve(repository, url)
    there = check_url(absolute)
    foreign = _admit(home(repository, book), there, there.authority, book)
    return ChartLocation(absolute, there.authority, foreign)


def locate_oci(repository: str, url: str, version: str, book: HostBook) -> Reference:
    """Read an `oci://` URL of an entry of `repository`; without a tag it is the version's (helm/helm#12322).

    Raises:
        ContentError: it names no repository and tag at a registry.
        UntrustedError: it may not be followed; says why.
    """
    reference = oci_reference(url, version)
    _admit(home(repository, book), _registry(reference.domain, book), reference.domain, book)
    return reference


def oci_reference(url: str, version: str) -> Reference:
    """Read an `oci://` URL; without a tag it is that of `version`.

    Raises:
        ContentError: it names no repository and tag at a registry.
    """
    text = url[len(OCI) :]
    name, colon, tag = text.rpartition(":")
    if colon and "/" not in tag and "@" not in text:
        text = f"{name}:{oci_tag(tag)}"
    host = text.partition("/")[0]
    if not ("." in host or ":" in host or host == "localhost"):
        raise ContentError(f"{redact(url)[:200]!a} names no registry: no host[:port] in front")
    try:
        reference = Reference.parse(text)
        return reference if reference.tag or reference.digest else reference.with_tag(oci_tag(version))
    except UsageError as error:
        raise ContentError(f"{redact(url)[:200]!a} names no chart in a registry: {error}") from error


def _registry(domain: str, book: HostBook) -> Origin:
    return check_url(f"{trust.scheme_of(book.policy(domain))}://{trust.api_authority(domain)}")


def _admit(here: Origin, there: Origin, host: str, book: HostBook) -> bool:
    """Whether `there` is another origin than the repository's, and if so, one that its index may lead to.

    An index is a stranger's text. It may name any public host; to have it lead to one on this machine or in a private
    network, or from https to http, the operator must have written about that host.
    """
    if there == here:
        return False
    policy = book.policies.get(host)
    if here.scheme == "https" and there.scheme == "http" and not (policy and policy.insecure):
        raise UntrustedError(
            f"{here} lists a chart at {there}, which is not encrypted; "
            f"write `insecure: true` for {host} under hosts: to allow it",
            "downgrade",
        )
    if policy is None:
        own = trust.reach_of(book.policy(here.authority))
        trust.check_literal(there, trust.Reach(loopback=own.loopback))
    return True
