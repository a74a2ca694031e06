"""Manifests and indexes: read without being rewritten, ambiguous ones refused."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrord.errors import ContentError, DigestError, MirrordError, TooLargeError, UnsupportedError
from mirrord.model.digest import Digest
from mirrord.testing.images import build_image
from mirrord.wire.oci.descriptor import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    Descriptor,
)
from mirrord.wire.oci.manifest import ACCEPT, LIMIT, Manifest
from tests.support.artifacts import build_artifact, build_nested, build_schema1

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"


def pointer(media_type: str = LAYER, data: bytes = b"x", **extra: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **extra}


def image(**changes: Any) -> dict[str, Any]:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": pointer(CONFIG, b"{}"),
        "layers": [pointer()],
    } | changes
    return {key: value for key, value in document.items() if value is not ...}


def index(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries), **changes}


def read(document: object, content_type: str = "", digest: Digest | None = None) -> Manifest:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Manifest.parse(body, content_type, digest)


def test_keeps_the_bytes() -> None:
    """What is sent on is what came in, odd spacing, unknown fields and all, and its digest is that of the bytes."""
    body = (
        b' {"schemaVersion": 2,\n"layers":[],  "unheard": [1.0, 1e3], "config":'
        + json.dumps(pointer()).encode()
        + b"} \n"
    )
    manifest = read(body, OCI_MANIFEST)
    assert manifest.body == body
    assert manifest.digest == Digest.of(body)
    assert manifest.descriptor == Descriptor(OCI_MANIFEST, Digest.of(body), len(body))


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_finds_all_of_a_real_image(docker: bool, algorithm: str) -> None:
    """Children, config and layers of a real image are found, for both families of types."""
    made = build_image(docker=docker, algorithm=algorithm, empty_layer=True)
    top = Manifest.parse(made.body, made.media_type, made.digest)
    assert top.media_type == (DOCKER_LIST if docker else OCI_INDEX)
    assert [child.is_manifest for child in top.children] == [True, True]
    assert top.blobs == ()
    found = set()
    for child in top.children:
        media_type, body = made.manifests[child.digest]
        manifest = Manifest.parse(body, media_type, child.digest)
        assert child.is_manifest
        assert manifest.digest == child.digest
        assert len(manifest.body) == child.size
        found |= {blob.digest for blob in manifest.blobs}
    assert found == set(made.blobs)


def test_nested_indexes_are_children() -> None:
    """An index may list indexes (image-spec, image-index.md)."""
    made = build_nested(build_image(seed="a"), build_image(seed="b"))
    top = Manifest.parse(made.body, made.media_type)
    assert [child.media_type for child in top.children] == [OCI_INDEX, OCI_INDEX]


def test_artifacts_of_unknown_type_pass() -> None:
    """An artifact nobody has heard of keeps its types, its subject and its blobs."""
    subject = build_image()
    made = build_artifact(subject)
    manifest = Manifest.parse(made.body, made.media_type)
    assert manifest.artifact_type == "application/vnd.example.sbom"
    assert manifest.subject is not None
    assert manifest.subject.digest == subject.digest
    assert {blob.digest for blob in manifest.blobs} == set(made.blobs)


def test_the_draft_artifact_manifest_passes() -> None:
    """ORAS artifact manifests list their content under `blobs`."""
    document = {
        "mediaType": OCI_ARTIFACT,
        "artifactType": "a/b",
        "blobs": [pointer()],
        "subject": pointer(OCI_MANIFEST),
    }
    manifest = read(document, OCI_ARTIFACT)
    assert [blob.digest for blob in manifest.blobs] == [Digest.of(b"x")]
    assert manifest.subject is not None


@pytest.mark.parametrize(
    ("document", "content_type", "media_type"),
    [
        pytest.param(image(mediaType=...), "", OCI_MANIFEST, id="38-none-image"),
        pytest.param(index(mediaType=""), "application/json", OCI_INDEX, id="38-none-index"),
        pytest.param(image(mediaType=...), OCI_MANIFEST, OCI_MANIFEST, id="38-none-but-header"),
        pytest.param(image(), "application/octet-stream", OCI_MANIFEST, id="vague-header"),
        pytest.param(image(), "text/plain; charset=utf-8", OCI_MANIFEST, id="static-host"),
        pytest.param(image(), f"{OCI_MANIFEST}; charset=utf-8", OCI_MANIFEST, id="parameters"),
        pytest.param(image(), OCI_MANIFEST.upper(), OCI_MANIFEST, id="upper-case"),
        pytest.param(image(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST, DOCKER_MANIFEST, id="docker"),
        pytest.param(image(mediaType="a/b"), OCI_MANIFEST, OCI_MANIFEST, id="38-odd-inside"),
        pytest.param(
            {"schemaVersion": 2}, "application/vnd.Acme.thing+json", "application/vnd.Acme.thing+json", id="38-unknown"
        ),
        pytest.param(
            {"mediaType": "application/vnd.acme+json"}, "", "application/vnd.acme+json", id="38-unknown-inside"
        ),
        pytest.param(index(manifests=None), OCI_INDEX, OCI_INDEX, id="go-null-manifests"),
        pytest.param(image(layers=None), OCI_MANIFEST, OCI_MANIFEST, id="go-null-layers"),
    ],
)
def test_media_type_to_push_with(document: dict[str, Any], content_type: str, media_type: str) -> None:
    """The type comes from the header, else from the document, else from its shape."""
    assert read(document, content_type).media_type == media_type


@pytest.mark.parametrize(
    ("document", "content_type", "says"),
    [
        pytest.param(index(layers=[pointer()]), "", "both an index and an image", id="38-manifests+layers"),
        pytest.param(index(config=pointer()), OCI_INDEX, "both an index and an image", id="38-manifests+config"),
        pytest.param(image(manifests=[]), OCI_MANIFEST, "both an index and an image", id="38-layers+manifests"),
        pytest.param(image(), OCI_INDEX, "sent as", id="38-mediaType-differs"),
        pytest.param(image(mediaType=DOCKER_MANIFEST), OCI_MANIFEST, "sent as", id="38-families-differ"),
        pytest.param(image(mediaType=...), OCI_INDEX, "without manifests", id="38-header-differs"),
        pytest.param(index(mediaType=""), OCI_MANIFEST, "without config", id="38-header-differs-index"),
        pytest.param(image(config=None), OCI_MANIFEST, "without config", id="null-config"),
        pytest.param(image(mediaType=7), "", "not a string", id="mediaType-number"),
        pytest.param(image(mediaType="a b\r\nX: y"), "", "what kind", id="header-injection"),
        pytest.param(image(schemaVersion=3), "", "schemaVersion", id="version-3"),
        pytest.param(image(schemaVersion=2.0), "", "schemaVersion", id="version-float"),
        pytest.param(image(schemaVersion=True), "", "schemaVersion", id="version-bool"),
        pytest.param({}, "application/json", "what kind", id="26-empty-object"),
        pytest.param({"message": "log in"}, "application/vnd.portal+json", "what kind", id="26-portal-json"),
        pytest.param(b"<!doctype html><html>", "text/html", "web page", id="26-portal"),
        pytest.param(b"", OCI_MANIFEST, "empty", id="empty"),
        pytest.param([], OCI_MANIFEST, "not a JSON object", id="list"),
        pytest.param(b'{"config":1,"config":2}', OCI_MANIFEST, "twice", id="38-duplicate"),
        pytest.param(b'{"a":{"b":[{"c":1,"\\u0063":2}]}}', OCI_MANIFEST, "twice", id="38-duplicate-deep-escaped"),
        pytest.param(image(Layers=[]), OCI_MANIFEST, "only by case", id="38-duplicate-case"),
        pytest.param(image() | {"layer\u017f": []}, OCI_MANIFEST, "only by case", id="38-duplicate-fold"),
        pytest.param(image(layers=[pointer(Digest="x")]), OCI_MANIFEST, "only by case", id="38-duplicate-case-inside"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(image()).encode(), OCI_MANIFEST, "not JSON", id="38-BOM"),
        pytest.param(json.dumps(image()).encode("utf-16"), OCI_MANIFEST, "not UTF-8", id="38-UTF-16"),
        pytest.param(b'{"a":"\xff"}', OCI_MANIFEST, "not UTF-8", id="38-non-UTF-8"),
        pytest.param(json.dumps(image()).encode() + b"{}", OCI_MANIFEST, "not JSON", id="38-trailing"),
        pytest.param(json.dumps(image()).encode() + b"\0", OCI_MANIFEST, "not JSON", id="38-trailing-nul"),
        pytest.param(b'{"a":NaN}', OCI_MANIFEST, "NaN", id="38-NaN"),
        pytest.param(b'{"a":-Infinity}', OCI_MANIFEST, "Infinity", id="38-Infinity"),
        pytest.param(b'{"a":' * 10_000, OCI_MANIFEST, "deep", id="38-depth-10000"),
        pytest.param(b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", OCI_MANIFEST, "deep", id="38-depth-65"),
        pytest.param(b'{"a":"' + b'\\"' * 100_000, OCI_MANIFEST, "not JSON", id="38-endless-string"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", OCI_MANIFEST, "not JSON", id="endless-number"),
        pytest.param(image(annotations={"a": 1}), OCI_MANIFEST, "not a string", id="annotation-number"),
        pytest.param(b'{"schemaVersion":2,"mediaType":"\\ud800"}', "", "surrogate", id="surrogate"),
        pytest.param(image(layers={}), OCI_MANIFEST, "not a list", id="layers-object"),
        pytest.param(image(layers=["x"]), OCI_MANIFEST, r"layers\[0\]: not a descriptor", id="layer-text"),
        pytest.param(image(layers=[pointer(), pointer(size=2)]), OCI_MANIFEST, "is said to have", id="36-two-sizes"),
    ],
)
def test_refuses_what_readers_may_take_differently(document: object, content_type: str, says: str) -> None:
    """Ambiguous, malformed and foreign documents are refused with a reason (CVE-2021-41190)."""
    with pytest.raises(ContentError, match=says) as caught:
        read(document, content_type)
    assert len(str(caught.value)) < 400


def test_depth_that_somebody_may_need_passes() -> None:
    """Nesting up to the limit is read, and brackets within strings do not count."""
    body = b'{"schemaVersion":2,"x":' + b"[" * 63 + b"]" * 63 + b',"y":"' + b"[{" * 100 + b'\\""}'
    assert read(body, "application/vnd.acme+json").children == ()


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (build_schema1().body, SCHEMA1[0]),
        (build_schema1().body, f"{SCHEMA1[1]}; charset=utf-8"),
        (build_schema1().body, "application/json"),
        (image(mediaType=SCHEMA1[0]), ""),
    ],
)
def test_schema_1_is_refused_clearly(document: object, content_type: str) -> None:
    """Schema 1 has an error of its own that says what to do (38), also when its digest is that of the payload."""
    with pytest.raises(UnsupportedError, match=r"schema 1.*rebuild the image"):
        read(document, content_type)
    with pytest.raises(UnsupportedError, match="schema 1"):
        read(b"signed", SCHEMA1[0], Digest.of(b"payload"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"size": -1}, "size is -1", id="36-size--1"),
        pytest.param({"size": 2**63}, "size is 9223372036854775808", id="36-size-2^63"),
        pytest.param({"size": True}, "size is True", id="36-size-bool"),
        pytest.param({"size": 1.0}, "size is 1.0", id="36-size-float"),
        pytest.param({"size": "1"}, "size is '1'", id="36-size-text"),
        pytest.param({"size": None}, "size is None", id="36-size-none"),
        pytest.param({"digest": "sha256:../../x"}, "not a digest", id="22-path"),
        pytest.param({"digest": "sha256:" + "A" * 64}, "not a digest", id="22-upper"),
        pytest.param({"digest": "sha256:" + "a" * 63}, "not a digest", id="22-63"),
        pytest.param({"digest": "md5:" + "a" * 32}, "not a digest", id="22-md5"),
        pytest.param({"digest": None}, "not a digest", id="22-none"),
        pytest.param({"digest": 5}, "digest: not a string", id="22-number"),
        pytest.param({"mediaType": ""}, "not a media type", id="type-empty"),
        pytest.param({"mediaType": "a/b\n"}, "not a media type", id="type-control"),
        pytest.param({"data": "!!"}, "not base64", id="data-text"),
        pytest.param({"data": base64.b64encode(b"y").decode()}, "not the 1 bytes", id="36-data-bytes"),
        pytest.param({"data": base64.b64encode(b"xx").decode()}, "not the 1 bytes", id="36-data-size"),
        pytest.param({"platform": "linux"}, "not an object", id="platform-text"),
        pytest.param({"urls": "https://x"}, "not a list", id="urls-text"),
    ],
)
def test_refuses_bad_descriptors(changes: dict[str, Any], says: str) -> None:
    """A descriptor with a part out of bounds names the place and the part."""
    with pytest.raises(ContentError, match=r"layers\[1\].*" + says):
        read(image(layers=[pointer(), pointer() | changes]))


@pytest.mark.parametrize("size", [0, 2**63 - 1])
def test_takes_every_size_there_is(size: int) -> None:
    """Zero and 2^63-1 are sizes."""
    assert read(image(layers=[pointer(data=b"big") | {"size": size}])).blobs[1].size == size


def test_embedded_data_is_decoded() -> None:
    """`data` is there for whoever wants to save a request, already checked."""
    manifest = read(image(config=pointer(CONFIG, b"{}") | {"data": "e30="}))
    assert manifest.blobs[0].data == b"{}"
    assert manifest.blobs[1].data is None


def test_foreign_layers_stay_references() -> None:
    """Layers of a non-distributable type are not among the blobs (9); others are, with URLs or without."""
    layers = [
        pointer(data=b"1"),
        pointer(data=b"2", urls=["https://evil.test/x"]),
        pointer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"3"),
        pointer("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", b"4"),
    ]
    manifest = read(image(layers=layers))
    assert [blob.digest for blob in manifest.blobs] == [Digest.of(b"{}"), Digest.of(b"1"), Digest.of(b"2")]
    assert [layer.digest for layer in manifest.foreign] == [Digest.of(b"3"), Digest.of(b"4")]


def test_each_blob_once_in_order() -> None:
    """A layer that is listed twice is moved once; the first place counts."""
    layers = [pointer(data=data) for data in (b"b", b"a", b"b", b"c", b"a")]
    blobs = read(image(layers=layers)).blobs
    assert [blob.digest for blob in blobs] == [Digest.of(data) for data in (b"{}", b"b", b"a", b"c")]


def test_entries_of_an_index_by_type() -> None:
    """Known blob types are blobs, manifests are children, unknown types are children that say so."""
    top = read(
        index(
            pointer(
                OCI_MANIFEST, b"1", platform={"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}
            ),
            pointer("application/vnd.buildkit.cacheconfig.v0", b"2"),
            pointer(LAYER, b"3"),
            pointer("application/vnd.acme.thing+json", b"4"),
            pointer(OCI_MANIFEST, b"1", annotations={"k": "v"}),
        )
    )
    assert [(child.digest, child.is_manifest) for child in top.children] == [
        (Digest.of(b"1"), True),
        (Digest.of(b"4"), False),
        (Digest.of(b"1"), True),
    ]
    assert [blob.digest for blob in top.blobs] == [Digest.of(b"2"), Digest.of(b"3")]
    assert top.children[2].annotations == {"k": "v"}


def test_ten_thousand_children_are_read() -> None:
    """An index may be long (39); reading it needs no recursion."""
    entries = [pointer(OCI_MANIFEST, str(number).encode()) for number in range(10_000)]
    assert len(read(index(*entries)).children) == 10_000


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (index(*[pointer(OCI_MANIFEST)] * 10_001), "10001 entries; 10000 are the most"),
        (image(layers=[pointer()] * 1001), "1001 layers or blobs; 1000 are the most"),
        (image(annotations={str(number): "" for number in range(200_001)}), "more than 200000 values"),
        (image(unheard=[[]] * 100_001), "more than 200000 values"),
        (image(layers=[pointer()] * 600, blobs=[pointer()] * 401), "1001 layers or blobs; 1000 are the most"),
    ],
    ids=["entries", "layers", "both", "values", "lists"],
)
def test_lists_have_an_end(document: dict[str, Any], said: str) -> None:
    """A4: what no image has is refused by its number, before a single entry is looked at."""
    with pytest.raises(TooLargeError, match=said):
        read(document)
    assert len(read(image(layers=[pointer()] * 1000)).blobs) == 2


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_bytes_have_to_fit_the_digest(algorithm: str) -> None:
    """Bytes of another digest are refused before anybody reads them (35)."""
    body = json.dumps(image()).encode()
    digest = Digest.of(body, algorithm)
    assert read(body, OCI_MANIFEST, digest).digest == digest
    with pytest.raises(DigestError, match="have digest"):
        read(body + b" ", OCI_MANIFEST, digest)


def test_four_mebibytes_and_no_more() -> None:
    """4 MiB is a manifest, one byte more is not (37)."""
    body = json.dumps(image()).encode()
    padded = body + b" " * (LIMIT - len(body))
    assert len(read(padded, OCI_MANIFEST).body) == LIMIT
    with pytest.raises(TooLargeError):
        read(padded + b" ", OCI_MANIFEST)


def test_one_accept_header() -> None:
    """All types that we know stand in one Accept line, indexes first, schema 1 last."""
    kinds = ACCEPT.split(", ")
    assert kinds[0] == OCI_INDEX
    assert tuple(kinds[-2:]) == SCHEMA1
    assert {OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, OCI_ARTIFACT} < set(kinds)


def test_values_can_be_set_members() -> None:
    """Descriptors and manifests hash, annotations or not."""
    one = read(image(annotations={"a": "b"}, layers=[pointer(annotations={"c": "d"})]))
    assert len({one, one}) == 1
    assert len(set(one.blobs)) == 2


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([OCI_INDEX, OCI_MANIFEST, LAYER]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["mediaType", "digest", "size", "config", "layers", "manifests", "data", "platform", "urls"]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KEYS = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "blobs",
    "subject",
    "annotations",
    "artifactType",
]
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5)
TYPES = st.sampled_from(["", "application/json", OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, OCI_ARTIFACT, "x/y"]) | st.text(
    max_size=8
)


@settings(deadline=None)  # a loaded machine is no failure
@given(st.binary() | (DOCUMENTS | JSON).map(lambda value: json.dumps(value).encode()), TYPES)
def test_parsing_is_total(body: bytes, content_type: str) -> None:
    """Arbitrary bytes and arbitrary JSON are a manifest or one of our errors, never anything else."""
    with contextlib.suppress(MirrordError):
        assert Manifest.parse(body, content_type).body == body
