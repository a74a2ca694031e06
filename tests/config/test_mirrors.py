"""`targets:`, `mirrors:`, and what mirrors are to one another (bad input 67)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mirrord.config.load import Configuration

Load = Callable[..., Configuration]
Refusal = Callable[..., tuple[str, ...]]

TARGETS = "targets: {a: {kind: image, to: reg.a}, b: {kind: image, to: reg.b}, o: {kind: other, to: reg.o}}\n"


def mirror(name: str, source: str = "src", to: str = "a", more: str = "") -> str:
    return f"  - {{name: {name}, kind: image, from: {{repository: {source}}}, to: {to}{more}}}\n"


def mirrors(*lines: str) -> str:
    return TARGETS + "mirrors:\n" + "".join(lines)


def test_a_mirror(load: Load) -> None:
    """The envelope is ours, the rest is the syncer's, and defaults come from the settings."""
    text = "settings: {deadline: 1h, trust: 2h}\n" + mirrors(
        mirror("m1", to="[a, local]", more=", as: x, publish: together, together_wait: 5m"),
        mirror("m2", more=", deadline: 1m, trust: 0s"),
    )
    first, second = load(text).mirrors
    assert (first.name, first.kind, first.deadline, first.trust, first.origin.line) == ("m1", "image", 3600, 7200, 4)
    assert first.spec.model_dump(include={"publish", "together_wait", "name_there"}) == {
        "publish": "together", "together_wait": 300.0, "name_there": "x",
    }  # fmt: skip
    assert [(target.name, target.to) for target in first.targets] == [("a", "reg.a"), ("local", "local")]
    assert [target.name for target in second.targets] == ["a"]
    assert (second.deadline, second.trust) == (60, 0)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        pytest.param(
            "{nme: m, kind: image, from: {repository: x}, to: a}",
            "nme: unknown key; did you mean 'name'?",
            id="67-envelope-typo",
        ),
        pytest.param(
            "{name: m, kind: image, from: {repository: x}, to: a, publsh: each}",
            "mirrors.m.publsh: unknown key; did you mean 'publish'?",
            id="67-spec-typo",
        ),
        pytest.param(
            "{name: m, kind: image, from: {layuots: x}, to: a}",
            "mirrors.m.from.layuots: unknown key; did you mean 'layouts'?",
            id="67-union-typo",
        ),
        pytest.param(
            "{name: m, kind: image, from: {repository: [x]}, to: a}",
            "mirrors.m.from.repository: a list is not text",
            id="67-union-type",
        ),
        pytest.param(
            "{name: m, kind: image, from: x, to: a}",
            "mirrors.m.from: 'x' is not a mapping; write a mapping, such as {layouts: …}",
            id="67-from-text",
        ),
        pytest.param("{name: m, kind: image, to: a}", "mirrors.m.from: is missing", id="67-no-from"),
        pytest.param(
            "{name: m, kind: imag, from: x, to: a}",
            "mirrors.m.kind: 'imag' is not a kind; did you mean 'image'?",
            id="67-kind",
        ),
        pytest.param("{name: m, from: x, to: a}", "mirrors.m.kind: is missing; write kind: image", id="67-no-kind"),
        pytest.param("{name: m, kind: [image], to: a}", "mirrors.m.kind: a list is not text", id="67-kind-list"),
        pytest.param(
            "{name: m, kind: image, from: {repository: x}}",
            "mirrors.m.to: is missing; write to: [a, b, local]",
            id="67-no-to",
        ),
        pytest.param(
            "{name: m, kind: image, from: {repository: x}, to: []}",
            "mirrors.m.to: is empty; write at least one",
            id="67-empty-to",
        ),
        pytest.param(
            "{name: m, kind: image, from: {repository: x}, to: [a, {b: c}]}",
            "mirrors.m.to[1]: a mapping is not text",
            id="67-to-type",
        ),
        pytest.param(
            "{name: m, kind: image, from: {repository: x}, to: loca}",
            "mirrors.m.to[0]: 'loca' is not a target; did you mean 'local'?",
            id="67-target",
        ),
        pytest.param(
            "{name: m, kind: image, from: {repository: x}, to: [a, b, a]}",
            "mirrors.m.to[2]: 'a' is listed twice; keep one",
            id="67-target-twice",
        ),
        pytest.param(
            "{name: m, kind: image, from: {repository: x}, to: o}",
            "mirrors.m.to[0]: 'o' is of kind other, the mirror of kind image",
            id="67-target-kind",
        ),
        pytest.param(
            "{name: A.b, kind: image, from: {repository: x}, to: a}",
            "'A.b' is not a name; write a-z, 0-9 and -, at most 63 characters, such as a-b",
            id="67-name",
        ),
        pytest.param("{name: -x, kind: image, from: {repository: x}, to: a}", "'-x' is not a name", id="67-name-dash"),
        pytest.param("{name: '', kind: image, from: {repository: x}, to: a}", "'' is not a name", id="67-name-empty"),
        pytest.param(
            f"{{name: {'x' * 64}, kind: image, from: {{repository: x}}, to: a}}", "is not a name", id="67-name-long"
        ),
        pytest.param(
            "{name: m, kind: image, from: {repository: ':::'}, to: a}",
            "mirrors.m: ':::' is no reference; write host/path",
            id="67-places",
        ),
        pytest.param("just text", "mirrors[0]: is not a mapping", id="67-text"),
        pytest.param("~", "mirrors[0]: is not a mapping", id="67-null"),
    ],
)
def test_wrong_mirrors(refusal: Refusal, entry: str, said: str) -> None:
    """Everything wrong with a mirror is told at its line with a suggestion."""
    problems = refusal(f"{TARGETS}mirrors:\n  - {entry}\n")
    assert all(problem.startswith("main.yaml:3: mirrors") for problem in problems)
    assert said in "\n".join(problems)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        pytest.param(
            "x: {kind: image, to: y, apii: z}", "targets.x.apii: unknown key; did you mean 'api'?", id="67-typo"
        ),
        pytest.param(
            "x: {kind: image, too: y}", "targets.x.too: unknown key; did you mean 'to'?", id="67-envelope-typo"
        ),
        pytest.param(
            "x: {kind: imagé, to: y}", "targets.x.kind: 'imagé' is not a kind; did you mean 'image'?", id="67-kind"
        ),
        pytest.param("x: {kind: image, to: ''}", "targets.x.to: is empty", id="67-empty"),
        pytest.param("local: {kind: image, to: y}", "targets.local: 'local' is built in", id="local"),
        pytest.param("x: {kind: image, to: y, page: 'javascript:alert(1)'}", "write https://host/path", id="script"),
        pytest.param("x: {kind: image, to: y, page: 'https://u:secret@h/'}", "with user name or password", id="secret"),
        pytest.param("x: {kind: image, to: y, page: 'https://h/{tag}'}", "has an unknown placeholder", id="page"),
        pytest.param("X.y: {kind: image, to: y}", "targets.X.y: 'X.y' is not a name", id="67-name"),
        pytest.param("x:", "targets.x: is not a mapping", id="67-null"),
    ],
)
def test_wrong_targets(refusal: Refusal, entry: str, said: str) -> None:
    """Everything wrong with a target is told once, and no mirror is blamed for it."""
    name = entry.partition(":")[0]
    user = f"\nmirrors: [{{name: m, kind: image, from: {{repository: x}}, to: {name}}}]" if name != "local" else ""
    problems = refusal(f"targets:\n  {entry}{user}")
    assert said in "\n".join(problems)
    assert all(problem.startswith("main.yaml:2: targets.") for problem in problems)


