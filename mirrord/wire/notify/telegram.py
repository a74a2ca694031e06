"""Telegram: `sendMessage` of the Bot API (core.telegram.org/bots/api#sendmessage)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from mirrord.errors import ContentError, DeniedError, MirrordError, RefusedError, ServerError, ThrottledError
from mirrord.printable import plain
from mirrord.wire.notify.message import Message
from mirrord.wire.notify.port import HookAnswer, Prepared, Service, json_body
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.notify.text import fitted, in_utf16, unmentioned
from mirrord.wire.secret import redact

_LIMIT: Final = 4096  # units of UTF-16
_LONGEST_WAIT: Final = 86400.0


class Telegram(Service):
    """Says `ok` in the body. Without `parse_mode` a text has no markup, so that nothing needs an escape."""

    title = "Telegram"
    pace = 3.0  # 20 a minute in a group

    def prepare(self, receiver: Receiver, message: Message, at: datetime) -> Prepared:  # noqa: ARG002 - nothing is signed
        """Write a plain text."""
        text = fitted(message, _LIMIT, unmentioned, measure=in_utf16)
        body = {"chat_id": receiver.chat, "text": text, "link_preview_options": {"is_disabled": True}}
        return Prepared(receiver.address, json_body(body))

    def judge(self, answer: HookAnswer, now: float) -> None:
        """Look at `ok` and `error_code`."""
        try:
            document = answer.document()
        except ContentError:
            if answer.status >= 500:  # the page of a proxy in front
                raise answer.error(f"answered {answer.quoted}", now=now) from None
            raise
        if document.get("ok") is not True:
            raise _refusal(answer, document)


def _refusal(answer: HookAnswer, document: Mapping[str, object]) -> MirrordError:
    code = document.get("error_code", answer.status)
    more = document.get("parameters")
    parameters = more if isinstance(more, dict) else {}
    text = f"{answer.host}: answered {code} {redact(plain(str(document.get('description', ''))[:200]))}".rstrip()
    wait = parameters.get("retry_after")
    if code == 429:
        return ThrottledError(text, min(float(wait), _LONGEST_WAIT) if isinstance(wait, int) and wait >= 0 else None)
    if isinstance(code, int) and code >= 500:
        return ServerError(text)
    if isinstance(moved := parameters.get("migrate_to_chat_id"), int):
        return RefusedError(f"{text}; write chat: '{moved}'")
    if code in (401, 404):
        return DeniedError(f"{text}; check `token`")
    return RefusedError(f"{text}; check `chat`, and that the bot is in it")
