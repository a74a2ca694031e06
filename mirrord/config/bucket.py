"""`settings.blobs`: the bucket in which `local` is, where it is not on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mirrord.config.check import Strict
from mirrord.config.files import AbsentError
from mirrord.config.lines import Problems, Trail
from mirrord.config.pem import check_authorities
from mirrord.config.secrets import SecretSource, read_secret
from mirrord.errors import UntrustedError
from mirrord.wire.bucket_address import BucketAddress
from mirrord.wire.origin import check_url
from mirrord.wire.secret import Secret
from mirrord.wire.trust import is_loopback

_TRAIL: Final[Trail] = ("settings", "blobs")
_URL = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+){0,9}))?/?"
)
_REGION = re.compile(r"[a-z0-9-]{1,63}")
_EXAMPLE: Final = "s3://mirror.example.org/local"


def _bucket_url(text: str) -> str:
    if "@" in text:  # never repeated: it may be a key
        raise ValueError(
            f"has a `@`, and a URL must not have keys in it; write {_EXAMPLE} and `access_key:` and `secret_key:`"
        )
    found = _URL.fullmatch(text)
    if not found or {".", ".."} & set((found["prefix"] or "").split("/")):
        raise ValueError(f"{text[:80]!r} is not a bucket; write s3://BUCKET or s3://BUCKET/PREFIX, such as {_EXAMPLE}")
    return text.rstrip("/")


def _endpoint(text: str) -> str:
    try:
        origin = check_url(text)
    except UntrustedError as error:
        raise ValueError(f"is not the URL of a server ({error}); write https://host or https://host:port") from error
    if text.rstrip("/").count("/") > 2 or "?" in text or "#" in text:
        raise ValueError(f"is followed by a path or a query; write {origin}")
    return str(origin)


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not the name of a region; write it as eu-central-1")
    return text


BUCKET_HINTS: Final = {
    **dict.fromkeys(("bucket", "prefix"), f"write url: {_EXAMPLE}"),
    **dict.fromkeys(("key", "access_key_id"), "write access_key: {env: NAME}"),
    **dict.fromkeys(("secret", "secret_access_key"), "write secret_key: {env: NAME}"),
}
"""Keys of other programs, and what to write."""
BucketUrl = Annotated[str, AfterValidator(_bucket_url)]
"""A bucket, perhaps with a prefix."""


class BucketKeys(Strict):
    """`settings.blobs`, written as a mapping."""

    url: Annotated[BucketUrl, Field(description="`s3://BUCKET` or `s3://BUCKET/PREFIX`.", examples=[_EXAMPLE])]
    endpoint: (
        Annotated[
            str,
            AfterValidator(_endpoint),
            Field(
                description="`https://host[:port]` of the server that speaks S3. Default: AWS.",
                examples=["https://s3.example.org"],
            ),
        ]
        | None
    ) = None
    region: (
        Annotated[
            str,
            AfterValidator(_region),
            Field(
                description="Region of the bucket. Default: `$AWS_REGION`, else `us-east-1`.", examples=["eu-central-1"]
            ),
        ]
        | None
    ) = None
    access_key: SecretSource | None = Field(
        default=None,
        description=(
            "Where the access key is, together with `secret_key`. Default: what the AWS tools take: the environment, a"
            " web identity, or the role of the machine."
        ),
        examples=["{env: S3_ACCESS_KEY}"],
    )
    secret_key: SecretSource | None = Field(
        default=None, description="Where the secret key is.", examples=["{env: S3_SECRET_KEY}"]
    )
    ca: Annotated[
        str | None,
        Field(
            description="PEM file with authorities to trust for `endpoint`, besides the system's.",
            examples=["/etc/ssl/private-ca.pem"],
        ),
    ] = None
    insecure: bool = Field(default=False, description="Allow an `endpoint` with `http://` that is not on this machine.")
    redirect: bool = Field(
        default=False,
        description=(
            "Send clients to the bucket for blobs, by URLs that are good for 30 minutes; they must be able to reach it."
            " Default: mirrord passes the content on."
        ),
    )


def read_bucket(value: str | BucketKeys | None, problems: Problems, environ: Mapping[str, str]) -> BucketAddress | None:
    """Return the bucket of `local`, None for the disk; what is wrong with its keys and files is noted."""
    if value is None:
        return None
    keys = BucketKeys(url=value) if isinstance(value, str) else value
    found = _URL.fullmatch(keys.url)
    assert found is not None
    if keys.endpoint and keys.endpoint.startswith("http:"):
        if not keys.insecure and not is_loopback(keys.endpoint.partition("://")[2]):
            problems.add((*_TRAIL, "endpoint"), "is not encrypted; write https://, or `insecure: true` beside it")
        if keys.ca:
            problems.add((*_TRAIL, "ca"), "has no effect with http://; leave it out")
    if keys.ca:
        check_authorities(keys.ca, (*_TRAIL, "ca"), problems)
    pair = _read_keys(keys, problems, environ)
    place = found["bucket"], found["prefix"] or "", keys.endpoint or "", keys.region or ""
    sources = [source for source in (keys.access_key, keys.secret_key) if source]
    fresh = partial(_pair, sources, environ) if pair else None
    return BucketAddress(*place, keys=pair, ca=keys.ca or "", redirect=keys.redirect, fresh=fresh)


def _read_keys(keys: BucketKeys, problems: Problems, environ: Mapping[str, str]) -> tuple[Secret, Secret] | None:
    sources = {"access_key": keys.access_key, "secret_key": keys.secret_key}
    lacking = [name for name, source in sources.items() if source is None]
    if len(lacking) == 1:
        problems.add(_TRAIL, f"has no {lacking[0]}; write both keys, or none")
    found = list[Secret]()
    for name, source in sources.items():
        if source is not None:
            try:
                found.append(read_secret(source, environ))
            except ValueError as error:
                note = problems.lack if isinstance(error, AbsentError) else problems.add
                note((*_TRAIL, name), str(error))
    return (found[0], found[1]) if len(found) == 2 else None


def _pair(sources: Sequence[SecretSource], environ: Mapping[str, str]) -> tuple[Secret, Secret]:
    access, secret = (read_secret(source, environ) for source in sources)
    return access, secret
