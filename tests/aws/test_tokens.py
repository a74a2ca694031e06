"""Tokens of Amazon's registries: found by AWS's own rules, used as long as they hold, and never shown."""

from __future__ import annotations

import asyncio
import base64
import logging
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from mirrord.errors import DeniedError, MirrordError, RefusedError, UnreachableError, UnsupportedError
from mirrord.model.digest import Digest
from mirrord.testing import Registry, build_image, push
from mirrord.testing.reply import Reply, refusal
from mirrord.wire import host as hosts
from mirrord.wire import keyring
from mirrord.wire.ecr import EcrRegistry, ecr_registry
from mirrord.wire.host import REFUSED_LASTS, AwsAccess, HostBook, HostPolicy, Keyring, Login, Logins
from mirrord.wire.http.client import Http
from mirrord.wire.keyring import Keyrings
from mirrord.wire.oci.client import Repository
from mirrord.wire.oci.descriptor import Descriptor
from mirrord.wire.oci.reference import Reference
from mirrord.wire.secret import Credential, Secret
from mirrord.wire.vendors import aws
from mirrord.wire.vendors.creating import Creation
from tests.support.auth import Auth
from tests.support.canary import Canary
from tests.support.ecr import REGION, TOKEN

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
HALF_A_DAY = 12 * 3600.0
DENIED = {
    "__type": "AccessDeniedException",
    "message": "User: arn:aws:iam::123456789012:user/crane is not authorized to perform: ecr:GetAuthorizationToken",
}


class Nobody:
    """Docker's configuration without a credential."""

    found: tuple[Login, ...] = ()

    async def find(self, host: str) -> Logins:
        return Logins(self.found)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """AWS: each token is another one; or it fails."""

    def __init__(self) -> None:
        self.issued = 0
        self.error: MirrordError | None = None
        self.lifetime = HALF_A_DAY

    async def __call__(self, registry: EcrRegistry) -> tuple[Credential, float]:
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        self.issued += 1
        return Credential("AWS", Secret(f"token-{self.issued}")), self.lifetime


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(hosts, "monotonic", made)
    monkeypatch.setattr(keyring, "monotonic", made)
    return made


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Issuer:
    made = Issuer()
    monkeypatch.setattr(aws, "authorize", made)
    return made


def book(*policies: HostPolicy, docker: Keyring | None = None) -> HostBook:
    by_host = {policy.host: policy for policy in policies}
    return HostBook(by_host, Keyrings(by_host, docker or Nobody()))


async def password(book: HostBook, host: str = HOST, repository: str = "") -> str | None:
    found = await book.credential(host, repository)
    return found.password.reveal() if found else None


async def test_one_token_for_all_repositories(clock: Clock, issuer: Issuer) -> None:
    """Many repositories ask at once and for hours: AWS issues one token, and the next one well before its end."""
    rules = book()
    found = await asyncio.gather(*(password(rules, repository=f"team/{number}") for number in range(50)))
    assert found == ["token-1"] * 50
    clock.now += 0.79 * HALF_A_DAY
    assert (await password(rules), issuer.issued) == ("token-1", 1)
    clock.now += 0.02 * HALF_A_DAY
    assert (await password(rules), issuer.issued) == ("token-2", 2)


async def test_who_needs_no_token_gets_none(clock: Clock, issuer: Issuer) -> None:
    """Other hosts, and those for which docker or `auth:` has a credential, cost no call of AWS."""
    docker = Nobody()
    docker.found = (Login("", Credential("AWS", Secret("of-docker")), "docker"),)
    assert await password(book(docker=docker)) == "of-docker"
    assert await password(book(HostPolicy(HOST, Credential("u", Secret("written"))))) == "written"
    assert await password(book(), "registry.example") is None
    assert await password(book(), f"{HOST}.evil.example") is None
    assert issuer.issued == 0


async def test_strangers_do_not_use_our_identity(clock: Clock, issuer: Issuer) -> None:
    """The front has a token for an upstream only where the operator opted in."""
    rules = book(HostPolicy(HOST, aws=AwsAccess("mirror")))
    assert await password(rules.for_strangers(())) is None
    assert issuer.issued == 0
    assert await password(rules.for_strangers((HOST,))) == "token-1"


