"""Which chart archives are let in, and how little the others can do."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrord.errors import ContentError, StorageError, TooLargeError
from mirrord.syncers.helm.names import ChartVersion
from mirrord.syncers.helm.upstream import chart_tar
from mirrord.syncers.helm.upstream.archive import check_archive, read_metadata
from mirrord.testing.charts import build_chart, member, pack, yaml_of
from tests.support.chartprograms import helm, helms

SUBCHART = b"name: b\nversion: 1.0.0\n"
CRANE = build_chart("crane", "1.2.0", {"templates/a.yaml": b"kind: List\n" * 9000, "charts/b/Chart.yaml": SUBCHART})
YAML = yaml_of(CRANE.metadata)
CHART = member("crane/Chart.yaml", YAML)
LISTED = CRANE.listed()


def check(folder: Path, data: bytes, listed: ChartVersion = LISTED) -> list[str]:
    """Return what is noted about an archive."""
    file, noted = folder / "chart.tgz", list[str]()
    file.write_bytes(data)
    check_archive(file, listed, noted.append)
    assert sorted(folder.iterdir()) == [file]
    return noted


def raw(*blocks: bytes) -> bytes:
    return gzip.compress(b"".join(blocks), mtime=0)


def squeezed(pieces: Iterable[bytes]) -> bytes:
    """Return gzip data of what need not fit into memory."""
    engine = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join([*map(engine.compress, pieces), engine.flush()])


def zeros() -> bytes:
    return squeezed([bytes(header("crane/f", 60 << 20)), *repeat(bytes(1 << 20), 60)] * 3)


def behind() -> bytes:
    """Return an archive whose Chart.yaml comes after 105 MB of other files."""
    filler = bytes(header("crane/f", 5 << 20)), *repeat(bytes(1 << 20), 5)
    return squeezed([*filler * 21, bytes(header("crane/Chart.yaml", len(YAML))), YAML, bytes(-len(YAML) % 512)])


def summed(block: bytearray) -> bytes:
    """Return a header block with the right check sum."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def header(name: str, size: int, kind: bytes = b"0") -> bytearray:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return bytearray(info.tobuf(tarfile.USTAR_FORMAT))


def extended(records: bytes) -> bytes:
    return bytes(header("x", len(records), b"x")) + records.ljust(512, b"\0")


def test_a_chart_as_helm_packages_it(tmp_path: Path) -> None:
    """A sound archive passes, subcharts with Chart.yaml of their own and all."""
    check(tmp_path, CRANE.data)
    assert read_metadata(tmp_path / "chart.tgz", "it") == CRANE.metadata


LONG = "templates/" + "d/" * 90 + "file.yaml"


def chart_of(metadata: bytes) -> bytes:
    return pack([member("crane/Chart.yaml", metadata)])


