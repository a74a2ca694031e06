"""Bytes become plain data, or nothing at all."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from mirrord.errors import ContentError, TooLargeError
from mirrord.syncers.helm.upstream import yaml_events
from mirrord.syncers.helm.upstream.plain import Plain, PlainScalar, Poison
from mirrord.syncers.helm.upstream.yaml_events import build


def value_of(text: str) -> Plain:
    return build(text.encode()).value


@pytest.mark.parametrize(
    "text", ["1.10", "010", "0x1F", "1_000", "12345e67", ".5", "-.inf", ".nan", "yes", "off", "True"]
)
def test_text_is_kept_as_written(text: str) -> None:
    """What YAML takes for a number or a flag keeps the text that was written, and is marked."""
    value = value_of(f"a: {text}")
    assert value == {"a": text}
    assert isinstance(value, dict)
    assert isinstance(value["a"], PlainScalar)
    assert value_of(f"a: '{text}'") == {"a": text}


@pytest.mark.parametrize(
    "text", ["1.2.3", "2024-01-01", "2024-01-01T00:00:00.123456789Z", "0b", "1e", "nope", "12:30:45"]
)
def test_text_without_quotes_is_text(text: str) -> None:
    """A version, a time or a word needs no quotes, and loses no digit."""
    value = value_of(f"a: {text}")
    assert isinstance(value, dict)
    assert value["a"] == text
    assert not isinstance(value["a"], PlainScalar)


def test_flags() -> None:
    """A flag knows what it says in YAML 1.1, which is what helm reads; a number says nothing."""
    assert [PlainScalar(text).flag for text in ("true", "ON", "n", "off", "1")] == [True, True, False, False, None]


@pytest.mark.parametrize("text", ["a:", "a: ~", "a: null", "a: NULL"])
def test_nothing(text: str) -> None:
    """An empty value is nothing; the words for it in quotes are text."""
    assert value_of(text) == {"a": None}
    assert value_of("a: 'null'") == {"a": "null"}


def test_all_scalar_styles() -> None:
    """Quotes, blocks and folds give the text that YAML says they mean."""
    text = "a: \"x\\n\\u00e9\"\nb: 'it''s'\nc: |\n  1\n  2\nd: |-\n  1\ne: >\n  1\n  2\nf: one\n  two\n"
    assert value_of(text) == {"a": "x\né", "b": "it's", "c": "1\n2\n", "d": "1", "e": "1 2\n", "f": "one two"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_byte_order_marks(end: str) -> None:
    """CRLF and a byte order mark change nothing, in YAML and in JSON."""
    yaml = end.join(["a: 1.2.3", "b:", "- x", "- y", ""])
    assert value_of(yaml) == value_of("\ufeff" + yaml) == {"a": "1.2.3", "b": ["x", "y"]}
    assert value_of('\ufeff {"a": [true, null, 1.10]}') == {"a": [True, None, "1.10"]}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("b: *x\nc: fine\n", "alias *x at line 1 stands for nothing"),
        ("b: &x [*x]\nc: fine\nb: 1\n", "b is written twice (line 3)"),
        ("b: !!int 1\nc: fine\n", "tag tag:yaml.org,2002:int at line 1"),
        ("b: !!python/object/apply:os.system [id]\nc: fine\n", "tag tag:yaml.org,2002:python/object/apply:os"),
        ("b: !x {d: e}\nc: fine\n", "tag !x at line 1"),
        ("b: 1\nc: fine\nb: 2\n", "b is written twice (line 3)"),
        ('{"b": 1, "c": "fine", "b": 2}', "b is written twice"),
        ('{"b": NaN, "c": "fine"}', "NaN is no JSON"),
        ("b: {? [x] : y}\nc: fine\n", "the key at line 1 is no plain text"),
        ("x: &x y\nb:\n  <<: *x\nc: fine\n", "the key << at line 3 stands for no mapping"),
        ("b:\n  <<: *x\nc: fine\n", "alias *x at line 2 stands for nothing"),
        ("b: {!!str k: v}\nc: fine\n", "the key at line 1 is no plain text"),
    ],
    ids=[
        "48-alias",
        "48-cycle",
        "48-tag",
        "48-python",
        "48-own-tag",
        "48-twice",
        "48-json-twice",
        "48-nan",
        "48-key",
        "48-merge",
        "48-merge-alias",
        "48-tk",
    ],
)
def test_poison(text: str, what: str) -> None:
    """What is not taken becomes a mark with its line, in its own place; what is beside it is read."""
    value = value_of(text)
    assert isinstance(value, dict)
    assert value["c"] == "fine"
    poison = value["b"]
    assert isinstance(poison, Poison)
    assert poison.what.startswith(what)


def test_a_second_document_is_noticed() -> None:
    """The first document counts, as for helm; that there is more, even more that is no YAML, is told."""
    assert build(b"a: b\n---\nc: d\n") == yaml_events.IndexDocument({"a": "b"}, more=True)
    assert build(b"a: b\n---\n{{{\n") == yaml_events.IndexDocument({"a": "b"}, more=True)
    assert build(b"---\na: b\n...\n") == yaml_events.IndexDocument({"a": "b"})


def test_nothing_at_all() -> None:
    """A file of comments, or of nothing, is a document of nothing."""
    assert build(b"") == build(b"# only this\n") == yaml_events.IndexDocument(None)


def test_yaml_in_braces() -> None:
    """What begins with a brace and is no JSON is YAML, as for helm."""
    assert value_of("{a: b, c: [d]}") == {"a": "b", "c": ["d"]}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"a:\n\t- b\n", "is no YAML (line 2"),
        (b"a: [b\n", "is no YAML"),
        (b"a: \x01\n", "is no YAML (it holds"),
        (b"a: \xff\n", "is no YAML"),
        (b'{"a": "b"', "is no JSON (line 1"),
        (b'{"a": \xff}', "is no JSON (byte 6"),
        (b"a: " + b"[" * 65 + b"]" * 65, "nested more than 64"),
        (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", "nested more than 64"),
        (b'{"a": ' + b"[" * 200_000, "nested more than 64"),
        (b"- " * 1000, "nested more than 64"),
        (b"a: " + b"{a: " * 100_000, "nested more than 64"),
    ],
    ids=[
        *("48-tabs", "48-open", "48-control", "48-latin1", "48-cut", "48-json-latin1", "48-deep"),
        *("48-json-deep", "48-json-abyss", "48-dashes", "48-abyss"),
    ],
)
def test_refused(data: bytes, what: str) -> None:
    """What is neither YAML nor JSON, or is too deep, is refused with the place of the trouble."""
    with pytest.raises(ContentError) as caught:
        build(data)
    assert what in str(caught.value)


def test_depth_that_is_allowed() -> None:
    """64 levels are read, in YAML and in JSON."""
    assert value_of("[" * 64 + "]" * 64)
    assert value_of('{"a": ' + "[" * 63 + "]" * 63 + "}")


@pytest.mark.parametrize(
    "text",
    ["[" + "a," * 101 + "]", "- \n" * 60, "- - - -\n" * 30, '{"a": [' + "[]," * 60 + "[]]}"],
    ids=["48-flow", "48-block", "48-nested", "48-json"],
)
def test_too_many_values(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small texts that would become many values are refused."""
    monkeypatch.setattr(yaml_events, "MAX_VALUES", 100)
    with pytest.raises(TooLargeError, match="more than 100 values"):
        build(text.encode())