async def test_aws_fails_while_a_token_holds(clock: Clock, issuer: Issuer) -> None:
    """A failed renewal keeps what holds, and asks again a minute later; after the end of the token nothing is left."""
    rules = book()
    await password(rules)
    clock.now += 0.81 * HALF_A_DAY
    issuer.error = UnreachableError("AWS cannot be reached")
    assert await password(rules) == "token-1"
    issuer.error = None
    assert await password(rules) == "token-1"
    clock.now += REFUSED_LASTS
    assert await password(rules) == "token-2"
    clock.now += HALF_A_DAY
    issuer.error = UnreachableError("AWS cannot be reached")
    assert await password(rules) is None
    assert rules.explain(HOST).startswith(f"no credentials for {HOST} were found; AWS cannot be reached")


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry(auth=Auth(basic=("AWS", "token-1"))) as made:
        await push(build_image(), made, "team/app", ["v1"])
        yield made


def rules_of(registry: Registry) -> HostBook:
    return book(HostPolicy(registry.host, profile="ecr", aws=AwsAccess()))


class Expiring(Auth):
    """Amazon's: 403 to a token that ran out (deis/builder#426), 401 to one that it does not know."""

    over = ""

    def check(self, authorization: str, needs: tuple[str, ...], base: str) -> Reply | None:
        if self.over and authorization == Credential("AWS", Secret(self.over)).basic:
            return refusal(403, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
        return Auth.check(self, authorization, needs, base)


@pytest.mark.parametrize("status", [401, 403])
async def test_f20_a_token_runs_out_during_a_transfer(
    clock: Clock, issuer: Issuer, registry: Registry, status: int
) -> None:
    """F20: a refusal in the middle is answered by one new token, and the same request goes on with it."""
    data, auth = b"x" * 200_000, Expiring(basic=("AWS", "token-1"))
    registry.auth = auth

    async def content() -> AsyncIterator[bytes]:
        yield data

    async with Http(rules_of(registry), jitter=lambda: 0.0) as http:
        repository = Repository(http, Reference(registry.host, "team/app"), push=True)
        await repository.head_manifest("v1")
        clock.now += 2 * REFUSED_LASTS
        auth.basic, auth.over = ("AWS", "token-2"), "token-1" if status == 403 else ""
        blob = Descriptor("application/octet-stream", Digest.of(data), len(data))
        await repository.put_blob(blob, content)
    assert registry.blobs[blob.digest] == data
    assert [one.status for one in registry.log if one.method != "HEAD"] == [status, 202, 201]
    assert issuer.issued == 2


async def test_f21_credentials_are_revoked(clock: Clock, issuer: Issuer, registry: Registry) -> None:
    """F21: a registry that refuses new tokens, too, is an error that says whose they were; AWS is not hammered."""
    assert isinstance(registry.auth, Auth)
    registry.auth.basic = ("AWS", "never")
    async with Http(rules_of(registry), jitter=lambda: 0.0) as http:
        repository = Repository(http, Reference(registry.host, "team/app"), push=True)
        for _ in range(20):
            with pytest.raises(DeniedError, match=r"used the credentials of AWS \(ecr\)"):
                await repository.get_manifest("v1")
        assert issuer.issued == 1
        clock.now += REFUSED_LASTS
        with pytest.raises(DeniedError):
            await repository.get_manifest("v1")
        assert issuer.issued == 2


def test_names_of_registries() -> None:
    """Account, region and kind are read from names that are Amazon's exactly; others are none, whatever they hold."""
    for name, account, region, kind in (
        (HOST, "123456789012", "eu-west-1", ""),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "123456789012", "us-gov-west-1", "fips"),
        ("048912060910.dkr.ecr.cn-northwest-1.amazonaws.com.cn", "048912060910", "cn-northwest-1", ""),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", "123456789012", "eu-west-1", "dual_stack"),
        ("public.ecr.aws", "", "us-east-1", "public"),
    ):
        found = ecr_registry(HostPolicy(name, aws=AwsAccess("p", role="r")))
        assert found is not None
        assert (found.host, found.account, found.access) == (name, account, AwsAccess("p", region, "r"))
        assert [word for word in ("fips", "dual_stack", "public") if getattr(found, word)] == [kind][: bool(kind)]
    short = "12.dkr.ecr.eu-west-1.amazonaws.com"
    for name in (f"evil-{HOST}", f"{HOST}.evil.example", f"{HOST}:444", short, "ecr.aws", "public.ecr.aws:444"):
        assert ecr_registry(HostPolicy(name)) is None, name


async def test_moto_s_token(moto: str) -> None:
    """The token of the API becomes user name and password; a role that is written is assumed for it."""
    found = EcrRegistry("ecr.test", AwsAccess(region=REGION, endpoint=moto))
    credential, lifetime = await aws.authorize(found)
    assert (credential.username, credential.password.reveal(), lifetime) == ("AWS", TOKEN, 60.0)


