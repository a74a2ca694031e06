"""The admission webhook of Kubernetes, on an address of its own: `POST /mutate`.

Whatever happens here, a Pod is created: the answer allows it, with images as they were if anything is odd. The API
server is also told to ignore failures, so an error of HTTP changes nothing, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from time import monotonic
from typing import Final

from aiohttp import web

from mirrord.events import AnswerBroken, Event, Reviewed
from mirrord.pointing.admission.answer import ReviewAnswer, answered
from mirrord.pointing.admission.review import LARGEST, Review, ReviewError, read_review
from mirrord.pointing.places import Decision
from mirrord.serve.bodies import Bodies, BodyError
from mirrord.serve.door import signed

PATH: Final = "/mutate"
_PATIENCE: Final = 10.0  # seconds for a body; the API server, which waits no longer than 30 s, has it whole
_PACE: Final = 1 << 20  # bytes a second
_LONG: Final = 64 << 10  # bytes of a review; a larger one would block the event loop for too long

Decide = Callable[[Collection[str]], Awaitable[Mapping[str, Decision]]]
"""Says where images are to come from, promptly."""


def make_webhook(decide: Decide, emit: Callable[[Event], None], namespaces: Collection[str] = ()) -> web.Application:
    """Build the application; Pods in these `namespaces` stay what they are."""
    webhook = _Webhook(decide, emit, namespaces)
    app = web.Application()
    app.on_response_prepare.append(signed)
    app.router.add_post(PATH, webhook.mutate)
    return app


class _Webhook:
    """Answers reviews."""

    def __init__(self, decide: Decide, emit: Callable[[Event], None], namespaces: Collection[str]) -> None:
        self._decide, self._emit, self._namespaces = decide, emit, namespaces
        self._bodies = Bodies(_PATIENCE, large=32, each=32, pace=_PACE)  # the API server is the only client

    async def mutate(self, request: web.Request) -> web.StreamResponse:
        """Answer one review."""
        began = monotonic()
        try:
            async with self._bodies.whole(request, LARGEST) as body:
                review, answer = await self._answer(body)
        except (BodyError, ReviewError) as error:
            status, reason = error.args if isinstance(error, BodyError) else (400, str(error))
            self._emit(Reviewed("refused", monotonic() - began, {}, warnings=(reason,)))
            return web.Response(status=status, text=f"{reason}\n")
        self._emit(Reviewed(answer.outcome, monotonic() - began, answer.images, review.name, answer.warnings))
        return web.Response(body=answer.body, content_type="application/json")

    async def _answer(self, body: bytes) -> tuple[Review, ReviewAnswer]:
        long = len(body) > _LONG
        read = (body, self._namespaces)
        review = await asyncio.to_thread(read_review, *read) if long else read_review(*read)
        try:
            decisions = await self._decide([image.text for image in review.images])
            if long:
                return review, await asyncio.to_thread(answered, review, decisions)
            return review, answered(review, decisions)
        except Exception as error:  # noqa: BLE001 - a bug must not keep a Pod from being created
            self._emit(AnswerBroken(PATH, f"{type(error).__name__}: {error}"))
            broken = Review(review.version, review.uid, name=review.name, odd="mirrord failed; its log says why")
            return broken, answered(broken, {})
