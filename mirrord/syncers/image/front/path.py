"""What a path below `/v2/` asks for (distribution-spec, pull and content discovery). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast
from urllib.parse import unquote

from mirrord.errors import ContentError
from mirrord.model.digest import Digest
from mirrord.wire.oci.reference import valid_repository

Verb = Literal["manifests", "blobs", "tags", "referrers"]
LONGEST: Final = 1024  # characters of a path; a name has at most 255, a reference at most 135
_VERBS: Final = frozenset({"manifests", "blobs", "tags", "referrers"})


class BadRequestError(Exception):
    """A request names nothing that a registry can have.

    Attributes:
        status: of the answer.
        code: of the specification.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        """Keep what the answer needs."""
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True, slots=True)
class RegistryPath:
    """One thing in one repository.

    Attributes:
        name: the repository as the client calls it.
        verb: what kind of thing.
        ref: a tag, a digest, or `list`, decoded.
        digest: `ref` where it is a digest.
    """

    name: str
    verb: Verb
    ref: str
    digest: Digest | None = None

    @classmethod
    def parse(cls, path: str) -> RegistryPath:
        """Read the path after `/v2/`, percent-encoded, from the right: a repository may be called `a/manifests/b`.

        Raises:
            BadRequestError: it is none.
        """
        parts = unquote(path).rsplit("/", 2) if len(path) <= LONGEST else []
        if len(parts) != 3 or parts[1] not in _VERBS or not parts[2] or not valid_repository(parts[0]):
            raise BadRequestError(404, "NAME_INVALID", "not a valid repository name")
        name, verb, ref = parts[0], cast("Verb", parts[1]), parts[2]
        if verb == "tags" or (verb == "manifests" and ":" not in ref):
            return cls(name, verb, ref)
        try:
            return cls(name, verb, ref, Digest.parse(ref))
        except ContentError as error:
            raise BadRequestError(400, "DIGEST_INVALID", str(error)) from error
