"""What counts as a provenance file, and what it must say about an archive."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirrord.errors import ContentError
from mirrord.syncers.helm.upstream.archive import check_provenance, is_signed
from mirrord.testing import require
from mirrord.testing.charts import build_chart
from tests.support.signing import GpgSigner, ShapeSigner

CRANE = build_chart("crane", "1.2.0+build.3", metadata={"description": "- with a dash\n-- and another"})
SIGNED = CRANE.provenance(ShapeSigner())
OTHER = build_chart("crane", "1.3.0")


@pytest.fixture(scope="module")
def gpg() -> Iterator[GpgSigner]:
    require("gpg", "gpgconf")
    home = tempfile.mkdtemp(prefix="g")  # pytest's folders are too long for the agent's socket
    try:
        with GpgSigner(Path(home)) as signer:
            yield signer
    finally:
        shutil.rmtree(home)


def check(body: bytes) -> None:
    check_provenance(body, CRANE.file, CRANE.digest)


def test_signed_by_gpg(gpg: GpgSigner) -> None:
    """What gpg signed passes; and what the doubles make has the same text in it."""
    body = CRANE.provenance(gpg)
    assert is_signed(body)
    check(body)
    assert b"files:\n  crane-1.2.0+build.3.tgz: sha256:" in gpg.verify(body)
    assert gpg.keyring()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(SIGNED, id="plain"),
        pytest.param(SIGNED.replace(b"\n", b"\r\n"), id="carriage returns"),
        pytest.param(b"\n\n" + SIGNED + b"\n\n", id="empty lines around"),
        pytest.param(SIGNED.replace(b"Hash: SHA512\n", b""), id="no hash"),
        pytest.param(SIGNED.replace(b"Hash: SHA512\n", b"Hash: SHA256\nHash: SHA512\n"), id="two hashes"),
        pytest.param(SIGNED.replace(b"files:", b"images: {}\nfiles:"), id="images"),
    ],
)
def test_as_helm_and_gpg_write_them(body: bytes) -> None:
    """Whatever OpenPGP allows around the text, the sum is found."""
    assert is_signed(body)
    check(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<!DOCTYPE html><title>index</title>", id="page"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"404 page not found\n", id="polite text"),
        pytest.param(b'{"error":"not found"}', id="json"),
        pytest.param(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", id="key"),
        pytest.param(b"see -----BEGIN PGP SIGNED MESSAGE-----", id="talk about it"),
    ],
)
def test_what_is_none(body: bytes) -> None:
    """A page, a key or a polite text with status 200 is no provenance (artifacthub#1427)."""
    assert not is_signed(body)
    with pytest.raises(ContentError, match="not a whole clear-signed text"):
        check(body)


HEAD, _, TAIL = SIGNED.partition(b"\n...\n")
BAD = {
    "53 another file": (CRANE.provenance(ShapeSigner(), file=OTHER.file), "signs 'crane-1.3.0.tgz'"),
    "53 path before the file": (CRANE.provenance(ShapeSigner(), file=f"charts/{CRANE.file}"), "signs "),
    "53 another sum": (CRANE.provenance(ShapeSigner(), digest=OTHER.digest), f"but the archive is {CRANE.digest}"),
    "53 sum without algorithm": (CRANE.provenance(ShapeSigner(), digest=CRANE.digest.hex), "but the archive is"),
    "53 sum in capitals": (CRANE.provenance(ShapeSigner(), digest=CRANE.digest.upper()), "but the archive is"),
    "no signature": (SIGNED.partition(b"\n-----BEGIN PGP SIG")[0], "not a whole"),
    "cut off": (SIGNED[: -len(b"SIGNATURE-----\n")], "not a whole"),
    "no empty line": (SIGNED.replace(b"SHA512\n\n", b"SHA512\n"), "not a whole"),
    "no dots": (SIGNED.replace(b"\n...\n", b"\n"), "no list of files"),
    "no files": (SIGNED.replace(b"files:", b"file:"), "no list of files"),
    "files is a text": (HEAD + b"\n...\nfiles: x\n" + TAIL[TAIL.index(b"\n-----BEGIN") :], "no list of files"),
    "sums are no yaml": (SIGNED.replace(b"files:", b"files: ["), "its list of digests"),
    "sum outside of what is signed": (
        OTHER.provenance(ShapeSigner()) + b"\n...\nfiles:\n  " + CRANE.file.encode() + b": " + CRANE.digest.encode(),
        "signs ",
    ),
}


@pytest.mark.parametrize(("body", "said"), BAD.values(), ids=BAD)
def test_what_helm_verify_would_refuse(body: bytes, said: str) -> None:
    """A text that is cut off, or that vouches for another archive, is refused and says for which."""
    assert is_signed(body)
    with pytest.raises(ContentError) as caught:
        check(body)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{CRANE.file}.prov: ")


def test_a_name_written_twice() -> None:
    """Two sums for one file are none: which of them helm would read is not for us to guess."""
    line = f"  {CRANE.file}: {CRANE.digest}\n".encode()
    with pytest.raises(ContentError, match="but the archive is") as caught:
        check(SIGNED.replace(line, line + line))
    assert "is nothing that can be read (crane-1.2.0+build.3.tgz is written twice (line 3))" in str(caught.value)


def test_long_texts_take_linear_time() -> None:
    """A megabyte that never ends is refused without going over it again and again."""
    with pytest.raises(ContentError, match="not a whole"):
        check(b"-----BEGIN PGP SIGNED MESSAGE-----\n\n" + b"\n-----BEGIN PGP SIGNATURE-----" * 30_000)
