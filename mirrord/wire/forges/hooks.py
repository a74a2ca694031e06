"""What GitHub, Gitee and Gitea send to a webhook about an issue: whether it is theirs, and which issue it is. Pure.

A delivery is a bell and nothing else: the issue is read by the API before anything is done. So Gitee, which does not
sign the body, can make us look at an issue, and no more than that.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mirrord.wire.answers import mapping, text
from mirrord.wire.forges.issues import valid_number
from mirrord.wire.number import whole
from mirrord.wire.secret import Secret

FRESH: Final = 3600.0
"""Seconds for which a delivery of Gitee is taken; its signature covers nothing but the time."""
BODY: Final = 1024 * 1024
"""The longest body that is read, in bytes: an issue has 64 KiB of text, and comes with its repository."""


@dataclass(frozen=True, slots=True)
class HookForm:
    """How a forge writes its deliveries; names of headers are in lower case.

    Attributes:
        signature: the header with the signature.
        prefix: what stands before the hexadecimal digits.
        event: the header that says what happened.
        about: its value for issues.
        signs_body: whether the body is signed.
        test: the header that says `true` where somebody tries the webhook, with an issue of another repository; ""
            where there is none.
    """

    signature: str
    prefix: str
    event: str
    about: str
    signs_body: bool = True
    test: str = ""


FORMS: Final[Mapping[str, HookForm]] = {
    "github": HookForm("x-hub-signature-256", "sha256=", "x-github-event", "issues"),
    "gitee": HookForm("x-gitee-token", "", "x-gitee-event", "Issue Hook", signs_body=False, test="x-gitee-ping"),
    "gitea": HookForm("x-gitea-signature", "", "x-gitea-event", "issues"),
}
"""By the word in `forge:`. Forgejo sends Gitea's headers, too."""


def is_genuine(forge: str, secret: Secret, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether who sent a delivery knows the secret; comparisons take the same time wherever texts differ.

    Args:
        forge: `github`, `gitee` or `gitea`.
        secret: what is configured there, too.
        headers: names in any case.
        body: as it was received; b"" where the forge does not sign it.
        now: Unix time.
    """
    form, key = FORMS[forge], secret.reveal().encode()
    given = headers.get(form.signature, "").encode("utf-8", "replace")
    if form.signs_body:
        signed = f"{form.prefix}{hmac.new(key, body, hashlib.sha256).hexdigest()}".encode()
        return hmac.compare_digest(given, signed)
    time = headers.get("x-gitee-timestamp", "")
    sent = whole(time)
    if sent is None or abs(now - sent / 1000) > FRESH:
        return False
    signed = binascii.b2a_base64(hmac.digest(key, time.encode() + b"\n" + key, "sha256"), newline=False)
    # Gitee sends the password itself where its page was given one instead of a key.
    return bool(hmac.compare_digest(given, signed) | hmac.compare_digest(given, key))


def issue_of(body: bytes, repository: str) -> str | None:
    """Return the number of the issue that a delivery is about, or None: it has none, or is of another repository.

    Args:
        body: JSON.
        repository: `OWNER/NAME`.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    # In Gitee's manual, `full_name` has the titles of owner and repository: `开源中国/Gitee`.
    names = [text(document, "repository", key) or "" for key in ("full_name", "path_with_namespace")]
    number = text(mapping(document).get("issue"), "number") or ""
    return number if repository.casefold() in map(str.casefold, names) and valid_number(number) else None
