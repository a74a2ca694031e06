"""What people write to name an image: `nginx`, `ghcr.io/a/b:v1`, `[::1]:5000/x@sha256:…`.

The grammar is the one of the distribution project's `reference` package, with the defaults that
Docker adds to it; the path is also the `<name>` of distribution-spec, "Pulling manifests". A
`Reference` that exists is well formed, so its parts are safe in a URL and in a file name.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Final

from mirrord.errors import ContentError, UsageError
from mirrord.model.digest import Digest
from mirrord.wire.host import HUB, HUB_ALIASES
from mirrord.wire.trust import api_authority

_HUB_SITE = "hub.docker.com"

NAME_LIMIT = 255  # distribution-spec: what clients allow for host, slash and path together
_TEXT_LIMIT = NAME_LIMIT + len(":") + 128 + len("@sha512:") + 128

ABOUT_TAGS: Final = ("sha256-", "sha512-")
"""What tags begin with that are about a manifest, and no version of an image.

A list of referrers has the digest of its subject as a tag, with `-` for `:` and 64 digits at most (distribution-spec,
"Referrers Tag Schema"); what cosign 2 keeps has the same with a suffix.
"""
SIGNATURE: Final = ".sig"
"""The suffix of cosign's signatures."""
COSIGN: Final = (SIGNATURE, ".att", ".sbom")
"""The suffixes of cosign's signatures, attestations and SBOMs."""

