"""The strict loader (T3.7) and the joining of files."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirrord.config.load import Configuration, load_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer

Load = Callable[..., Configuration]
Refusal = Callable[..., tuple[str, ...]]

BOMB = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        pytest.param(BOMB, 2, "aliases (*name) are not supported", id="T3.7-alias-bomb"),
        pytest.param("settings: &s {parallel: 2}\nhosts: {<<: *s}", 2, "aliases (*name)", id="merge-key"),
        pytest.param("settings: !!python/object/apply:os.system [id]", 1, "tags (!name) are not supported", id="tag"),
        pytest.param("settings: {listen: !x 1}", 1, "tags (!name) are not supported", id="own-tag"),
        pytest.param("settings: {}\n---\nsettings: {}", 2, "a second document starts here", id="two-documents"),
        pytest.param("\nx: " + "[" * 20_000, 2, "nested more than 64 levels", id="T3.7-depth"),
        pytest.param("settings: {? [a] : b}", 1, "a key is a list or a mapping", id="key-is-a-list"),
        pytest.param("settings:\n\tparallel: 2", 2, "is not YAML (", id="tab"),
        pytest.param("settings:\n\tparallel: 2", 2, "; indent with spaces instead of tabs; more", id="tab-hint"),
        pytest.param("mirrors:\n  - name: a\n\tkind: b", 3, "; indent with spaces instead of tabs; more", id="tab-2"),
        pytest.param("a:\n  b: 1\n c: 2", 3, "; indent all keys of a mapping alike", id="dedented-key"),
        pytest.param("a:\n  b: 1\n   c: 2", 3, "; indent all keys of a mapping alike", id="indented-key"),
        pytest.param("a:\n  - b: 1\n   c: 2", 3, "; indent all keys of a mapping alike", id="dedented-in-list"),
        pytest.param("a:\n  b: c: d", 2, "; correct it; text with", id="two-colons"),
        pytest.param("a: [b,\nc: {", 2, "; correct it; text with", id="unclosed-lines"),
        pytest.param("a: {tag: *}", 1, "put quotes around text that begins with *, such as '*'; more", id="star"),
        pytest.param("a:\n  - tag: @x", 2, "put quotes around text that begins with @", id="at"),
        pytest.param("a: [b", 1, "; more may follow once this is mended", id="more-follows"),
        pytest.param("settings: {a: b", 1, "is not YAML (", id="unclosed"),
        pytest.param("targets: {t: {to: https://x/{name}}}", 1, "needs quotes", id="braces-in-braces"),
    ],
)
def test_surprising_yaml_is_refused(refusal: Refusal, text: str, line: int, said: str) -> None:
    """What is expensive, ambiguous or broken is refused at its line, and nothing else is said about the file."""
    (problem,) = refusal(text)
    assert problem.startswith(f"main.yaml:{line}: ")
    assert said in problem


def test_a_refused_bomb_costs_no_memory(refusal: Refusal) -> None:
    """An alias bomb and deep nesting are refused before they become objects."""
    tracemalloc.start()
    try:
        refusal(a=BOMB, b="x: " + "[" * 200_000)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_duplicate_keys_name_both_lines(refusal: Refusal) -> None:
    """The same key twice is never merged in silence, at any depth."""
    problems = refusal("settings:\n  log: {level: info}\n  log: {level: debug}\nhosts: {}\nhosts: {}\n")
    assert problems == (
        "main.yaml:3: settings.log: is written twice, first at line 2; keep one of them",
        "main.yaml:5: hosts: is written twice, first at line 4; keep one of them",
    )


@pytest.mark.parametrize("text", ["no", "on", "1.20", "12:30:45", "0123", "1e3", "2026-01-01", "'null'", "y"])
def test_text_stays_text(load: Load, text: str) -> None:
    """Values that YAML 1.1 turns into flags, numbers of base sixty or dates stay what was written."""
    loaded = load(f"targets: {{t: {{kind: image, to: x, api: {text}}}}}")
    assert loaded.targets["t"].options.model_dump() == {"api": text.strip("'")}


@pytest.mark.parametrize("text", ["", "~", "null"])
def test_empty_values_are_told(refusal: Refusal, text: str) -> None:
    """A key without a value is an error that says so."""
    (problem,) = refusal(f"targets: {{t: {{kind: image, to: {text}}}}}")
    assert (
        problem
        == "main.yaml:1: targets.t.to: is empty; write a value, such as ghcr.io/gocrane/crane, or remove the key"
    )


def test_files_are_joined(load: Load) -> None:
    """Settings join key by key, hosts and targets name by name, mirrors in order."""
    loaded = load(
        a="settings: {log: {level: debug}}\nhosts: {a.example: {requests: 2}}\n"
        "mirrors: [{name: m1, kind: image, from: {layouts: /1}, to: t}]",
        b="settings: {log: {format: json}}\nhosts: {b.example: {requests: 3}}\ntargets: {t: {kind: image, to: x}}",
        c="mirrors: [{name: m2, kind: image, from: {layouts: /2}, to: t}]\nhosts:\n",
    )
    assert (loaded.settings.log.level, loaded.settings.log.format) == ("debug", "json")
    assert {host: policy.requests for host, policy in loaded.book.policies.items()} == {"a.example": 2, "b.example": 3}
    assert [(mirror.name, mirror.origin.line) for mirror in loaded.mirrors] == [("m1", 3), ("m2", 1)]


def test_nothing_is_said_in_two_files(refusal: Refusal) -> None:
    """The same key in two files is refused with both places: no file silently overrides another."""
    text = "settings: {parallel: 2}\nhosts: {a.example: {}}\ntargets: {t: {kind: image, to: x}}"
    assert refusal(a=text, b=f"\n{text}") == (
        "b.yaml:2: settings.parallel: is also written at a.yaml:1; keep one of them",
        "b.yaml:3: hosts.a.example: is also written at a.yaml:2; keep one of them",
        "b.yaml:4: targets.t: is also written at a.yaml:3; keep one of them",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("mirors: []", "mirors: unknown section; did you mean 'mirrors'?", id="67-typo"),
        pytest.param("mirrors: {}", "mirrors: is not a list; begin each mirror with a dash, such as - {", id="67-type"),
        pytest.param(
            "hosts: []", "hosts: is not a mapping; write a host and its keys, such as ghcr.io: {", id="67-type-mapping"
        ),
        pytest.param(
            "hosts: x", "hosts: is not a mapping; write a host and its keys, such as ghcr.io: {", id="67-type-text"
        ),
    ],
)
def test_sections(refusal: Refusal, text: str, said: str) -> None:
    """An unknown section gets a suggestion, and a section of the wrong type is told its type."""
    (problem,) = refusal(text)
    assert problem.startswith(f"main.yaml:1: {said}")


def test_a_broken_file_does_not_hide_problems_of_others_nor_make_some_up(refusal: Refusal) -> None:
    """Every file's problems come in one go, and a target that may be in the broken file is not called unknown."""
    problems = refusal(
        a="targets: [", b="mirrors: [{name: m, kind: image, from: {layouts: /x}, to: t}]\nsettings: {parallel: 0}"
    )
    assert [problem.partition(" ")[0] for problem in problems] == ["a.yaml:1:", "b.yaml:2:"]


