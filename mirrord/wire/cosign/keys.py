"""Public keys: ECDSA on the curves P-256, P-384 and P-521, RSA of 2048 bits and more, Ed25519."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mirrord.errors import SignatureError, UsageError

if TYPE_CHECKING:
    from mirrord.wire.cosign.signature import Signature

LIMIT: Final = 1 << 16  # bytes of the file of a key
_WEAKEST: Final = 2048  # bits of an RSA key
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_KINDS: Final = "ECDSA (P-256, P-384, P-521), RSA of 2048 bits or more, and Ed25519 are known"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key.

    Attributes:
        name: what people call it, such as the name of its file.
        fingerprint: SHA-256 of the key itself, in hex.
    """

    name: str
    fingerprint: str
    _key: Any = field(compare=False, repr=False)  # one of the three kinds of `cryptography`, loaded when needed

    def verifies(self, value: bytes, message: bytes) -> bool:
        """Whether `value` is this key's signature of `message`.

        cosign 2 hashes with SHA-256 whatever the curve is, cosign 3 with the hash of the curve's size.
        """
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - most runs verify nothing
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding  # noqa: PLC0415 - as above

        if isinstance(self._key, ed25519.Ed25519PublicKey):
            ways: list[tuple[Any, ...]] = [()]
        elif isinstance(self._key, ec.EllipticCurvePublicKey):
            own = {384: hashes.SHA384(), 521: hashes.SHA512()}.get(self._key.key_size)
            ways = [(ec.ECDSA(one),) for one in (hashes.SHA256(), own) if one]
        else:
            ways = [(padding.PKCS1v15(), hashes.SHA256())]
        for way in ways:
            try:
                self._key.verify(value, message, *way)
            except InvalidSignature:
                continue
            return True
        return False


def read_key(pem: bytes, name: str) -> PublicKey:
    """Read the one public key of a PEM file.

    Raises:
        UsageError: it holds none, several, or one of another kind; says what to write instead.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

    if b"PRIVATE KEY-----" in pem:
        raise UsageError("holds a private key; give the public one, as `cosign public-key` prints it")
    if b"-----BEGIN CERTIFICATE-----" in pem:
        raise UsageError("holds a certificate; give its key, as `openssl x509 -pubkey -noout` prints it")
    if pem.count(b"-----BEGIN ") != 1:
        many = "holds several keys; write each into a file of its own, and list the files"
        none = "holds no public key in PEM form; give the one of `cosign generate-key-pair`, cosign.pub"
        raise UsageError(many if b"-----BEGIN " in pem else none)
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"holds no public key that can be read; {_KINDS}") from error
    if why := _unfit(key):
        raise UsageError(f"holds {why}; {_KINDS}")
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(name, hashlib.sha256(der).hexdigest(), key)


def _unfit(key: object) -> str:
    """Return what is wrong with a key that cannot be taken, or ""."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 - as above

    if isinstance(key, rsa.RSAPublicKey):
        return f"an RSA key of {key.key_size} bits" if key.key_size < _WEAKEST else ""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if key.curve.name in _CURVES else f"a key on the curve {key.curve.name}"
    return "" if isinstance(key, ed25519.Ed25519PublicKey) else "a key of another kind"


@dataclass(frozen=True, slots=True)
class KeySigners:
    """Those who have one of some keys; implements `judgement.Signers`."""

    keys: Sequence[PublicKey]

    @property
    def fingerprint(self) -> str:
        """The same keys have the same, in whatever order and from whatever files."""
        return " ".join(["keys", *sorted(key.fingerprint for key in self.keys)])

    def signer(self, signature: Signature) -> str:
        """Return the name of the key that made a signature.

        What else is around it, such as a certificate or an entry of a log, makes no difference: nothing of that is
        signed by the key (kyverno/kyverno#16267, GHSA-whqx-f9j3-ch6m).

        Raises:
            SignatureError: it was another key.
        """
        for key in self.keys:
            if key.verifies(signature.value, signature.message):
                return key.name
        names = " or ".join(key.name for key in self.keys)
        raise SignatureError(f"is signed with another key than {names}", "signature_key")
