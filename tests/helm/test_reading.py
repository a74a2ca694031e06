"""One bad entry costs itself; what is read can be published."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from mirrord.errors import ContentError
from mirrord.syncers.helm.names import ChartVersion, instant, oci_tag, valid_name
from mirrord.syncers.helm.transfer.emit import emit_json, emit_yaml
from mirrord.syncers.helm.upstream.reading import Index, read_index
from tests.support.chartprograms import helm, helms

REAL = Path(__file__).parents[3] / "shared/data/helm"
HEX = "0123456789abcdef" * 4
GOOD = f"""\
  good:
  - name: good
    version: 1.0.0
    digest: {HEX}
    created: "2024-05-07T14:58:53.647187123+08:00"
    urls: [charts/good-1.0.0.tgz]
"""


def index_of(charts: str, top: str = "") -> bytes:
    return f"apiVersion: v1\nentries:\n{GOOD}{charts}generated: 2024-05-07T14:58:53Z\n{top}".encode()


def entry(*lines: str, version: str = "version: 2.0.0", name: str = "odd") -> bytes:
    """Return an index with a good chart, and another that has these lines in it."""
    return index_of(
        f"  odd:\n  - name: {name}\n    urls: [odd-2.0.0.tgz]\n" + "".join(f"    {x}\n" for x in [version, *lines])
    )


def items(index: Index) -> list[str]:
    return [found.item for found in index.entries]


# Row of the table in research: what one odd value does (helm rejects the whole index, or skips the entry); then the
# index, whether the entry stays, and what is said about it.
ROWS: list[tuple[str, bytes, bool, str]] = [
    ("unknown-key", entry("mirroredBy: me"), True, "odd 2.0.0: mirroredBy is no key that helm knows; put right"),
    (
        "unknown-in-dependency",
        entry("dependencies: [{name: a, x: y}]"),
        True,
        "dependencies.x is no key that helm knows",
    ),
    ("unknown-in-maintainer", entry("maintainers: [{name: a, x: y}]"), True, "maintainers.x is no key that helm knows"),
    ("unknown-top-key", index_of("", "extra: 1\n"), False, "index.yaml: extra is no key that helm knows; put right"),
    ("anchor-holder", index_of("", "x-anchors: &a {b: c}\n"), False, "x-anchors is no key that helm knows"),
    ("alias", entry("home: &h http://a", "icon: *h"), True, ""),
    ("alias-list", entry("maintainers: &m [{name: a}]", "dependencies: *m"), True, ""),
    ("alias-nothing", entry("icon: *h"), False, "odd 2.0.0: icon: alias *h at line 13 stands for nothing; left out"),
    ("merge-key", entry("maintainers: [{<<: {name: x}}]"), True, ""),
    ("merge-entry", index_of("  odd:\n  - {<<: {urls: [x]}, name: odd, version: 2.0.0}\n"), True, ""),
    ("tag", entry("home: !!str x"), True, ""),
    ("tag-other", entry("home: !x y"), False, "home: tag !x at line 13 is not supported; left out"),
    ("duplicate-key", entry("home: a", "home: b"), False, "odd 2.0.0: home: home is written twice (line 14); left out"),
    (
        "duplicate-version",
        entry("version: 3.0.0"),
        False,
        "odd (number 1): version: version is written twice (line 13)",
    ),
    ("duplicate-unknown", entry("x: a", "x: b"), True, "odd 2.0.0: x is no key that helm knows; put right"),
    ("duplicate-chart", index_of("  odd: []\n  odd: []\n"), False, "odd: odd is written twice (line 10); left out"),
    ("version-1.10", entry(version="version: 1.10"), True, "odd 1.10: version: 1.10 has no quotes; put right"),
    ("version-2", entry(version="version: 2"), True, "odd 2: version: 2 has no quotes; put right"),
    ("version-quoted", entry(version='version: "1.10"'), True, ""),
    ("app-version-1.10", entry("appVersion: 1.10"), True, "appVersion: 1.10 has no quotes; put right"),
    ("app-version-yes", entry("appVersion: yes"), True, "appVersion: yes has no quotes; put right"),
    ("annotation-number", entry("annotations: {a: 1}"), True, "annotations.a: 1 has no quotes; put right"),
    ("annotation-flag", entry("annotations: {a: true}"), True, "annotations.a: true has no quotes; put right"),
    (
        "annotation-mapping",
        entry("annotations: {a: {b: c}}"),
        False,
        "annotations.a is a mapping, not a text; left out",
    ),
    ("annotation-null", entry("annotations: {a: null}"), True, ""),
    (
        "annotation-long",
        entry(f"annotations: {{{'k' * 400}: v}}"),
        True,
        "annotations has a key that is too long for one",
    ),
    ("keywords-text", entry("keywords: one"), False, "keywords is a text, not a list; left out"),
    (
        "urls-text",
        entry().replace(b"[odd-2.0.0.tgz]", b"odd-2.0.0.tgz"),
        False,
        "urls is a text, not a list",
    ),
    ("deprecated-quoted", entry('deprecated: "true"'), True, "deprecated: true has quotes; put right"),
    ("deprecated-word", entry("deprecated: maybe"), False, "deprecated is a text, not true or false; left out"),
    ("app-version-list", entry("appVersion: [1]"), False, "appVersion is a list, not a text; left out"),
    ("created-yesterday", entry('created: "yesterday"'), True, "created: yesterday is no time as 2024-01-31T10:00:00Z"),
    ("created-date", entry("created: 2024-01-01"), True, "created: 2024-01-01 is no time"),
    ("created-spaced", entry("created: 2024-01-01 00:00:00"), True, "created: 2024-01-01 00:00:00 is no time"),
    ("created-31st", entry("created: 2024-02-31T00:00:00Z"), True, "created: 2024-02-31T00:00:00Z is no time"),
    ("created-list", entry("created: []"), False, "created is a list, not a text; left out"),
    ("created-unquoted", entry("created: 2024-01-01T00:00:00.5Z"), True, ""),
    ("created-missing", entry(), True, ""),
    (
        "generated-foo",
        index_of("").replace(b"generated: 2024-05-07T14:58:53Z", b"generated: foo"),
        False,
        "generated: foo is",
    ),
    ("null-entry", index_of("  odd:\n  -\n"), False, "odd (number 1): the entry is empty, not a mapping; left out"),
    ("text-entry", index_of("  odd: [x]\n"), False, "odd (number 1): the entry is a text, not a mapping; left out"),
    ("text-chart", index_of("  odd: x\n"), False, "odd: is no list of versions; left out"),
    ("null-chart", index_of("  odd:\n"), False, ""),
    (
        "49-bad-version",
        entry(version="version: 1.0.0.1"),
        False,
        "odd 1.0.0.1: version '1.0.0.1' is no semantic version; l",
    ),
    ("51-path-version", entry(version="version: 1.0.0/../x"), False, "is no semantic version; left out"),
    ("49-no-version", entry(version="home: x"), False, "odd (number 1): has no version; left out"),
    ("51-path-name", entry(name="../odd"), False, "odd 2.0.0: name '../odd' is no name for a chart; left out"),
    ("51-inner-path-name", entry(name="a/odd"), False, "name 'a/odd' is no name for a chart; left out"),
    ("51-dots-name", entry(name=".."), False, "odd 2.0.0: name '..' is no name for a chart; left out"),
    ("51-no-name", entry(name=""), False, "odd 2.0.0: has no name; left out"),
    ("51-long-name", entry(name="n" * 300), False, "is no name for a chart; left out"),
    ("51-long-file", entry(name="n" * 245), False, "name and version are too long for a file name; left out"),
    ("bad-type", entry("type: plugin"), False, "type 'plugin' is neither application nor library; left out"),
    ("null-maintainer", entry("maintainers: [null]"), False, "maintainers is empty, not a mapping; left out"),
    ("null-dependency", entry("dependencies: [null]"), False, "dependencies is empty, not a mapping; left out"),
    (
        "bad-alias",
        entry("dependencies: [{name: a, alias: 'a b'}]"),
        False,
        "dependencies.alias 'a b' has characters other",
    ),
    ("same-dependency-twice", entry("dependencies: [{name: a}, {name: a}]"), True, ""),
    ("app-version-null", entry("appVersion: null"), True, ""),
    ("no-urls", entry().replace(b"    urls: [odd-2.0.0.tgz]\n", b""), True, ""),
    ("crlf", entry("home: x").replace(b"\n", b"\r\n"), True, ""),
    ("bom", b"\xef\xbb\xbf" + entry("home: x"), True, ""),
    ("second-document", entry() + b"---\napiVersion: v2\n", True, "index.yaml: a second document follows"),
    ("49-digest-of-digits", entry("digest: " + "1" * 64), True, f"digest: {'1' * 40} has no quotes; put right"),
    ("49-digest-with-e", entry("digest: " + "1" * 20 + "e" + "1" * 43), True, "has no quotes; put right"),
    ("49-digest-prefix", entry(f"digest: sha256:{HEX}"), True, ""),
    ("49-digest-upper", entry(f"digest: {HEX.upper()}"), True, ""),
    ("49-digest-short", entry("digest: abc"), True, "digest: abc is no SHA-256; put right"),
    ("49-build-version", entry(version="version: 1.0.0+build"), True, ""),
    ("49-v-version", entry(version="version: v1.0"), True, ""),
    ("49-zero-version", entry(version="version: 01.2.3"), True, ""),
    ("name-is-not-key", entry(name="other"), True, ""),
    (
        "long-key",
        index_of(f"  {'k' * 400}: [{{name: odd, version: 2.0.0}}]\n"),
        True,
        "under a name that is too long for one",
    ),
    ("import-values", entry("dependencies: [{name: a, import-values: [x, {child: it, n: 1}]}]"), True, "has no quotes"),
    ("public-keys-text", index_of("", "publicKeys: x\n"), False, "publicKeys is a text, not a list; put right"),
    ("server-info", index_of("", "serverInfo: {contextPath: /x}\n"), False, ""),
]


@pytest.mark.parametrize(("data", "stays", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_one_odd_value(data: bytes, stays: bool, said: str) -> None:
    """An odd value is put right or costs its entry, is told in one sentence, and touches nothing else."""
    index = read_index(data)
    assert index.entries[0].item == "good-1.0.0"
    assert len(index.entries) == 1 + stays
    assert len(index.problems) == (1 if said else 0)
    assert said in str(next(iter(index.problems), ""))
    for emit in (emit_yaml, emit_json):
        again = read_index(emit(index.entries))
        assert again.problems == ()
        assert sorted(items(again)) == sorted(items(index))


@pytest.mark.parametrize(("data", "stays", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_no_value_of_the_table_is_lost_in_json(data: bytes, stays: bool, said: str) -> None:
    """What helm would read from the index that is written, it would read from both formats alike."""
    index = read_index(data)
    one, two = read_index(emit_yaml(index.entries)), read_index(emit_json(index.entries))
    assert one == two


@pytest.mark.parametrize(
    "binary", helms() or [pytest.param("", marks=pytest.mark.skip(reason="helm is not installed"))]
)
@pytest.mark.parametrize("emit", [emit_yaml, emit_json], ids=["yaml", "json"])
async def test_helm_loads_what_is_left_of_the_table(binary: str, emit: type, tmp_path: Path) -> None:
    """Real helm takes an index of all rows, each as a chart of its own, and lists every version of it."""
    charts = list(renamed(read_index(data) for _, data, _, _ in ROWS))
    (tmp_path / "r-index.yaml").write_bytes(emit(charts))
    (tmp_path / "repositories.yaml").write_text(
        'apiVersion: ""\nrepositories: [{name: r, url: "http://127.0.0.1:9"}]\n'
    )
    async with helm(binary) as run:
        places = ["--repository-config", tmp_path / "repositories.yaml", "--repository-cache", tmp_path]
        ran = await run("search", "repo", "-l", "--devel", "-o", "json", *places)
    assert ran.status == 0, ran.output
    listed = {(found["name"].removeprefix("r/"), found["version"]) for found in json.loads(ran.output)}
    assert listed == {(chart.name, chart.version) for chart in charts}


def renamed(indexes: Iterable[Index]) -> Iterable[ChartVersion]:
    """Give every row's charts a name of their own."""
    for row, index in enumerate(indexes):
        for found in index.entries:
            name = f"row{row}-{found.name}"[:200]
            yield ChartVersion(
                name, found.version, found.digest, found.urls, found.created, found.deprecated, found.entry
            )


