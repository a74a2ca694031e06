"""Signatures in both forms of cosign: what verifies, what is refused, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from mirrord.errors import ContentError, MissingError, TooLargeError
from mirrord.testing import build_image
from mirrord.wire.cosign.bundle import authenticated, read_bundle, statement_digests
from mirrord.wire.cosign.judgement import Judgement, heaviest, judge, unreadable
from mirrord.wire.cosign.keys import KeySigners, read_key
from mirrord.wire.cosign.signature import Signature
from mirrord.wire.cosign.simple import payloads, read_simple
from mirrord.wire.oci.manifest import Manifest
from tests.support.cosigning import (
    VALUE,
    build_simple,
    bundle_of,
    new_key,
    payload_of,
    pem_of,
    signed,
    simple_by,
    statement_of,
    written,
)

IMAGE = build_image(["linux/amd64"])
OTHER = "sha256:" + "0" * 64
KEY, STRANGER = new_key(), new_key()
SIGNERS = KeySigners([read_key(pem_of(KEY), "release.pub")])
MANIFEST = Manifest.parse(IMAGE.body, IMAGE.media_type)


def simple(payload: bytes, key: Any = KEY) -> Signature:
    return read_simple(payload, {VALUE: written(signed(key, payload))})


def bundle(made: dict[str, Any]) -> Signature:
    found = read_bundle(json.dumps(made).encode(), MANIFEST)
    assert found is not None
    return found


def message_bundle(key: Any, message: bytes) -> dict[str, Any]:
    made = bundle_of(key, b"{}")
    del made["dsseEnvelope"]
    return {**made, "messageSignature": {"signature": written(signed(key, message))}}


MAKE: dict[str, Callable[..., Signature]] = {
    "simple": lambda digest, key=KEY: simple(payload_of(digest), key),
    "bundle": lambda digest, key=KEY: bundle(bundle_of(key, statement_of(digest))),
}


@pytest.mark.parametrize("form", MAKE)
def test_a_signature_counts_by_its_key_and_for_its_digest(form: str) -> None:
    """The right key and digest are accepted; another digest and another key are refused, each with its reason."""
    make = MAKE[form]
    assert judge(IMAGE.digest, make(IMAGE.digest), SIGNERS) == Judgement("release.pub")
    other = judge(IMAGE.digest, make(OTHER), SIGNERS)
    assert other.signer == ""
    assert other.reason == f"is signed by release.pub, but for another digest ({OTHER})"
    stranger = judge(IMAGE.digest, make(IMAGE.digest, STRANGER), SIGNERS)
    assert (stranger.signer, stranger.reason) == ("", "is signed with another key than release.pub")


def test_a_digest_of_a_stranger_is_not_told_as_if_it_were_signed() -> None:
    """Of a signature by another key, nothing that it says is repeated as fact."""
    judgement = judge(IMAGE.digest, simple(payload_of(OTHER), STRANGER), SIGNERS)
    assert judgement.reason == "is signed with another key than release.pub"


def test_several_keys_are_any_of_them() -> None:
    """Each of the keys is enough, and the one that signed is named."""
    both = KeySigners([read_key(pem_of(STRANGER), "old.pub"), *SIGNERS.keys])
    assert judge(IMAGE.digest, simple(payload_of(IMAGE.digest)), both).signer == "release.pub"
    assert judge(IMAGE.digest, simple(payload_of(IMAGE.digest), STRANGER), both).signer == "old.pub"


def test_a_certificate_beside_the_signature_does_not_replace_the_key() -> None:
    """kyverno#16267, GHSA-whqx: what a bundle brings along has no say where a key is required."""
    made = bundle_of(STRANGER, statement_of(IMAGE.digest))
    made["verificationMaterial"] = {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": [{"logIndex": "1"}]}
    assert judge(IMAGE.digest, bundle(made), SIGNERS).signer == ""
    notes = {
        VALUE: written(signed(STRANGER, payload_of(IMAGE.digest))),
        "dev.sigstore.cosign/bundle": "{}",
        "dev.sigstore.cosign/certificate": "-----BEGIN CERTIFICATE-----",
    }
    assert judge(IMAGE.digest, read_simple(payload_of(IMAGE.digest), notes), SIGNERS).signer == ""


def test_a_signature_of_the_manifest_itself_counts() -> None:
    """A bundle without an envelope signs the bytes of the manifest."""
    assert judge(IMAGE.digest, bundle(message_bundle(KEY, IMAGE.body)), SIGNERS).signer == "release.pub"
    wrong = judge(IMAGE.digest, bundle(message_bundle(KEY, b"other")), SIGNERS)
    assert wrong.reason == "is signed with another key than release.pub"
    key = ed25519.Ed25519PrivateKey.generate()
    signers = KeySigners([read_key(pem_of(key), "ed.pub")])
    assert judge(IMAGE.digest, bundle(message_bundle(key, IMAGE.body)), signers).signer == "ed.pub"


@pytest.mark.parametrize("predicate", ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1", ""])
def test_an_attestation_signs_no_image(predicate: str) -> None:
    """A statement about what is in an image, by the right key, is no signature of the image."""
    made = bundle_of(KEY, statement_of(IMAGE.digest, predicate))
    assert read_bundle(json.dumps(made).encode(), MANIFEST) is None


def test_what_is_tampered_with_does_not_verify() -> None:
    """A payload that was changed after it was signed, in either form, is by nobody who counts."""
    payload, statement = payload_of(OTHER), statement_of(OTHER)
    swapped = payload.replace(OTHER.encode(), IMAGE.digest.encode())
    found = read_simple(swapped, {VALUE: written(signed(KEY, payload))})
    assert judge(IMAGE.digest, found, SIGNERS).signer == ""
    made = bundle_of(KEY, statement)
    made["dsseEnvelope"]["payload"] = written(statement_of(IMAGE.digest))
    assert judge(IMAGE.digest, bundle(made), SIGNERS).signer == ""


def test_the_signature_of_a_payload_is_none_of_an_envelope() -> None:
    """The type is signed with the payload: a signature of the bare statement does not count (DSSE, "PAE")."""
    made = bundle_of(KEY, statement_of(IMAGE.digest))
    made["dsseEnvelope"]["signatures"][0]["sig"] = written(signed(KEY, statement_of(IMAGE.digest)))
    assert judge(IMAGE.digest, bundle(made), SIGNERS).signer == ""
    assert authenticated("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"  # protocol.md, "Test Vectors"
    )
    assert authenticated("ü", b"") == b"DSSEv1 2 \xc3\xbc 0 "


GOOD = payload_of(IMAGE.digest)
SIG = {VALUE: written(signed(KEY, GOOD))}


@pytest.mark.parametrize(
    ("payload", "notes", "said"),
    [
        (GOOD[:-10], SIG, "signed payload: not JSON"),
        (b"", SIG, "signed payload: not JSON"),
        (b"[]", SIG, "signed payload: not a JSON object"),
        (b"{}", SIG, "critical.type: '', not 'cosign container image signature'"),
        (payload_of(IMAGE.digest, "atomic container signature"), SIG, "critical.type: 'atomic container signature'"),
        (payload_of("sha256:abc"), SIG, "critical.image.docker-manifest-digest: not a digest: 'sha256:abc'"),
        (GOOD.replace(b'"critical"', b'"Critical"'), SIG, "signed payload: refused: key 'Critical' differs"),
        (GOOD.replace(b'"image"', b'"image":{},"image"'), SIG, "signed payload: refused: key 'image' twice"),
        (GOOD, {}, f"annotation {VALUE}: missing"),
        (GOOD, {VALUE: "%%%"}, f"annotation {VALUE}: not base64"),
        (GOOD, {VALUE: SIG[VALUE][:-3]}, f"annotation {VALUE}: not base64"),
        (GOOD, {VALUE: "A" * 40_000}, f"annotation {VALUE}: longer than 16384 bytes"),
        (b" " * (10 << 20), SIG, "signed payload: 10485760 bytes; 65536 are the most"),
    ],
)
def test_a_payload_that_cannot_be_read_says_why(payload: bytes, notes: dict[str, str], said: str) -> None:
    """What is no signature of cosign 2 is refused with the part that is wrong."""
    with pytest.raises(ContentError) as refused:
        read_simple(payload, notes)
    assert str(refused.value).startswith(said)


def envelope(**changed: Any) -> bytes:
    made = bundle_of(KEY, statement_of(IMAGE.digest))
    return json.dumps({**made, "dsseEnvelope": {**made["dsseEnvelope"], **changed}}).encode()


def without(*keys: str, **more: Any) -> bytes:
    made = {**bundle_of(KEY, statement_of(IMAGE.digest)), **more}
    return json.dumps({key: value for key, value in made.items() if key not in keys}).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "bundle: not JSON"),
        (envelope()[:-1], "bundle: not JSON"),
        (b" " * (10 << 20), "bundle: 10485760 bytes; 1048576 are the most"),
        (without("mediaType"), "mediaType: '' is not that of a bundle"),
        (without("dsseEnvelope"), "bundle: not exactly one of dsseEnvelope and messageSignature"),
        (without(messageSignature={}), "bundle: not exactly one of dsseEnvelope and messageSignature"),
        (without("dsseEnvelope", messageSignature={}), "messageSignature.signature: missing"),
        (without(DsseEnvelope={}), "bundle: refused: key 'DsseEnvelope' differs from 'dsseEnvelope' only by case"),
        (envelope(payloadType="text/plain"), "payloadType: 'text/plain', not application/vnd.in-toto+json"),
        (envelope(payload="%"), "payload: not base64"),
        (envelope(payload=written(b"{}")), "_type: '' is no in-toto statement of a known version"),
        (envelope(signatures=[]), "signatures: 0 in one envelope"),
        (envelope(signatures=[{"sig": "AA=="}] * 2), "signatures: 2 in one envelope"),
        (envelope(signatures=[{"sig": "A"}]), "signatures[0].sig: not base64"),
        (envelope(payload=written(statement_of("sha256:xyz"))), "subject[0].digest.sha256: not a digest"),
    ],
)
def test_a_bundle_that_cannot_be_read_says_why(body: bytes, said: str) -> None:
    """What is no bundle of one signature is refused with the part that is wrong."""
    with pytest.raises(ContentError) as refused:
        read_bundle(body, MANIFEST)
    assert str(refused.value).startswith(said)


