"""Slack: an incoming webhook (api.slack.com/messaging/webhooks)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from mirrord.wire.notify.message import Message
from mirrord.wire.notify.port import HookAnswer, Prepared, Service, json_body
from mirrord.wire.notify.receiver import Receiver
from mirrord.wire.notify.text import fitted

_LIMIT: Final = 3900  # bytes; Slack advises at most 4000 characters
_GONE: Final = frozenset({b"no_service", b"no_active_hooks", b"no_team", b"invalid_token", b"token_revoked"})


class Slack(Service):
    """Answers `ok` in plain text, else a word and a status."""

    title = "Slack"

    def prepare(self, receiver: Receiver, message: Message, at: datetime) -> Prepared:  # noqa: ARG002 - nothing is signed
        """Write a text whose markup is switched off; `&`, `<` and `>` are to be escaped all the same."""
        body = {"text": fitted(message, _LIMIT, escaped), "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
        return Prepared(receiver.address, json_body(body))

    def judge(self, answer: HookAnswer, now: float) -> None:
        """Look at status and body."""
        word = answer.body.strip()
        if answer.status == 200 and word == b"ok":
            return
        gone = answer.status in (404, 410) or word in _GONE
        fix = "; the hook was removed, make a new one" if gone else ""
        raise answer.error(f"answered {answer.quoted}{fix}", now=now)


def escaped(text: str) -> str:
    """Return a text with the three escapes of Slack, so that nobody is mentioned and nothing is a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