def test_duplicate_names_across_files(refusal: Refusal) -> None:
    """Bad input 67: the same name in two files is refused with both places."""
    assert refusal(a=mirrors(mirror("m")), b="mirrors:\n" + mirror("m", "other", "b")) == (
        "b.yaml:2: mirrors.m.name: 'm' is also the name of the mirror at a.yaml:3; rename one of them",
    )


def test_two_mirrors_write_one_place(refusal: Refusal) -> None:
    """Bad input 67: a place has one writer, and the message names both."""
    (problem,) = refusal(mirrors(mirror("m1", more=", as: x"), mirror("m2", "other", "[b, a]", ", as: x")))
    assert problem.startswith("main.yaml:4: mirrors.m2.to: target 'a' is reg.a/x, written by mirror 'm1' ('a') at main")
    assert problem.endswith("main.yaml:3 too; give one of the mirrors another `as:`")


def test_a_syncer_may_name_the_key(refusal: Refusal) -> None:
    """A problem that a syncer places itself is told once, as it is."""
    assert refusal(mirrors(mirror("m", "bad"))) == ("main.yaml:3: mirrors.m.from.repository: is bad; write good",)


def test_two_targets_of_one_mirror_are_one_place(refusal: Refusal) -> None:
    """Two names for the same place are found as well."""
    text = mirrors(mirror("m", to="[a, c]")).replace("targets: {", "targets: {c: {kind: image, to: reg.a}, ")
    (problem,) = refusal(text)
    assert "target 'c' is reg.a/m, written by mirror 'm' ('a')" in problem


