"""Every ref at every target gets its step and its reason, before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from mirrord.model.plan import Action, Plan
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.syncers.git.plan.lost_objects import LostObject, lost_objects
from mirrord.syncers.git.plan.steps import DEFAULT_BRANCH
from mirrord.syncers.git.plan.survey import GitSurvey, questions, strangers
from mirrord.syncers.git.spec import GitSpec, GitTarget
from mirrord.wire.git.refs import Refs, Relation
from tests.support import gitplan
from tests.support.gitplan import chosen, plan

FORWARD, REWRITTEN, UNKNOWN = Relation.FORWARD, Relation.REWRITTEN, Relation.UNKNOWN
PLACES = {
    "gitee": "https://gitee.com/finops/{name}",
    "coding": "https://e.coding.net/finops/gocrane/{name}",
    "cnb": "https://cnb.cool/finops/{name}",
    "bare": "https://git.example.com/{name}.git",
    LOCAL: LOCAL,
}


def oid(word: str) -> str:
    return word.encode().hex().ljust(40, "0")[:40]


def refs(head: str | None = "main", **names: str) -> Refs:
    """Return branches (`main="a"`) and tags (`tag_v1="a"`); HEAD points to `head`."""
    full = {
        f"refs/tags/{name[4:]}" if name.startswith("tag_") else f"refs/heads/{name}": oid(word)
        for name, word in names.items()
    }
    return Refs(full, f"refs/heads/{head}" if head else None)


def mirror(*targets: str, options: Mapping[str, Any] | None = None, allow: bool = False, **keys: Any) -> Mirror:
    spec = GitSpec.model_validate({"from": "https://github.com/gocrane/crane", **keys})
    made = GitTarget.model_validate(options or {})
    names = targets or ("gitee",)
    return Mirror("crane", "git", spec, tuple(Target(name, "git", PLACES[name], made) for name in names), allow=allow)


def survey(upstream: Refs, served: Refs | None = None, *ways: tuple[str, str, Relation], **rest: Any) -> GitSurvey:
    relations = {(oid(old), oid(new)): relation for old, new, relation in ways}
    return gitplan.found(upstream, served, relations=relations, **{"known": frozenset(PLACES), **rest})


def told(decided: Plan, target: str = "gitee") -> list[tuple[str, str, str]]:
    """Return action, item and reason of every step at a target."""
    return [(step.action.value, step.item, step.reason) for step in decided.steps if step.target == target]


def test_nothing_to_do() -> None:
    """A target that has everything is one confirmed step; so is the local store."""
    state = refs(main="a", tag_v1="b")
    found = survey(state, state, targets={"gitee": state})
    decided = plan(mirror("gitee", LOCAL), found)
    assert told(decided) == told(decided, LOCAL) == [("keep", "refs", "2 refs are as upstream")]
    assert {(step.digest, step.confirmed, step.count) for step in decided.steps} == {(state.fingerprint, True, 2)}
    assert decided.groups == ()


def test_changes() -> None:
    """Created, forwarded, forced, moved and deleted refs are told apart, with what is kept and what stays the same."""
    before = refs(main="a", x="b", gone="c", same="s", tag_v1="d")
    after = refs(main="e", x="f", new="g", same="s", tag_v1="h")
    ways = [("a", "e", FORWARD), ("b", "f", REWRITTEN), ("c", "e", REWRITTEN), ("d", "h", FORWARD)]
    decided = plan(mirror(max_loss=1), survey(after, before, *ways, targets={"gitee": before}))
    assert told(decided) == [
        ("copy", "refs/heads/main", "fast-forward from 6100000"),
        ("copy", "refs/heads/new", "created"),
        ("copy", "refs/heads/x", "forced: 6200000 is overwritten, kept as backup"),
        ("copy", "refs/tags/v1", "moved: 6400000 is overwritten, kept as backup"),
        ("delete", "refs/heads/gone", "no longer upstream: 6300000 is deleted, kept as backup"),
        ("keep", "refs", "1 ref is as upstream"),
    ]
    assert {step.group for step in decided.active} == {"push"}
    assert [step.digest for step in decided.active][:2] == [oid("e"), oid("g")]
    assert not decided.steps[-1].confirmed


def test_first_mirror() -> None:
    """An empty target and a missing one get everything; the missing repository is made as the target says."""
    found = survey(refs(main="a"), None, targets={"gitee": Refs({}), "coding": None}, known=frozenset())
    decided = plan(mirror("gitee", "coding", LOCAL, options={"visibility": "public"}), found)
    assert told(decided) == [
        ("copy", "refs/heads/main", "created"),
        ("copy", "HEAD", "the default branch becomes main"),
    ]
    assert told(decided, "coding")[0][2] == "created, and so is the public repository"
    assert told(decided, LOCAL) == told(decided)


def test_drift_heals() -> None:
    """What somebody did at a target is undone, whatever it is, and says what is lost by that."""
    state = refs(main="a", y="b")
    there = refs(main="stranger", y="old", extra="b", other="known")
    ways = [("old", "b", FORWARD), ("known", "a", REWRITTEN)]
    found = survey(state, state, *ways, targets={"gitee": there}, lacking={oid("stranger")})
    assert strangers(found) == {oid("stranger"), oid("old"), oid("known")}
    assert told(plan(mirror(), found)) == [
        ("copy", "refs/heads/main", "forced: 7374726 is overwritten, once it is fetched from there and kept as backup"),
        ("copy", "refs/heads/y", "fast-forward from 6f6c640"),
        ("delete", "refs/heads/extra", "not upstream: 6200000 is deleted, kept as backup"),
        ("delete", "refs/heads/other", "not upstream: 6b6e6f7 is deleted, kept as backup"),
    ]
    assert [reason for _, _, reason in told(plan(mirror(backups="0s"), found))] == [
        "forced: 7374726 is overwritten, and is lost: `backups: 0s` keeps nothing",
        "fast-forward from 6f6c640",
        "not upstream: 6200000 is deleted",
        "not upstream: 6b6e6f7 is deleted",
    ]


def test_losses_are_what_is_said() -> None:
    """What is lost here and at targets is told, all objects of one ref, and which of them only a target has."""
    served, after = refs(main="a", x="b", tag_v="t"), refs(main="c", x="d", tag_v="u")
    there = refs(main="a", x="z", old="k", lost="l")
    ways = [
        ("a", "c", FORWARD),
        ("b", "d", REWRITTEN),
        ("z", "d", REWRITTEN),
        ("k", "c", REWRITTEN),
        ("t", "u", FORWARD),
    ]
    found = survey(after, served, *ways, targets={"gitee": there, "coding": None}, lacking={oid("l")})
    here = [
        LostObject("refs/heads/x", oid("b"), "overwritten", "overwritten by upstream, by force", (), absent=False),
        LostObject("refs/tags/v", oid("t"), "overwritten", "overwritten by upstream", (), absent=False),
    ]
    away = [
        LostObject("refs/heads/x", oid("z"), "overwritten", "", ("gitee",), absent=False),
        LostObject("refs/heads/old", oid("k"), "deleted", "", ("gitee",), absent=False),
        LostObject("refs/heads/lost", oid("l"), "deleted", "", ("gitee",), absent=True),
    ]
    assert list(lost_objects(mirror(), found)) == here + away
    assert list(lost_objects(mirror(), found, frozenset({"gitee"}))) == here


def test_fates() -> None:
    """Of each loss it is told what became of the ref, and where: upstream, here, or at which targets."""
    served = refs(main="a", x="b", gone="g", out="o", held="h", tag_v="t")
    upstream = refs(main="a", x="d", y="y", out="o", held="n", tag_v="u")
    there, elsewhere = refs(main="a", y="k", lost="l"), refs(main="a", y="k")
    places = {"gitee": there, "coding": elsewhere, "cnb": None}
    back = {"refs/heads/held": oid("r")}
    found = survey(upstream, served, targets=places, held_back=back)
    narrowed = mirror("gitee", "coding", "cnb", refs=["refs/heads/*", "refs/tags/*", "^refs/heads/out"])
    done = ("gitee", "coding")
    assert {one.ref: one.outcome(done) for one in lost_objects(narrowed, chosen(narrowed, found))} == {
        "refs/heads/x": "overwritten by upstream, by force",
        "refs/heads/gone": "deleted by upstream",
        "refs/heads/out": "no longer selected by `refs:`",
        "refs/heads/held": "overwritten by what was brought back",
        "refs/tags/v": "overwritten by upstream",
        "refs/heads/y": "overwritten at gitee, coding",
        "refs/heads/lost": "deleted at gitee",
    }
    (y,) = (one for one in lost_objects(narrowed, chosen(narrowed, found)) if one.ref == "refs/heads/y")
    assert y.outcome() == "was to be overwritten at gitee, coding"
    assert y.outcome(()) == "was to be overwritten at gitee, coding, which failed"
    assert y.outcome(("coding",)) == "overwritten at coding; not at gitee"


@pytest.mark.parametrize("allow", [False, True])
def test_a_strangers_repository_is_not_overwritten(allow: bool) -> None:
    """A target that was never written and has nothing in common with upstream is refused, this one alone."""
    there = refs(main="x", tag_v1="y")
    found = survey(refs(main="a"), None, targets={"gitee": there, "coding": Refs({})}, known=frozenset())
    decided = plan(mirror("gitee", "coding", allow=allow), found)
    actions = [step.action for step in decided.steps if step.target == "gitee"]
    if allow:
        assert actions == [Action.COPY, Action.DELETE]
    else:
        (step,) = [step for step in decided.steps if step.target == "gitee"]
        assert "the target has 2 refs and no commit of upstream: it may be another repository" in step.reason
        assert step.reason.endswith("`mirrord sync crane --allow`")
        assert (step.action, step.code) == (Action.REFUSE, "guard")
    assert told(decided, "coding")[0][:2] == ("copy", "refs/heads/main")


@pytest.mark.parametrize(
    ("there", "ways"),
    [
        (refs(main="a"), []),
        (refs(main="old"), [("old", "a", FORWARD)]),
        (refs(main="old", stray="x"), [("old", "a", FORWARD)]),
        (refs(None, other="a", main="old"), [("old", "a", FORWARD)]),
    ],
)
def test_a_lost_cache_is_no_accident(there: Refs, ways: list[tuple[str, str, Relation]]) -> None:
    """Without a cache and without a record, targets at upstream's history are gone on with."""
    decided = plan(mirror(), survey(refs(main="a"), None, *ways, targets={"gitee": there}, known=frozenset()))
    assert Action.REFUSE not in {step.action for step in decided.steps}