PLAIN = gzip.decompress(CRANE.data)
BEFORE_END = PLAIN[: len(PLAIN.rstrip(b"\0")) // 512 * 512 + 512]
GLOBAL = member("pax_global_header", b"28 comment=0123456789abcdef\n", b"g")
ODD: dict[str, tuple[bytes, str]] = {
    "gnu long name": (pack([member("crane/" + LONG), CHART], tarfile.GNU_FORMAT), ""),
    "pax long name": (pack([member("crane/" + LONG), CHART], tarfile.PAX_FORMAT), ""),
    "ustar prefix": (pack([member("crane/" + "d/" * 60 + "f"), CHART], tarfile.USTAR_FORMAT), ""),
    "folders": (pack([member("crane", kind=tarfile.DIRTYPE), CHART]), ""),
    "git archive": (pack([GLOBAL, CHART]), ""),
    "windows": (pack([member("crane\\Chart.yaml", YAML), member("crane\\t\\a.yaml")]), ""),
    "another top folder": (pack([member("other-folder/./Chart.yaml", YAML)]), ""),
    "byte order mark": (pack([member("crane/Chart.yaml", b"\xef\xbb\xbf" + YAML)]), ""),
    "gzip of two members": (gzip.compress(CRANE.data[:0]) + CRANE.data, ""),
    "gzip with names": (b"\x1f\x8b\x08\x1c" + CRANE.data[4:10] + b"\x02\x00xxa\0b\0" + CRANE.data[10:], ""),
    "no end mark": (raw(BEFORE_END), ""),
    "half an end mark": (raw(BEFORE_END, bytes(512)), ""),
    "no padding": (raw(bytes(header("crane/Chart.yaml", len(YAML))), YAML), ""),
    "symlink": (pack([CHART, member("crane/lock", kind=tarfile.SYMTYPE, link="/etc")]), "'crane/lock' is a symbolic"),
    "hard link": (pack([CHART, member("crane/l", kind=tarfile.LNKTYPE, link="crane/a")]), "'crane/l' is a hard link"),
    "character device": (pack([CHART, member("crane/null", kind=tarfile.CHRTYPE)]), "'crane/null' is a device"),
    "block device": (pack([CHART, member("crane/sda", kind=tarfile.BLKTYPE)]), "'crane/sda' is a device"),
    "fifo": (pack([CHART, member("crane/pipe", kind=tarfile.FIFOTYPE)]), "'crane/pipe' is a pipe"),
    "unknown kind": (pack([CHART, member("crane/what", b"x", kind=b"Z")]), ""),
    "two Chart.yaml": (pack([member("crane/Chart.yaml", b"name: x"), CHART]), "2 files Chart.yaml, of which helm"),
    "zeros after gzip": (CRANE.data + bytes(2), ""),
    "garbage after gzip": (CRANE.data + b"garbage", "after the end of the archive: not gzip data"),
    "archive after the end": (raw(PLAIN, PLAIN), "something follows the end of the archive"),
    "gzip after gzip": (CRANE.data + CRANE.data, "something follows the end of the archive"),
    "check sum cut off": (CRANE.data[:-3], "after the end of the archive: truncated gzip data"),
    "another check sum": (CRANE.data[:-8] + bytes(8), "damaged gzip data: checksum mismatch"),
    "merge key": (chart_of(b"x: &x {name: crane, version: 1.2.0}\n<<: *x\napiVersion: v2\n"), ""),
    "key twice": (chart_of(b"version: 1.0.0\n" + YAML), ""),
    "key twice in JSON": (chart_of(b'{"name": "x", "name": "crane", "version": "1.2.0", "apiVersion": "v2"}'), ""),
    "more than 5 MiB in one file": (pack([CHART, member("crane/big", bytes(chart_tar.SINGLE + 1))]), ""),
}


@pytest.mark.parametrize(("data", "said"), ODD.values(), ids=ODD)
def test_unusual_archives_that_helm_loads(data: bytes, said: str, tmp_path: Path) -> None:
    """What other tools write and helm loads is let in; what is odd about it is noted, and no reason to refuse it."""
    noted = check(tmp_path, data)
    assert len(noted) == bool(said)
    assert said in "".join(noted)


@pytest.mark.parametrize(
    "binary", helms() or [pytest.param("", marks=pytest.mark.skip(reason="helm is not installed"))]
)
async def test_helm_judges(binary: str, tmp_path: Path) -> None:
    """Real helm loads each of these archives; helm 3 alone has a limit for one file, and only when it loads it."""
    async with helm(binary) as run:
        for name, (data, _) in ODD.items():
            file = tmp_path / "chart.tgz"
            file.write_bytes(data)
            ran = await run("show", "chart", file)
            limit = "larger than the maximum file size" in ran.output
            assert ran.status == 0 or (limit and name.startswith("more than")), f"{name}: {ran.output}"
        for name, (content, _) in UNSAFE.items():
            if name in STRICTER:
                continue
            file.write_bytes(pack(content, tarfile.GNU_FORMAT))
            assert (await run("show", "chart", file)).status, name
        for name, (data, _) in DAMAGED.items():
            file.write_bytes(data)
            assert (await run("show", "chart", file)).status, name


SPARSE = b"22 GNU.sparse.major=1\n"
UNSAFE = {
    "52 absolute": ([CHART, member("/etc/passwd", b"x")], "'/etc/passwd' has an absolute name"),
    "52 absolute below": ([CHART, member("crane/c:/x", b"x")], "'crane/c:/x' has an absolute name"),
    "52 drive": ([CHART, member("C:\\x", b"x")], "absolute"),
    "52 unc": ([CHART, member("\\\\server\\x", b"x")], "absolute"),
    "52 dots": ([CHART, member("crane/../../x", b"x")], "'crane/../../x' leads out"),
    "52 dots windows": ([CHART, member("crane\\..\\x", b"x")], "leads out"),
    "52 dots on top": ([CHART, member("../crane/x", b"x")], "leads out"),
    "52 dots folder": ([CHART, member("crane/..", kind=tarfile.DIRTYPE)], "leads out"),
    "52 both slashes": ([CHART, member("crane/x\\Chart.yaml", YAML)], "two ways"),
    "52 gnu sparse": ([CHART, member("crane/holes", b"x", kind=tarfile.GNUTYPE_SPARSE)], "is a sparse file"),
    "52 pax sparse": ([member("x", SPARSE, b"x"), CHART], "sparse"),
    "52 top level file": ([CHART, member("README.md", b"x")], "'README.md' lies outside"),
    "52 top level chart": ([member("Chart.yaml", YAML)], "'Chart.yaml' lies outside"),
    "52 no chart": ([member("crane/values.yaml", b"x")], "no file Chart.yaml"),
    "52 chart too deep": ([member("./crane/Chart.yaml", YAML)], "no file Chart.yaml"),
    "52 nothing": ([], "no file"),
    "52 pax name": ([member("x", b"29 path=crane2/../Chart.yaml\n", b"x"), CHART], "leads out"),
    "53 no yaml": ([member("crane/Chart.yaml", b"a: [")], "is no YAML"),
    "53 a list": ([member("crane/Chart.yaml", b"- a\n")], "no mapping"),
    "53 bomb": ([member("crane/Chart.yaml", b"[" * 20_000)], "nested"),
    "53 empty": ([member("crane/Chart.yaml", b"")], "no mapping"),
    "53 latin-1": ([member("crane/Chart.yaml", YAML + "home: é".encode("latin-1"))], "is no YAML"),
    "53 lower case": ([member("crane/chart.yaml", YAML)], "no file Chart.yaml"),
    "53 mac": ([CHART, member("._crane", b"x")], "'._crane' lies outside"),
}
STRICTER = {"52 absolute", "52 drive", "52 dots on top", "52 dots folder", "52 both slashes", "52 pax sparse"}
"""What helm loads, because it looks at less of a name, and other tools would unpack to where it must not be."""


@pytest.mark.parametrize(("content", "said"), UNSAFE.values(), ids=UNSAFE)
def test_unsafe_archives(content: list[tuple[tarfile.TarInfo, bytes]], said: str, tmp_path: Path) -> None:
    """Members that no chart needs, and archives without exactly one Chart.yaml, are refused by name."""
    with pytest.raises(ContentError, match=r"^crane-1\.2\.0\.tgz: ") as caught:
        check(tmp_path, pack(content, tarfile.GNU_FORMAT))
    assert said in str(caught.value)


MINUS = bytearray(header("crane/x", 0))
MINUS[124:136] = b"-1\0         "
DAMAGED = {
    "52 html": (b"<!DOCTYPE html><title>Not found</title>", "not a gzip archive"),
    "52 empty": (b"", "not a gzip archive"),
    "52 plain tar": (PLAIN, "not a gzip archive"),
    "52 half a gzip header": (CRANE.data[:9], "truncated gzip data"),
    "52 half a file": (raw(PLAIN[:540]), "cut off in the content"),
    "52 a member after half an end": (raw(BEFORE_END, bytes(512), bytes(header("crane/x", 0))), "half an end mark"),
    "52 half a header": (raw(PLAIN[:300]), "cut off in the header"),
    "52 truncated gzip": (CRANE.data[:-40], "truncated gzip data"),
    "52 damaged header": (raw(PLAIN[:10] + b"?" + PLAIN[11:]), "check sum"),
    "52 not a tar": (raw(b"x" * 4096), "no number"),
    "52 no number": (raw(summed(MINUS)), "no number"),
    "52 pax length": (raw(extended(b"99 path=x")), "extended header"),
    "52 pax size": (raw(extended(b"11 size=-1\n"), bytes(header("c/x", 0))), "no number"),
}


@pytest.mark.parametrize(("data", "said"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_archives(data: bytes, said: str, tmp_path: Path) -> None:
    """What is cut off or damaged before its end, or no archive at all, is refused."""
    with pytest.raises(ContentError) as caught:
        check(tmp_path, data)
    assert said in str(caught.value)


HUGE = bytearray(header("crane/big", 0))
HUGE[124:136] = b"\x80" + (1 << 80).to_bytes(11, "big")
LARGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "52 bomb": (zeros, "unpacks to more than 104857600 bytes"),
    "52 chart behind 100 MB": (behind, "unpacks to more than 104857600 bytes"),
    "52 one large Chart.yaml": (
        lambda: pack([member("crane/Chart.yaml", bytes(chart_tar.SINGLE + 1))]),
        "'crane/Chart.yaml' has 5242881 bytes",
    ),
    "52 binary size": (lambda: raw(summed(HUGE)), "bytes, at most"),
    "52 long extension": (lambda: raw(bytes(header("x", 2 << 20, b"x"))), "extended header has"),
    "52 many members": (lambda: squeezed(repeat(bytes(header("crane/d/", 0, b"5")) * 1000, 40)), "more than 20000"),
}


@pytest.mark.parametrize(("made", "said"), LARGE.values(), ids=LARGE)
def test_limits(made: Callable[[], bytes], said: str, tmp_path: Path) -> None:
    """Reading stops at helm's limits, whatever the headers promise, and never holds more than one file."""
    data = made()
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match=said):
            check(tmp_path, data)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "other"), ("name", "Crane"), ("version", "1.2.1"), ("version", "vv1.2.0"), ("version", "1.2.0+build")],
    ids="53 {}".format,
)
def test_another_chart(key: str, value: str, tmp_path: Path) -> None:
    """An archive of another chart, or of another version, than the index says is refused, and both are named."""
    with pytest.raises(ContentError, match=f"says {key} '.*', not '{value.replace('+', '.')}'"):
        check(tmp_path, CRANE.data, replace(LISTED, name=value) if key == "name" else replace(LISTED, version=value))


