"""Signs images as cosign does, in both of its forms, with keys of the test."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from mirrord.testing.images import OCI_CONFIG, OCI_MANIFEST, Builder, Image, annotated, document_of
from mirrord.wire.cosign.bundle import authenticated

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNED = "https://sigstore.dev/cosign/sign/v1"
STATEMENT = "application/vnd.in-toto+json"
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
VALUE = "dev.cosignproject.cosign/signature"


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def pem_of(key: PrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def signed(key: PrivateKey, message: bytes, hashed: hashes.HashAlgorithm | None = None) -> bytes:
    hashed = hashed or hashes.SHA256()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashed))
    return key.sign(message, padding.PKCS1v15(), hashed)


def written(data: bytes) -> str:
    return base64.b64encode(data).decode()


def payload_of(digest: str, kind: str = "cosign container image signature") -> bytes:
    critical = {"identity": {"docker-reference": ""}, "image": {"docker-manifest-digest": digest}, "type": kind}
    return json.dumps({"critical": critical, "optional": None}).encode()


def statement_of(digest: str, predicate: str = SIGNED) -> bytes:
    algorithm, _, digits = digest.partition(":")
    kind = "https://in-toto.io/Statement/v1"
    subject = [{"digest": {algorithm: digits}}]
    return json.dumps({"_type": kind, "subject": subject, "predicateType": predicate, "predicate": {}}).encode()


def bundle_of(key: PrivateKey, statement: bytes, **more: Any) -> dict[str, Any]:
    envelope = {
        "payload": written(statement),
        "payloadType": STATEMENT,
        "signatures": [{"sig": written(signed(key, authenticated(STATEMENT, statement)))}],
    }
    return {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "hint"}, "tlogEntries": []},
        "dsseEnvelope": envelope,
        **more,
    }


def signature_tag(image: Image) -> str:
    return f"{image.digest.replace(':', '-')}.sig"


def build_simple(layers: Sequence[tuple[bytes, Mapping[str, str]]]) -> Image:
    """Build what cosign 2 keeps under the tag of a subject: a layer for each signature."""
    builder = Builder()
    config = builder.blob(OCI_CONFIG, b"{}")
    listed = [builder.blob(PAYLOAD, payload, annotations=dict(notes)) for payload, notes in layers]
    return builder.image(builder.manifest(document_of(OCI_MANIFEST, config=config, layers=listed)))


def simple_by(digest: str, *keys: PrivateKey) -> Image:
    """Build the signatures of one image by some keys, one after the other."""
    payload = payload_of(digest)
    return build_simple([(payload, {VALUE: written(signed(key, payload))}) for key in keys])


def build_bundle(subject: Image, bundle: bytes | Mapping[str, Any], artifact_type: str = BUNDLE) -> Image:
    """Build what cosign 3 pushes: an artifact with a bundle that refers to `subject` (not included)."""
    builder = Builder()
    body = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    config = builder.blob("application/vnd.oci.empty.v1+json", b"{}")
    document = document_of(
        OCI_MANIFEST, artifactType=artifact_type, config=config, layers=[builder.blob(artifact_type, body)]
    )
    document["subject"] = {key: subject.root[key] for key in ("mediaType", "digest", "size")}
    return builder.image(builder.manifest(annotated(document, {"dev.sigstore.bundle.predicateType": SIGNED})))
