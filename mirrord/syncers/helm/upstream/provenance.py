"""Provenance files: clear-signed texts that say which archive a chart was packaged into (helm's docs, provenance).

They are passed on byte for byte. What can be checked without a key is checked: that it is such a text at all, since
many servers answer 200 with a page when there is no `.prov` (artifacthub#1427), and that it is about this archive.
"""

from __future__ import annotations

import re
from typing import Final

from mirrord.errors import ContentError
from mirrord.model.digest import Digest
from mirrord.syncers.helm.upstream.plain import Plain, said
from mirrord.syncers.helm.upstream.yaml_events import build

LIMIT: Final = 1 << 20
"""Bytes; the text holds one Chart.yaml."""

_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_HEAD = re.compile(rb"(?:\A|\n)" + _BEGIN + rb"[ \t]*\n(?:Hash: [^\n]*\n)*[ \t]*\n")  # RFC 4880 section 7
_SIGNATURE = b"\n-----BEGIN PGP SIGNATURE-----"
_END = b"\n-----END PGP SIGNATURE-----"
_DASHES = re.compile(rb"^- ", re.MULTILINE)


def is_signed(body: bytes) -> bool:
    """Whether the answer to a request for a `.prov` is one, and not a page or a polite text."""
    return body.startswith(_BEGIN) or b"\n" + _BEGIN in body


def check_provenance(body: bytes, file: str, digest: Digest) -> None:
    """Refuse a provenance that `helm verify` would refuse whatever the key is.

    Args:
        body: the `.prov`.
        file: the archive's base name; helm looks the sum up by it.
        digest: of the archive.

    Raises:
        ContentError: not clear-signed, cut off, without a sum for `file`, or with another one.
    """
    sums = _sums(body, file)
    if file not in sums:
        named = ", ".join(sorted(sums)) or "nothing"
        raise ContentError(f"{file}.prov: speaks of {named[:200]!a} and not of {file}")
    if sums[file] != digest:
        raise ContentError(f"{file}.prov: says {said(sums[file])}, but the archive is {digest}")


def _sums(body: bytes, file: str) -> dict[str, Plain]:
    """Return `files:` of the signed text: what follows the Chart.yaml, after a line of three dots."""
    body = body.replace(b"\r\n", b"\n")
    head = _HEAD.search(body)
    text, _, signature = body[head.end() if head else len(body) :].partition(_SIGNATURE)
    if _END not in signature:
        raise ContentError(f"{file}.prov: not a whole clear-signed text; get it again, or sign the chart again")
    _, dots, sums = _DASHES.sub(b"", text).partition(b"\n...\n")
    try:
        value = build(sums).value if dots else None
    except ContentError as error:
        raise ContentError(f"{file}.prov: its list of sums {error}") from error
    found = value.get("files") if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise ContentError(f"{file}.prov: the signed text has no list of files")
    return found
