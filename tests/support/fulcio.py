"""A sigstore of its own: an authority that certifies identities, a log of certificates and one of signatures.

All that `sigstore` verifies is made here, offline: certificates with their timestamps (RFC 6962), entries of a log with
one entry each, and the file with whom to trust.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mirrord.wire.cosign.bundle import authenticated
from tests.support.cosigning import BUNDLE, STATEMENT, new_key, signed, written

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ISSUER = "https://token.actions.githubusercontent.com"
IDENTITY = "https://github.com/team/app/.github/workflows/release.yml@refs/tags/v1"
_DETAILS = "PKIX_ECDSA_P256_SHA_256"
_TIMESTAMPS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_OLD_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _text(tag: int, data: bytes) -> bytes:
    """Return a DER value of less than 64 KiB."""
    size = bytes([len(data)]) if len(data) < 128 else b"\x82" + struct.pack(">H", len(data))
    return bytes([tag]) + size + data


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@dataclass
class Sigstore:
    """Its keys, and what it makes of them."""

    authority: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    certificates: ec.EllipticCurvePrivateKey = field(default_factory=new_key)  # the log of these
    entries: ec.EllipticCurvePrivateKey = field(default_factory=new_key)  # the log of signatures

    def trusted_root(self) -> bytes:
        """Return the file with whom to trust."""
        since = {"start": "2025-01-01T00:00:00Z"}

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            public = {"rawBytes": written(_der(key)), "keyDetails": _DETAILS, "validFor": since}
            identity = {"keyId": written(_sha256(_der(key)))}
            return {"baseUrl": "https://x.invalid", "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": identity}

        chain = {"certificates": [{"rawBytes": written(self._root().public_bytes(serialization.Encoding.DER))}]}
        subject = {"organization": "test", "commonName": "test"}
        authority = {"subject": subject, "uri": "https://x.invalid", "certChain": chain, "validFor": since}
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.entries)],
            "certificateAuthorities": [authority],
            "ctlogs": [log(self.certificates)],
            "timestampAuthorities": [],
        }
        return json.dumps(document).encode()

    def bundle(self, statement: bytes, identity: str = IDENTITY, issuer: str = ISSUER) -> dict[str, Any]:
        """Sign a statement as somebody with this identity, whose key is used once."""
        key = new_key()
        certificate = self._certified(key, identity, issuer)
        value = signed(key, authenticated(STATEMENT, statement))
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
            "payloadHash": {"algorithm": "sha256", "value": _sha256(statement).hex()},
            "signatures": [{"signature": written(value), "verifier": written(pem)}],
        }
        entry = self._logged({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}, "dsse")
        return {
            **self._material(certificate, entry),
            "dsseEnvelope": {
                "payload": written(statement),
                "payloadType": STATEMENT,
                "signatures": [{"sig": written(value)}],
            },
        }

    def message_bundle(self, message: bytes) -> dict[str, Any]:
        """Sign bytes without an envelope."""
        key = new_key()
        certificate = self._certified(key, IDENTITY, ISSUER)
        value = signed(key, message)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        spec = {
            "data": {"hash": {"algorithm": "sha256", "value": _sha256(message).hex()}},
            "signature": {"content": written(value), "publicKey": {"content": written(pem)}},
        }
        entry = self._logged({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": spec}, "hashedrekord")
        digest = {"algorithm": "SHA2_256", "digest": written(_sha256(message))}
        return {
            **self._material(certificate, entry),
            "messageSignature": {"messageDigest": digest, "signature": written(value)},
        }

    def _material(self, certificate: x509.Certificate, entry: dict[str, Any]) -> dict[str, Any]:
        raw = written(certificate.public_bytes(serialization.Encoding.DER))
        return {
            "mediaType": BUNDLE,
            "verificationMaterial": {"certificate": {"rawBytes": raw}, "tlogEntries": [entry]},
        }

    def _root(self) -> x509.Certificate:
        usage = x509.KeyUsage(*(one in (5, 6) for one in range(9)))  # signs certificates and lists of revoked ones
        return (
            x509.CertificateBuilder()
            .subject_name(_named("test"))
            .issuer_name(_named("test"))
            .public_key(self.authority.public_key())
            .serial_number(1)
            .not_valid_before(NOW - timedelta(days=100))
            .not_valid_after(NOW + timedelta(days=1000))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.authority.public_key()), critical=False)
            .sign(self.authority, hashes.SHA256())
        )

    def _certified(self, key: ec.EllipticCurvePrivateKey, identity: str, issuer: str) -> x509.Certificate:
        """Certify an identity for ten minutes, with the log's timestamp of the certificate before it had that."""
        names = x509.RFC822Name(identity) if "@" in identity and "/" not in identity else None
        name = names or x509.UniformResourceIdentifier(identity)
        usage = x509.KeyUsage(*(one == 0 for one in range(9)))
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(_named("test"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(minutes=1))
            .not_valid_after(NOW + timedelta(minutes=9))
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(authority, critical=False)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_OLD_ISSUER, issuer.encode()), critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER, _text(0x0C, issuer.encode())), critical=False)
        )
        before = builder.sign(self.authority, hashes.SHA256()).tbs_certificate_bytes
        at = struct.pack(">Q", int(NOW.timestamp() * 1000))
        entry = _sha256(_der(self.authority)) + struct.pack(">I", len(before))[1:] + before
        value = signed(self.certificates, b"\x00\x00" + at + b"\x00\x01" + entry + b"\x00\x00")
        stamp = b"\x00" + _sha256(_der(self.certificates)) + at + b"\x00\x00\x04\x03"
        stamp += struct.pack(">H", len(value)) + value
        listed = struct.pack(">HH", len(stamp) + 2, len(stamp)) + stamp
        stamped = x509.UnrecognizedExtension(_TIMESTAMPS, _text(0x04, listed))
        return builder.add_extension(stamped, critical=False).sign(self.authority, hashes.SHA256())

    def _logged(self, document: dict[str, Any], kind: str) -> dict[str, Any]:
        """Return the entry of a log that has no other one."""
        body = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        root, log = _sha256(b"\x00" + body), _sha256(_der(self.entries))
        note = f"x.invalid - 1\n1\n{written(root)}\n"
        line = written(log[:4] + signed(self.entries, note.encode()))
        at = int(NOW.timestamp())
        promised = {"body": written(body), "integratedTime": at, "logID": log.hex(), "logIndex": 0}
        promise = signed(self.entries, json.dumps(promised, sort_keys=True, separators=(",", ":")).encode())
        return {
            "logIndex": "0",
            "logId": {"keyId": written(log)},
            "kindVersion": {"kind": kind, "version": "0.0.1"},
            "integratedTime": str(at),
            "inclusionPromise": {"signedEntryTimestamp": written(promise)},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": written(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n— x.invalid {line}\n"},
            },
            "canonicalizedBody": base64.b64encode(body).decode(),
        }
