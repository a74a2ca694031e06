"""Whether one of the signatures about a manifest is by whom it has to be, and for this manifest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from mirrord.errors import ContentError, MissingError, SignatureError

if TYPE_CHECKING:
    from mirrord.model.digest import Digest
    from mirrord.wire.cosign.signature import Signature

_SHOWN: Final = 3  # digests in a sentence


class Signers(Protocol):
    """Those whose signatures count."""

    @property
    def fingerprint(self) -> str:
        """Changes when others count."""

    def signer(self, signature: Signature) -> str:
        """Return who of them made a signature.

        Raises:
            SignatureError: none of them did; says who or what is wrong.
            ContentError: it is not in a form that can be verified.
        """


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one signature, or all of them, come to.

    Attributes:
        signer: who signed this manifest; "" if nobody who counts did.
        reason: why not.
        code: of that reason, one of `SignatureError.codes`.
    """

    signer: str = ""
    reason: str = ""
    code: str = ""


NONE: Final = Judgement(reason="is not signed", code="unsigned")


def unreadable(error: Exception) -> Judgement:
    """Return the judgement on a signature that cannot be read."""
    code = "signature_missing" if isinstance(error, MissingError) else SignatureError.code
    return Judgement(reason=f"has a signature that cannot be read: {error}", code=code)


def judge(subject: Digest, signature: Signature, signers: Signers) -> Judgement:
    """Verify one signature: first whose it is, then what it is for."""
    try:
        signer = signers.signer(signature)
    except ContentError as error:
        return unreadable(error)
    except SignatureError as error:
        return Judgement(reason=str(error), code=error.code)
    if subject not in signature.digests:
        digests = sorted(signature.digests)
        named = ", ".join(digests[:_SHOWN]) + (f" and {len(digests) - _SHOWN} more" if len(digests) > _SHOWN else "")
        reason = f"is signed by {signer}, but for another digest ({named or 'none'})"
        return Judgement(reason=reason, code="signature_digest")
    return Judgement(signer)


def heaviest(found: Sequence[Judgement]) -> Judgement:
    """Return the reason that says most, of signatures of which none counts."""
    return max(found, key=lambda one: SignatureError.codes.index(one.code), default=NONE)
