"""An index is written so that every reader gets what was meant, and always with the same bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from mirrord.model.digest import Digest
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.transfer.emit import emit_json, emit_yaml
from mirrord.syncers.helm.upstream.reading import read_index
from mirrord.syncers.helm.upstream.yaml_events import build

HEX = "0123456789abcdef" * 4
BOTH = pytest.mark.parametrize("emit", [emit_yaml, emit_json], ids=["yaml", "json"])
Emit = Callable[..., bytes]


def chart(name: str, version: str, created: str | None = None, **keys: Any) -> ChartVersion:
    entry = {"name": name, "version": version, "urls": [f"https://example.com/{name}.tgz"], "apiVersion": "v2", **keys}
    return ChartVersion(name, version, Digest(f"sha256:{HEX}"), ("https://example.com",), created, False, entry)


CHARTS = (
    chart("crane", "1.9.0", "2024-01-01T00:00:00.5+08:00"),
    chart("crane", "1.10.0", "2023-12-31T18:00:00.123456789Z", description="Loki: like Prometheus, but for logs."),
    chart("crane", "1.10.0-rc.1"),
    chart(
        "agent",
        "v2",
        deprecated=True,
        keywords=["a", "1"],
        maintainers=[{"name": "A", "email": "a@b.c"}, {"name": "B"}],
    ),
)

YAML = f"""\
apiVersion: v1
entries:
  agent:
  - apiVersion: v2
    deprecated: true
    digest: {HEX}
    keywords:
    - a
    - "1"
    maintainers:
    - email: a@b.c
      name: A
    - name: B
    name: agent
    urls:
    - charts/agent-v2.tgz
    version: v2
  crane:
  - apiVersion: v2
    created: "2023-12-31T18:00:00.123456789Z"
    description: "Loki: like Prometheus, but for logs."
    digest: {HEX}
    name: crane
    urls:
    - charts/crane-1.10.0.tgz
    version: 1.10.0
  - apiVersion: v2
    digest: {HEX}
    name: crane
    urls:
    - charts/crane-1.10.0-rc.1.tgz
    version: 1.10.0-rc.1
  - apiVersion: v2
    created: "2024-01-01T00:00:00.5+08:00"
    digest: {HEX}
    name: crane
    urls:
    - charts/crane-1.9.0.tgz
    version: 1.9.0
generated: "2023-12-31T18:00:00.123456789Z"
"""


def test_layout() -> None:
    """YAML has helm's layout: keys sorted, newest version first, urls beside the index, times to the nanosecond."""
    assert emit_yaml(CHARTS).decode() == YAML


def test_json_says_the_same() -> None:
    """JSON holds the same, without a space too many."""
    data = emit_json(CHARTS)
    assert json.loads(data) == yaml.safe_load(YAML)
    assert data == json.dumps(yaml.safe_load(YAML), separators=(",", ":"), sort_keys=True).encode() + b"\n"


@BOTH
def test_same_charts_same_bytes(emit: Emit) -> None:
    """The order in which charts and keys come does not matter, and what was written is written again."""
    data = emit(CHARTS)
    for seed in range(5):
        shuffled = random.Random(seed).sample(CHARTS, len(CHARTS))
        backwards = [replace(found, entry=dict(reversed(list(found.entry.items())))) for found in shuffled]
        assert emit(backwards) == data
    assert emit(read_index(data).entries) == data


@BOTH
def test_an_empty_index(emit: Emit) -> None:
    """Without charts there is still an index, which is one for helm too."""
    index = read_index(emit([]))
    assert (index.entries, index.problems, index.generated) == ((), (), None)
    assert yaml.safe_load(emit([])) == {"apiVersion": "v1", "entries": {}}


@BOTH
def test_the_frame(emit: Emit) -> None:
    """Public keys and annotations are the index's own; `generated` is its newest `created`, by the clock of UTC."""
    data = emit(CHARTS, public_keys=["pubkey.gpg"], annotations={"made.by": "mirrord: 1"})
    index = read_index(data)
    assert (index.public_keys, index.annotations) == (("pubkey.gpg",), (("made.by", "mirrord: 1"),))
    assert index.generated == "2023-12-31T18:00:00.123456789Z"
    assert list(yaml.safe_load(data)) == ["annotations", "apiVersion", "entries", "generated", "publicKeys"]


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("charts", "charts/a-1.0.0+b.tgz"),
        ("charts/", "charts/a-1.0.0+b.tgz"),
        ("", "a-1.0.0+b.tgz"),
        ("https://cdn.example.com/x/", "https://cdn.example.com/x/a-1.0.0+b.tgz"),
    ],
)
@BOTH
def test_urls(emit: Emit, base: str, url: str) -> None:
    """Archives are where they were put, and have the name that provenance files know them by."""
    assert read_index(emit([chart("a", "1.0.0+b")], base)).entries[0].urls == (url,)


