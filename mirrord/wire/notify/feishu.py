"""Feishu and Lark: a custom bot of a group (open.feishu.cn, "custom bot usage guide")."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Final

from mirrord.wire.notify.codes import BodyCodes
from mirrord.wire.notify.message import Message
from mirrord.wire.notify.port import HookAnswer, Prepared, Service, json_body
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.notify.text import fitted, harmless

_LIMIT: Final = 9000  # bytes of text: the whole request may have 20 kB, and escapes of JSON double a text at worst
_CODES: Final = BodyCodes(
    ("code", "StatusCode"),  # old bots have the second one
    {
        19001: "check the address of the bot",
        19021: "write `secret:` as the bot has it, and check the clock of this machine",
        19022: "add the address of this machine to the bot's list, or take that list away",
        19024: "use `secret` in place of the bot's keywords, or make `mirrord` one of them",
    },
    "check the address and the settings of the bot",
    dict.fromkeys((9499, 11232, 99991400)),
)


class Feishu(Service):
    """Answers 200 to everything; the body has the code."""

    title = "Feishu"

    def prepare(self, receiver: Receiver, message: Message, at: datetime) -> Prepared:
        """Write a text message."""
        document: dict[str, object] = {"msg_type": "text", "content": {"text": fitted(message, _LIMIT, harmless)}}
        seconds = str(int(at.timestamp()))
        if signature := receiver.signature(lambda secret: sign(seconds, secret)):
            document |= {"timestamp": seconds, "sign": signature}
        return Prepared(receiver.address, json_body(document))

    def judge(self, answer: HookAnswer, now: float) -> None:
        """Look at `code`, which old bots call `StatusCode`."""
        _CODES.judge(answer, now)


def sign(timestamp: str, secret: str) -> str:
    """Return the signature: time and secret are the key, and the message is empty."""
    digest = hmac.new(f"{timestamp}\n{secret}".encode(), b"", hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
