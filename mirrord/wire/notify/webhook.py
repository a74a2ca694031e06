"""A webhook: the JSON document of docs/reference/notification.schema.json, signed as GitHub signs its own."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

from mirrord.wire.notify.message import Message
from mirrord.wire.notify.port import HookAnswer, Prepared, Service, json_body
from mirrord.wire.notify.receiver import Receiver


class Webhook(Service):
    """Any server that takes JSON; every status of 2xx means that it did."""

    title = "webhook"

    def prepare(self, receiver: Receiver, message: Message, at: datetime) -> Prepared:
        """Write the document; the signature covers its bytes, which have time and id in them."""
        body = json_body(message.document)
        headers = {"X-Mirrord-Delivery": message.id, "X-Mirrord-Timestamp": str(int(at.timestamp()))}
        if found := receiver.signature(lambda secret: signature(secret, body)):
            headers["X-Mirrord-Signature"] = f"sha256={found}"
        return Prepared(receiver.address, body, headers)

    def judge(self, answer: HookAnswer, now: float) -> None:
        """Look at the status alone."""
        if not 200 <= answer.status < 300:
            raise answer.error(f"answered {answer.quoted}", now=now)


def signature(secret: str, body: bytes) -> str:
    """Return the HMAC-SHA256 of a body in hexadecimal digits."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