@BOTH
def test_what_was_found_out_counts(emit: Emit) -> None:
    """The digest of the archive that was fetched is published, whatever the entry said; without one there is none."""
    said = chart("a", "1.0.0", digest="f" * 64)
    assert read_index(emit([said])).entries[0].digest == f"sha256:{HEX}"
    assert read_index(emit([replace(said, digest=None)])).entries[0].digest is None


@BOTH
def test_nothing_is_changed(emit: Emit) -> None:
    """Writing an index leaves what was read as it was."""
    before = [dict(found.entry) for found in CHARTS]
    emit(CHARTS)
    assert [dict(found.entry) for found in CHARTS] == before


DOUBTFUL = [
    *("1.10", "1", "1.", ".5", "1e3", "1_000", "0x1f", "0o7", "010", "12:30:45", "2024-01-01", "1.2.3", "1.2.3-rc.1+x"),
    *("", " ", "~", "null", "Null", "true", "False", "yes", "No", "ON", "off", "y", "N", ".nan", "-.inf", "nan", "+1"),
    *(
        "a: b",
        "a:b",
        "a:",
        "a #b",
        "a#b",
        "#a",
        "- a",
        "-",
        "--- a",
        "...",
        "? a",
        ": a",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a",
    ),
    *(
        "|",
        ">",
        "[a]",
        "{a}",
        "a, b",
        "it's",
        "'a'",
        '"a"',
        "a\\b",
        " a",
        "a ",
        "a  b",
        "a\tb",
        "<<",
        "=",
        ">=1.0.0-0",
        "^1",
    ),
    *(
        "é",
        "🔥 hot",
        "日本",
        "a\u0085b",
        "a\u2028b",
        "\ufeffa",
        "a\x7fb",
        "a\x9fb",
        "\ufffe",
        "a\x00b",
        "\x1b[0m",
        "\ud7ff",
    ),
    *(
        "a\n",
        "a\nb",
        "a\nb\n",
        "a\n\nb\n",
        "a\n\n",
        "\na",
        " a\nb",
        "a\n b\n",
        "a\nb ",
        "a\n \nb",
        "a\r\nb",
        "a\n\tb",
        "\n",
    ),
    *("a\n# b", "a\n---\nb", "- a\n- b\n", "é\n🔥\n", "a\n\u2028b", "a\x00\nb", "x" * 3000, "word " * 400, "e" * 64),
    *("1" * 64, "1" * 20 + "e" + "1" * 43, "c" * 64, HEX, "http://a.b/c?d=e&f=g#h", "A Helm chart (for x), y; z."),
]


@pytest.mark.parametrize("text", DOUBTFUL, ids=lambda text: ascii(text)[:24])
@BOTH
def test_every_text_comes_back(emit: Emit, text: str) -> None:
    """A text is read as the same text, by us and by a reader that guesses types, wherever it stands."""
    keys: dict[str, Any] = {
        "description": text,
        "keywords": [text, "x", text],
        "annotations": {"k": text, "z": "x"},
        "dependencies": [{"name": text, "import-values": [{"child": text, "list": [[text, "x"], text]}, text]}],
    }
    data = emit([chart("a", "1.0.0", **keys)])
    ours: Any = build(data).value
    for read in (ours, yaml.load(data, yaml.CSafeLoader)):
        found = read["entries"]["a"][0]
        assert {key: found[key] for key in keys} == keys


@pytest.mark.parametrize("name", ["y", "null", "1.0", "007", "true", "1e3", "a.b", "0x1"])
@BOTH
def test_every_chart_name_comes_back(emit: Emit, name: str) -> None:
    """Charts may be called like numbers and flags."""
    index = read_index(emit([chart(name, "1.0.0")]))
    assert index.problems == ()
    assert index.entries[0].name == name


@BOTH
def test_any_key_comes_back(emit: Emit) -> None:
    """Keys of annotations are texts like any other, up to the longest that are read."""
    annotations = {"1": "a", "yes": "b", "a: b": "c", "é" * 316: "d", "a/b.c": "e", "'\"\\": "f", "- x": "g"}
    index = read_index(emit([chart("a", "1.0.0", annotations=annotations)]))
    assert index.problems == ()
    assert index.entries[0].entry["annotations"] == annotations
