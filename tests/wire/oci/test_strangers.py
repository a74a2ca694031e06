"""What images are made of, whoever wrote it: a value, or an error of ours that says what is wrong."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mirrord.errors import ContentError, MirrordError
from mirrord.model.digest import Digest
from mirrord.wire.oci.archive import open_archive, read_list
from mirrord.wire.oci.created import moment
from mirrord.wire.oci.descriptor import Descriptor, index_of, read_descriptor, read_descriptors
from mirrord.wire.oci.document import check_shape, read_object
from mirrord.wire.oci.layout import Layout
from mirrord.wire.oci.layout_index import LayoutIndex
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.paging import names_of
from mirrord.wire.oci.platform import config_platform, platform_name
from mirrord.wire.oci.reference import Reference, valid_tag
from mirrord.wire.oci.referrers import entries_of, read_entries
from mirrord.wire.oci.tarball import index_tar
from tests.support.counting import steps

BOUNDED = settings(
    deadline=None,  # a loaded machine is no failure
    derandomize=True,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
DIGEST = st.binary(max_size=2).map(Digest.of)
TYPE = st.sampled_from(["application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json", "a/b"])
ANNOTATIONS = st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=2)
ENTRY = st.fixed_dictionaries(
    {"mediaType": TYPE | JSON, "digest": DIGEST | JSON, "size": st.integers(0, 9) | JSON},
    optional={
        "annotations": ANNOTATIONS | JSON,
        "urls": st.lists(st.text(max_size=4), max_size=2) | JSON,
        "data": st.sampled_from(["", "eA==", "===", "é"]) | JSON,
        "platform": st.dictionaries(st.sampled_from(["os", "architecture", "variant", "os.version"]), JSON) | JSON,
        "artifactType": JSON,
        "Digest": JSON,
    },
)
INDEX = st.fixed_dictionaries({"manifests": st.lists(ENTRY, max_size=3) | JSON}, optional={"schemaVersion": JSON})


def written(value: object) -> bytes:
    return json.dumps(value).encode()


@BOUNDED
@given(st.text(max_size=20) | st.from_regex(r"sha(256|512):[0-9a-fA-F]{62,66}\n?", fullmatch=True))
@example("sha256:" + "0" * 64 + "\n")
@example("sha256:" + "٣" * 64)
def test_a_digest_is_safe_in_a_path(text: str) -> None:
    """Of any text only lower-case hex of the right length is one, and it stays what it was."""
    try:
        digest = Digest.parse(text)
    except ContentError:
        return
    assert f"{digest.algorithm}:{digest.hex}" == text
    assert set(digest.hex) <= set("0123456789abcdef")


@BOUNDED
@given(st.binary(max_size=60) | JSON.map(written) | st.from_regex(rb'[\[\]{}",:\\a1\s-]{0,40}', fullmatch=True))
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":' + b"1" * 5000 + b"}")
@example(b'{"a":"\\ud800"}')
def test_any_document_is_an_object_or_refused(body: bytes) -> None:
    """What is read equals what every JSON reader reads, since keys are unique and numbers are numbers."""
    try:
        value = read_object(body, "x")
    except MirrordError:
        return
    assert value == json.loads(body)


@BOUNDED
@given(ENTRY | JSON)
def test_any_descriptor_is_one_or_refused(value: object) -> None:
    """What is read can be written again, and reads back the same."""
    try:
        one = read_descriptor(value, "x")
    except ContentError:
        return
    again = read_descriptor(json.loads(json.dumps(one.entry())), "x")
    assert (again.media_type, again.digest, again.size, again.annotations, again.artifact_type) == (
        one.media_type,
        one.digest,
        one.size,
        one.annotations,
        one.artifact_type,
    )


@BOUNDED
@given(st.lists(st.tuples(DIGEST, ANNOTATIONS), max_size=4))
def test_an_index_reads_back(entries: list[tuple[Digest, dict[str, str]]]) -> None:
    """What we write as an index is read as the same list."""
    wrote = [Descriptor("a/b", digest, 1, annotations=annotations) for digest, annotations in entries]
    body = index_of([one.entry() for one in wrote])
    assert read_descriptors(json.loads(body)["manifests"], "x") == tuple(wrote)
    manifest = Manifest.parse(body, "application/vnd.oci.image.index.v1+json")
    assert [child.digest for child in manifest.children] == [digest for digest, _ in entries]


@BOUNDED
@given(st.binary(max_size=40) | (INDEX | JSON).map(written), st.sampled_from(["v1", "", "é"]))
def test_any_index_of_a_layout(tmp_path: Path, body: bytes, name: str) -> None:
    """A layout with any index opens or is refused; what it lists can be changed and is written as JSON."""
    (tmp_path / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "index.json").write_bytes(body)
    with suppress(MirrordError):
        index = LayoutIndex.read(tmp_path)
        changed = index.changed({name: Descriptor("a/b", Digest.of(b"x"), 1)})
        assert changed is not None
        assert json.loads(changed.body)["manifests"]
    with suppress(MirrordError):
        Layout.open(tmp_path).resolve(name)


MEMBER = st.fixed_dictionaries({}, optional={"Config": JSON, "RepoTags": JSON, "Layers": JSON})


@BOUNDED
@given(st.binary(max_size=40) | (st.lists(MEMBER, max_size=2) | JSON).map(written))
@example(b'[],"a":[]')
@example(b"[]}")
def test_any_list_in_an_archive(tmp_path: Path, body: bytes) -> None:
    """The list of a `docker save` archive is one of images, each with a config, or refused."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
    with suppress(MirrordError):
        assert all(image.config for image in read_list(index_tar(tmp_path / "a.tar", links=True)))


