"""WeCom (WeChat Work): a robot of a group (developer.work.weixin.qq.com, "group robot configuration")."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from mirrord.errors import DeniedError, RefusedError, ServerError, ThrottledError
from mirrord.wire.notify.message import Message
from mirrord.wire.notify.port import HookAnswer, Prepared, Service, json_body
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.notify.text import fitted, harmless

_LIMIT: Final = 4096  # bytes of Markdown
_MINUTE: Final = 60.0


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
        if answer.status == 429 or answer.status >= 500:
            raise answer.error(f"answered {answer.quoted}", now=now)
        code = answer.document().get("errcode")
        if code == 0:
            return
        text = f"{answer.host}: answered {answer.quoted}"
        if code == 45009:
            raise ThrottledError(text, _MINUTE)
        if code == -1:
            raise ServerError(text)
        if code == 93000:
            raise DeniedError(f"{text}; check the key in the address")
        raise RefusedError(f"{text}; check the address and the settings of the robot")
