"""Signatures by identity, verified by the extra against a sigstore of the test's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mirrord.errors import UsageError
from mirrord.testing import build_image
from mirrord.wire.cosign.bundle import read_bundle
from mirrord.wire.cosign.identity import IdentitySigners, check_installed, check_root
from mirrord.wire.cosign.judgement import Judgement, judge
from mirrord.wire.cosign.simple import read_simple
from mirrord.wire.oci.manifest import Manifest
from tests.support.cosigning import STATEMENT, VALUE, bundle_of, new_key, payload_of, signed, statement_of, written
from tests.support.fulcio import IDENTITY, ISSUER, Sigstore

IMAGE = build_image(["linux/amd64"])
OTHER = "sha256:" + "0" * 64
MANIFEST = Manifest.parse(IMAGE.body, IMAGE.media_type)
SIGSTORE = Sigstore()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file with whom to trust, where nobody can ask a network."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked over the network")

    monkeypatch.setattr("requests.Session.send", refuse)
    path = tmp_path / "trusted_root.json"
    path.write_bytes(SIGSTORE.trusted_root())
    return path


def signers(root: Path, identity: str = IDENTITY, issuer: str = ISSUER) -> IdentitySigners:
    return IdentitySigners.of(identity, issuer, (root, root.read_bytes()))


def judged(made: dict[str, Any], by: IdentitySigners) -> Judgement:
    found = read_bundle(json.dumps(made).encode(), MANIFEST)
    assert found is not None
    return judge(IMAGE.digest, found, by)


@pytest.mark.parametrize("identity", [IDENTITY, r"/https://github\.com/team/.*@refs/tags/v[0-9]+/"])
def test_the_identity_and_its_provider_count(root: Path, identity: str) -> None:
    """An identity, or a pattern of it, is accepted with its provider, and named as the certificate has it."""
    made = SIGSTORE.bundle(statement_of(IMAGE.digest))
    assert judged(made, signers(root, identity)) == Judgement(IDENTITY)
    assert judged(SIGSTORE.message_bundle(IMAGE.body), signers(root, identity)) == Judgement(IDENTITY)


def test_an_address_is_an_identity(root: Path) -> None:
    """People have addresses of mail in their certificates."""
    made = SIGSTORE.bundle(statement_of(IMAGE.digest), "ann@example.org", "https://accounts.example.org")
    assert judged(made, signers(root, "ann@example.org", "https://accounts.example.org")).signer == "ann@example.org"


def test_another_digest_is_refused(root: Path) -> None:
    """What the library verified is compared with the image: a good signature of another one does not count."""
    judgement = judged(SIGSTORE.bundle(statement_of(OTHER)), signers(root))
    assert judgement.reason == f"is signed by {IDENTITY}, but for another digest ({OTHER})"
    judgement = judged(SIGSTORE.message_bundle(b"another manifest"), signers(root))
    assert judgement.reason.startswith("is signed, but by no identity that can be verified: ")


@pytest.mark.parametrize(
    ("identity", "issuer"),
    [
        (IDENTITY + "2", ISSUER),
        (IDENTITY[:-1], ISSUER),
        (IDENTITY, "https://evil.example"),
        (r"/https://github\.com/other/.*/", ISSUER),
        ("/team/", ISSUER),  # a pattern is of all of it
    ],
)
def test_another_identity_or_provider_is_told(root: Path, identity: str, issuer: str) -> None:
    """Who signed instead is named, once it is verified."""
    judgement = judged(SIGSTORE.bundle(statement_of(IMAGE.digest)), signers(root, identity, issuer))
    said = f"is signed by {IDENTITY} ({ISSUER}), not by {identity} ({issuer})"
    assert judgement == Judgement("", said, "signature_identity")


def test_control_characters_of_a_name_are_escaped(root: Path) -> None:
    """Who signed is shown on terminals and pages, and wrote the name; what is required is compared before."""
    name = "https://evil.example/\x1b[2J"
    made = SIGSTORE.bundle(statement_of(IMAGE.digest), name, ISSUER + "\x1b")
    assert r"is signed by https://evil.example/\x1b[2J (" + ISSUER + r"\x1b), not" in judged(made, signers(root)).reason
    made = SIGSTORE.bundle(statement_of(IMAGE.digest), name)
    assert judged(made, signers(root, "/https://evil.*/")).signer == r"https://evil.example/\x1b[2J"


def test_authorities_are_those_of_the_file_as_it_was_read(root: Path) -> None:
    """The file changes behind our back: what counts is what the fingerprint, and so the record, is about."""
    by = signers(root)
    root.write_bytes(Sigstore().trusted_root())
    assert judged(SIGSTORE.bundle(statement_of(IMAGE.digest)), by) == Judgement(IDENTITY)


def test_another_sigstore_does_not_count(root: Path) -> None:
    """Authorities and logs that are not in the file vouch for nothing, each of them alone neither."""
    by = signers(root)
    for stranger in (
        Sigstore(),
        Sigstore(SIGSTORE.authority, new_key(), SIGSTORE.entries),
        Sigstore(SIGSTORE.authority, SIGSTORE.certificates, new_key()),
        Sigstore(new_key(), SIGSTORE.certificates, SIGSTORE.entries),
    ):
        judgement = judged(stranger.bundle(statement_of(IMAGE.digest)), by)
        assert judgement.signer == ""
        assert judgement.reason.startswith("is signed, but by no identity that can be verified: ")
    public = IdentitySigners.of(IDENTITY, ISSUER)  # the file that comes with the extra
    assert judged(SIGSTORE.bundle(statement_of(IMAGE.digest)), public).signer == ""


def test_parts_of_two_bundles_do_not_make_one(root: Path) -> None:
    """GHSA-whqx-f9j3-ch6m: an entry of the log about another signature proves nothing, nor does another envelope."""
    one, two = SIGSTORE.bundle(statement_of(IMAGE.digest)), SIGSTORE.bundle(statement_of(OTHER))
    material = {**one["verificationMaterial"], "tlogEntries": two["verificationMaterial"]["tlogEntries"]}
    assert judged({**one, "verificationMaterial": material}, signers(root)).signer == ""
    assert judged({**two, "dsseEnvelope": one["dsseEnvelope"]}, signers(root)).signer == ""
    none = {**one["verificationMaterial"], "tlogEntries": []}
    assert judged({**one, "verificationMaterial": none}, signers(root)).signer == ""


def test_what_the_library_verified_is_what_counts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should it ever read another envelope in a bundle than we do, the bundle does not count."""
    made = SIGSTORE.bundle(statement_of(IMAGE.digest))
    both = {**made, "dsse_envelope": SIGSTORE.bundle(statement_of(OTHER))["dsseEnvelope"]}
    assert judged(both, signers(root)).signer in ("", IDENTITY)
    swapped = {**SIGSTORE.bundle(statement_of(OTHER)), "dsse_envelope": made["dsseEnvelope"]}
    assert judged(swapped, signers(root)).signer == ""
    monkeypatch.setattr("sigstore.verify.Verifier.verify_dsse", lambda *_: (STATEMENT, statement_of(OTHER)))
    judgement = judged(made, signers(root))
    assert judgement.reason == "is signed, but by no identity that can be verified: what is signed is not what was read"