def test_an_entry() -> None:
    """A version keeps its spelling, its time to the nanosecond and every key that says something."""
    lines = [
        "appVersion: 'v1'",
        "description: ''",
        "deprecated: true",
        "keywords: [a, 'b']",
        f"digest: sha256:{HEX.upper()}",
    ]
    good, odd = read_index(entry(*lines, version="version: v2.0.0+b")).entries
    assert (good.created, good.deprecated, good.urls) == (
        "2024-05-07T14:58:53.647187123+08:00",
        False,
        ("charts/good-1.0.0.tgz",),
    )
    assert (odd.file, odd.item, odd.digest) == ("odd-v2.0.0+b.tgz", "odd-v2.0.0+b", f"sha256:{HEX}")
    assert odd.deprecated
    assert dict(odd.entry) == {
        "name": "odd",
        "version": "v2.0.0+b",
        "urls": ["odd-2.0.0.tgz"],
        "appVersion": "v1",
        "deprecated": True,
        "keywords": ["a", "b"],
        "digest": HEX,
    }
    assert oci_tag(odd.version) == "v2.0.0_b"
    assert hash(odd) != hash(good)


def test_the_frame_of_an_index() -> None:
    """Time, public keys and annotations of the index itself are read."""
    index = read_index(index_of("", "publicKeys: [pubkey.gpg]\nannotations: {b: x, a: 'y'}\n"))
    assert index.generated == "2024-05-07T14:58:53Z"
    assert index.public_keys == ("pubkey.gpg",)
    assert index.annotations == (("a", "y"), ("b", "x"))


