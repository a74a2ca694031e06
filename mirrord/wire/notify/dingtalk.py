"""DingTalk: a custom robot of a group (open.dingtalk.com, "custom robot access")."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Final
from urllib.parse import quote

from mirrord.printable import plain
from mirrord.wire.notify.codes import BodyCodes
from mirrord.wire.notify.message import Message
from mirrord.wire.notify.port import HookAnswer, Prepared, Service, json_body
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.notify.text import cut, fitted, harmless

_LIMIT: Final = 9000  # bytes of text; the whole request may have 20 kB
_TITLE: Final = 120
_BLOCKED: Final = 600.0  # seconds for which a robot that sent too much is blocked
_CODES: Final = BodyCodes(
    ("errcode",),
    {
        310000: "check `secret`, the robot's keywords and its list of addresses",
        **dict.fromkeys((300001, 300005, 400101), "check access_token in the address"),
    },
    "check the address and the settings of the robot",
    dict.fromkeys((130101, 130102), _BLOCKED),
    frozenset({-1}),
)


class DingTalk(Service):
    """Answers 200 to everything; the body has the code."""

    title = "DingTalk"
    pace = 3.0  # 20 a minute

    def prepare(self, receiver: Receiver, message: Message, at: datetime) -> Prepared:
        """Write a message in Markdown that mentions nobody."""
        text = fitted(message, _LIMIT, harmless, between="\n\n")  # one line end is none in Markdown
        body = {
            "msgtype": "markdown",
            "markdown": {"title": cut(harmless(plain(message.title)), _TITLE), "text": text},
            "at": {"isAtAll": False},
        }
        url, millis = receiver.address, str(int(at.timestamp() * 1000))
        if signature := receiver.signature(lambda secret: sign(millis, secret)):
            url = f"{url}{'&' if '?' in url else '?'}timestamp={millis}&sign={signature}"
        return Prepared(url, json_body(body))

    def judge(self, answer: HookAnswer, now: float) -> None:
        """Look at `errcode`."""
        _CODES.judge(answer, now)


def sign(timestamp: str, secret: str) -> str:
    """Return the signature as a URL has it: the secret is the key, time and secret are the message."""
    digest = hmac.new(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256).digest()
    return quote(base64.b64encode(digest), safe="")
