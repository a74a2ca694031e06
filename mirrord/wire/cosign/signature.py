"""A signature as it was found, and what it says it is for. Nothing here verifies."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from mirrord.errors import ContentError, TooLargeError, about
from mirrord.model.digest import Digest
from mirrord.wire.oci.document import text

MOST: Final = 1 << 14
"""Bytes of one signature; one by RSA of 16384 bits takes 2048."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature.

    Attributes:
        message: what was signed, byte for byte.
        value: the signature of that.
        digests: what the message says that it is for.
        bundle: the bundle that it came in; b"" for one of cosign 2.
        enveloped: whether the message is that of an envelope in it.
    """

    message: bytes = field(repr=False)
    value: bytes = field(repr=False)
    digests: frozenset[str]
    bundle: bytes = field(default=b"", repr=False)
    enveloped: bool = False


def decoded(value: object, what: str, most: int = MOST) -> bytes:
    """Return the bytes that a text in base64 stands for.

    Raises:
        ContentError: it is none, is empty, or is longer than `most` bytes.
    """
    written = text(value, what)
    if not written:
        raise ContentError(f"{what}: missing")
    if len(written) > most * 4 // 3 + 4:
        raise ContentError(f"{what}: longer than {most} bytes")
    try:
        return base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ContentError(f"{what}: not base64") from error


def named_digest(written: str, what: str) -> str:
    """Return the digest that a signed document names. Raises ContentError if that is none."""
    try:
        return str(Digest.parse(written))
    except ContentError as error:
        about(error, what)
        raise


def check_size(body: bytes, most: int, what: str) -> None:
    """Refuse what is larger than anybody writes, before it is read. Raises TooLargeError."""
    if len(body) > most:
        raise TooLargeError(f"{what}: {len(body)} bytes; {most} are the most")
