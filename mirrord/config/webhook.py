"""`webhook:`: where the API server of Kubernetes asks about new Pods. Without the section nothing listens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, Field

from mirrord.config.check import Strict, check
from mirrord.config.lines import Problems, Value
from mirrord.config.settings import Listen, check_pair

UNTOUCHED: Final = ("kube-system", "kube-node-lease")
"""Namespaces whose Pods stay what they are, unless the configuration says otherwise."""
_HOST = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(?:\.[a-z0-9][a-z0-9-]{0,62})*")


def _name(text: str) -> str:
    """Return a host name or address as a certificate has it."""
    try:
        return str(ip_address(text))
    except ValueError:
        if not _HOST.fullmatch(text) or len(text) > 253:
            shown = f"{text[:60]!r} is no host name"
            raise ValueError(f"{shown}; write one in lower case, such as mirrord-webhook.mirrord.svc") from None
        return text


class WebhookKeys(Strict):
    """`webhook`: the admission webhook."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("port", "address", "host"), "write listen: 0.0.0.0:8443"),
        **dict.fromkeys(("name", "san", "dns"), "write names:"),
        **dict.fromkeys(("namespaces", "exclude", "ignore"), "write except:"),
        **dict.fromkeys(("to", "policy"), "write it below pointing:"),
    }

    listen: Annotated[
        Listen,
        Field(
            description="`host:port` where the API server asks `/mutate`, with TLS; port 0 takes a free one.",
            examples=["0.0.0.0:8443"],
        ),
    ]
    certificate: str | None = Field(
        default=None,
        description=(
            "PEM file with the certificate, followed by those of its issuers. Changed files are loaded within seconds;"
            " a bad pair is logged, and the one before stays in use. Default: mirrord has an authority of its own, see"
            " `mirrord webhook certificate`, and renews the certificate."
        ),
        examples=["/etc/mirrord/webhook/tls.crt"],
    )
    key: str | None = Field(
        default=None,
        description="PEM file with the unencrypted key of `certificate`.",
        examples=["/etc/mirrord/webhook/tls.key"],
    )
    names: Annotated[tuple[Annotated[str, AfterValidator(_name)], ...], Field(max_length=20)] = Field(
        default=(),
        description=(
            "Host names and addresses in the certificate of mirrord's own authority: `SERVICE.NAMESPACE.svc` for a"
            " Service of the cluster. Required without `certificate`."
        ),
        examples=[["mirrord-webhook.mirrord.svc"]],
    )
    except_: tuple[str, ...] = Field(
        default=UNTOUCHED,
        alias="except",
        description="Namespaces whose Pods stay what they are.",
    )


def read_webhook(value: Value, problems: Problems) -> WebhookKeys | None:
    """Validate `webhook:`; None where there is none, or it is wrong."""
    keys = check(WebhookKeys, value, ("webhook",), problems) if value is not None else None
    if keys is None:
        return None
    if keys.certificate and keys.key:
        check_pair(keys.certificate, keys.key, ("webhook",), problems)
        if keys.names:
            problems.add(("webhook", "names"), "has no effect with certificate:, which has its names; keep one of them")
    elif keys.certificate or keys.key:
        there, lacking = ("certificate", "key") if keys.certificate else ("key", "certificate")
        problems.add(("webhook", there), f"has no {lacking}; write {lacking}: beside it")
    elif not keys.names:
        what = "has neither names: nor certificate: and key:; write names: [mirrord-webhook.NAMESPACE.svc]"
        problems.add(("webhook",), what)
    return keys
