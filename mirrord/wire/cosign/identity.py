"""Signatures by an identity that an OpenID provider vouched for, verified by `sigstore`, which is an extra.

Nothing is asked over the network: the authorities and logs are those of a file, or those of the public sigstore as the
installed release knows them, and a bundle brings the proof that it was logged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Final

from mirrord.errors import ContentError, SignatureError, UsageError
from mirrord.patterns import Pattern, as_expression, compiled
from mirrord.printable import plain
from mirrord.wire.cosign.bundle import authenticated
from mirrord.wire.oci.document import mapping, read_object

if TYPE_CHECKING:
    from mirrord.wire.cosign.signature import Signature

LIMIT: Final = 1 << 20  # bytes of a file with authorities and logs
_PUBLIC: Final = "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev"
_ISSUERS: Final = ("1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.57264.1.1")
"""Extensions of certificates with the provider (sigstore/fulcio, docs/oid-info.md); the second has no ASN.1 in it."""
_SHOWN: Final = 300


def check_installed() -> None:
    """Raise UsageError if the extra is not installed."""
    try:
        import sigstore  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise UsageError("identity needs sigstore, which is not installed; pip install 'mirrord[sigstore]'") from error


def check_root(path: Path, content: bytes) -> None:
    """Raise UsageError if a file with this content is none of authorities and logs; without the extra never."""
    try:
        check_installed()
    except UsageError:
        return
    _root(content, path)


def _root(content: bytes, path: Path | None) -> Any:
    from sigstore.models import TrustedRoot  # noqa: PLC0415 - an extra

    try:
        with NamedTemporaryFile() as copied:  # the library takes files alone, and `path` may have changed
            copied.write(content)
            copied.flush()
            root = TrustedRoot.from_file(copied.name)
        root.get_fulcio_certs()
    except Exception as error:
        why = "is no trusted root of sigstore; give the trusted_root.json that its operator publishes"
        raise UsageError(f"{path} {why}") from error
    return root


@dataclass(frozen=True)
class IdentitySigners:
    """Who has an identity; implements `judgement.Signers`.

    Attributes:
        identity: as in a certificate, or a pattern of it in `/…/`.
        issuer: the provider that vouched for it.
        root: file of the authorities and logs; None for the public ones.
        content: of that file.
    """

    identity: str
    issuer: str
    root: Path | None = None
    content: bytes = field(default=b"", repr=False)
    _pattern: Pattern | None = field(default=None, compare=False)

    @classmethod
    def of(cls, identity: str, issuer: str, root: tuple[Path, bytes] | None = None) -> IdentitySigners:
        """Prepare to verify; `root` is a file with its content.

        Raises:
            UsageError: the extra is not installed.
        """
        check_installed()
        expression = as_expression(identity)
        pattern = None if expression is None else compiled(expression)
        path, content = root or (None, b"")
        return cls(identity, issuer, path, content, pattern)

    @property
    def fingerprint(self) -> str:
        """Changes with the identity, its provider, and the file."""
        digest = hashlib.sha256(self.content).hexdigest() if self.root else ""
        return f"identity {self.identity} {self.issuer} {digest}"

    @cached_property
    def _verifier(self) -> Any:
        from sigstore.verify import Verifier  # noqa: PLC0415 - an extra

        packed = files("sigstore._store") / _PUBLIC / "trusted_root.json"
        return Verifier(trusted_root=_root(self.content if self.root else packed.read_bytes(), self.root))

    def signer(self, signature: Signature) -> str:
        """Return the identity that made a signature.

        Raises:
            SignatureError: another one did, or none that can be verified.
            ContentError: it is of cosign 2, whose signatures do not prove that they were logged.
            UsageError: the file of authorities and logs is none.
        """
        if not signature.bundle:
            raise ContentError("it is of cosign 2, without proof that it was logged; sign with cosign 3")
        if "publicKey" in mapping(read_object(signature.bundle, "bundle").get("verificationMaterial"), "bundle"):
            raise _another("is signed with a key, not by an identity; require: {key: FILE} is for keys")
        verifier, seen = self._verifier, _Seen()
        try:
            _verify(verifier, signature, seen)
        except Exception as error:  # a stranger's bundle may break the library in any way, and then does not count
            why = plain(" ".join(str(error).split())[:_SHOWN]) or type(error).__name__
            raise _another(f"is signed, but by no identity that can be verified: {why}") from error
        found = [name for name in seen.names if self._takes(name)]
        if found and seen.issuer == self.issuer:
            return plain(found[0])
        who, issuer = plain(", ".join(seen.names)[:_SHOWN]), plain(seen.issuer[:_SHOWN])
        raise _another(f"is signed by {who} ({issuer}), not by {self.identity} ({self.issuer})")

    def _takes(self, name: str) -> bool:
        return self._pattern.fullmatch(name) if self._pattern else name == self.identity


def _another(why: str) -> SignatureError:
    return SignatureError(why, "signature_identity")


class _Seen:
    """Notes who a certificate is for: whether that counts is asked when all of it is verified."""

    def __init__(self) -> None:
        self.names: Sequence[str] = ()
        self.issuer = ""

    def verify(self, certificate: Any) -> None:
        """Read the certificate; called by `sigstore` as a policy."""
        from cryptography import x509  # noqa: PLC0415 - most runs verify nothing
        from cryptography.hazmat import asn1  # noqa: PLC0415 - as above

        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.names = [
            str(name)
            for kind in (x509.UniformResourceIdentifier, x509.RFC822Name)
            for name in alternative.get_values_for_type(kind)
        ]
        known = {one.oid.dotted_string: one.value for one in certificate.extensions}
        newer, older = (known.get(oid) for oid in _ISSUERS)
        self.issuer = asn1.decode_der(str, newer.value) if newer else older.value.decode() if older else ""


def _verify(verifier: Any, signature: Signature, seen: _Seen) -> None:
    """Verify a bundle, and that what it signs is what we read. Raises whatever `sigstore` does."""
    from sigstore.models import Bundle  # noqa: PLC0415 - an extra

    bundle = Bundle.from_json(signature.bundle)
    if not signature.enveloped:
        verifier.verify_artifact(signature.message, bundle, seen)
    elif authenticated(*verifier.verify_dsse(bundle, seen)) != signature.message:
        raise ContentError("what is signed is not what was read")