@pytest.mark.parametrize(("listed", "packed"), [("v1.2.0", "1.2.0"), ("1.2.0", "v1.2.0")])
def test_a_v_more_or_less(listed: str, packed: str, tmp_path: Path) -> None:
    """An index and a Chart.yaml that differ in the `v` before a version speak of the same one; that is noted."""
    noted = check(tmp_path, build_chart("crane", packed).data, replace(LISTED, version=listed))
    assert noted == [f"its Chart.yaml says version {packed}"]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (b"name: !x crane\nversion: 1.2.0\n", "name nothing that can be read (tag !x at line 1 is not supported)"),
        (b"name: crane\nversion: {a: b}\n", "version a mapping, not '1.2.0'"),
        (b"name: crane\n", "version nothing, not '1.2.0'"),
        (b"name: crane\nversion: yes\n", "version 'yes', not '1.2.0'"),
    ],
)
def test_messages_are_for_people(metadata: bytes, said: str, tmp_path: Path) -> None:
    """What a Chart.yaml says in place of a name or a version is told in words, and never as a value of Python's."""
    with pytest.raises(ContentError) as caught:
        check(tmp_path, pack([member("crane/Chart.yaml", metadata)]))
    assert said in str(caught.value)
    assert "Poison" not in str(caught.value)