@BOUNDED
@given(JSON)
def test_any_moment_and_any_platform(value: object) -> None:
    """`created` is a time with a zone or nothing; a platform is words that can be printed, or nothing."""
    at = moment(value)
    assert at is None or at.tzinfo is not None
    assert config_platform(written(value)).isprintable()
    if isinstance(value, dict):
        assert platform_name(value).isprintable()


@BOUNDED
@given(st.from_regex(r"[0-9TZ:.+ -]{0,34}", fullmatch=True) | st.datetimes().map(lambda at: at.isoformat() + "Z"))
@example("0001-01-01T00:00:00+14:00")
@example("9999-12-31T23:59:59-12:00")
def test_any_text_of_a_moment(text: str) -> None:
    """At the ends of the calendar, too."""
    at = moment(text)
    assert at is None or at.tzinfo is not None


HOSTILE: dict[str, tuple[Callable[[str], object], Callable[[int], str]]] = {
    "brackets": (lambda text: check_shape(text.encode(), "x"), lambda size: "[]" * size),
    "nested": (lambda text: read_object(text.encode(), "x"), lambda size: '{"a":' * size),
    "keys": (
        lambda text: read_object(text.encode(), "x"),
        lambda size: "{" + ",".join(f'"{n}":1' for n in range(size)) + "}",
    ),
    "tags": (
        lambda text: names_of(text.encode(), "tags", "x", valid_tag),
        lambda size: json.dumps({"tags": ["/"] * size}),
    ),
    "references": (Reference.parse, lambda size: "a/" * size),
    "referrers": (
        lambda text: read_entries(entries_of(text.encode(), "x"), "x"),
        lambda size: json.dumps({"manifests": [{"digest": "sha256:"}] * size}),
    ),
    "urls": (
        lambda text: read_descriptor(json.loads(text), "x"),
        lambda size: json.dumps(Descriptor("a/b", Digest.of(b""), 0).entry() | {"urls": ["u"] * size}),
    ),
    "children": (
        lambda text: Manifest.parse(text.encode(), "application/vnd.oci.image.index.v1+json"),
        lambda size: index_of([Descriptor("a/b", Digest.of(b""), 0).entry()] * size).decode(),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_work_grows_no_faster_than_what_is_read(name: str) -> None:
    """Twice as much of the worst costs no more than twice the steps; patterns have their own test."""
    read, made = HOSTILE[name]
    few, many = (steps(partial(read, made(size))) for size in (1000, 2000))
    assert many <= 2 * few + 100


def test_an_index_of_many_names_is_changed_in_linear_time(tmp_path: Path) -> None:
    """A layout with twice the names costs twice the steps to change one."""
    (tmp_path / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    cost = []
    for size in (500, 1000):
        ref_name = "org.opencontainers.image.ref.name"
        names = [Descriptor("a/b", Digest.of(b""), 0, annotations={ref_name: f"v{number}"}) for number in range(size)]
        (tmp_path / "index.json").write_bytes(index_of([one.entry() for one in names]))
        index = LayoutIndex.read(tmp_path)
        cost.append(steps(partial(index.changed, {"v1": Descriptor("a/b", Digest.of(b"x"), 1)})))
    assert cost[1] <= 2 * cost[0] + 100


async def test_an_archive_of_nothing(tmp_path: Path) -> None:
    """A tar without any member is refused in words."""
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    with pytest.raises(MirrordError, match=r"a\.tar: "):
        await open_archive(tmp_path / "a.tar", tmp_path, None)
