"""Versions that are wrong upstream: for how long they are left alone, and what is remembered of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Final

from mirrord.errors import ContentError, DigestError, MirrordError, RefusedError, UntrustedError
from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import PROVENANCE
from mirrord.syncers.helm.plan.choice import VersionChoice

FIRST: Final = timedelta(hours=1)
LONGEST: Final = timedelta(hours=24)
"""For how long a version is left alone: after the first time, and at most; each time twice as long as before."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something of a version that could not be had: its archive, or its provenance."""

    # by what it was asked for; when upstream's entry, or what the operator accepts, is another one by now, it is asked
    # for at once
    entry: str
    code: str  # `MirrordError.code` of what was wrong
    said: str  # one sentence, with the version in front
    tries: int  # how often it was so in a row
    until: datetime  # when it will be asked for again

    @property
    def open(self) -> bool:
        """Whether the operator has to decide: the digest differs from the index, which may be intended."""
        return self.code == DigestError.code

    def meant(self, choice: VersionChoice) -> bool:
        """Whether it is still about what is wanted."""
        return self.entry == entry_of(choice)

    def waits(self, choice: VersionChoice, now: datetime) -> bool:
        """Whether it is about what is wanted, and not to be asked for yet."""
        return self.meant(choice) and now < self.until

    def written(self) -> str:
        """Return it as text for a note."""
        return json.dumps({**asdict(self), "until": self.until.isoformat()}, sort_keys=True)

    @classmethod
    def read(cls, text: str) -> Trouble | None:
        """Read what `written` wrote; None when it is something else."""
        try:
            fields = json.loads(text)
            return cls(**{**fields, "until": datetime.fromisoformat(fields["until"])})
        except (ValueError, TypeError, KeyError):
            return None


Troubles = Mapping[str, Trouble]
"""By item, or by item and `.prov` for its provenance."""


def provenance_of(item: str) -> str:
    """Return what the trouble with a version's provenance is called."""
    return f"{item}{PROVENANCE}"


def entry_of(choice: VersionChoice) -> str:
    """Return what an archive is asked for by, in short: where it is, and which digests it may have."""
    asked = " ".join([*choice.chart.urls[:1], *sorted(choice.digests)])
    return Digest.of(asked.encode()).hex[:16]


def wrong_upstream(error: MirrordError) -> bool:
    """Whether an error of a source is about what upstream has, and not about the connection.

    What is refused with 401 may be the operator's to mend: credentials are missing. 403 is how many object stores say
    that there is no such file.
    """
    return isinstance(error, ContentError | UntrustedError) or (isinstance(error, RefusedError) and error.status != 401)


def sentence(choice: VersionChoice, error: MirrordError) -> str:
    """Say what is wrong with a version, and how the operator decides about bytes that are not what the index says."""
    chart = choice.chart
    if not isinstance(error, DigestError):
        return f"{chart.item}: {str(error).removeprefix(f'{chart.item}: ')}"
    listed = " or ".join(f"{digest[:19]}…" for digest in sorted(choice.digests)) or "what its manifest says"
    accept = f'`accept: {{{chart.name}: {{{chart.version}: "{error.found or "sha256:…"}"}}}}`'
    skip = f'`skip: {{{chart.name}: ["{chart.version}"]}}`'
    return (
        f"{chart.item}: its bytes are not {listed} as the index says; take them by {accept}, or leave it out by {skip}"
    )


def again(before: Trouble | None, choice: VersionChoice, error: MirrordError, said: str, now: datetime) -> Trouble:
    """Return the trouble that an error makes of the one before it."""
    entry = entry_of(choice)
    tries = before.tries + 1 if before is not None and before.entry == entry else 1
    wait = min(LONGEST, FIRST * 2 ** min(tries - 1, 10))
    return Trouble(entry, error.code, said, tries, now + wait)
