"""Offered x held → steps with reasons: a table, and what must hold for every state of the world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.model.memory import NO_MEMORY, LastSeen, Memory
from mirrord.model.plan import Action, Item, Step
from mirrord.plan.differ import differ, names_to_ask
from mirrord.plan.moving import Evidence
from mirrord.plan.offer import Build, Held, Offer

NOW = datetime(2024, 5, 17, 12, tzinfo=UTC)
NEW, OLD = "sha256:new", "sha256:old"
DAY = 86400.0
TAG = Offer(Item("v1", NEW), ("v1",))
FIXED = Offer(Item("v1", NEW), ("v1",), stays=frozenset({"v1"}))
BUILD = Offer(Item("main-1", NEW), ("main-1", "main"), stays=frozenset({"main-1"}), build=Build())
BARE = Offer(Item(NEW, NEW), ())


def decide(offer: Offer, held: Mapping[str, str], memory: Memory = NO_MEMORY, **unasked: str) -> Step:
    """Decide about one offer at target `t`."""
    there = {("t", name): digest for name, digest in held.items()}
    (step,) = steps_of([offer], ["t"], there, memory, **unasked)
    return step


def steps_of(
    offers: Sequence[Offer], targets: Sequence[str], held: Held, memory: Memory = NO_MEMORY, **unasked: str
) -> list[Step]:
    return [*differ(offers, targets, Evidence(NOW, memory, held), trust=DAY, unasked=unasked)]


def known(offer: Offer, digest: str = NEW, **ago: float) -> Memory:
    return Memory({("t", offer.item.name): LastSeen(digest, NOW - timedelta(**ago))})


@pytest.mark.parametrize(
    ("offer", "held", "action", "reason"),
    [
        (TAG, {}, Action.COPY, "v1 not there"),
        (TAG, {"v1": NEW}, Action.KEEP, "already there"),
        (TAG, {"v1": OLD}, Action.COPY, f"moves v1 from {OLD}"),
        (
            FIXED,
            {"v1": OLD},
            Action.REFUSE,
            f"it is {OLD} there and never moves; rebuild under another commit, or delete the tag there",
        ),
        (FIXED, {"v1": NEW}, Action.KEEP, "already there"),
        (FIXED, {}, Action.COPY, "v1 not there"),
        (BUILD, {}, Action.COPY, "main-1, main not there"),
        (BUILD, {"main": OLD}, Action.COPY, f"main-1 not there; moves main from {OLD}"),
        (BUILD, {"main-1": NEW}, Action.COPY, "main not there"),
        (BUILD, {"main-1": NEW, "main": NEW}, Action.KEEP, "already there"),
        (BUILD, {"main-1": OLD, "main": NEW}, Action.REFUSE, f"it is {OLD} there and never moves"),
        (BARE, {}, Action.COPY, f"{NEW} not there"),
        (BARE, {NEW: NEW}, Action.KEEP, "already there"),
    ],
)
def test_without_memory(offer: Offer, held: dict[str, str], action: Action, reason: str) -> None:
    """What the target says decides, and the reason says what differs."""
    step = decide(offer, held)
    assert step.action is action
    assert step.reason.startswith(reason)
    assert step.confirmed is (action is Action.KEEP)
    assert (step.names, step.stays, step.digest) == (offer.names, offer.stays, NEW)


@pytest.mark.parametrize(
    ("offer", "memory", "action", "reason"),
    [
        (TAG, known(TAG, hours=2), Action.KEEP, "recorded there 2 h ago"),
        (TAG, known(TAG, minutes=2), Action.KEEP, "recorded there 2 min ago"),
        (TAG, known(TAG, seconds=2), Action.KEEP, "recorded there 2 s ago"),
        (TAG, known(TAG, days=2), Action.COPY, "v1 not there"),
        (TAG, known(TAG, OLD, hours=2), Action.COPY, "v1 not there"),
        (Offer(TAG.item, ("v1",), settled=True), known(TAG, days=900), Action.KEEP, "recorded there 900 d ago"),
        (Offer(TAG.item, ("v1",), settled=True), known(TAG, OLD, days=1), Action.COPY, "v1 not there"),
    ],
)
def test_memory(offer: Offer, memory: Memory, action: Action, reason: str) -> None:
    """A record of the same content is believed within the trust window, that of a settled item for ever."""
    step = decide(offer, {}, memory)
    assert (step.action, step.reason, step.confirmed) == (action, reason, False)


def test_what_is_asked() -> None:
    """Names are asked for where the record is too old or knows nothing of them, and a digest where there is no name."""

    def names(offer: Offer, memory: Memory) -> set[str]:
        return set(names_to_ask([offer], ["t"], memory, now=NOW, trust=DAY)["t"])

    assert names(TAG, NO_MEMORY) == names(TAG, known(TAG, days=2)) == {"v1"}
    assert names(TAG, known(TAG, hours=2)) == set()
    assert names(BARE, NO_MEMORY) == {NEW}
    assert names(BUILD, NO_MEMORY) == names(BUILD, known(BUILD, hours=2)) == {"main-1", "main"}


def test_a_target_that_cannot_be_asked() -> None:
    """What is not known is copied, and the reason says why it is not known; a fresh record is believed all the same."""
    step = decide(TAG, {}, t="connection refused")
    assert (step.action, step.reason) == (Action.COPY, "the target cannot be read: connection refused")
    assert decide(TAG, {}, known(TAG, hours=1), t="connection refused").action is Action.KEEP


def test_targets_share_a_group() -> None:
    """The steps of one item form one batch, in the order of offers and targets."""
    steps = steps_of([TAG, BUILD], ["a", "b"], {})
    assert [(step.item, step.target) for step in steps] == [("v1", "a"), ("v1", "b"), ("main-1", "a"), ("main-1", "b")]
    assert len({step.group for step in steps}) == 2


digests = st.sampled_from(["sha256:1", "sha256:2", "sha256:3"])
names = st.sampled_from(["a", "b", "c", "d"])
targets = st.sampled_from(["t", "u"])


@st.composite
def offered(draw: st.DrawFn) -> list[Offer]:
    """Items of one mirror: no two claim the same name, as the survey sees to."""
    free = draw(st.permutations(["a", "b", "c", "d"]))
    offers = []
    while len(free) >= 2 and draw(st.booleans()):
        taken, free = tuple(free[:2]), free[2:]
        own = taken[: draw(st.integers(1, 2))]
        stays = frozenset(own[: draw(st.integers(0, len(own)))])
        offers.append(Offer(Item(own[0], draw(digests)), own, stays, build=draw(st.sampled_from([None, Build()]))))
    return offers


@given(
    offered(),
    st.dictionaries(st.tuples(targets, names), digests),
    st.dictionaries(st.tuples(targets, names), st.builds(LastSeen, digests, st.just(NOW - timedelta(days=9)))),
)
def test_doing_the_steps_reaches_the_state_and_then_nothing_is_left(
    offers: list[Offer], held: Held, memory: dict[tuple[str, str], LastSeen]
) -> None:
    """After all copies every name stands for the offered content, unless refused or left alone; again nothing is done.

    A lost record changes nothing about that, except for names that were left alone because of what it said.
    """
    steps = steps_of(offers, ["t", "u"], held, Memory(memory))
    assert len(steps) == 2 * len(offers)
    after = dict(held)
    for step in steps:
        if step.action is Action.COPY:
            after |= {(step.target, name): step.digest for name in step.names}
        elif step.action is Action.REFUSE:
            assert any(held.get((step.target, name)) not in (None, step.digest) for name in step.stays)
    for told in (Memory(memory), NO_MEMORY):
        again = steps_of(offers, ["t", "u"], after, told)
        for before, step in zip(steps, again, strict=True):
            if before.action is Action.COPY and (told or not before.left):
                assert step.action is Action.KEEP
            if before.action is Action.REFUSE:
                assert step.action is Action.REFUSE


@given(offered(), st.dictionaries(st.tuples(targets, names), digests))
def test_names_that_stay_are_never_moved(offers: list[Offer], held: Held) -> None:
    """No copy is ever planned over a name that stays and has other content."""
    for step in steps_of(offers, ["t", "u"], held):
        if step.action is Action.COPY:
            assert all(held.get((step.target, name)) in (None, step.digest) for name in step.stays)
