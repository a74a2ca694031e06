"""The keys below `signatures.require`, and the files that they name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mirrord.errors import ConfigError
from mirrord.model.origin import ConfigOrigin
from mirrord.syncer.values import Mirror
from mirrord.syncers.image.spec import ImageSpec
from mirrord.syncers.image.syncer import SYNCER
from tests.support.cosigning import new_key, pem_of
from tests.support.fulcio import IDENTITY, ISSUER, Sigstore

WHO = {"identity": IDENTITY, "issuer": ISSUER}


def spec(require: Any, **source: str) -> ImageSpec:
    keys = {"from": source or {"repository": "r.example/a:v1"}, "signatures": {"require": require}}
    return ImageSpec.model_validate(keys)


@pytest.mark.parametrize(
    ("require", "said"),
    [
        ({}, "says nobody; write key: /etc/mirrord/release.pub, or identity: and issuer:"),
        ({"key": []}, "at least 1 item"),
        ({"key": "release.pub"}, "'release.pub' is not absolute; write an absolute path"),
        ({"key": ["/a.pub", "b.pub"]}, "'b.pub' is not absolute; write an absolute path"),
        ({"key": "/a.pub", **WHO}, "key does not go with identity, issuer and trust_root; keep one of the two ways"),
        ({"key": "/a.pub", "trust_root": "/r.json"}, "key does not go with identity, issuer and trust_root"),
        ({"identity": IDENTITY}, "identity needs issuer"),
        ({"issuer": ISSUER}, "says nobody; write key:"),
        ({**WHO, "identity": "https://github.com/team/*"}, r"write a regular expression of the whole identity"),
        ({**WHO, "identity": "/a(b/"}, "not a regular expression: 'a\\(b'"),
        ({**WHO, "issuer": "github"}, "'github' is no URL; write such as https://token.actions"),
        ({**WHO, "trust_root": "root.json"}, "'root.json' is not absolute; write an absolute path"),
        ({"keys": "/a.pub"}, "Extra inputs are not permitted"),
    ],
)
def test_what_requires_nobody_or_two_is_refused(require: Any, said: str) -> None:
    """A requirement names keys or one identity with its provider; anything else says what to write."""
    with pytest.raises(ValidationError, match=said):
        spec(require)


def test_an_archive_cannot_be_signed() -> None:
    """A docker archive has no place for signatures, so requiring one is an error and not a refusal in each run."""
    with pytest.raises(ValidationError, match=r"signatures\.require does not fit archive, which has none"):
        spec({"key": "/a.pub"}, archive="/x.tar")


def test_one_key_or_many() -> None:
    """One file may be written without a list."""
    one, many = spec({"key": "/a.pub"}).signatures.require, spec({"key": ["/a.pub", "/b.pub"]}).signatures.require
    assert one is not None
    assert many is not None
    assert (one.keys, many.keys) == ((Path("/a.pub"),), (Path("/a.pub"), Path("/b.pub")))


def checked(require: Any) -> list[str]:
    assert SYNCER.check_files is not None
    mirror = Mirror("app", "image", spec(require), (), origin=ConfigOrigin("conf.d/a.yaml", 7))
    return [*SYNCER.check_files(mirror)]


def test_check_reads_the_files(tmp_path: Path) -> None:
    """`mirrord check` names each file that is not what it has to be; one that is not on this machine is a notice."""
    good, bad, gone = tmp_path / "release.pub", tmp_path / "bad.pub", tmp_path / "gone.pub"
    good.write_bytes(pem_of(new_key()))
    bad.write_text("ssh-ed25519 AAAA")
    where = "conf.d/a.yaml:7: mirrors.app.signatures.require: "
    assert checked({"key": str(good)}) == []
    assert checked({"key": [str(good), str(gone)]}) == [f"{where}{gone} does not exist; make it, or correct the path"]
    with pytest.raises(ConfigError) as wrong:
        checked({"key": [str(good), str(gone), str(bad), str(tmp_path)]})
    first, second = wrong.value.problems
    assert first.startswith(f"{where}{bad} holds no public key in PEM form; give the one of")
    assert second.startswith(f"{where}{tmp_path} ")


def test_check_reads_the_trusted_root(tmp_path: Path) -> None:
    """The file with authorities and logs is read as well."""
    root = tmp_path / "trusted_root.json"
    root.write_bytes(Sigstore().trusted_root())
    assert checked({**WHO, "trust_root": str(root)}) == []
    root.write_text("{}")
    with pytest.raises(ConfigError, match=r"trusted_root\.json is no trusted root of sigstore; give"):
        checked({**WHO, "trust_root": str(root)})


def test_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra an identity is a notice: the machine that runs the mirrors may have it."""
    monkeypatch.setitem(sys.modules, "sigstore", None)
    (notice,) = checked(WHO)
    assert notice.endswith("identity needs sigstore, which is not installed; pip install 'mirrord[sigstore]'")