def test_kinds_do_not_meet(load: Load) -> None:
    """The same words mean different places for different kinds."""
    other = "  - {name: m2, kind: other, from: {repository: reg.a/m1}, to: o, as: m1}\n"
    text = mirrors(mirror("m1", "reg.o/m1"), other)
    assert len(load(text).mirrors) == 2


def test_a_mirror_of_itself(refusal: Refusal) -> None:
    """Bad input 67: a mirror whose target is its origin is refused."""
    assert refusal(mirrors(mirror("m", "reg.a/m"))) == (
        "main.yaml:3: mirrors.m: mirrors itself: 'm' copies reg.a/m to reg.a/m; take one of these targets away",
    )


def test_loops_are_named_with_their_chain(refusal: Refusal) -> None:
    """Bad input 67: A→B→A is refused with the whole chain, and a second loop is told as well."""
    problems = refusal(
        mirrors(
            mirror("m1", "reg.b/m2", "a"),
            mirror("m2", "reg.a/m1", "b"),
            mirror("m3", "reg.a/m3", "a"),
            mirror("m4", "reg.a/m1", "b"),
        )
    )
    assert len(problems) == 2
    assert problems[0].startswith("main.yaml:4: mirrors.m2: mirrors itself: ")
    assert "'m1' copies reg.b/m2 to reg.a/m1" in problems[0]
    assert "'m2' copies reg.a/m1 to reg.b/m2" in problems[0]
    assert problems[1].startswith("main.yaml:5: mirrors.m3: mirrors itself: ")


def test_long_chains_are_no_loops(load: Load) -> None:
    """A chain of a thousand mirrors is fine, and is looked at without recursion."""
    lines = [mirror("m0")] + [mirror(f"m{number}", f"reg.a/m{number - 1}") for number in range(1, 1000)]
    assert len(load(mirrors(*lines)).mirrors) == 1000


def test_all_problems_at_once_in_the_order_of_files_and_lines(refusal: Refusal) -> None:
    """One run shows everything, so nobody mends one line a run."""
    problems = refusal(
        b=mirrors(mirror("m1", to="x"), mirror("m2", more=", zzz: 1"), mirror("m3", more=", every: 1s")),
        a="settings: {parallel: x}\nhosts: {'a/b': {}}\n",
    )
    assert [problem.partition(": ")[0] for problem in problems] == [
        "a.yaml:1",
        "a.yaml:2",
        "b.yaml:3",
        "b.yaml:4",
        "b.yaml:5",
    ]
