"""How the repositories stand in whose issues people ask for images. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mirrord.report.moments import At


@dataclass(frozen=True, slots=True)
class IssueDeskStatus:
    """A repository in whose issues people ask.

    Attributes:
        name: `github/OWNER/NAME`; of other hosts than the known ones `gitea/HOST/OWNER/NAME`.
        open: issues that ask for an image and are not over, as far as they were seen.
        answered: issues that were answered and closed since the configuration was read.
        last_look: when all open issues were last looked at, in one look or in several, or null.
        failing_since: since when the forge cannot be asked, or null.
        last_error: why; empty while all is well.
    """

    name: str
    open: int = 0
    answered: int = 0
    last_look: At | None = None
    failing_since: At | None = None
    last_error: str = ""