async def test_a_role_is_assumed(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `role:` the token is one of that role's account."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
    access = AwsAccess(region=REGION, endpoint=moto, role="arn:aws:iam::999999999999:role/mirror")
    credential, _ = await aws.authorize(EcrRegistry("ecr.test", access))
    assert credential.password.reveal() == "999999999999-auth-token"


async def test_a_profile_and_a_web_identity(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """AWS's own files, and the token of a pod, say who we are without keys in the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "AWS_SHARED_CREDENTIALS_FILE").write_text(
        "[mirror]\naws_access_key_id = AKIAFILE\naws_secret_access_key = secret\n"
    )
    found = EcrRegistry("ecr.test", AwsAccess("mirror", REGION, endpoint=moto))
    assert (await aws.authorize(found))[0].password.reveal() == TOKEN
    (tmp_path / "token").write_text("a-token-of-kubernetes")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
    found = EcrRegistry("ecr.test", AwsAccess(region=REGION, endpoint=moto))
    assert (await aws.authorize(found))[0].password.reveal() == TOKEN


async def test_the_role_of_a_machine_and_of_a_container(
    moto: str, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer, tmp_path: Path
) -> None:
    """The metadata service of EC2 (version 2, with a token) and the agent of EKS Pod Identity say who we are."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    issued = {"AccessKeyId": "ASIAROLE", "SecretAccessKey": "secret", "Token": "session", "Code": "Success"}
    issued["Expiration"] = "2199-01-01T00:00:00Z"
    httpserver.expect_ordered_request("/latest/api/token", "PUT").respond_with_data("a-token-of-the-machine")
    roles, sent = "/latest/meta-data/iam/security-credentials/", {"x-aws-ec2-metadata-token": "a-token-of-the-machine"}
    httpserver.expect_ordered_request(roles, "GET", headers=sent).respond_with_data("mirrord")
    httpserver.expect_ordered_request(f"{roles}mirrord", "GET", headers=sent).respond_with_json(issued)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", httpserver.url_for("/"))
    assert (await aws.authorize(EcrRegistry("machine.test", AwsAccess(region=REGION, endpoint=moto))))[0].username
    httpserver.check()
    httpserver.clear()
    (tmp_path / "token").write_text("a-token-of-the-pod")
    sent = {"Authorization": "a-token-of-the-pod"}
    httpserver.expect_oneshot_request("/v1/credentials", "GET", headers=sent).respond_with_json(issued)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", httpserver.url_for("/v1/credentials"))
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    assert (await aws.authorize(EcrRegistry("pod.test", AwsAccess(region=REGION, endpoint=moto))))[0].username
    httpserver.check()
    assert len(httpserver.log) == 1


async def test_ecr_public(httpserver: HTTPServer) -> None:
    """Its token is one object, not a list; repositories are created without the alias, and only with what it knows."""
    token = base64.b64encode(b"AWS:a-token-of-ecr-public").decode()
    later = time.time() + HALF_A_DAY
    sent = {"X-Amz-Target": "SpencerFrontendService.GetAuthorizationToken"}
    answer = {"authorizationData": {"authorizationToken": token, "expiresAt": later}}
    httpserver.expect_request("/", "POST", headers=sent).respond_with_json(answer)
    found = ecr_registry(HostPolicy("public.ecr.aws", aws=AwsAccess(endpoint=httpserver.url_for("/"))))
    assert found is not None
    credential, lifetime = await aws.authorize(found)
    assert credential.password.reveal() == "a-token-of-ecr-public"
    assert HALF_A_DAY - 60 < lifetime <= HALF_A_DAY
    wanted = {"repositoryName": "team/app", "tags": [{"Key": "team", "Value": "platform"}]}
    sent = {"X-Amz-Target": "SpencerFrontendService.CreateRepository"}
    made = {"repository": {"repositoryName": "team/app"}}
    httpserver.expect_request("/", "POST", headers=sent, json=wanted).respond_with_json(made)
    name = found.repository("a1b2c3d4/team/app")
    assert await aws.create_repository(found, name, found.arguments(Creation(tags={"team": "platform"}, scan=True)), "")
    there = {"__type": "RepositoryAlreadyExistsException", "message": "it exists"}
    httpserver.clear()
    httpserver.expect_request("/", "POST", headers=sent).respond_with_json(there, status=400)
    assert not await aws.create_repository(found, name, {}, "")


def _failing(monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environ", "access", "said"),
    [
        ({}, AwsAccess(region=REGION), "no credentials were found; set AWS_PROFILE or AWS_ACCESS_KEY_ID"),
        ({}, AwsAccess("typo", REGION), "there is no such profile in AWS's files"),
        (
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
            AwsAccess(),
            "no region is known; write `aws: {region: REGION}`",
        ),
        (
            {"AWS_WEB_IDENTITY_TOKEN_FILE": "/none", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/pod"},
            AwsAccess(region=REGION),
            "is missing; check AWS_WEB_IDENTITY_TOKEN_FILE",
        ),
    ],
)
async def test_who_we_are_cannot_be_found_out(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], access: AwsAccess, said: str
) -> None:
    """The error says what is missing, and what to set or to write."""
    _failing(monkeypatch, **environ)
    with pytest.raises(DeniedError) as caught:
        await aws.authorize(EcrRegistry("ecr.test", replace(access, endpoint="http://127.0.0.1:9")))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (DENIED, 400, "allow ecr:GetAuthorizationToken to this identity"),
        ({"__type": "UnrecognizedClientException", "message": "The security token is invalid"}, 400, "are not valid"),
        ({"__type": "ServerException", "message": "oops"}, 500, "failed with status 500"),
        ({"authorizationData": [{"authorizationToken": "no base64!"}]}, 200, "AWS answered with no token"),
        ({"authorizationData": []}, 200, "AWS answered with no token"),
    ],
)
async def test_aws_refuses_or_fails(httpserver: HTTPServer, answer: Any, status: int, said: str) -> None:
    """The error names what has to be allowed, or what is wrong."""
    httpserver.expect_request("/").respond_with_json(answer, status=status)
    access = AwsAccess(region=REGION, endpoint=httpserver.url_for("/"))
    with pytest.raises(MirrordError) as caught:
        await aws.authorize(EcrRegistry("ecr.test", access))
    assert said in str(caught.value)