def test_a_version_listed_twice_keeps_both_digests() -> None:
    """The archive decides between two digests (bad input 50); the same digest again is one version."""
    first, second = f"digest: {HEX}", f"digest: {HEX[::-1]}"
    row = "  - {{name: odd, version: 1.0.0, urls: [x], {}}}\n".format
    index = read_index(index_of("  odd:\n" + row(first) + row(second) + row(first)))
    assert [found.digest for found in index.entries[1:]] == [f"sha256:{HEX}", f"sha256:{HEX[::-1]}"]
    assert [str(problem) for problem in index.problems] == ["odd 1.0.0: is listed twice; put right"]


def test_two_charts_never_share_a_file() -> None:
    """A chart cannot take the file of another by a version that continues its name."""
    charts = "  a-1.0.0: [{name: a-1.0.0, version: 1.0.0}]\n  a: [{name: a, version: 1.0.0-1.0.0}]\n"
    index = read_index(index_of(charts))
    assert items(index) == ["good-1.0.0", "a-1.0.0-1.0.0"]
    assert [str(found) for found in index.left_out] == [
        "a 1.0.0-1.0.0: its file a-1.0.0-1.0.0.tgz is also that of a-1.0.0 1.0.0; left out"
    ]


def test_json() -> None:
    """An index in JSON is read by the same rules, though helm itself ignores unknown keys there."""
    charts = {
        "good": [{"name": "good", "version": "1.0.0", "urls": ["x"], "new": 1, "created": "2024-01-01T00:00:00Z"}],
        "odd": [
            {"name": "odd", "version": 1.10, "deprecated": True, "annotations": {"a": True}},
            {"name": "odd", "version": "2.0.0", "home": "\ud800"},
            None,
        ],
    }
    data = json.dumps({"apiVersion": "v1", "entries": charts}).encode()
    for index in (read_index(data), read_index(b"\xef\xbb\xbf\n" + data)):
        assert items(index) == ["good-1.0.0", "odd-1.1"]
        assert index.entries[1].deprecated
        assert [str(problem) for problem in index.problems] == [
            "good 1.0.0: new is no key that helm knows; put right",
            "odd 1.1: version: 1.1 has no quotes; put right",
            "odd 1.1: annotations.a: true has no quotes; put right",
            "odd 2.0.0: home holds half a character; left out",
            "odd (number 3): the entry is empty, not a mapping; left out",
        ]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "a web page"),
        (b"\n  <?xml version='1.0'?><Error/>", "a web page"),
        (b"Not Found\n", "no apiVersion"),
        (b"# nothing\n", "no apiVersion"),
        (b"[]", "no apiVersion"),
        (b"entries: {}\n", "no apiVersion"),
        (b"apiVersion:\nentries: {}\n", "no apiVersion"),
        (b"apiVersion: v1\nentries: []\n", "entries are no mapping"),
        (b"apiVersion: v1\nentries: {}\nentries: {}\n", "entries is written twice"),
        (b"apiVersion: v1\nentries: &a {}\ngenerated: *a\nx: {a: *a", "is no YAML"),
        (b'{"apiVersion": "v1", "entries": {"a": [', "is no JSON"),
        (index_of("  odd:\n  - name: odd\n    version: 1.10")[:140], "is cut off"),
        (b"apiVersion: v1\nentries:\n\ta: []\n", "is no YAML"),
        (b"a: " + b"[" * 100 + b"]" * 100, "nested more than 64"),
    ],
    ids=lambda value: "48-" + repr(value[:20]) if isinstance(value, bytes) else None,
)
def test_no_index(data: bytes, what: str) -> None:
    """What is no index as a whole is refused as a whole, so that nobody takes it for an empty one."""
    with pytest.raises(ContentError, match=what) as caught:
        read_index(data)
    assert str(caught.value).startswith("index.yaml")