def test_an_alias_bomb_costs_nothing() -> None:
    """Nine lines that would be a billion values are refused before they become that (bad input 48)."""
    bomb = 'a0: &a0 ["lol"]\n' + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="aliases that stand for more than 4000000 values"):
            value_of(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_aliases_of_long_texts_are_bounded() -> None:
    """A long text that is meant a thousand times is refused: written out it would be longer than any index."""
    with pytest.raises(TooLargeError, match="characters"):
        value_of(f"a: &a {'x' * 100_000}\nb: [{','.join(['*a'] * 1000)}]\n")


def test_aliases_do_not_dig() -> None:
    """What is within its depth where it is written is refused where an alias would put it deeper."""
    deep = "".join(f"a{n}: &a{n} [{f'*a{n - 1}' if n else 'x'}]\n" for n in range(63))
    assert value_of(deep)
    with pytest.raises(ContentError, match="nested more than 64"):
        value_of(f"{deep}b: [[*a62]]\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &x http://a\nb: *x\n", {"a": "http://a", "b": "http://a"}),
        ("a: &x [{name: ann}]\nb: *x\n", {"a": [{"name": "ann"}], "b": [{"name": "ann"}]}),
        ("a: &x 1\nb: &x 2\nc: *x\n", {"a": "1", "b": "2", "c": "2"}),
        ("&x a: b\nc: *x\n", {"a": "b", "c": "a"}),
        ("a: &x null\nb: *x\n", {"a": None, "b": None}),
        ("a: !!str 1.10\nb: !!str\n", {"a": "1.10", "b": ""}),
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n", {"x": {"a": "1", "b": "2"}, "y": {"a": "1", "b": "3"}}),
        ("y: {b: 3, <<: {a: 1, b: 2}}\n", {"y": {"a": "1", "b": "3"}}),
        ("y: {<<: [{a: 1}, {a: 2, b: 2}]}\n", {"y": {"a": "1", "b": "2"}}),
        ("y: {'<<': a}\n", {"y": {"<<": "a"}}),
    ],
)
def test_what_stands_for_something_else(text: str, value: Plain) -> None:
    """An alias is the value that it stands for; a merged mapping gives the keys that are not written beside it."""
    assert value_of(text) == value


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", '{"a": 1, "b": 2, "a": 3}'], ids=["yaml", "json"])
def test_the_last_of_two(text: str) -> None:
    """Where helm lets the last of two values of one key win, so do we."""
    assert build(text.encode(), strict=False).value == {"a": "3", "b": "2"}


def test_texts_are_kept_once() -> None:
    """The same text on many lines is one object: an index repeats itself."""
    value = value_of("- k: hello\n  l: 'it is'\n- k: hello\n  l: 'it is'\n")
    assert isinstance(value, list)
    first, second = value
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert [id(item) for pair in first.items() for item in pair] == [
        id(item) for pair in second.items() for item in pair
    ]


def test_yaml_and_json_agree() -> None:
    """The same data comes out of both."""
    data = {"a": ["x", None, {"b": "1.2.3"}], "c": {"d": "é\n🔥"}}
    assert value_of(json.dumps(data)) == value_of(json.dumps(data, indent=1).replace("{", " {", 1)) == data
    assert value_of('a: [x, null, {b: 1.2.3}]\nc: {d: "é\\n🔥"}') == data
