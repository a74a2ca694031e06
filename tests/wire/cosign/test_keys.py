"""Public keys: which kinds verify, and what is said about files that hold none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from mirrord.errors import UsageError
from mirrord.wire.cosign.keys import KeySigners, read_key
from tests.support.cosigning import PrivateKey, new_key, pem_of, signed

_KINDS: dict[str, Callable[[], PrivateKey]] = {
    "p256": new_key,
    "p384": lambda: new_key(ec.SECP384R1()),
    "p521": lambda: new_key(ec.SECP521R1()),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("kind", _KINDS)
def test_each_kind_verifies_its_own_signature_alone(kind: str) -> None:
    """A key takes its signature of a message, and no other message, value or key."""
    key, other = _KINDS[kind](), _KINDS[kind]()
    public = read_key(pem_of(key), "release.pub")
    value = signed(key, b"message")
    assert public.verifies(value, b"message")
    assert not public.verifies(value, b"message ")
    assert not public.verifies(value[:-1], b"message")
    assert not public.verifies(b"", b"message")
    assert not public.verifies(signed(other, b"message"), b"message")


@pytest.mark.parametrize(("kind", "hashed"), [("p384", hashes.SHA384()), ("p521", hashes.SHA512())])
def test_the_hash_of_the_curve_is_taken_too(kind: str, hashed: hashes.HashAlgorithm) -> None:
    """Cosign 2 hashes with SHA-256 whatever the curve, cosign 3 with the hash of its size."""
    key = _KINDS[kind]()
    public = read_key(pem_of(key), "release.pub")
    assert public.verifies(signed(key, b"message", hashed), b"message")
    assert public.verifies(signed(key, b"message", hashes.SHA256()), b"message")
    assert not public.verifies(signed(key, b"message", hashes.SHA3_256()), b"message")


def _private() -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return new_key().private_bytes(encoding, form, serialization.NoEncryption())


_PUBLIC = pem_of(new_key())
_DSA = dsa.generate_private_key(1024).public_key()
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (b"", "holds no public key in PEM form; give the one of `cosign generate-key-pair`, cosign.pub"),
        (b"ssh-ed25519 AAAA ann@host\n", "holds no public key in PEM form"),
        (b"\xff\xfe\x00", "holds no public key in PEM form"),
        (_private(), "holds a private key; give the public one, as `cosign public-key` prints it"),
        (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "holds a private key; give the public one"),
        (b"-----BEGIN CERTIFICATE-----\n", "holds a certificate; give its key"),
        (_PUBLIC + _PUBLIC, "holds several keys; write each into a file of its own, and list the files"),
        (_PUBLIC[:60], "holds no public key that can be read; ECDSA (P-256, P-384, P-521), RSA of 2048 bits"),
        (_PUBLIC.replace(b"M", b"*", 1), "holds no public key that can be read"),
        (pem_of(rsa.generate_private_key(65537, 1024)), "holds an RSA key of 1024 bits; ECDSA"),
        (pem_of(new_key(ec.SECP256K1())), "holds a key on the curve secp256k1; ECDSA"),
        (_DSA.public_bytes(serialization.Encoding.PEM, _SPKI), "holds a key of another kind; ECDSA"),
    ],
)
def test_a_file_without_a_usable_key_is_refused_with_what_to_give(pem: bytes, said: str) -> None:
    """What holds no public key that can be taken says so, and what to give instead."""
    with pytest.raises(UsageError) as refused:
        read_key(pem, "release.pub")
    assert str(refused.value).startswith(said)


def test_the_fingerprint_is_that_of_the_keys() -> None:
    """Names and order of the files change nothing, another key does."""
    one, two = new_key(), new_key()
    a, b = read_key(pem_of(one), "a.pub"), read_key(pem_of(two), "b.pub")
    assert KeySigners([a, b]).fingerprint == KeySigners([b, read_key(pem_of(one), "c.pub")]).fingerprint
    assert KeySigners([a]).fingerprint != KeySigners([b]).fingerprint
    assert KeySigners([a]).fingerprint != KeySigners([a, b]).fingerprint
