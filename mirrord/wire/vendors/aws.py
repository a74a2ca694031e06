"""Amazon's API for its registries: tokens and repositories. The only module that uses botocore, an extra.

botocore blocks, so it runs in threads. It finds our identity by AWS's own rules: environment, profile, web identity,
the role of a container or a machine. Its texts may hold what it was sent, so only those of refusals are shown.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, Final, TypeVar

from mirrord.errors import (
    ContentError,
    DeniedError,
    MirrordError,
    QuotaError,
    RefusedError,
    StalledError,
    ThrottledError,
    UnreachableError,
    UnsupportedError,
)
from mirrord.wire.ecr import INSTALL, EcrRegistry
from mirrord.wire.secret import Credential, Secret, redact

LONGEST: Final = 12 * 3600.0
"""Seconds that a token lasts at most."""
_SHORTEST: Final = 60.0
_SECONDS: Final = 60.0  # for all of it; the chain of identities may ask several places
_SHOWN: Final = 400
_THREADS: Final = ThreadPoolExecutor(4, "aws")
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_UNKNOWN: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_THROTTLED: Final = frozenset({"Throttling", "ThrottlingException", "TooManyRequestsException"})
_IDENTITY: Final = (
    "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, give the machine or the pod a role, or write"
    " `aws: {profile: NAME}` under hosts:"
)
_CLIENT: Final = 600.0  # seconds for which a client is used again: to make one takes a third of a second
_clients: Final[dict[EcrRegistry, tuple[float, Any]]] = {}
"""Until when (monotonic time) a client is used, which knows who we are."""
_Result = TypeVar("_Result")


async def authorize(registry: EcrRegistry) -> tuple[Credential, float]:
    """Get a token for a registry; return it as a credential, and for how many seconds it holds.

    Raises:
        UnsupportedError: the extra is not installed.
        DeniedError: there is no identity, AWS does not know it, or it may not.
        TransportError: AWS cannot be reached, fails or limits the rate.
        ContentError: its answer is no token.
    """
    action = f"{registry.service}:GetAuthorizationToken"
    return await _asked(registry, action, lambda client: _token(client.get_authorization_token(), registry.host))


async def create_repository(registry: EcrRegistry, name: str, keys: Mapping[str, Any], policy: str) -> bool:
    """Create a repository and set its policy; return False where it existed, and is left as it is.

    One that gets no policy is removed again, so that the next try begins anew.

    Args:
        registry: where.
        name: its name for the API.
        keys: arguments of CreateRepository besides the name.
        policy: JSON, or "" for none.

    Raises:
        RefusedError: AWS does not create it, or does not take its policy.
        MirrordError: as `authorize`.
    """
    owner = {"registryId": registry.account} if registry.account else {}

    def create(client: Any) -> bool:
        try:
            client.create_repository(repositoryName=name, **owner, **keys)
        except client.exceptions.RepositoryAlreadyExistsException:
            return False
        return True

    def set_policy(client: Any) -> None:
        client.set_repository_policy(repositoryName=name, policyText=policy, **owner)

    def remove(client: Any) -> None:
        client.delete_repository(repositoryName=name, **owner)  # it is empty: without `force` no other is removed

    service = registry.service
    tagged = f" and {service}:TagResource" if "tags" in keys else ""
    creates = f"{service}:CreateRepository{tagged}"

    def work() -> bool:
        if not _ask(registry, creates, create):
            return False
        try:
            if policy:
                _ask(registry, f"{service}:SetRepositoryPolicy", set_policy)
        except MirrordError as error:
            try:
                _ask(registry, f"{service}:DeleteRepository", remove)
            except MirrordError as stays:
                left = f"{name} stays without its policy ({stays}); set it there, or delete the repository"
                error.args = (f"{error}; {left}", *error.args[1:])
            raise
        return True

    return await _threaded(registry, creates, work)  # one piece of work: a run that is stopped leaves no half of it


async def delete_tags(registry: EcrRegistry, name: str, names: Collection[str]) -> Mapping[str, MirrordError | None]:
    """Delete tags by BatchDeleteImage; return by tag why it is still there, None for one that is gone.

    Each is named with its tag alone: with tag and digest all tags of the image would go. The last one takes it along.

    Args:
        registry: where.
        name: of the repository, for the API.
        names: tags, at most 100.

    Raises:
        RefusedError: AWS refuses all of it.
        MirrordError: as `authorize`.
    """
    owner = {"registryId": registry.account} if registry.account else {}
    action, ids = f"{registry.service}:BatchDeleteImage", [{"imageTag": tag} for tag in names]
    answer = await _asked(
        registry, action, lambda client: client.batch_delete_image(repositoryName=name, imageIds=ids, **owner)
    )
    ends: dict[str, MirrordError | None] = dict.fromkeys(names)
    gone = {one.get("imageTag") for one in answer.get("imageIds", ())}
    for failure in answer.get("failures", ()):  # of an answer that is a success
        tag, code = failure.get("imageId", {}).get("imageTag", ""), str(failure.get("failureCode", ""))
        if code == "ImageNotFound":
            continue
        said = redact(" ".join(str(failure.get("failureReason", "")).split())[:_SHOWN])
        for one in [tag] if tag in ends else ends.keys() - gone:  # of one that names no tag it may be any
            ends[one] = RefusedError(f"{registry.host}: {name}:{one}: AWS: {code}: {said} ({action})")
    return ends


async def _asked(registry: EcrRegistry, actions: str, ask: Callable[[Any], _Result]) -> _Result:
    """Return what `ask` gets from the API."""
    return await _threaded(registry, actions, lambda: _ask(registry, actions, ask))


async def _threaded(registry: EcrRegistry, actions: str, work: Callable[[], _Result]) -> _Result:
    """Return what `work` does in a thread; `actions` is what our identity has to be allowed."""
    try:
        async with asyncio.timeout(_SECONDS):
            return await asyncio.get_running_loop().run_in_executor(_THREADS, work)
    except TimeoutError:
        raise StalledError(f"{registry.host}: AWS gave no answer to {actions} in {_SECONDS:.0f} s") from None


def _ask(registry: EcrRegistry, actions: str, ask: Callable[[Any], _Result]) -> _Result:
    """Return what `ask` gets from the API. Blocking."""
    try:
        import botocore.session  # noqa: PLC0415, TID251 - this is the door; an extra, and slow to load
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415, TID251 - as above
    except ImportError as error:
        why = f"AWS is not asked ({actions}), since botocore is not installed; {INSTALL}"
        raise UnsupportedError(f"{registry.host}: {why}") from error
    logging.getLogger("botocore").setLevel(logging.WARNING)  # what it says below that holds signatures and tokens
    try:
        until, client = _clients.get(registry, (0.0, None))
        if monotonic() >= until:
            client = _client(registry, botocore.session.Session(profile=registry.access.profile))
            _clients[registry] = monotonic() + _CLIENT, client
        return ask(client)
    # `from None`: these errors may hold what was sent.
    except ClientError as error:
        _clients.pop(registry, None)  # the next one asks anew who we are
        raise _refusal(registry, actions, error.response) from None
    except (BotoCoreError, OSError, ValueError) as error:  # a file that is missing or damaged
        _clients.pop(registry, None)
        raise _failure(registry, actions, type(error).__name__, str(error)) from None


def _client(registry: EcrRegistry, session: Any) -> Any:
    """Return the client of a registry's API, with the role that the configuration names."""
    from botocore.config import Config  # noqa: PLC0415, TID251 - as above

    access, proxy = registry.access, registry.proxy.full() if registry.proxy else None
    config = Config(
        connect_timeout=5,
        read_timeout=15,
        retries={"mode": "legacy", "total_max_attempts": 3},  # the newer modes ask again when a quota is full
        proxies={"https": proxy, "http": proxy} if proxy else None,
        use_fips_endpoint=registry.fips or None,
        use_dualstack_endpoint=registry.dual_stack or None,
    )
    session.set_default_client_config(config)  # for what the chain of identities asks, too
    if access.role:
        issuer = session.create_client("sts", region_name=access.region, verify=registry.ca)
        issued = issuer.assume_role(RoleArn=access.role, RoleSessionName="mirrord")["Credentials"]
        session.set_credentials(issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"])
    place = {"region_name": access.region, "endpoint_url": access.endpoint}
    return session.create_client(registry.service, verify=registry.ca, **place)


def _token(answer: Mapping[str, Any], host: str) -> tuple[Credential, float]:
    """Read a token: a list of one at ECR, and one at ECR Public; it is `USER:PASSWORD` in base64.

    How long it holds follows from the clock of AWS alone: ours may be wrong.
    """
    data = answer["authorizationData"]
    one = data[0] if isinstance(data, list) and data else data
    try:
        user, _, password = base64.b64decode(one["authorizationToken"], validate=True).decode().partition(":")
        lifetime = (one["expiresAt"] - _sent(answer)).total_seconds()
        credential = Credential(user, Secret(password))
    except (KeyError, TypeError, ValueError, MirrordError):  # the error would hold the token
        raise ContentError(f"{host}: AWS answered with no token; has its API changed?") from None
    return credential, min(max(lifetime, _SHORTEST), LONGEST)


def _sent(answer: Mapping[str, Any]) -> datetime:
    """Return when AWS sent an answer."""
    sent = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return sent if sent.tzinfo else sent.replace(tzinfo=UTC)


def _refusal(registry: EcrRegistry, actions: str, response: Mapping[str, Any]) -> MirrordError:
    """Return the error for an answer of AWS."""
    error = response.get("Error", {})
    code, status = str(error.get("Code", "")), response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    said = redact(" ".join(str(error.get("Message", "")).split())[:_SHOWN])
    where = f"{registry.host}: AWS: {code}"
    if code in _DENIED:
        return DeniedError(f"{where}: {said}; allow {actions} to this identity", status)
    if code in _UNKNOWN:
        return DeniedError(f"{where}: the credentials are not valid, or no longer; {_IDENTITY}", status)
    if code in _THROTTLED:
        return ThrottledError(f"{where}: too many requests ({actions})")
    if code == "LimitExceededException":
        return QuotaError(f"{where}: {said}; ask AWS for a higher quota, or remove repositories", status)
    if isinstance(status, int) and status >= 500:
        return UnreachableError(f"{where}: {actions} failed with status {status}")
    return RefusedError(f"{where}: {said} ({actions})", status)


_ABSENT: Final = ("NoCredentialsError", "NoAuthTokenError", "PartialCredentialsError")
_WORDS: Final = {
    "NoRegionError": "no region is known; write `aws: {region: REGION}` under hosts:, or set AWS_REGION",
    "ProfileNotFound": "there is no such profile in AWS's files; correct AWS_PROFILE, or `aws: {profile: NAME}` under"
    " hosts:",
    "FileNotFoundError": "a file that the environment or a profile names is missing; check AWS_WEB_IDENTITY_TOKEN_FILE",
    "UnauthorizedSSOTokenError": "the login has expired; run aws sso login",
    "SSOTokenLoadError": "there is no login; run aws sso login",
    "TokenRetrievalError": "the login has expired; run aws sso login",
}
_FAR: Final = ("ConnectionError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "SSLError",
               "ProxyConnectionError", "ConnectionClosedError", "HTTPClientError")  # fmt: skip


def _failure(registry: EcrRegistry, actions: str, kind: str, said: str) -> MirrordError:
    """Return the error for a failure before there was an answer, by the name of botocore's class."""
    where = f"{registry.host}: AWS"
    if kind in _ABSENT:
        return DeniedError(f"{where}: no credentials were found; {_IDENTITY}")
    if kind == "ParamValidationError":  # found before anything is sent; its text has what `create:` says
        return RefusedError(f"{where} would not take this: {redact(' '.join(said.split())[:_SHOWN])} ({actions})")
    if kind in _FAR:
        return UnreachableError(f"{where} cannot be reached for {actions} ({kind}): {redact(said[:_SHOWN])}")
    return DeniedError(f"{where}: {_WORDS.get(kind, f'{kind}; check the files and the environment of AWS')}")