def test_without_a_cache_the_target_is_the_witness() -> None:
    """Upstream lost half of what a target has, and nobody knows better: that target is refused."""
    there = refs(main="a", **{f"b{number}": f"b{number}" for number in range(9)})
    found = survey(refs(main="a"), None, targets={"gitee": there})
    assert "compared with what is there, upstream lost 9 of 10" in plan(mirror(), found).steps[0].reason
    empty = survey(Refs({}), None, targets={"gitee": there})
    assert "10 refs there would be deleted" in plan(mirror(), empty).steps[0].reason


@pytest.mark.parametrize(
    ("options", "target", "told_"),
    [
        ({"create": False}, "gitee", "write `create: true`"),
        ({}, "bare", "a plain host cannot be asked to make one"),
    ],
)
def test_missing_repositories(options: dict[str, Any], target: str, told_: str) -> None:
    """A repository that is not there and cannot be made is refused with what to do."""
    (step,) = plan(mirror(target, options=options), survey(refs(main="a"), targets={target: None})).steps
    assert (step.action, told_ in step.reason) == (Action.REFUSE, True)


def test_unasked_targets() -> None:
    """A target that does not answer is pushed to when it is known as ours, and left alone when not."""
    state = refs(main="a")
    found = survey(state, state, unasked={"gitee": "gitee.com: no connection"})
    (step,) = plan(mirror(), found).steps
    assert (step.action, step.item, step.digest) == (Action.COPY, "refs", state.fingerprint)
    assert step.reason == "the target cannot be read: gitee.com: no connection"
    strange = survey(state, state, unasked={"gitee": "gitee.com: no connection"}, known=frozenset())
    assert plan(mirror(), strange).steps[0].action is Action.REFUSE


