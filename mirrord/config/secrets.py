"""Where secrets are, and reading them: in the environment, in a private file, or where systemd put them.

No error text ever holds what was read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from mirrord.config.check import Strict
from mirrord.config.files import AbsentError, absolute, read_file
from mirrord.wire.secret import Secret

MAX_SECRET = 64 * 2**10
_WAYS = "write {env: NAME}, {file: /path} or {credential: name}"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]{0,127})\}")
_CREDENTIAL = re.compile(r"(?!\.)[A-Za-z0-9._@-]{1,255}")


class SecretSource(Strict):
    """Where a secret is; exactly one of the three."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    env: Annotated[
        str | None,
        Field(description="Name of the environment variable that holds the secret.", examples=["REGISTRY_TOKEN"]),
    ] = None
    file: Annotated[
        str | None,
        Field(
            description=(
                "Absolute path of a file that holds the secret and that only its owner can read (mode 0400 or 0600)."
            ),
            examples=["/etc/mirrord/token"],
        ),
    ] = None
    credential: Annotated[
        str | None,
        Field(
            description=(
                "Name of a file in `$CREDENTIALS_DIRECTORY`, where systemd's `LoadCredential=` puts it (0440"
                " is accepted)."
            ),
            examples=["registry-token"],
        ),
    ] = None

    @property
    def place(self) -> str:
        """Where the secret is, for messages: `env REGISTRY_TOKEN`."""
        return next(f"{way} {where}" for way, where in self.model_dump(exclude_none=True).items())

    @model_validator(mode="before")
    @classmethod
    def _no_plain_text(cls, value: object) -> object:
        if isinstance(value, str) and (variable := _VARIABLE.fullmatch(value)):
            raise ValueError(f"variables are not replaced in the configuration; write {{env: {variable[1]}}}")
        if isinstance(value, str | int | float):
            raise ValueError(f"a secret must not be written in the configuration; {_WAYS}")  # noqa: TRY004 - pydantic expects a ValueError
        if isinstance(value, dict) and len(value) != 1:
            raise ValueError(f"needs exactly one place; {_WAYS}")
        return value


def read_secret(source: SecretSource, environ: Mapping[str, str]) -> Secret:
    """Fetch a secret. One trailing newline is dropped, everything else is kept exactly.

    Raises:
        AbsentError: it is not on this machine.
        ValueError: it is empty, too long, not UTF-8, contains control characters, or others can read its
            file; the text names variable or file and the next step, never the content.
    """
    if (name := source.env) is not None:
        if not _NAME.fullmatch(name):
            # Not named in the text: somebody may have written the secret itself here.
            raise ValueError("this is not the name of an environment variable; write letters, digits and _ only")
        if name not in environ:
            raise AbsentError(f"environment variable {name} is not set; set it, or take the secret from somewhere else")
        return _checked(environ[name], f"environment variable {name}")
    if (name := source.credential) is not None:
        if not _CREDENTIAL.fullmatch(name):
            raise ValueError(
                "this is not the name of a credential; write letters, digits and . _ @ - only, without a path"
            )
        directory = environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            hint = (
                f"under systemd add LoadCredential={name}:/path to the unit; elsewhere set CREDENTIALS_DIRECTORY to a"
                f" folder with the file {name}"
            )
            raise AbsentError(f"credential {name}: $CREDENTIALS_DIRECTORY is not set; {hint}")
        # systemd makes these 0400 or 0440, readable by the service's own group only.
        fix = "give it mode 0400 or 0440, in Kubernetes by `defaultMode: 0440`"
        return _from_file(Path(directory) / name, 0o037, fix)
    path = absolute(Path(source.file or ""), "the path of a secret file")  # which may be the secret itself
    # A secret that others can read is not secret (bad input 15).
    return _from_file(path, 0o077, f"run chmod 0400 {path}")


def _from_file(path: Path, forbidden: int, fix: str) -> Secret:
    try:
        data, mode = read_file(path, MAX_SECRET)
    except ValueError as error:
        raise type(error)(f"secret file {path} {error}") from error
    if mode & forbidden:
        raise ValueError(f"secret file {path} has mode {mode:04o}, others can use it; {fix}")
    try:
        return _checked(data.decode(), f"secret file {path}")
    except UnicodeDecodeError:
        # `from None`: the error holds the bytes.
        raise ValueError(f"secret file {path} is not UTF-8; save it as UTF-8") from None


def _checked(text: str, where: str) -> Secret:
    secret = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not secret:
        raise ValueError(f"{where} is empty; put the secret in")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in secret):
        # One newline in a secret would let it write header lines (CVE-2020-5260, CVE-2024-52006 for git's helpers).
        raise ValueError(f"{where} contains control characters; keep only the secret, on one line, in UTF-8")
    return Secret(secret)