@pytest.mark.parametrize("said", [None, ["crane"], {"a": "b"}, 7], ids="53 name={}".format)
def test_a_name_that_is_no_text(said: object, tmp_path: Path) -> None:
    """A Chart.yaml whose name is no text is that of no chart."""
    with pytest.raises(ContentError, match="says name"):
        check(tmp_path, build_chart("crane", "1.2.0", metadata={"name": said}).data)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A file that cannot be read is our trouble and not the chart's."""
    with pytest.raises(StorageError):
        check_archive(tmp_path / "none.tgz", LISTED)


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, len(PLAIN) - 1), st.integers(0, 255)), max_size=4),
    length=st.integers(0, len(PLAIN)),
)
def test_any_bytes(edits: list[tuple[int, int]], length: int) -> None:
    """Whatever is changed in a tar, and wherever it ends, it is read or refused; nothing else happens."""
    data = bytearray(PLAIN)
    for at, value in edits:
        data[at] = value
    try:
        found = list(chart_tar.files(io.BytesIO(raw(bytes(data[:length]))), lambda _name: True, lambda _what: None))
    except ContentError:
        return
    assert sum(len(content) for _, content in found) <= len(PLAIN)


def test_names_as_python_reads_them() -> None:
    """For an archive that is sound, names and contents are those that `tarfile` finds."""
    for style in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = pack(
            [CHART, member("crane/" + "e/" * 70 + "ü.yaml"[style == tarfile.USTAR_FORMAT :], b"x" * 700)], style
        )
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            expected = {one.name.partition("/")[2]: one.size for one in archive}
        found = dict(chart_tar.files(io.BytesIO(data), lambda _name: True, lambda _what: None))
        assert {name: len(content) for name, content in found.items()} == expected