def test_two_signers_of_one_payload_are_two_layers() -> None:
    """Cosign signs the same bytes for each key: a layer that has the digest of another one counts as well."""
    image = simple_by(IMAGE.digest, STRANGER, KEY)
    layers = payloads(Manifest.parse(image.body, image.media_type))
    assert len(layers) == 2
    assert layers[0].digest == layers[1].digest
    found = [judge(IMAGE.digest, read_simple(GOOD, layer.annotations), SIGNERS).signer for layer in layers]
    assert found == ["", "release.pub"]


def test_a_manifest_without_signatures_says_so() -> None:
    """An image under the tag of the signatures is none of them."""
    for image in (IMAGE, build_simple([])):
        with pytest.raises(ContentError, match="no layer is a signature"):
            payloads(Manifest.parse(image.body, image.media_type))


def test_the_reason_that_says_most_is_told() -> None:
    """Of several signatures that do not count, the one by the right key says most, and none says least."""
    wrong = judge(IMAGE.digest, simple(payload_of(OTHER)), SIGNERS)
    stranger = judge(IMAGE.digest, simple(GOOD, STRANGER), SIGNERS)
    broken = unreadable(ContentError("not JSON"))
    assert heaviest([broken, wrong, stranger]) is wrong
    assert heaviest([broken, stranger]) is stranger
    assert heaviest([broken]).reason == "has a signature that cannot be read: not JSON"
    assert heaviest([]).reason == "is not signed"
    gone = unreadable(MissingError("gone"))
    found = [heaviest(ones).code for ones in ([], [gone], [broken, gone], [broken, stranger], [stranger, wrong])]
    assert found == ["unsigned", "signature_missing", "signature", "signature_key", "signature_digest"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def shaken(good: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Return documents like `good` with some values replaced by anything, and bytes of no document at all."""
    broken = st.fixed_dictionaries({key: st.just(value) | JSON for key, value in good.items()})
    return st.binary(max_size=64) | broken.map(lambda value: json.dumps(value).encode())


@given(shaken(bundle_of(KEY, statement_of(IMAGE.digest))))
def test_no_bundle_breaks_the_reader(body: bytes) -> None:
    """Whatever a registry sends as a bundle is read, or refused as wrong content; only the good one verifies."""
    try:
        found = read_bundle(body, MANIFEST)
    except (ContentError, TooLargeError):
        return
    assert found is None or judge(IMAGE.digest, found, SIGNERS).signer in ("", "release.pub")


@given(shaken(json.loads(statement_of(IMAGE.digest))))
def test_no_statement_breaks_the_reader(body: bytes) -> None:
    """Whatever was signed is read as a statement, or refused as wrong content."""
    try:
        found = statement_digests(body)
    except ContentError:
        return
    assert found is None or all(digest.startswith(("sha256:", "sha512:")) for digest in found)


@given(shaken(json.loads(GOOD)), st.text(max_size=40))
def test_no_payload_breaks_the_reader(payload: bytes, value: str) -> None:
    """Whatever a registry sends as a payload of cosign 2 is read, or refused as wrong content."""
    try:
        found = read_simple(payload, {VALUE: value})
    except ContentError:
        return
    assert judge(IMAGE.digest, found, SIGNERS).signer == ""
