"""Amazon ECR by its host names: which account, region and kind a registry is of. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from mirrord.wire.host import AwsAccess, HostPolicy
from mirrord.wire.proxy import Proxy

if TYPE_CHECKING:
    from mirrord.wire.vendors.creating import Creation

INSTALL: Final = "run pip install 'mirrord[aws]'"
_PUBLIC: Final = "public.ecr.aws"
_PUBLIC_REGION: Final = "us-east-1"  # the only region that has the API of ECR Public
# docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html; the second form is reached by IPv6, too.
_PRIVATE: Final = re.compile(
    r"(?P<account>[0-9]{12})\.dkr(?:\.ecr(?P<fips>-fips)?\.(?P<region>[a-z0-9-]{4,40})\.amazonaws\.(?:com(?:\.cn)?|eu)"
    r"|-ecr(?P<dual_fips>-fips)?\.(?P<dual_region>[a-z0-9-]{4,40})\.on\.(?:aws|amazonwebservices\.com\.cn))"
)


@dataclass(frozen=True, slots=True)
class EcrRegistry:
    """One registry of Amazon.

    Attributes:
        host: as in references.
        access: who we are, and where the API is.
        account: to which it belongs; "" where its name does not say it.
        public: whether it is ECR Public.
        fips: whether only endpoints with validated cryptography are asked.
        dual_stack: whether it is reached by IPv6, too.
        ca: PEM file with the authorities to trust instead of the usual ones, as for the host.
        proxy: an HTTP proxy, as for the host.
    """

    host: str
    access: AwsAccess
    account: str = ""
    public: bool = False
    fips: bool = False
    dual_stack: bool = False
    ca: str | None = None
    proxy: Proxy | None = None

    @property
    def service(self) -> str:
        """AWS's name of the API."""
        return "ecr-public" if self.public else "ecr"

    def arguments(self, wanted: Creation) -> Mapping[str, Any]:
        """Return the arguments of CreateRepository besides the name; ECR Public has fewer."""
        found: dict[str, Any] = {}
        if wanted.tags:
            found["tags"] = [{"Key": key, "Value": value} for key, value in wanted.tags.items()]
        if self.public:
            return found
        if wanted.mutability:
            mutability = wanted.mutability.upper()
            found["imageTagMutability"] = f"{mutability}_WITH_EXCLUSION" if wanted.exceptions else mutability
        if wanted.exceptions:
            filters = [{"filterType": "WILDCARD", "filter": one} for one in wanted.exceptions]
            found["imageTagMutabilityExclusionFilters"] = filters
        if wanted.scan is not None:
            found["imageScanningConfiguration"] = {"scanOnPush": wanted.scan}
        if wanted.encryption:
            key = {"kmsKey": wanted.key} if wanted.key else {}
            found["encryptionConfiguration"] = {"encryptionType": wanted.encryption.upper().replace("-", "_"), **key}
        return found

    def repository(self, path: str) -> str:
        """Return the name of a repository for the API: at ECR Public without the alias of the registry."""
        return path.partition("/")[2] if self.public else path


def ecr_registry(policy: HostPolicy) -> EcrRegistry | None:
    """Return which registry of Amazon a host is, None for every other host."""
    access, public = policy.aws or AwsAccess(), policy.host == _PUBLIC or policy.profile == "ecr-public"
    if found := _PRIVATE.fullmatch(policy.host):
        region, fips = found["region"] or found["dual_region"], bool(found["fips"] or found["dual_fips"])
        access = replace(access, region=region)
        one = EcrRegistry(policy.host, access, found["account"], fips=fips, dual_stack=bool(found["dual_region"]))
    elif public:
        one = EcrRegistry(policy.host, replace(access, region=_PUBLIC_REGION), public=True)
    elif policy.profile == "ecr":
        one = EcrRegistry(policy.host, access)
    else:
        return None
    return replace(one, ca=policy.ca, proxy=policy.proxy)