@pytest.mark.parametrize(
    ("target", "options", "head", "expected"),
    [
        ("gitee", {}, "master", ("copy", "HEAD", "the default branch becomes main, it was master")),
        ("gitee", {"default_branch": "keep"}, "master", ("keep", "refs", "2 refs are as upstream")),
        ("gitee", {}, None, ("keep", "refs", "2 refs are as upstream")),
        ("cnb", {}, "master", ("keep", "refs", "2 refs are as upstream")),
    ],
)
def test_default_branch(target: str, options: dict[str, Any], head: str | None, expected: tuple[str, ...]) -> None:
    """The default branch follows upstream where the host has an API for it, and only when it is known to differ."""
    state = refs(main="a", master="a")
    found = survey(state, state, targets={target: Refs(state.refs, f"refs/heads/{head}" if head else None)})
    assert expected in told(plan(mirror(target, options=options), found), target)


@pytest.mark.parametrize(
    ("held", "told_"),
    [
        (Refs({}, "refs/heads/master", dangling=True), "the default branch there is master, which does not exist; it"),
        (Refs({}, dangling=True), None),
        (refs("master", main="a"), "the default branch there is master, which does not exist; it"),
        (refs("dev", main="b", dev="a"), "the default branch there is dev; it"),
        (Refs(refs(main="a").refs, dangling=True), "HEAD there leads to no branch; the default branch"),
        (refs(None, main="a"), None),
        (refs(main="a"), None),
    ],
    ids=["empty", "empty-and-silent", "dangling", "another", "dangling-and-silent", "silent", "right"],
)
def test_a_default_branch_that_nobody_but_people_can_set(held: Refs, told_: str | None) -> None:
    """Where a host has no API for it, each plan says what it is there and what it should be, whatever else is to do."""
    expected = (f"bare: {told_} should be main: set it there by hand",) if told_ else ()
    for upstream in (refs(main="a", dev="a"), refs(main="c")):
        found = survey(upstream, upstream, ("b", "a", FORWARD), targets={"bare": held})
        assert plan(mirror("bare", max_loss=1), found).remarks == expected
    assert plan(mirror("bare", options={"default_branch": "keep"}), found).remarks == ()


