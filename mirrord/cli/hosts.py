"""What commands without a configuration know about hosts: options and the environment, in the place of `hosts:`."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import TypedDict
from urllib.parse import urlsplit

from mirrord.errors import UntrustedError, UsageError
from mirrord.wire import advice
from mirrord.wire.dockerconfig import DockerKeyring
from mirrord.wire.host import HostBook, HostPolicy
from mirrord.wire.keyring import Keyrings
from mirrord.wire.origin import check_url
from mirrord.wire.proxy import Proxies

_OPTIONS = {
    advice.AUTH: "run",
    advice.CA: "add `--ca FILE`",
    advice.CERTIFICATE: "`mirrord copy` sends none, mirrors of a configuration can",
    advice.INSECURE: "add `--insecure HOST`",
    advice.PRIVATE: "add `--allow-private`",
    advice.PROXY: "check HTTPS_PROXY and NO_PROXY",
    advice.PROXY_AUTH: "write HTTPS_PROXY=http://USER:PASSWORD@PROXY",
    advice.PROXY_LOGIN: "correct the user and the password in HTTPS_PROXY",
    advice.REALM: "add `--token-realm {host}=",
    advice.TLS: "add `--tls HOST`",
}
"""What errors advise instead of keys of a configuration."""


class HostOptions(TypedDict):
    """The options about hosts that `copy`, `tags` and `list check` have, as `copy_hosts` takes them."""

    allow_private: bool
    ca: str | None
    insecure: tuple[str, ...]
    tls: tuple[str, ...]
    token_realm: tuple[str, ...]


def copy_hosts(
    hosts: Sequence[str],
    environ: Mapping[str, str],
    *,
    allow_private: bool = False,
    insecure: Sequence[str] = (),
    tls: Sequence[str] = (),
    token_realm: Sequence[str] = (),
    ca: str | None = None,
) -> HostBook:
    """Return the rules for the `hosts` of a command.

    Args:
        hosts: registries that it asks.
        environ: environment: docker's credentials, and proxies.
        allow_private: `hosts` may have private addresses.
        insecure: hosts that are spoken to in plain HTTP.
        tls: hosts that are spoken to by TLS although they are this machine.
        token_realm: `HOST=https://SERVER`: who may ask for the credentials of which host.
        ca: PEM file with authorities to trust besides the system's.

    Raises:
        UsageError: an option names none of these hosts, or holds something else than it should.
        ConfigError: a proxy in the environment is none.
    """
    realms = _realms(token_realm)
    for option, named in (("--insecure", insecure), ("--tls", tls), ("--token-realm", realms)):
        for host in named:
            if host not in hosts:
                known = ", ".join(dict.fromkeys(hosts)) or "none, all of it is files"
                raise UsageError(f"{option} {host!a}: not a host of this command; its hosts: {known}")
    if both := set(insecure) & set(tls):
        raise UsageError(f"--insecure and --tls for {min(both)}: these contradict; keep one of them")
    if ca is not None:
        _check_ca(ca)
    plain = dict.fromkeys(insecure, True) | dict.fromkeys(tls, False)
    policies = {
        host: HostPolicy(host, insecure=plain.get(host), allow_private=allow_private, token_realms=realms.get(host, ()))
        for host in hosts
    }
    return HostBook(policies, Keyrings(policies, DockerKeyring(environ)), Proxies.of(environ), ca, _OPTIONS)


def _realms(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    realms: dict[str, tuple[str, ...]] = {}
    for text in texts:
        host, _, realm = text.partition("=")
        try:
            origin = check_url(realm)
        except UntrustedError as error:
            raise UsageError(f"--token-realm: {error}; write HOST=https://SERVER") from error
        if urlsplit(realm).path not in ("", "/"):
            raise UsageError(f"--token-realm {host!a}: holds a path; write {host}={origin}")
        realms[host] = (*realms.get(host, ()), str(origin))
    return realms


def _check_ca(path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise UsageError(f"--ca {path}: holds no PEM certificate; give a file with BEGIN CERTIFICATE") from error
    except OSError as error:
        raise UsageError(f"--ca {path}: cannot be read: {error.strerror}") from error
