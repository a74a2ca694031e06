"""`hosts.HOST.aws`: who we are at AWS, and where its API is."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Annotated

from pydantic import AfterValidator, Field

from mirrord.config.check import Strict
from mirrord.config.lines import Problems, Trail
from mirrord.errors import UntrustedError
from mirrord.wire.ecr import INSTALL, ecr_registry
from mirrord.wire.host import AwsAccess, HostPolicy
from mirrord.wire.origin import check_url
from mirrord.wire.trust import reach_of

_ENDPOINT = "https://api.ecr.eu-west-1.amazonaws.com"
_ROLE = re.compile(r"arn:aws[a-z0-9-]{0,20}:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,576}")
_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}")


def _role(text: str) -> str:
    if not _ROLE.fullmatch(text):
        raise ValueError("is not the ARN of a role; write one such as arn:aws:iam::123456789012:role/mirror")
    return text


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a region; write one such as eu-west-1")
    return text


def _endpoint(text: str) -> str:
    try:
        origin = check_url(text)
    except UntrustedError as error:
        raise ValueError(f"is not a URL ({error}); write for example {_ENDPOINT}") from error
    if origin.scheme == "http" and not reach_of(HostPolicy(origin.authority)).loopback:
        raise ValueError("is not encrypted, and would carry the token; write https://")
    return text


class Aws(Strict):
    """`hosts.HOST.aws`; see `AwsAccess`."""

    profile: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Profile of AWS's configuration files. Default: as AWS's own programs find out who they are.",
            examples=["mirror"],
        ),
    ] = None
    region: Annotated[str, AfterValidator(_region)] | None = Field(
        default=None, description="Region of the registry. Default: that of its name.", examples=["eu-west-1"]
    )
    role: Annotated[str, AfterValidator(_role)] | None = Field(
        default=None,
        description="Role that is assumed for the registry, such as one of another account.",
        examples=["arn:aws:iam::123456789012:role/mirror"],
    )
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None,
        description="URL of the API of Amazon ECR, such as that of a private link. Default: that of the region.",
        examples=[_ENDPOINT],
    )


def access_of(name: str, aws: Aws | None, kind: str | None, trail: Trail, problems: Problems) -> AwsAccess | None:
    """Return who we are at AWS for a host of this kind (`HostPolicy.profile`), or note what does not fit the host."""
    if aws is None:
        return None
    access = AwsAccess(aws.profile, aws.region, aws.role, aws.endpoint)
    policy = HostPolicy(name, profile=kind, aws=access)
    registry = ecr_registry(policy)
    if registry is None:
        problems.add(trail, f"{name} is {policy.registry.title}, and not Amazon ECR; remove it")
        return None
    if find_spec("botocore") is None:
        problems.lack(trail, f"needs botocore, which is not installed; {INSTALL}")
    if aws.region and registry.access.region != aws.region:
        problems.add((*trail, "region"), f"{name} is in {registry.access.region}; remove it")
    return access
