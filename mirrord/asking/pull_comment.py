"""ONE comment in a pull request, written anew for each build: found by its mark and by who wrote it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from mirrord.errors import DeniedError
from mirrord.wire.forges.issues import IssueComment

BOT: Final = "github-actions[bot]"
"""Who writes with the token of a workflow of GitHub, which may not ask whose it is."""


class PullComments(Protocol):
    """The comments of pull requests, as `mirrord.wire.forges.issues.Issues` has them; errors as there."""

    async def login(self) -> str:
        """Return the login of the token's account."""

    def comments_of_pull(self, number: str) -> AsyncIterator[IssueComment]:
        """Yield the comments of a pull request, the oldest first."""

    async def comment_pull(self, number: str, body: str) -> None:
        """Write a comment."""

    async def revise_in_pull(self, comment: str, body: str) -> None:
        """Write a comment anew, by its identifier."""


async def _alone() -> None:
    pass


async def comment_once(
    pulls: PullComments,
    number: str,
    mark: str,
    body: str,
    bot: str = "",
    *,
    check: Callable[[], Awaitable[None]] = _alone,
) -> bool:
    """Write a text into a pull request, over ours of an earlier build; return whether it is a new comment.

    Args:
        pulls: of the repository.
        number: of the pull request.
        mark: first line of `body`. What others wrote with it is left alone.
        body: Markdown.
        bot: who it is where the token may not ask whose it is; "" if that is an error.
        check: is awaited before the text is sent; raises MirrordError where somebody else may have written by now.

    Raises:
        MirrordError: the forge refuses, or cannot be reached; or what `check` raises.
    """
    try:
        ours = await pulls.login()
    except DeniedError:
        if not bot:
            raise
        ours = bot
    async for one in pulls.comments_of_pull(number):
        if one.author == ours and one.id and one.body.startswith(mark):
            await check()
            await pulls.revise_in_pull(one.id, body)
            return False
    await check()
    await pulls.comment_pull(number, body)
    return True
