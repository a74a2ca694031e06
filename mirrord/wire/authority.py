"""A certificate authority of our own, and the certificates that it gives to our listeners (RFC 5280)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cryptography import x509

AUTHORITY_LASTS: Final = timedelta(days=3653)
"""Ten years: nobody has to paste it a second time."""
CERTIFICATE_LASTS: Final = timedelta(days=90)
RENEWED_BEFORE: Final = timedelta(days=30)
"""How long before its end a certificate is renewed."""
_CLOCKS: Final = timedelta(hours=1)  # by which the clock of a client may be behind


def new_authority(now: datetime) -> bytes:
    """Return a new authority, its certificate and its key, as PEM."""
    from cryptography import x509  # noqa: PLC0415 - most processes need none
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mirrord webhook authority")])
    builder = _begun(name, key, now, now + AUTHORITY_LASTS).issuer_name(name)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign=True), critical=True)
    return _pem(builder, key, key)


def check_authority(authority: bytes, now: datetime) -> bytes:
    """Find out whether an authority can give certificates, and return its own as PEM, which has no key.

    Raises:
        ValueError: it cannot; the text says why, without its name.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

    issuer, _ = _loaded(authority)
    if now >= issuer.not_valid_after_utc:
        raise ValueError(f"is an authority that ended on {issuer.not_valid_after_utc:%Y-%m-%d}; is the clock right?")
    return issuer.public_bytes(serialization.Encoding.PEM)


def new_certificate(authority: bytes, names: Sequence[str], now: datetime) -> bytes:
    """Return a certificate of an authority for a server with these names and addresses, and its key, as PEM.

    Raises:
        ValueError: the authority cannot be read.
    """
    from cryptography import x509  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above

    issuer, signer = _loaded(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    # A common name has at most 64 characters, and nobody reads it any more.
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mirrord webhook")])
    until = min(now + CERTIFICATE_LASTS, issuer.not_valid_after_utc)
    builder = _begun(name, key, now, until).issuer_name(issuer.subject)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(one) for one in names]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(sign=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    public: Any = issuer.public_key()
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    return _pem(builder.add_extension(identifier, critical=False), key, signer)


def is_current(certificate: bytes, authority: bytes, names: Sequence[str], now: datetime) -> bool:
    """Whether a certificate, which has its key, is of an authority, for these names, and lasts for a while."""
    from cryptography import x509  # noqa: PLC0415 - as above
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above

    try:
        found, _ = _loaded(certificate)
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
        listed = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    lasts = found.not_valid_before_utc <= now < found.not_valid_after_utc - RENEWED_BEFORE
    return lasts and [*listed] == [_general(one) for one in names]


def _loaded(pem: bytes) -> tuple[x509.Certificate, Any]:
    """Return a certificate, such as that of an authority, and its key. Raises ValueError."""
    from cryptography import x509  # noqa: PLC0415 - as above
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

    try:
        found = x509.load_pem_x509_certificate(pem)
        key: Any = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
        raise ValueError("is no authority with its key") from None
    if key.public_key() != found.public_key():
        raise ValueError("is no authority with its key, but with that of another one")
    return found, key


def _begun(name: x509.Name, key: Any, now: datetime, until: datetime) -> Any:
    from cryptography import x509  # noqa: PLC0415 - as above

    builder = x509.CertificateBuilder().subject_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _CLOCKS).not_valid_after(until)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _usage(*, sign: bool) -> x509.KeyUsage:
    from cryptography import x509  # noqa: PLC0415 - as above

    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> Any:
    from cryptography import x509  # noqa: PLC0415 - as above

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(builder: Any, key: Any, signer: Any) -> bytes:
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - as above

    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    certificate: bytes = builder.sign(signer, hashes.SHA256()).public_bytes(encoding)
    private: bytes = key.private_bytes(encoding, form, serialization.NoEncryption())
    return certificate + private
