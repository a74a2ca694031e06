"""`POST /hooks/FORGE/OWNER/NAME`: a forge says that an issue was opened. Who does not know the secret gets 401.

Nothing of a body is read where its sender shows nothing, and nothing of what it says is believed but the number of the
issue, which is then read by the API.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from mirrord.serve.bodies import Bodies, BodyError
from mirrord.wire.forges.hooks import BODY, FORMS, is_genuine, issue_of
from mirrord.wire.secret import Secret

HOOKS: Final = "/hooks/"
_REASONS: Final = {
    401: "the signature of this delivery is wrong or missing; the secret is that of asking.issues",
    404: "no webhook, or several, are called so; it is /hooks/FORGE/OWNER/NAME, or /hooks/FORGE/HOST/OWNER/NAME, of an"
    " entry of asking.issues that has a secret",
    405: "use POST",
}


@dataclass(frozen=True, slots=True)
class IssueHook:
    """The webhook of a repository.

    Attributes:
        forge: `github`, `gitee` or `gitea`.
        repository: `OWNER/NAME`.
        secret: that signs deliveries.
        ring: is called with the number of each issue that is to be looked at.
    """

    forge: str
    repository: str
    secret: Secret = field(repr=False)
    ring: Callable[[str], None]


class IssueHooks:
    """Answers deliveries of webhooks."""

    def __init__(self, find: Callable[[str], IssueHook | None], now: Callable[[], float]) -> None:
        """Answer for the webhooks that `find` returns by what is below `HOOKS`, in lower case; `now` is Unix time."""
        self._find, self._now, self._bodies = find, now, Bodies()

    async def answer(self, request: web.Request, path: str) -> web.Response:
        """Answer a request below `HOOKS`."""
        if request.method != "POST":
            return _said(405, _REASONS[405], {"Allow": "POST"})
        hook = self._find(path.removeprefix(HOOKS).lower())
        if hook is None:
            return _refused(404)
        form, headers = FORMS[hook.forge], request.headers
        # What does not sign its body is judged without it.
        if not headers.get(form.signature) or not (
            form.signs_body or is_genuine(hook.forge, hook.secret, headers, b"", self._now())
        ):
            return _refused(401)
        try:
            async with self._bodies.whole(request, BODY) as body:
                return self._taken(hook, request, body)
        except BodyError as error:
            status, reason = error.args
            return _said(status, reason)

    def _taken(self, hook: IssueHook, request: web.Request, body: bytes) -> web.Response:
        form, headers = FORMS[hook.forge], request.headers
        if form.signs_body and not is_genuine(hook.forge, hook.secret, headers, body, self._now()):
            return _refused(401)
        if headers.get(form.event) != form.about or (form.test and headers.get(form.test, "").lower() == "true"):
            return _said(200, "this webhook is for issues; nothing was done")
        number = issue_of(body, hook.repository)
        if number is None:
            return _said(400, f"the body names no issue of {hook.repository}; send application/json")
        hook.ring(number)
        return _said(202, "the issue is looked at")


def _refused(status: int) -> web.Response:
    """Answer without reading the body; the connection ends, since the rest of it may be anything."""
    answer = _said(status, _REASONS[status])
    answer.force_close()
    return answer


def _said(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers={"Cache-Control": "no-store", **(headers or {})})