def test_a_key_is_no_identity(root: Path) -> None:
    """A bundle by a key, and a signature of cosign 2, have nobody's identity that could be verified."""
    key = new_key()
    judgement = judged(bundle_of(key, statement_of(IMAGE.digest)), signers(root))
    assert judgement.reason == "is signed with a key, not by an identity; require: {key: FILE} is for keys"
    payload = payload_of(IMAGE.digest)
    found = read_simple(payload, {VALUE: written(signed(key, payload))})
    judgement = judge(IMAGE.digest, found, signers(root))
    said = "has a signature that cannot be read: it is of cosign 2, without proof that it was logged"
    assert judgement.reason.startswith(said)


def test_a_file_that_is_no_root_is_refused(tmp_path: Path, root: Path) -> None:
    """What is no file of authorities and logs is named, with what to give."""
    for text in ("", "{}", "[]", '{"mediaType": "x"}'):
        wrong = tmp_path / "wrong.json"
        wrong.write_text(text)
        with pytest.raises(UsageError, match=r"wrong\.json is no trusted root of sigstore; give the trusted_root.json"):
            check_root(wrong, wrong.read_bytes())
    check_root(root, root.read_bytes())


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity needs the extra: whoever lacks it is told its name."""
    monkeypatch.setitem(sys.modules, "sigstore", None)
    for need in (check_installed, lambda: IdentitySigners.of(IDENTITY, ISSUER)):
        with pytest.raises(UsageError, match=r"not installed; pip install 'mirrord\[sigstore\]'"):
            need()


def test_the_fingerprint_is_that_of_all_that_decides(root: Path) -> None:
    """Another identity, provider or file is another policy."""
    prints = {
        one.fingerprint
        for one in (
            signers(root),
            signers(root, "x"),
            signers(root, issuer="https://x"),
            IdentitySigners.of(IDENTITY, ISSUER),
        )
    }
    assert len(prints) == 4
