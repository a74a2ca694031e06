"""Where a bucket is; without what speaks to it, so that reading a configuration loads nothing for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mirrord.wire.secret import Secret


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Where a bucket is, and who we are there.

    Attributes:
        bucket: its name.
        prefix: of all keys, without slashes around it; "" for none.
        endpoint: `http[s]://host[:port]`, "" for AWS.
        region: "" for the one of the environment, or us-east-1.
        keys: access key and secret key, or None for the environment, a web identity or the machine's role.
        fresh: reads both keys again; ValueError with what is wrong with them. Blocks.
        ca: PEM file with authorities to trust besides the system's, or "".
        redirect: whether clients are sent to the bucket for blobs.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    keys: tuple[Secret, Secret] | None = None
    ca: str = ""
    redirect: bool = False
    fresh: Callable[[], tuple[Secret, Secret]] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """Return the URL, as the operator wrote it."""
        return f"s3://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")
