"""Items, steps, and all steps of one mirror as a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from mirrord.errors import ContentError
from mirrord.model.memory import NamedBuild


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be mirrored: an image tag, a chart version, a Git ref."""

    name: str  # its name; unique in its mirror
    digest: str  # digest of its content, opaque outside its syncer
    size: int | None = None  # bytes to move to an empty target, or None if unknown


class Action(StrEnum):
    """What a step does to its target."""

    COPY = "copy"  # the content is missing or unknown there, or the name points elsewhere
    KEEP = "keep"  # nothing to do; listed with the reason
    REFUSE = "refuse"  # must not be done; `reason` has the cause
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One decision about one item at one target."""

    action: Action
    item: str  # the item's name
    digest: str  # the content to write
    target: str  # the target's name in the configuration
    names: tuple[str, ...]  # tags, versions or refs of the content at the target, in publishing order
    reason: str  # one sentence
    size: int | None = None  # bytes that may have to be sent, or None when unknown before the transfer
    group: str = ""  # steps of one group are executed together (one read, many writes)
    stays: frozenset[str] = frozenset()  # those of `names` that never move to other content
    named: tuple[NamedBuild, ...] = ()  # what is remembered of names when the step succeeds
    left: tuple[str, ...] = ()  # one sentence for each requested name that is left alone
    unless_newer: bool = False  # moving names are left alone where they point to a newer build
    confirmed: bool = False  # the target confirmed for this plan that it has the content under all names
    passing: bool = False  # asked again in each run, so not recorded
    count: int = 1  # number of items that it represents; 0 for what is none itself, such as an index
    source: str = ""  # the host that it is read from, in a plan of several: none waits for a slow other one
    code: str = ""  # of a refused step: `MirrordError.code` of the cause, "" for `refused`
    whole: bool = False  # stands for all that the target has; sentences about it do not name `item`
    signer: str = ""  # as `LastSeen.signer`
    origin: str = ""  # as `LastSeen.origin`

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.action in (Action.COPY, Action.DELETE)


@dataclass(frozen=True, slots=True)
class TagVerdict:
    """Whether a tag of the source is mirrored."""

    tag: str
    chosen: bool
    why: str  # one clause, which begins with `chosen` or `left out`


@dataclass(frozen=True)
class Plan:
    """All decisions about one mirror at one time."""

    mirror: str
    kind: str
    at: datetime  # time of the decision
    steps: tuple[Step, ...] = ()  # in starting order
    # what was left out because it is wrong upstream, one sentence each. Problems are counted and reported, and do not
    # change the result of a run.
    problems: tuple[str, ...] = ()
    # what the configuration names and the source does not have, or cannot be asked for, one sentence each: a run with
    # missing items is not a success
    missing: tuple[str, ...] = ()
    # other notes: what was corrected, what differs upstream and was not changed
    remarks: tuple[str, ...] = ()
    # of each tag of the source whether it is mirrored, if that was asked for (`mirrord plan --explain`)
    verdicts: tuple[TagVerdict, ...] = ()
    denied: bool = False  # whether something of the source is left out since it was taken down
    error: str = ""  # why planning failed (the source cannot be read…), or ""
    code: str = ""  # `MirrordError.code` of `error`, or without one of the first of `missing`; "" there: `content`
    # further decisions of the kind for its own `open`; opaque to others and never stored
    decisions: Any = field(default=None, compare=False, repr=False)

    @cached_property
    def active(self) -> tuple[Step, ...]:
        """The active steps, computed once."""
        return tuple(step for step in self.steps if step.active)

    @property
    def first_missing(self) -> str:
        """The first thing that is missing and the number of others: the error of a run without another one; or ""."""
        more = len(self.missing) - 1
        return self.missing[0] + (f"; and {more} more missing" if more else "") if self.missing else ""

    @property
    def missing_code(self) -> str:
        """The error code of what is missing."""
        return self.code or ContentError.code

    @property
    def groups(self) -> tuple[tuple[Step, ...], ...]:
        """The active steps, batched by `Step.group`, in order of first appearance."""
        batches: dict[str, list[Step]] = {}
        for step in self.active:
            batches.setdefault(step.group or f"{step.item}\n{step.digest}", []).append(step)
        return tuple(tuple(batch) for batch in batches.values())
