"""Chat services that answer 200 to everything, and have a code in the body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mirrord.errors import DeniedError, RefusedError, ServerError, ThrottledError
from mirrord.wire.notify.port import HookAnswer


@dataclass(frozen=True, slots=True)
class BodyCodes:
    """What the codes of a service mean; 0 is success, and other codes than these are refusals.

    Attributes:
        keys: names of the code in the body; the first one that is there counts.
        fixes: what to do about codes that somebody has to mend.
        otherwise: what to do about other codes.
        waits: seconds to wait after codes of a limit; None where the service names none.
        down: codes of a service that fails itself.
    """

    keys: tuple[str, ...]
    fixes: Mapping[int, str]
    otherwise: str
    waits: Mapping[int, float | None]
    down: frozenset[int] = frozenset()

    def judge(self, answer: HookAnswer, now: float) -> None:
        """Look at status and code; see `Service.judge`."""
        if answer.status == 429 or answer.status >= 500:
            raise answer.error(f"answered {answer.quoted}", now=now)
        document, text = answer.document(), f"{answer.host}: answered {answer.quoted}"
        code = next((document[key] for key in self.keys if key in document), None)
        if type(code) is not int:  # `false` is no success
            raise RefusedError(f"{text}; {self.otherwise}")
        if code in self.waits:
            raise ThrottledError(text, self.waits[code])
        if code in self.down:
            raise ServerError(text)
        if code in self.fixes:
            raise DeniedError(f"{text}; {self.fixes[code]}")
        if code:
            raise RefusedError(f"{text}; {self.otherwise}")
