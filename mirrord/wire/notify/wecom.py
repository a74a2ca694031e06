"""WeCom (WeChat Work): a robot of a group (developer.work.weixin.qq.com, "group robot configuration")."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from mirrord.wire.notify.codes import BodyCodes
from mirrord.wire.notify.message import Message
from mirrord.wire.notify.port import HookAnswer, Prepared, Service, json_body
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.notify.text import fitted, harmless

_LIMIT: Final = 4096  # bytes of Markdown
_CODES: Final = BodyCodes(
    ("errcode",),
    {93000: "check the key in the address"},
    "check the address and the settings of the robot",
    {45009: 60.0},
    frozenset({-1}),
)


class WeCom(Service):
    """Answers 200 to everything; the body has the code. It has no signatures: the key in the address is all."""

    title = "WeCom"
    pace = 3.0  # 20 a minute

    def prepare(self, receiver: Receiver, message: Message, at: datetime) -> Prepared:  # noqa: ARG002 - nothing is signed
        """Write a message in Markdown."""
        content = fitted(message, _LIMIT, harmless)
        return Prepared(receiver.address, json_body({"msgtype": "markdown", "markdown": {"content": content}}))

    def judge(self, answer: HookAnswer, now: float) -> None:
        """Look at `errcode`."""
        _CODES.judge(answer, now)
