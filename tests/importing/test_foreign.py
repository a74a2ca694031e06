"""Reading what other programs write: anchors, merges and repeated keys are resolved, and every file is bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.config.foreign import MAX_FOREIGN_BYTES, Node, decode, parse_foreign
from mirrord.errors import ConfigError


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: plain(value) for key, value in node.value.items()}
    return [plain(one) for one in node.value] if isinstance(node.value, tuple) else node.value


def read(text: str) -> Any:
    (document,) = parse_foreign(text, "a.yaml").documents
    return plain(document)


def refused(data: bytes) -> str:
    with pytest.raises(ConfigError) as error:
        parse_foreign(decode(data, "a.yaml"), "a.yaml")
    return str(error.value)


def test_anchors_aliases_and_merge_keys_are_resolved() -> None:
    """An alias is its anchor's value; of merged mappings the first counts, and a key of its own before all."""
    text = "x: &a {p: 1, q: 2}\ny: &b {q: 3, r: 4}\nz: {<<: [*a, *b], p: 5}\nw: *a\n"
    assert read(text)["z"] == {"q": "2", "r": "4", "p": "5"}
    assert read(text)["w"] == {"p": "1", "q": "2"}


def test_values_stay_what_is_written() -> None:
    """`on` is a key, not a flag; versions and times keep their text; only null is no text."""
    assert read("on: 1.20\nno: 12:30:45\nn: ~\ntag: !other yes\n") == {
        "on": "1.20",
        "no": "12:30:45",
        "n": None,
        "tag": "yes",
    }


def test_each_value_knows_its_line() -> None:
    """A value has the line of its key or its dash, also of an alias, and with line ends of Windows."""
    data = "\ufeffa: &x\r\n  b: 1\r\nc:\r\n- *x\r\n- d\r\n".encode()
    (document,) = parse_foreign(decode(data, "a.yaml"), "a.yaml").documents
    assert isinstance(document.value, dict)
    items = document.value["c"].value
    assert isinstance(items, tuple)
    assert (document.value["c"].line, [one.line for one in items]) == (3, [4, 5])


def test_a_repeated_key_is_named_and_its_last_value_counts() -> None:
    """A key that is written twice is read like other programs read it, and can be reported."""
    found = parse_foreign("a: 1\nb: 2\na: 3\n", "a.yaml")
    assert plain(found.documents[0]) == {"a": "3", "b": "2"}
    assert found.repeated == ((3, "a"),)


def test_several_documents_are_read() -> None:
    """Anchors of one document are unknown in the next."""
    assert [plain(one) for one in parse_foreign("a: 1\n---\nb: 2\n", "f").documents] == [{"a": "1"}, {"b": "2"}]
    assert refused(b"a: &x 1\n---\nb: *x\n").startswith("a.yaml:3: has an alias of an anchor")


BAD = {
    "not YAML": (b"a: [1\nb: 2\n", "a.yaml:2: is not YAML"),
    "binary": (b"\x7fELF\x00\x01\xff", "a.yaml:1: is not UTF-8"),
    "null bytes": (b"a\n\0", "a.yaml:2: is not text"),
    "control characters": (b"a: \x07\n", "a.yaml:1: is not YAML"),
    "too long": (b"a" * (MAX_FOREIGN_BYTES + 1), "a.yaml:1: is longer than 16 MiB"),
    "itself": (b"a: &x\n  b: [*x]\n", "a.yaml:2: contains itself"),
    "too deep": (b"[" * 70 + b"]" * 70, "a.yaml:1: is nested more than 64 levels deep"),
    "a list as key": (b"? [a]\n: b\n", "a.yaml:1: a key is a list or a mapping"),
    "laughs": (
        b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 60)),
        "values once its aliases are resolved",
    ),
}


@pytest.mark.parametrize(("data", "expected"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_in_one_line(data: bytes, expected: str) -> None:
    """Each bad file is one error with file and line."""
    said = refused(data)
    assert expected in said
    assert "\n" not in said


def test_no_text_of_a_bad_file_is_shown() -> None:
    """What the parser stumbles over may be a password."""
    assert "hunter2" not in refused(b"password: 'hunter2\n") + refused(b"a: *hunter2\n") + refused(b"[a: 'hunter2' b\n")


VALUES = st.recursive(
    st.none() | st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_json_is_read_as_the_yaml_that_it_is(value: Any) -> None:
    """A value in JSON is read to the same value."""
    assert read(json.dumps(value)) == value
