"""The third port: what a syncer may tell people before they find out by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from mirrord.syncer import Mirror
    from mirrord.wire.host import HostBook


@runtime_checkable
class Lints(Protocol):
    """A syncer that depends on programs of the machine."""

    async def remarks(self, mirrors: int) -> Sequence[str]:
        """Say what is wrong with them, a sentence each, to whoever has that many mirrors of this kind."""
        ...

    def unheeded(self, mirror: Mirror, book: HostBook) -> Sequence[str]:
        """Say which keys under `hosts:` those programs cannot heed for this mirror, a sentence each; no I/O."""
        ...