HOST = "hosts: {r.example: {auth: {username: robot, password: %s}}}"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HOST % "{hunter2}", id="mapping"),
        pytest.param(HOST % "{hunter2: {env: X}, env: Y}", id="mapping-of-two"),
        pytest.param(HOST % "{hunter2: 1, hunter2: 2}", id="mapping-twice"),
        pytest.param(HOST % "*hunter2", id="alias"),
        pytest.param(HOST % "!hunter2", id="tag"),
        pytest.param(HOST % "!hunter2!x y", id="tag-handle"),
        pytest.param(HOST % "%hunter2", id="directive"),
        pytest.param(HOST % "@hunter2", id="reserved"),
        pytest.param(HOST % "hunter2", id="plain"),
        pytest.param(HOST % "[hunter2]", id="list"),
        pytest.param("hosts: {r.example: {auth: {username: robot, password:hunter2}}}", id="run-on"),
        pytest.param("hosts: {r.example: {Password=hunter2}}", id="run-on-equals"),
        pytest.param("hosts: {'robot:hunter2@r.example': {}, 'robot:hunter2@r.example': {}}", id="host-twice"),
        pytest.param("hosts: {'robot:hun/hunter2@r.example': {}}", id="host-with-slash"),
        pytest.param("hosts: {'https://robot:hunter2@r.example': {}}", id="host-as-url"),
        pytest.param("'robot:hunter2@r.example': {}", id="section"),
        pytest.param("targets: {'robot:hunter2@r.example': {kind: image, to: x}}", id="target"),
        pytest.param("settings: {listen: 'robot:hunter2@r.example'}", id="value"),
    ],
)
def test_a_password_in_the_wrong_place_is_not_repeated(refusal: Refusal, text: str) -> None:
    """A password that was written into the configuration, however it was, is in no message about it (75)."""
    problems = "\n".join(refusal(text))
    assert "main.yaml:1: " in problems
    assert "hunter2" not in problems


def test_a_password_in_two_files_is_not_repeated(refusal: Refusal) -> None:
    """A host with user and password that stands in two files is told without them, at both places."""
    text = "hosts: {'robot:hunter2@r.example': {}}"
    problems = refusal(a=text, b=text)
    assert "b.yaml:1: hosts.***@r.example: is also written at a.yaml:1; keep one of them" in problems
    assert "hunter2" not in "".join(problems)


@pytest.mark.parametrize("name", ["token", "secret", "password"])
def test_names_that_only_look_secret_are_told(refusal: Refusal, name: str) -> None:
    """A target or a host may be called `token`; its wrong keys are told all the same."""
    assert refusal(f"targets: {{{name}: {{kind: image, to: x, aip: y}}}}") == (
        f"main.yaml:1: targets.{name}.aip: unknown key; did you mean 'api'?",
    )


WORDS = [
    "settings",
    "hosts",
    "targets",
    "mirrors",
    "name",
    "kind",
    "image",
    "from",
    "to",
    "local",
    "auth",
    "password",
    "env",
]
PIECES = st.one_of(
    st.sampled_from([*WORDS, ": ", "\n", "\n  ", "- ", "{", "}", "[", "]", ", ", "&a", "*a", "!x", "---", "'", "~"]),
    st.text(max_size=3),
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(PIECES, max_size=30).map("".join))
def test_no_text_gets_through_otherwise(folder: Path, syncers: Mapping[str, Syncer], text: str) -> None:
    """Whatever a file holds, it loads or is refused with located one-line problems; nothing else is raised."""
    (folder / "a.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    problems: tuple[str, ...] = ()
    try:
        load_folder(folder, syncers, {})
    except ConfigError as error:
        problems = error.problems
    assert all(problem.startswith(f"{folder}/a.yaml:") and "\n" not in problem for problem in problems)
