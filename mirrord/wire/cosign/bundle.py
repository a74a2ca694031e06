"""Signatures of cosign 3: a bundle of sigstore in an artifact that refers to the image.

A bundle (sigstore/protobuf-specs, sigstore_bundle.proto) has the signature of a message, here of the manifest itself,
or a DSSE envelope (secure-systems-lab/dsse, envelope.md, protocol.md) with an in-toto statement. The signature is that
of the envelope's type and payload together; what the statement is about MUST be compared by who reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mirrord.errors import ContentError
from mirrord.wire.cosign.signature import Signature, check_size, decoded, named_digest
from mirrord.wire.oci.document import check_spelling, mapping, read_object, sequence, text
from mirrord.wire.oci.manifest import Manifest

LIMIT: Final = 1 << 20
"""Bytes of a bundle; cosign's have some 10 000."""
_FAMILY: Final = "application/vnd.dev.sigstore.bundle"
_STATEMENT: Final = "application/vnd.in-toto+json"
_STATEMENTS: Final = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_SIGNED: Final = "https://sigstore.dev/cosign/sign/v1"
"""What a statement says that signs an image; others say what is in it, or how it was built."""
_SUBJECTS: Final = 1000  # of one statement
_KEYS: Final = ("dsseEnvelope", "messageSignature", "mediaType", "verificationMaterial")


def is_bundle(kind: str | None) -> bool:
    """Whether this is the type of a bundle, as an artifact or as a layer, of any version."""
    return bool(kind) and str(kind).startswith(_FAMILY)


def signs_manifest(body: bytes) -> bool:
    """Whether a bundle signs the bytes of a manifest, which `read_bundle` then needs; cosign's sign a statement.

    Raises:
        ContentError: it is no bundle.
    """
    check_size(body, LIMIT, "bundle")
    return "messageSignature" in read_object(body, "bundle")


def read_bundle(body: bytes, manifest: Manifest | None) -> Signature | None:
    """Read a bundle about a manifest; None for a statement that signs no image, such as an SBOM.

    Raises:
        ContentError: it is no bundle, or not one of one signature, or one of a manifest that is not given.
    """
    check_size(body, LIMIT, "bundle")
    document = read_object(body, "bundle")
    check_spelling(document, _KEYS, "bundle")
    kind = text(document.get("mediaType"), "mediaType")
    if not is_bundle(kind):
        raise ContentError(f"mediaType: {kind[:80]!a} is not that of a bundle")
    if ("dsseEnvelope" in document) == ("messageSignature" in document):
        raise ContentError("bundle: not exactly one of dsseEnvelope and messageSignature")
    if "messageSignature" in document:
        said = mapping(document["messageSignature"], "messageSignature")
        check_spelling(said, ("signature",), "messageSignature")
        value = decoded(said.get("signature"), "messageSignature.signature")
        if manifest is None:
            raise ContentError("messageSignature: of a manifest that is not at hand")
        return Signature(manifest.body, value, frozenset({str(manifest.digest)}), body)
    envelope = mapping(document["dsseEnvelope"], "dsseEnvelope")
    check_spelling(envelope, ("payload", "payloadType", "signatures"), "dsseEnvelope")
    return _signed_statement(envelope, body)


def _signed_statement(envelope: Mapping[str, object], body: bytes) -> Signature | None:
    kind = text(envelope.get("payloadType"), "payloadType")
    payload = decoded(envelope.get("payload"), "payload", LIMIT)
    if kind != _STATEMENT:
        raise ContentError(f"payloadType: {kind[:80]!a}, not {_STATEMENT}")
    signatures = sequence(envelope.get("signatures"), "signatures")
    if len(signatures) != 1:
        raise ContentError(f"signatures: {len(signatures)} in one envelope, where a bundle has one")
    signature = mapping(signatures[0], "signatures[0]")
    check_spelling(signature, ("sig",), "signatures[0]")
    value = decoded(signature.get("sig"), "signatures[0].sig")
    digests = statement_digests(payload)
    if digests is None:
        return None
    return Signature(authenticated(kind, payload), value, digests, body, enveloped=True)


def authenticated(kind: str, payload: bytes) -> bytes:
    """Return what the signature of an envelope signs (DSSE, protocol.md, "PAE"); lengths are those of bytes."""
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


def statement_digests(payload: bytes) -> frozenset[str] | None:
    """Return the digests of manifests that a statement signs, or None if it is about something else.

    Raises:
        ContentError: it is no statement.
    """
    statement = read_object(payload, "statement")
    check_spelling(statement, ("_type", "subject", "predicateType"), "statement")
    kind = text(statement.get("_type"), "_type")
    if kind not in _STATEMENTS:
        raise ContentError(f"_type: {kind[:80]!a} is no in-toto statement of a known version")
    if text(statement.get("predicateType"), "predicateType") != _SIGNED:
        return None
    subjects = sequence(statement.get("subject"), "subject")
    if len(subjects) > _SUBJECTS:
        raise ContentError(f"subject: {len(subjects)} entries; {_SUBJECTS} are the most")
    return frozenset(_digests(subjects))


def _digests(subjects: Sequence[object]) -> list[str]:
    found: list[str] = []
    for index, subject in enumerate(subjects):
        where = f"subject[{index}].digest"
        digest = mapping(mapping(subject, f"subject[{index}]").get("digest"), where)
        for algorithm in ("sha256", "sha512"):
            if algorithm in digest:
                what = f"{where}.{algorithm}"
                found.append(named_digest(f"{algorithm}:{text(digest[algorithm], what)}", what))
    return found