def test_an_index_of_nothing() -> None:
    """`entries: null` is an index without charts: the guard, not the reader, knows whether that is a loss."""
    assert read_index(b"apiVersion: v1\nentries: null\n") == read_index(b"apiVersion: v1\n") == Index(())


@pytest.mark.parametrize(
    ("name", "valid"),
    [(name, True) for name in ("a", "A.b_c-1", "9", "x" * 250, "_b", "a b", "bé", "图表")]
    + [(name, False) for name in ("", ".", "..", ".a", "-a", "a/b", "a\\b", "a ", " a", "a\n", "x" * 251)]
    + [(name, False) for name in ("a\u2028b", 'a"b', "é" * 126)],
    ids=lambda value: f"51-{value[:12]!a}" if isinstance(value, str) else None,
)
def test_names(name: str, valid: bool) -> None:
    """A chart's name is a file name of at most 250 bytes, and never a path (CVE-2026-35206)."""
    assert valid_name(name) is valid


def test_times_sort_to_the_nanosecond() -> None:
    """Times sort by what they mean: offsets count, and each digit of the second."""
    ascending = [
        "2024-01-01T02:00:00.5+08:00",
        "2023-12-31T18:00:00.500000001Z",
        "2023-12-31T18:00:00.51Z",
        "2023-12-31T18:00:00.9-00:30",
    ]
    read = [instant(text) for text in ascending]
    assert None not in read
    assert sorted(found for found in reversed(read) if found) == read
    assert instant("2024-01-01T00:00:00.10Z") == instant("2024-01-01T00:00:00.1+00:00")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-01-01t00:00:00z",
        "2024-01-01T00:00:00,5Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z",
        "2024-1-1T0:0:0Z",
        "0001-01-01T00:00:00+01:00",
        "2024-01-01T00:00:00+25:00",
        "2024-01-01T00:00:00Z ",
    ],
)
def test_no_times(text: str) -> None:
    """What helm, or a calendar, does not take as RFC 3339 is no time."""
    assert instant(text) is None


