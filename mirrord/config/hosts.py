"""`hosts:`: how to talk to a host, wherever it appears, and with which secrets.

Names are compared by equality, so they are made canonical.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from mirrord.config.aws import Aws, access_of
from mirrord.config.check import Strict, check
from mirrord.config.files import AbsentError
from mirrord.config.lines import Problems, Trail, Value, nearest
from mirrord.config.pem import check_ssh, check_tls
from mirrord.config.secrets import SecretSource, read_secret
from mirrord.config.units import Rate, between, parse_rate
from mirrord.errors import MirrordError, UntrustedError
from mirrord.wire.host import HUB, HUB_ALIASES, HostBook, HostPolicy
from mirrord.wire.oci.profiles import GENERIC, PROFILES, profile_of
from mirrord.wire.origin import check_url
from mirrord.wire.proxy import Proxy
from mirrord.wire.secret import Credential, redact

_PROXY = "http://proxy.example.com:3128"
_SECTION: Trail = ("hosts",)


def host_key(text: str) -> str:
    """Return the one spelling of a host: lower case, IDNA, default port dropped, Docker Hub's names as `docker.io`.

    Raises:
        ValueError: it is a URL, a path, a wildcard or not a host; the message says what to write.
    """
    if "://" in text:
        rest = text.partition("://")[2].strip("/")
        hint = " and `insecure: true` below it" if text.lower().startswith("http:") else ""
        raise ValueError(f"is a URL, not a host; write {rest or 'the host alone'}{hint}")
    if "/" in text:
        raise ValueError(f"has a path; write only the host: {text.partition('/')[0]}")
    try:
        origin = check_url(f"https://{text}")
    except UntrustedError as error:
        what = f"is not a host ({error}); write host or host:port, such as registry.example.com:5000"
        raise ValueError(what) from error
    return HUB if origin.authority in HUB_ALIASES else origin.authority


def _url(text: str, what: str, example: str) -> str:
    try:
        return str(check_url(text))
    except UntrustedError as error:
        hint = f"{example}, with user name and password in `proxy_auth:`" if error.reason == "userinfo" else example
        raise ValueError(f"is not a {what} ({error}); write for example {hint}") from error


_proxy = partial(_url, what="proxy", example=_PROXY)


def _realm(text: str) -> str:
    origin = _url(text, "token realm", "https://auth.example.com")
    if urlsplit(text).path not in ("", "/"):
        raise ValueError(f"has a path; write only scheme and host: {origin}")
    return origin


def _profile(text: str | None) -> str | None:
    if text is not None and text not in PROFILES:
        raise ValueError(f"{text[:60]!r} is not a known kind of registry; {nearest(text, set(PROFILES))}")
    return text


class Auth(Strict):
    """`hosts.HOST.auth`; user name `<token>` says that the password is an identity token."""

    username: Annotated[
        str,
        Field(
            min_length=1,
            description="User name; `<token>` means that the password is an identity token.",
            examples=["robot"],
        ),
    ]
    password: Annotated[
        SecretSource,
        Field(
            description=(
                "Where the password is: exactly one of `env`, `file` and `credential`. Plain text is refused."
            ),
            examples=["{env: REGISTRY_TOKEN}"],
        ),
    ]


class Host(Strict):
    """One entry of `hosts:`; see `HostPolicy` for what each key does."""

    hints: ClassVar[Mapping[str, str]] = {
        "api": "write profile: harbor",
        **dict.fromkeys(("username", "user"), "write auth: {username: robot, password: {env: NAME}}"),
        **dict.fromkeys(("password", "token"), "write auth: {username: robot, password: {env: NAME}}"),
        **dict.fromkeys(("tls", "verify", "insecure_skip_verify"), "write insecure: true for plain HTTP, or ca: FILE"),
    }

    auth: Annotated[
        Auth | None,
        Field(
            description="User name and password. Without it, docker's own configuration is used.",
            examples=["{username: robot, password: {env: REGISTRY_TOKEN}}"],
        ),
    ] = None
    insecure: bool | None = Field(
        default=None, description="Use plain HTTP. Default: `true` for loopback addresses, `false` for all others."
    )
    ca: Annotated[
        str | None,
        Field(
            description="PEM file with the certificate authorities to trust instead of the system's.",
            examples=["/etc/ssl/private-ca.pem"],
        ),
    ] = None
    certificate: Annotated[
        str | None,
        Field(
            description="PEM file with the client certificate, and with its key unless `key` is given.",
            examples=["/etc/mirrord/client.pem"],
        ),
    ] = None
    key: Annotated[
        str | None,
        Field(description="PEM file with the unencrypted key of `certificate`.", examples=["/etc/mirrord/client.key"]),
    ] = None
    proxy: (
        Annotated[
            str,
            AfterValidator(_proxy),
            Field(
                description=(
                    "HTTP proxy, `http://host:port`. It does not apply to Git over ssh; `check` reports that."
                ),
                examples=[_PROXY],
            ),
        ]
        | None
    ) = None
    proxy_auth: Annotated[
        Auth | None,
        Field(
            description="User name and password for the proxy.",
            examples=["{username: mirror, password: {env: PROXY_PASSWORD}}"],
        ),
    ] = None
    allow_private: bool = Field(
        default=False, description="Allow connections to private, link-local and other non-public addresses."
    )
    token_realms: Annotated[
        tuple[Annotated[str, AfterValidator(_realm)], ...],
        Field(
            description=(
                "Other origins, `https://host`, that may receive this host's credentials and issue a token for them."
            ),
            examples=["[https://auth.example.com]"],
        ),
    ] = ()
    ssh_key: Annotated[
        str | None,
        Field(
            description=(
                "File with the private key for Git over ssh, readable only by the service. No agent and no key"
                " of a user is used."
            ),
            examples=["/etc/mirrord/id_ed25519"],
        ),
    ] = None
    known_hosts: Annotated[
        str | None,
        Field(
            description=(
                "File with the host's public keys for Git over ssh; a host that is not in it is refused."
                " Default: `/etc/ssh/ssh_known_hosts`."
            ),
            examples=["/etc/mirrord/known_hosts"],
        ),
    ] = None
    requests: Annotated[int, Field(ge=1, le=256, description="Maximum number of concurrent requests, 1 to 256.")] = 8
    bandwidth: Annotated[Rate, AfterValidator(between("1KiB/s", "1TiB/s", parse_rate))] | None = Field(
        default=None,
        description=(
            "Limit for content, in bytes per second. For Git it applies to pushes over HTTP(S) and to LFS objects;"
            " `check` reports where it does not apply. Default: no limit."
        ),
    )
    profile: Annotated[
        str | None,
        AfterValidator(_profile),
        Field(
            description="Kind of registry; `generic` is one without quirks. Default: by the host's name.",
            examples=["harbor"],
            json_schema_extra={"enum": [*PROFILES]},
        ),
    ] = None

    aws: Annotated[
        Aws | None,
        Field(
            description=(
                "Who mirrord is at AWS, for a registry of Amazon ECR. It is used where neither `auth` nor docker's own"
                " configuration has a credential. Default: as AWS's own programs find it."
            ),
            examples=["{profile: mirror}"],
        ),
    ] = None


def read_hosts(value: Value, problems: Problems, environ: Mapping[str, str]) -> HostBook:
    """Validate `hosts:` and fetch its secrets; each problem is noted, and its host left out."""
    policies: dict[str, HostPolicy] = {}
    seen: dict[str, Trail] = {}
    for written, entry in (value if isinstance(value, dict) else {}).items():
        trail = (*_SECTION, written)
        try:
            name = host_key(written)
        except ValueError as error:
            problems.add(trail, str(error))
            continue
        if name in seen:
            there = f"{problems.spell(seen[name])} at {problems.origin(seen[name])}"
            problems.add(trail, f"is the same host as {there}; keep one of them")
        seen.setdefault(name, trail)
        host = check(Host, entry, trail, problems)
        if host is not None:
            policies[name] = _policy(name, host, trail, problems, environ)
    return HostBook(policies)


def _policy(name: str, host: Host, trail: Trail, problems: Problems, environ: Mapping[str, str]) -> HostPolicy:
    check_tls(host, trail, problems)
    credential = _login(host.auth, (*trail, "auth"), problems, environ) if host.auth else None
    for number, realm in enumerate(host.token_realms):
        if realm.startswith("http://") and not host.insecure:
            what = "is not encrypted, and would carry the password; write https://, or `insecure: true` for the host"
            problems.add((*trail, "token_realms", number), what)
    check_ssh(host, trail, problems)
    known = profile_of(name)
    if host.profile not in (None, GENERIC.name, known.name) and known is not GENERIC:
        problems.add((*trail, "profile"), f"{name} is {known.title}; leave `profile:` out")
    if host.proxy_auth and not host.proxy:
        problems.add((*trail, "proxy_auth"), "has no proxy; write `proxy:` beside it")
    proxied = _login(host.proxy_auth, (*trail, "proxy_auth"), problems, environ) if host.proxy_auth else None
    proxy = Proxy(host.proxy, proxied) if host.proxy else None
    kind = host.profile or ("ecr" if host.aws and known is GENERIC else None)
    access = access_of(name, host.aws, kind, (*trail, "aws"), problems)
    if host.aws and host.auth:
        problems.add((*trail, "aws"), "has no effect beside `auth:`; keep one of them")
    others = host.model_dump(exclude={"auth", "proxy", "proxy_auth", "aws", "profile"})
    policy = HostPolicy(name, credential, proxy=proxy, profile=kind, aws=access, **others)
    where = f"`auth:` in {redact(str(problems.origin((*trail, 'auth'))))}, "
    return replace(policy, source=where + host.auth.password.place) if host.auth else policy


def _login(auth: Auth, trail: Trail, problems: Problems, environ: Mapping[str, str]) -> Credential | None:
    try:
        secret = read_secret(auth.password, environ)
    except ValueError as error:
        note = problems.lack if isinstance(error, AbsentError) else problems.add
        note((*trail, "password"), str(error))
        return None
    try:
        return Credential(auth.username, secret)
    except MirrordError as error:
        problems.add((*trail, "username"), f"{error}; write only the name")
        return None
