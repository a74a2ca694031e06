"""Clear-signed texts: by gpg where it is there, otherwise of the same shape with a signature that nobody can verify."""

from __future__ import annotations

import base64
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mirrord.model.digest import Digest

NAME = "mirrord test <test@example.org>"


class ShapeSigner:
    """Makes texts that look right to whoever has no key; the same each time."""

    def sign(self, text: bytes) -> bytes:
        """Return `text` with dashes escaped (RFC 4880 section 7.1) and a made-up signature."""
        lines = [b"- " + line if line.startswith(b"-") else line for line in text.split(b"\n")]
        made_up = base64.b64encode(Digest.of(text).encode())
        head = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n"
        tail = b"\n-----BEGIN PGP SIGNATURE-----\n\n" + made_up + b"\n-----END PGP SIGNATURE-----\n"
        return head + b"\n".join(lines) + tail


@dataclass(frozen=True, slots=True)
class GpgSigner:
    """A fresh RSA key in a folder of its own; a context manager, which ends the agent that gpg starts.

    RSA, because the OpenPGP library of helm 3 knows no other kind that gpg makes by default.

    Attributes:
        home: an empty folder with a short path (the agent's socket has to fit in there).
    """

    home: Path

    @staticmethod
    def available() -> bool:
        """Whether gpg is installed."""
        return shutil.which("gpg") is not None and shutil.which("gpgconf") is not None

    def __enter__(self) -> Self:
        """Make the key."""
        self.home.chmod(0o700)
        self._gpg(b"", "--quick-generate-key", NAME, "rsa2048", "sign", "never")
        return self

    def __exit__(self, *_: object) -> None:
        """End gpg's agent."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "gpg-agent"], check=True, timeout=30)

    def sign(self, text: bytes) -> bytes:
        """Return `text`, clear-signed."""
        return self._gpg(text, "--digest-algo", "SHA512", "--clearsign")

    def keyring(self) -> bytes:
        """Return the public key in the form that `helm verify --keyring` reads."""
        return self._gpg(b"", "--export")

    def verify(self, signed: bytes) -> bytes:
        """Return the text of what this key has signed.

        Raises:
            subprocess.CalledProcessError: it has not.
        """
        return self._gpg(signed, "--decrypt")

    def _gpg(self, data: bytes, *arguments: str) -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--passphrase", "", "--pinentry-mode"]
        done = subprocess.run(
            [*command, "loopback", *arguments], input=data, check=True, capture_output=True, timeout=60
        )
        return done.stdout