@pytest.mark.parametrize(
    ("file", "versions", "charts"),
    [("gocrane-index.yaml", 20, 6), ("grafana-index.yaml.gz", 3591, 41), ("grafana-prev-index.yaml.gz", 3590, 41)],
)
def test_real_indexes(file: str, versions: int, charts: int) -> None:
    """Indexes of the world are read whole, without a problem, and come back from what is written."""
    if not (REAL / file).exists():
        pytest.skip(f"whole-indexes: {file} is not beside the repository")
    data = (REAL / file).read_bytes()
    index = read_index(gzip.decompress(data) if file.endswith(".gz") else data)
    assert len(index.entries) == versions
    assert len({found.name for found in index.entries}) == charts
    assert index.problems == ()
    again = read_index(emit_yaml(index.entries))
    assert again.problems == ()
    assert sorted(map(told, again.entries)) == sorted(map(told, index.entries))


def told(found: ChartVersion) -> str:
    """Return all that an index says about a version, but for where it is."""
    return json.dumps({**found.entry, "urls": None}, sort_keys=True)


def test_the_name_that_people_look_it_up_by() -> None:
    """What is listed under another name than its own keeps that, and both when it is listed under both."""
    charts = f"  odd: [{{name: good, version: 1.0.0, digest: {HEX}}}, {{name: x, version: 1.0.0}}]\n"
    index = read_index(index_of(charts))
    assert [(found.item, found.listed) for found in index.entries] == [
        ("good-1.0.0", ("good", "odd")),
        ("x-1.0.0", ("odd",)),
    ]
    assert index.problems == ()
    for emit in (emit_yaml, emit_json):
        again = read_index(emit(index.entries))
        assert {found.item: found.listed for found in again.entries} == {
            "good-1.0.0": ("good", "odd"),
            "x-1.0.0": ("odd",),
        }


def test_an_index_of_nothing_but_rubbish_stays_small() -> None:
    """Of a hundred thousand odd entries a thousand are told one by one, and the others are counted."""
    index = read_index(index_of("  odd:\n" + "  - x\n" * 100_000 + "  more: [{name: more, version: 1, urls: [a]}]\n"))
    assert items(index) == ["good-1.0.0", "more-1"]
    assert len(index.problems) == 1002
    assert index.more == 99_000
    assert [str(problem) for problem in index.problems[-2:]] == [
        "index.yaml: 99000 more entries are odd; left out",
        "index.yaml: 1 more entries are odd; put right",
    ]