async def test_aws_cannot_be_reached() -> None:
    """The error says so, and is one that passes."""
    with pytest.raises(UnreachableError, match="cannot be reached for ecr:GetAuthorizationToken") as caught:
        await aws.authorize(EcrRegistry("ecr.test", AwsAccess(region=REGION, endpoint="http://127.0.0.1:9")))
    assert caught.value.passing


async def test_the_extra_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without botocore the error says what to install; nothing is imported before."""
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'mirrord\[aws\]'"):
        await aws.authorize(EcrRegistry("ecr.test", AwsAccess(region=REGION)))


async def test_secrets_stay_secret(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys, the session's token and what AWS repeats of them are in no error and no log, even of DEBUG."""
    keys = {name: Canary.make("AWS") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
    for name, canary in keys.items():
        monkeypatch.setenv(name, canary.text.replace("\n", ""))
    caplog.set_level(logging.DEBUG)
    session = keys["AWS_SESSION_TOKEN"].text
    why = f"The Canonical String for this request should have been 'POST x-amz-security-token:{session}'"
    refused = {"__type": "InvalidSignatureException", "message": why}
    httpserver.expect_request("/").respond_with_json(refused, status=403)
    access = AwsAccess(region=REGION, endpoint=httpserver.url_for("/"))
    with pytest.raises(MirrordError) as caught:
        await aws.authorize(EcrRegistry("ecr.test", access))
    for canary in keys.values():
        assert canary.heard(str(caught.value)) == []
        assert canary.heard(repr(caught.value.__cause__)) == []
        assert canary.heard(caplog.text) == []


async def test_a_repository_is_created_where_its_registry_is(httpserver: HTTPServer) -> None:
    """The account in the host's name is asked for, so that an identity of another one creates nothing at home."""
    sent = {"X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.CreateRepository"}
    wanted: dict[str, object] = {"repositoryName": "team/app", "registryId": "123456789012"}
    wanted["imageTagMutability"] = "IMMUTABLE_WITH_EXCLUSION"
    wanted["imageTagMutabilityExclusionFilters"] = [{"filterType": "WILDCARD", "filter": "dev-*"}]
    httpserver.expect_request("/", "POST", headers=sent, json=wanted).respond_with_json({"repository": {}})
    found = ecr_registry(HostPolicy(HOST, aws=AwsAccess(endpoint=httpserver.url_for("/"))))
    assert found is not None
    keys = found.arguments(Creation(mutability="immutable", exceptions=("dev-*",)))
    assert await aws.create_repository(found, found.repository("team/app"), keys, "")
    with pytest.raises(RefusedError, match=r"would not take this: .*repositoryName"):
        await aws.create_repository(found, "a", {}, "")