@pytest.mark.parametrize(
    ("upstream", "branch", "why"),
    [
        (refs(main="a", x="b"), "x", "upstream's own, main, is not mirrored"),
        (refs(trunk="a", main="b", head="gone"), "main", "upstream's own, gone, does not exist"),
        (refs(None, x="b", y="c"), "x", "upstream does not say which its own is"),
        (Refs(refs(x="b", y="c").refs, dangling=True), "x", "upstream's HEAD leads to none"),
    ],
)
def test_another_branch_stands_in_for_the_default_one(upstream: Refs, branch: str, why: str) -> None:
    """Without upstream's default branch a clone would be empty: main, master or the first one stands in, as is told."""
    one = mirror(LOCAL, "gitee", refs=["refs/heads/*", "^refs/heads/main"]) if branch == "x" else mirror(LOCAL, "gitee")
    after = chosen(one, survey(upstream)).wanted
    assert after.head == f"refs/heads/{branch}"
    fine, wrong = Refs(after.refs, max(after.refs)), Refs(after.refs, "refs/heads/other")
    for held, switched in ((fine, False), (wrong, True)):
        decided = plan(one, survey(upstream, Refs(after.refs, after.head), targets={"gitee": held}))
        assert decided.remarks == (f"the default branch is {branch}: {why}",)
        assert (DEFAULT_BRANCH in {step.item for step in decided.steps}) is switched
        assert all(step.target == "gitee" for step in decided.active)  # here it stands in already


def test_tags_alone_have_no_default_branch() -> None:
    """Where no branch is mirrored there is nothing to stand in."""
    upstream = refs(main="a", tag_v="b")
    decided = plan(mirror(LOCAL, refs=["refs/tags/*"]), survey(upstream, refs(tag_v="b")))
    assert (decided.remarks, decided.active) == ((), ())


def test_the_default_branch_moves_before_the_old_one_goes() -> None:
    """New branch, default branch, deletion: hosts refuse to delete the branch that HEAD points to."""
    found = survey(refs("main", main="a"), refs("master", master="a"), targets={"gitee": refs("master", master="a")})
    assert [item for _, item, _ in told(plan(mirror(), found))] == ["refs/heads/main", "HEAD", "refs/heads/master"]


def test_selection() -> None:
    """`refs:` decides what is mirrored: the rest is taken from targets, with the reason."""
    upstream = refs(main="a", **{"bot/x": "b"}, tag_v1="c")
    found = survey(upstream, refs(main="a", tag_v1="c"), targets={"gitee": upstream})
    one = mirror(refs=["refs/heads/*", "^refs/heads/bot/*"])
    assert list(chosen(one, found).wanted.refs) == ["refs/heads/main"]
    assert told(plan(one, found)) == [
        (
            "delete",
            "refs/heads/bot/x",
            "not selected by `refs:`: 6200000 is deleted, kept as backup",
        ),
        ("delete", "refs/tags/v1", "not selected by `refs:`: 6300000 is deleted, kept as backup"),
        ("keep", "refs", "1 ref is as upstream"),
    ]
    nothing = mirror(refs=["refs/heads/release/*"])
    assert plan(nothing, survey(upstream)).missing == ("`refs:` selects none of upstream's 3 branches and tags",)