_ABOUT = re.compile(r"(?:(sha256-[0-9a-f]{64})|(sha512-[0-9a-f]{64})[0-9a-f]{0,64})(?:\.[A-Za-z0-9._-]{1,50})?")
_LABEL = r"(?:[a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])"
_DOMAIN = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[(?P<six>[0-9a-f:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_USERINFO = re.compile(r"//[^/]*@")
_DIGEST_LIKE = re.compile(r"(?:sha|md)[0-9]+:")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")
_FOLDER = "; for an OCI layout in a folder write oci:DIR"


def valid_tag(text: str) -> bool:
    """Whether `text` is a tag: up to 128 of `A-Za-z0-9_.-`, the first neither dot nor dash."""
    return _TAG.fullmatch(text) is not None


def referrers_tag(subject: Digest) -> str:
    """Return the tag of the list of what is about `subject`, at registries without the API: 64 digits at most."""
    return f"{subject.algorithm}-{subject.hex[:64]}"


def subject_tag(tag: str) -> str:
    """Return the `referrers_tag` of the manifest that a tag is about; "" for the tag of an image.

    A tag has no room for a digest by sha512: the specification says 64 of its digits, and some write more.
    """
    found = _ABOUT.fullmatch(tag)
    return (found[1] or found[2]) if found else ""


def valid_repository(path: str) -> bool:
    """Whether `path` is a repository's `<name>` (distribution-spec, "Pulling manifests")."""
    return len(path) <= NAME_LIMIT and _PATH.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class Reference:
    """One repository at one registry, and perhaps one manifest of it.

    Attributes:
        domain: lower-case `host` or `host:port`, as people write it (`docker.io`).
        path: the repository below it (`library/nginx`).
        tag: the tag, or None.
        digest: the digest, or None; with both, the digest rules and the tag is a remark.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        """Let no malformed reference exist.

        Raises:
            UsageError: a part breaks the grammar; the text says which, and what to write instead.
        """
        _check_domain(self.domain)
        if not _PATH.fullmatch(self.path):
            if self.path != self.path.lower() and _PATH.fullmatch(self.path.lower()):
                raise UsageError(f"{_shown(self.path)}: a repository is lower case; write {self.path.lower()}")
            folder = _FOLDER if self.path[:1] in ("/", "~") else ""
            raise UsageError(
                f"{_shown(self.path)}: not a repository; write lower-case letters and digits, "
                f"parted by single . or _, by __ or by dashes, in segments parted by /{folder}"
            )
        if self.domain == HUB and "/" not in self.path:
            raise UsageError(
                f"{self.name}: Docker Hub has no repository without namespace; write {HUB}/library/{self.path}"
            )
        if len(self.name) > NAME_LIMIT:
            raise UsageError(f"{self.name[:60]}…: host and path have {len(self.name)} characters, at most {NAME_LIMIT}")
        if self.tag is not None and not valid_tag(self.tag):
            if len(self.tag) > 128:
                why = f"a tag has at most 128 characters, this one has {len(self.tag)}"
            else:
                why = "not a tag; write letters, digits and _.- with neither . nor - in front"
            raise UsageError(f"{_shown(self.tag)}: {why}")
        if self.digest is not None:
            _digest(self.digest)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference by Docker's rules: no host means Docker Hub, no namespace there means `library`.

        A missing tag stays missing: what it stands for is the caller's decision.

        Raises:
            UsageError: it is none; the text says what is wrong and what to write instead.
        """
        _check_text(text)
        path, at, digest = text.partition("@")
        domain, tag = HUB, None
        if ":" in path.rpartition("/")[2]:
            path, _, tag = path.rpartition(":")
        first, slash, rest = path.partition("/")
        if slash and _is_domain(first.lower()):
            domain, path = _canonical(first.lower()), rest
        if domain == HUB and "/" not in path:
            path = f"library/{path}"
        if at and not _DIGEST_LIKE.match(digest):  # not shown: what stands around an @ may be a password
            raise UsageError("what follows the @ of an image reference is a digest, and never a host: sha256:<64 hex>")
        return cls(domain, path, tag, _digest(digest) if at else None)

    @property
    def name(self) -> str:
        """`domain/path`: the repository without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def api_host(self) -> str:
        """The `host[:port]` that answers `/v2/`: Docker Hub's differs from its name."""
        return api_authority(self.domain)

    def with_tag(self, tag: str) -> Reference:
        """Return the same repository at `tag` (and no digest); UsageError says that it is none."""
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        """Return the canonical text; `parse` reads it back to an equal value."""
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.name}{tag}{digest}"


def _check_text(text: str) -> None:
    if not text.strip():
        raise UsageError("the image reference is empty; write one such as docker.io/library/nginx:1.27")
    if scheme := _SCHEME.match(text):
        _check_site(text[scheme.end() :])
        raise UsageError(f"{_shown(text)}: an image reference has no {scheme[0]} in front; leave it out")
    _check_site(text)
    if len(text) > _TEXT_LIMIT:
        raise UsageError(f"{_shown(text)}: {len(text)} characters are too many for an image reference")
    if _IDENTIFIER.fullmatch(text):
        raise UsageError(f"{_shown(text)}: 64 hexadecimal digits are an identifier; write name@sha256:{text[:8]}…")


def _check_site(text: str) -> None:
    """Refuse what was copied from a browser's address bar, and say which reference it meant."""
    if text.partition("/")[0].lower() != _HUB_SITE:
        return
    from mirrord.wire.oci.pages import image_of_page  # noqa: PLC0415 - only mistakes need it

    try:
        meant = str(Reference.parse(image_of_page(text)))
    except UsageError:  # what stands there may be anything
        meant = f"{HUB}/owner/name"
    raise UsageError(f"{_shown(text)}: {_HUB_SITE} is Docker Hub's web site, not its registry; write {meant}")


def _is_domain(text: str) -> bool:
    """Docker's rule for telling a host from the first segment of a path."""
    return "." in text or ":" in text or text == "localhost"


def _canonical(domain: str) -> str:
    """Return the one spelling of a domain, so that two spellings never have two credentials."""
    if domain in HUB_ALIASES:
        return HUB
    match = _DOMAIN.fullmatch(domain)
    if match is None:
        return domain  # the check tells what is wrong with it
    host, port = match["host"], match["port"]
    if match["six"]:
        host = f"[{_six(match['six'], domain).compressed}]"
    # 443 is what https means anyway; loopback is plain HTTP by default, and `name` alone would be a path.
    if port == "443" and "." in host and not host.startswith("127."):
        return host
    return f"{host}:{int(port)}" if port else host


def _six(text: str, domain: str) -> ipaddress.IPv6Address:
    try:
        return ipaddress.IPv6Address(text)
    except ValueError as error:
        raise UsageError(f"{_shown(domain)}: not an IPv6 address in brackets") from error


def _check_domain(domain: str) -> None:
    match = _DOMAIN.fullmatch(domain)
    if match is None:
        folder = _FOLDER if domain in (".", "..") else ""
        usual = "write host, host:port or [ipv6]:port in lower case"
        raise UsageError(f"{_shown(domain)}: not a registry host; {usual}{folder}")
    if match["six"]:
        _six(match["six"], domain)
    if match["port"] and not 0 < int(match["port"]) < 65536:
        raise UsageError(f"{_shown(domain)}: a port is between 1 and 65535")
    if domain != _canonical(domain):
        raise UsageError(f"{_shown(domain)}: not the usual spelling of this host; write {_canonical(domain)}")
    if not _is_domain(domain):
        raise UsageError(f"{_shown(domain)}: a registry host has a dot or a port; write {domain}:443")


def parse_repository(text: str) -> Reference:
    """Parse a reference; refuse a registry alone, which docker takes for a name at Docker Hub, its port for a tag.

    Raises:
        UsageError: it is none, or a registry alone.
    """
    reference = Reference.parse(text)
    host, colon, port = text.partition(":")
    if "/" not in text and ("." in host or host == "localhost") and (not colon or port.isdecimal()):
        raise UsageError(f"{text}: is a registry without a repository; write {text}/NAME")
    return reference


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except ContentError as error:
        raise UsageError(str(error)) from error


def _shown(text: str) -> str:
    """Return `text` as a message may show it: quoted, no control characters, no userinfo, not endless."""
    clean = _USERINFO.sub("//***@", text)
    return ascii(clean if len(clean) <= 80 else f"{clean[:80]}...")
