"""What is to be done: items, steps, and all steps of one mirror as a plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from mirrord.model.memory import NamedBuild


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be mirrored: an image tag, a chart version, a Git ref."""

    name: str  # its name; unique in its mirror
    digest: str  # identity of its content, opaque outside its syncer
    size: int | None = None  # bytes to move when nothing of it is at the target, or None when unknown


class Action(StrEnum):
    """What a step does to its target."""

    COPY = "copy"  # content is not known to be there, or the name points elsewhere
    KEEP = "keep"  # nothing to do; listed so that a plan explains itself
    REFUSE = "refuse"  # must not be done; `reason` has the cause
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One decision about one item at one target."""

    action: Action
    item: str  # the item's name
    digest: str  # the content the target shall have
    target: str  # the target's name in the configuration
    names: tuple[str, ...]  # tags, versions or refs of the content at the target, in publishing order
    reason: str  # one sentence, for people
    size: int | None = None  # bytes that may have to be sent, or None when unknown before the transfer
    group: str = ""  # steps of one group are handed to the syncer together (one read, many writes)
    stays: frozenset[str] = frozenset()  # those of `names` that never move to other content
    named: tuple[NamedBuild, ...] = ()  # what is remembered of names when the step succeeds
    left: tuple[str, ...] = ()  # one sentence for each name that was asked for and is left as it is
    unless_newer: bool = False  # names that move are left alone where they stand for something newer
    confirmed: bool = False  # the target confirmed for this plan that it has the content under all names
    passing: bool = False  # what is there is asked anew each time, so there is nothing to remember of it
    count: int = 1  # how many items it stands for

    @property
    def active(self) -> bool:
        """Whether there is something to do."""
        return self.action in (Action.COPY, Action.DELETE)


@dataclass(frozen=True)
class Plan:
    """All decisions about one mirror, made at one moment."""

    mirror: str
    kind: str
    at: datetime  # when it was decided
    steps: tuple[Step, ...] = ()  # in the order in which they are started
    # what was left out because it is wrong upstream, one sentence each. Problems are counted and reported, and do not
    # change the result of a run.
    problems: tuple[str, ...] = ()
    # what the configuration names and the source does not have, or cannot be asked for, one sentence each: a run with
    # missing items is not a success
    missing: tuple[str, ...] = ()
    # other notes: what was corrected, what differs upstream and was not changed
    remarks: tuple[str, ...] = ()
    error: str = ""  # why nothing could be decided (the source as a whole cannot be read…), or ""
    code: str = ""  # `MirrordError.code` of that, or ""
    # what the kind decided besides, for its own `open`; opaque to everybody else, and never written down
    decisions: Any = field(default=None, compare=False, repr=False)

    @cached_property
    def active(self) -> tuple[Step, ...]:
        """The steps that do something; found once."""
        return tuple(step for step in self.steps if step.active)

    @property
    def groups(self) -> tuple[tuple[Step, ...], ...]:
        """The active steps, batched by `Step.group`, in order of first appearance."""
        batches: dict[str, list[Step]] = {}
        for step in self.active:
            batches.setdefault(step.group or f"{step.item}\n{step.digest}", []).append(step)
        return tuple(tuple(batch) for batch in batches.values())
