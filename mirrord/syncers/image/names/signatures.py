"""What a mirror does with signatures, attestations and SBOMs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Require:
    """Whose signature an image needs to be mirrored: that of one of `keys`, or of `identity` by `issuer`.

    Attributes:
        keys: files of public keys.
        identity: the one of a certificate, such as the URL of a workflow, or a pattern of it in `/…/`.
        issuer: who vouched for that identity, the URL of an OpenID provider.
        trust_root: file of the authorities and logs that are trusted; None for the public ones.
    """

    keys: tuple[Path, ...] = ()
    identity: str = ""
    issuer: str = ""
    trust_root: Path | None = None


@dataclass(frozen=True, slots=True)
class Signatures:
    """What is done with signatures, attestations and SBOMs.

    Attributes:
        carried: whether they are copied with their images.
        require: whose signature an image needs, or None if it needs none.
    """

    carried: bool = True
    require: Require | None = None
