"""The guard: an accident at upstream stops, a day's work does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mirrord.model.plan import Action
from mirrord.syncer.values import Mirror, Target
from mirrord.syncers.git.plan.survey import GitSurvey, questions
from mirrord.syncers.git.spec import GitSpec, GitTarget
from mirrord.wire.git.refs import Refs, Relation
from tests.support import gitplan
from tests.support.gitplan import accident, plan

FORWARD, REWRITTEN, UNKNOWN = Relation.FORWARD, Relation.REWRITTEN, Relation.UNKNOWN


def oid(word: str) -> str:
    """Return an object id that begins with `word`, written in hex digits."""
    return word.encode().hex().ljust(40, "0")[:40]


def refs(head: str | None = "main", **names: str) -> Refs:
    """Return branches (`main="a"`) and tags (`tag_v1="a"`); HEAD points to `head`."""
    full = {_full(name): oid(word) for name, word in names.items()}
    return Refs(full, f"refs/heads/{head}" if head else None)


def _full(name: str) -> str:
    tag = name.startswith("tag_")
    return f"refs/tags/{name[4:]}" if tag else f"refs/heads/{name}"


def mirror(*, allow: bool = False, **keys: Any) -> Mirror:
    spec = GitSpec.model_validate({"from": "https://github.com/gocrane/crane", **keys})
    targets = (Target("gitee", "git", "https://gitee.com/finops/{name}", GitTarget()),)
    return Mirror("crane", "git", spec, targets, allow=allow)


def went(*ways: tuple[str, str, Relation]) -> Mapping[tuple[str, str], Relation]:
    return {(oid(old), oid(new)): relation for old, new, relation in ways}


def survey(served: Refs | None, upstream: Refs, *ways: tuple[str, str, Relation], **rest: Any) -> GitSurvey:
    return gitplan.found(
        upstream, served, targets={"gitee": served}, relations=went(*ways), known=frozenset({"gitee"}), **rest
    )


MANY = {f"b{number}": f"b{number}" for number in range(10)}


@pytest.mark.parametrize(
    ("served", "upstream", "ways"),
    [
        (refs(main="a"), refs(main="a"), []),
        (refs(main="a"), refs(main="b"), [("a", "b", FORWARD)]),
        (refs(main="a"), refs(main="a", x="c", tag_v1="a"), []),
        (refs(main="a", x="b"), refs(main="a"), [("b", "a", REWRITTEN)]),
        (refs(main="a", x="b"), refs(main="a", x="c"), [("b", "c", REWRITTEN)]),
        (refs(main="a", tag_v1="a"), refs(main="a"), []),
        (refs(main="a", **MANY), refs(main="z"), [("a", "z", FORWARD), *((b, "z", FORWARD) for b in MANY)]),
        (refs("master", master="a"), refs("main", main="b"), [("a", "b", FORWARD)]),
        (refs("master", master="a"), refs("main", main="a"), []),
        (refs("gone", main="a"), refs(main="a"), []),
        (refs(None, main="a", x="b"), refs(None, main="a", x="c"), [("b", "c", REWRITTEN)]),
        (refs(main="a", tag_latest="a"), refs(main="b", tag_latest="b"), [("a", "b", FORWARD)]),
        (Refs({}), refs(main="a"), []),
        (None, refs(main="a"), []),
    ],
    ids=[
        "same", "forward", "created", "one-deleted", "one-forced", "tag-deleted", "merged-branches-tidied",
        "default-renamed-and-grown", "default-renamed", "head-was-dangling", "no-head", "tag-moves-along", "was-empty",
        "no-cache",
    ],
)  # fmt: skip
def test_a_days_work(served: Refs | None, upstream: Refs, ways: list[tuple[str, str, Relation]]) -> None:
    """What people do to a repository every day passes."""
    assert accident(mirror(), survey(served, upstream, *ways)) == ""


@pytest.mark.parametrize(
    ("served", "upstream", "ways", "told"),
    [
        (refs(main="a", x="b"), Refs({}, None), [], "upstream is empty; it had 2 branches and tags"),
        (refs(main="a"), Refs({}, "refs/heads/main"), [], "upstream is empty; it had 1 branch or tag"),
        (
            refs(main="a", x="b"),
            refs(main="c", x="d"),
            [("a", "c", REWRITTEN), ("b", "d", UNKNOWN)],
            "upstream was replaced: none of its 2 branches goes on",
        ),
        (refs(main="a", x="b"), refs(main="c"), [("a", "c", REWRITTEN), ("b", "c", REWRITTEN)], "was replaced"),
        (
            refs(main="a", x="b"),
            refs(main="c", x="b"),
            [("a", "c", REWRITTEN)],
            "default branch main was rewritten: 6300000 does not contain 6100000",
        ),
        (refs(main="a"), refs(main="c"), [("a", "c", REWRITTEN)], "default branch main was rewritten"),
        (refs(main="a"), refs(main="c"), [], "default branch main was rewritten"),
        (
            refs("master", master="a", x="b"),
            refs("main", main="c", x="b"),
            [("a", "c", REWRITTEN)],
            "default branch master is gone, and main does not contain it",
        ),
        (
            refs("master", master="a", x="b"),
            refs(None, x="b"),
            [],
            "default branch master is gone, and there is no other",
        ),
        (
            refs(main="a", **MANY),
            refs(main="a"),
            [(b, "a", REWRITTEN) for b in MANY],
            "lost 10 of 11 branches and tags (b0, b1, b2 and 7 more), more than max_loss of 20% allows",
        ),
        (
            refs(main="a", x="b", y="c"),
            refs(main="a", y="d"),
            [("b", "a", REWRITTEN), ("c", "d", REWRITTEN)],
            "lost 1 and rewrote 1 of 3 branches and tags (x, y)",
        ),
        (refs(main="a", tag_v1="a", tag_v2="a"), refs(main="a"), [], "lost 2 of 3 branches and tags (tags/v1, tags/"),
        (
            refs(main="a", tag_v1="a", tag_v2="b"),
            refs(main="a", tag_v1="c", tag_v2="c"),
            [("a", "c", REWRITTEN)],
            "rewrote 2 of 3",
        ),
    ],
    ids=[
        "emptied", "emptied-unborn", "63-replaced", "63-replaced-by-one-branch", "default-rewritten",
        "only-branch-rewritten", "nothing-known-of-ancestry", "default-gone", "default-gone-and-no-other",
        "branches-lost", "two-of-three", "tags-lost", "tags-moved",
    ],
)  # fmt: skip
def test_accidents(served: Refs, upstream: Refs, ways: list[tuple[str, str, Relation]], told: str) -> None:
    """What would wipe or replace a mirror is named, with numbers."""
    assert told in accident(mirror(rewrites="block"), survey(served, upstream, *ways))


def test_a_forced_default_branch_is_followed_unless_it_begins_another_history() -> None:
    """A force push to the default branch is mirrored as it is; an unrelated history under its name is an accident."""
    assert accident(mirror(), survey(refs(main="a"), refs(main="c"), ("a", "c", REWRITTEN))) == ""
    told = accident(mirror(), survey(refs(main="a"), refs(main="c"), ("a", "c", Relation.UNRELATED)))
    assert "default branch main was replaced: 6300000 has no history in common with 6100000" in told


@pytest.mark.parametrize(
    ("lost", "max_loss", "blocked"), [(2, 0.2, False), (3, 0.2, True), (1, 0, True), (9, 1, False)]
)
def test_the_share(lost: int, max_loss: float, blocked: bool) -> None:
    """More than `max_loss` is an accident, exactly that much is not; with 0 nothing may be lost."""
    served = refs(main="a", **dict(list(MANY.items())[:9]))
    upstream = refs(main="a", **dict(list(MANY.items())[lost:9]))
    assert bool(accident(mirror(max_loss=max_loss), survey(served, upstream))) is blocked


def test_a_small_repository_may_lose_one() -> None:
    """One of two branches is half, and is let pass all the same, unless `max_loss` is 0."""
    found = survey(refs(main="a", x="b"), refs(main="a"))
    assert accident(mirror(max_loss=0.01), found) == ""
    assert accident(mirror(max_loss=0), found)


def test_rewrites_can_be_followed() -> None:
    """`rewrites: follow` lets the default branch be rewritten; a whole other repository still is an accident."""
    one = survey(refs(main="a", x="b"), refs(main="c", x="b"), ("a", "c", REWRITTEN))
    assert accident(mirror(rewrites="follow"), one) == ""
    only = survey(refs(main="a"), refs(main="c"), ("a", "c", REWRITTEN))
    assert accident(mirror(rewrites="follow"), only) == ""
    other = survey(refs(main="a", x="b"), refs(main="c", x="d"))
    assert "replaced" in accident(mirror(rewrites="follow"), other)


def test_the_operators_own_doing_is_no_accident() -> None:
    """What `refs:` takes out does not count as lost, and going back to a restored branch not as rewritten."""
    narrowed = survey(refs(main="a", **MANY), refs(main="a", **MANY))
    assert accident(mirror(refs=["refs/heads/main"]), narrowed) == ""
    restored = survey(refs(main="b"), refs(main="b"), held_back={"refs/heads/main": oid("a")})
    assert accident(mirror(max_loss=0), restored) == ""
    one = mirror(refs=["refs/heads/x"], max_loss=0)
    without_default = survey(refs(main="a", x="b"), refs(main="a", x="b"))
    assert accident(one, without_default) == ""
    at_once = survey(refs(main="a", x="b"), refs(main="c", x="d"), ("a", "c", FORWARD), ("b", "d", FORWARD))
    assert {(oid("a"), oid("c")), (oid("b"), oid("d"))} <= set(questions(gitplan.chosen(one, at_once)))
    assert accident(one, at_once) == ""
    lost = survey(refs(main="a", x="b"), refs(x="b"))
    assert "default branch main is gone" in accident(one, lost)
    nothing = survey(refs(main="a"), refs(main="a"))
    assert "selects none" in accident(mirror(refs=["refs/heads/other"]), nothing)


def test_first_is_no_baseline() -> None:
    """Before the first accepted run there is nothing that upstream could have lost; without a record there still is."""
    for nothing in (None, Refs({})):
        assert accident(mirror(), survey(nothing, Refs({}), blind=True)) == ""
    assert "upstream is empty" in accident(mirror(), survey(refs(main="a"), Refs({}), blind=True))


def test_blocked() -> None:
    """A guard that speaks stops everything: one refusal a target, with its reason and the way on; `allow` goes on."""
    found = survey(refs(main="a", x="b"), Refs({}))
    (step,) = plan(mirror(), found).steps
    assert (step.action, step.target, step.item, step.whole) == (Action.REFUSE, "gitee", "refs", True)
    assert step.code == "guard"
    assert step.reason.endswith("if this is intended, run `mirrord sync crane --allow`")
    steps = plan(mirror(allow=True), found).steps
    assert [step.action for step in steps] == [Action.DELETE, Action.DELETE]


def test_what_has_to_be_asked() -> None:
    """Only changed refs are asked about, each pair once; a ref that goes is compared with the new default branch."""
    found = survey(refs(main="a", x="b", y="c", tag_v="a"), refs(main="d", y="c", tag_v="e"))
    pairs = [("a", "d"), ("b", "d"), ("a", "e")]
    assert questions(found) == tuple((oid(old), oid(new)) for old, new in pairs)
    assert questions(survey(refs(main="a"), refs(main="a"))) == ()
    assert questions(survey(refs(main="a"), Refs({}))) == ()
