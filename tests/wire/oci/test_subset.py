"""What is left of an index for some platforms."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import ContentError
from mirrord.model.digest import Digest
from mirrord.wire.oci.descriptor import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from mirrord.wire.oci.manifest import Manifest
from mirrord.wire.oci.platform import parse_platform
from mirrord.wire.oci.subset import ORIGIN, PLATFORMS, Subset, subset_of

ABOUT = "vnd.docker.reference.digest"
UNKNOWN = {"os": "unknown", "architecture": "unknown"}


def entry(seed: str, platform: object = None, **more: Any) -> dict[str, Any]:
    """Return an entry; `platform` is a text, or what is written."""
    written = (
        dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        if isinstance(platform, str)
        else platform
    )
    said = {} if platform is None else {"platform": written}
    return {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(seed.encode())), "size": 7, **said, **more}


def about(seed: str, of: str) -> dict[str, Any]:
    """Return an attestation as buildx writes it."""
    notes = {ABOUT: str(Digest.of(of.encode())), "vnd.docker.reference.type": "attestation-manifest"}
    return entry(seed, UNKNOWN, annotations=notes)


def index(*entries: dict[str, Any], kind: str = OCI_INDEX, **more: Any) -> Manifest:
    document = {"schemaVersion": 2, "mediaType": kind, "manifests": list(entries), **more}
    return Manifest.parse(json.dumps(document, indent=1).encode(), kind)


def left(manifest: Manifest, *wanted: str) -> Subset:
    return subset_of(manifest, [parse_platform(text) for text in wanted])


def digests(manifest: Manifest) -> list[str]:
    return [one["digest"] for one in json.loads(manifest.body)["manifests"]]


BUILT = (
    entry("amd", "linux/amd64"),
    entry("arm", "linux/arm64/v8", annotations={"a": "b"}),
    entry("z", "linux/s390x"),
    about("amd-att", "amd"),
    about("arm-att", "arm"),
    about("z-att", "z"),
)


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_LIST])
def test_what_is_kept(kind: str) -> None:
    """Wanted entries and their attestations stay, in order; everything else of the index stays as it was."""
    more = {
        "annotations": {"org.example": "é"},
        "artifactType": "application/x",
        "subject": entry("s"),
        "x-unknown": [1.5, {"deep": None}],
    }
    whole = index(*BUILT, kind=kind, **more)
    cut = left(whole, "linux/s390x", "linux/amd64")
    assert [str(one) for one in cut.kept] == ["linux/amd64", "linux/s390x"]
    assert [str(one) for one in cut.had] == ["linux/amd64", "linux/arm64", "linux/s390x"]
    assert (cut.manifest.media_type, cut.manifest.subject) == (kind, whole.subject)
    expected = {**json.loads(whole.body), "manifests": [BUILT[0], BUILT[2], BUILT[3], BUILT[5]]}
    expected["annotations"] |= {PLATFORMS: "linux/amd64,linux/s390x", ORIGIN: whole.digest}
    found = json.loads(cut.manifest.body)
    assert found == expected
    assert list(found) == list(expected)
    assert cut.manifest.digest == Digest.of(cut.manifest.body)


def test_all_that_an_index_has() -> None:
    """Where every platform is wanted the very same bytes stay; a wanted one that is not there changes nothing."""
    whole = index(*BUILT)
    assert left(whole, "linux/s390x", "linux/arm64", "linux/amd64", "linux/arm/v7").manifest is whole
    one, two = left(whole, "linux/amd64"), left(whole, "linux/amd64", "linux/riscv64")
    assert one.manifest.body == two.manifest.body


def test_nothing_that_is_wanted() -> None:
    """Bad input 47: of an index of other platforms nothing is kept, and what it has is known."""
    cut = left(index(*BUILT), "windows/amd64")
    assert cut.kept == ()
    assert [str(one) for one in cut.had] == ["linux/amd64", "linux/arm64", "linux/s390x"]


@pytest.mark.parametrize(
    "named",
    [None, {}, UNKNOWN, {"os": "linux"}, {"architecture": "amd64"}, {"os": "linux", "architecture": 5}, {"os": "a b"}],
)
def test_entries_that_name_no_platform(named: object) -> None:
    """Bad input 47: an entry that names no platform stays beside those that are wanted."""
    other = entry("other", named)
    cut = left(index(other, *BUILT[:2]), "linux/amd64")
    assert digests(cut.manifest) == [other["digest"], BUILT[0]["digest"]]
    alone = index(other)
    assert left(alone, "linux/amd64").manifest is alone
    assert left(alone, "linux/amd64").had == ()


def test_an_index_in_an_index() -> None:
    """An index inside that names no platform stays whole; one that names a platform is judged by that."""
    inner, arm = entry("in", mediaType=OCI_INDEX), entry("arm-in", "linux/arm64", mediaType=OCI_INDEX)
    cut = left(index(inner, arm, BUILT[0]), "linux/amd64")
    assert digests(cut.manifest) == [inner["digest"], BUILT[0]["digest"]]


def test_one_manifest_for_two_platforms() -> None:
    """The same manifest under two platforms keeps the wanted entry, and its attestation."""
    both = [entry("same", "linux/amd64"), entry("same", "linux/386"), about("att", "same")]
    cut = left(index(*both), "linux/386")
    assert json.loads(cut.manifest.body)["manifests"] == both[1:]


def test_an_attestation_of_something_else_stays() -> None:
    """Only attestations of what is left out are left out."""
    stray = about("stray", "elsewhere")
    assert digests(left(index(*BUILT[:2], stray), "linux/amd64").manifest)[-1] == stray["digest"]


def test_versions_of_windows() -> None:
    """Without a version all stay, with one those that begin with it."""

    def windows(version: str) -> dict[str, Any]:
        return entry(version, {"os": "windows", "architecture": "amd64", "os.version": version})

    old, new = windows("10.0.17763.6532"), windows("10.0.20348.2849")
    whole = index(old, new, BUILT[0])
    assert digests(left(whole, "windows/amd64").manifest) == [old["digest"], new["digest"]]
    cut = left(whole, "windows/amd64:10.0.20348")
    assert digests(cut.manifest) == [new["digest"]]
    assert cut.manifest.annotations[PLATFORMS] == "windows/amd64:10.0.20348.2849"


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"OS": "linux", "architecture": "amd64"}, "manifests[1]: platform: refused: key 'OS' differs from 'os'"),
        ({"os": "linux", "architecture": "amd64", "Variant": "v8"}, "differs from 'variant' only by case"),
    ],
)
def test_platforms_that_two_readers_take_differently(named: object, said: str) -> None:
    """Keys that Go takes and others do not are refused, as elsewhere in a manifest."""
    with pytest.raises(ContentError) as caught:
        left(index(BUILT[1], entry("x", named)), "linux/arm64")
    assert said in str(caught.value)


def test_a_number_that_cannot_be_written_again() -> None:
    """What Python reads as infinite is refused in a sentence, and never written as no JSON."""
    body = index(*BUILT).body.replace(b'"schemaVersion": 2', b'"schemaVersion": 2, "x": 1e999')
    with pytest.raises(ContentError, match="a number in it is too large"):
        left(Manifest.parse(body, OCI_INDEX), "linux/amd64")


def test_sha512_stays() -> None:
    """An index that is called by sha512 becomes one that is."""
    body = index(*BUILT).body
    whole = Manifest.parse(body, OCI_INDEX, Digest.of(body, "sha512"))
    cut = left(whole, "linux/amd64").manifest
    assert cut.digest == Digest.of(cut.body, "sha512")


@pytest.mark.parametrize("unit", ["中", "é", "\U0001f600", "\x7f\u2028"])
def test_what_is_no_ascii_takes_no_more_room(unit: str) -> None:
    """An index of nearly 4 MiB in UTF-8 does not become two or three times as large, and then too large."""
    text = unit * (4_100_000 // len(unit.encode()))
    whole = Manifest.parse(index(*BUILT, x="@").body.replace(b"@", text.encode()), OCI_INDEX)
    cut = left(whole, "linux/amd64").manifest
    assert len(cut.body) < len(whole.body)
    assert json.loads(cut.body)["x"] == text


@pytest.mark.parametrize("half", [r"\ud800", r"\udfff", r"\udc80 é", r"中\ud83d\n"])
def test_half_a_surrogate_pair(half: str) -> None:
    """What UTF-8 cannot have stays an escape, as it came; a whole pair becomes one character."""
    body = index(*BUILT).body.replace(b"{", f'{{"x": "{half}", "y": "\\ud83d\\ude00", '.encode(), 1)
    cut = left(Manifest.parse(body, OCI_INDEX), "linux/amd64").manifest
    assert f'"x":"{half}","y":"\U0001f600",'.encode() in cut.body
    assert cut.body.decode()
    assert json.loads(cut.body)["x"] == json.loads(f'"{half}"')


NAMES = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6", "windows/amd64", "linux/s390x")
_TEXT = st.text(alphabet=st.sampled_from('aé"\\\n\U0001f600'), max_size=6)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(st.sampled_from((*NAMES, None)), max_size=8),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    st.dictionaries(_TEXT.map(lambda key: f"x-{key}"), _VALUES, max_size=3),
    st.randoms(use_true_random=False),
)
def test_any_index(
    platforms: Sequence[str | None], wanted: list[str], more: dict[str, Any], chance: random.Random
) -> None:
    """The order of what is wanted does not matter, all else stays, and a second cut changes nothing."""
    entries = [entry(str(number), name, **{"x-more": [number, None]}) for number, name in enumerate(platforms)]
    whole = index(*entries, **more)
    cut = left(whole, *wanted)
    chance.shuffle(wanted)
    assert left(whole, *wanted, wanted[0]).manifest == cut.manifest
    expected = [one for one, name in zip(entries, platforms, strict=True) if name is None or name in wanted]
    if not cut.kept or len(expected) == len(entries):
        assert cut.manifest is whole
        return
    found = json.loads(cut.manifest.body)
    assert found.pop("manifests") == expected
    assert found.pop("annotations")[ORIGIN] == whole.digest
    assert found == {key: value for key, value in json.loads(whole.body).items() if key != "manifests"}
    assert left(cut.manifest, *wanted).manifest is cut.manifest