def test_restored_refs_override_upstream() -> None:
    """A restored ref is served and pushed in place of upstream's; what cannot stand beside it is left out and named."""
    upstream = refs(main="b", **{"dev/x": "c"})
    held = {"refs/heads/main": oid("a"), "refs/heads/dev": oid("d")}
    found = survey(upstream, held_back=held)
    assert chosen(mirror(), found).wanted.refs == held
    (told,) = plan(mirror(), found).missing
    assert told == "refs/heads/dev/x cannot stand beside refs/heads/dev, which was restored; release that one first"


def test_what_does_not_follow_upstream_is_remarked() -> None:
    """Every plan, also one with nothing to do names restored refs that differ from upstream, and their release."""
    held = {"refs/heads/main": oid("a"), "refs/heads/dev": oid("d"), "refs/heads/same": oid("s")}
    found = survey(refs(main="b", same="s"), held_back=held)
    again = [f"`mirrord restore crane {ref} --release` lets upstream decide again" for ref in held]
    assert plan(mirror(), found).remarks == (
        f"refs/heads/main was brought back and stays {oid('a')[:7]}; upstream has {oid('b')[:7]}; {again[0]}",
        f"refs/heads/dev was brought back and stays {oid('d')[:7]}; upstream has none; {again[1]}",
    )


@pytest.mark.parametrize("name", ["refs/heads/..", "refs/heads/a\nb", "refs/heads/x.lock", "refs/heads/a b"])
def test_58_bad_names(name: str) -> None:
    """A ref that Git does not accept is left out and named, and all others are mirrored."""
    upstream = Refs({name: oid("x"), "refs/heads/-x": oid("a"), "refs/heads/A": oid("a"), "refs/heads/a": oid("b")})
    found = survey(upstream)
    assert set(chosen(mirror(), found).wanted.refs) == {"refs/heads/-x", "refs/heads/A", "refs/heads/a"}
    made = plan(mirror(), found)
    assert (len(made.problems), made.missing) == (1, ())


def test_an_empty_upstream_is_no_error() -> None:
    """A repository without a commit is mirrored as what it is."""
    found = survey(Refs({}, "refs/heads/main"), None, targets={"gitee": Refs({})})
    made = plan(mirror(), found)
    assert told(made) == [("keep", "refs", "upstream has no branches or tags")]
    nothing = "there is nothing to mirror, and no repository is made"
    assert made.remarks == (f"upstream has no branches or tags yet: {nothing}",)


def test_asking_and_planning_agree() -> None:
    """Whatever the plan looks up was asked for: no relation is missed that the survey could have had."""
    upstream = refs(main="e", x="f", tag_v="t2")
    served, there = refs(main="a", x="b", gone="c", tag_v="t1"), refs("master", master="m", x="z", gone="c")
    found = survey(upstream, served, targets={"gitee": there, "coding": None})

    class Asked(dict[tuple[str, str], Relation]):
        def get(self, pair: Any, default: Any = None) -> Any:
            assert pair in asked
            return REWRITTEN

    asked = set(questions(found))
    full = survey(upstream, served, targets=found.targets)
    object.__setattr__(full, "relations", Asked())
    for one in (mirror("gitee", "coding", max_loss=1, rewrites="follow"), mirror("gitee", "coding", allow=True)):
        plan(one, full)


def test_thousands_of_refs_are_planned_at_once() -> None:
    """5 000 refs at three targets take a handful of look-ups each, all new, all moved or none."""
    state = Refs({f"refs/tags/v{number}": oid(str(number)) for number in range(5000)}, None)
    moved = Refs({name: oid(f"x{name[-4:]}") for name in state.refs}, None)
    targets = ("gitee", "coding", "cnb")

    class Counted(dict[tuple[str, str], Relation]):
        looked = 0

        def get(self, pair: Any, default: Any = None) -> Any:
            self.looked += 1
            return default

    for held in (Refs({}), moved, state):
        found = survey(state, held, targets=dict.fromkeys(targets, held))
        relations = Counted()
        object.__setattr__(found, "relations", relations)
        decided = plan(mirror(*targets, allow=True), found)
        assert len(decided.steps) == (3 if held is state else 15_000)
        assert relations.looked <= 4 * 15_000
