"""Keys and known hosts for Git over ssh, as they are written under `hosts:`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.config.load import Configuration

Load = Callable[..., Configuration]
Refusal = Callable[..., tuple[str, ...]]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id"
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    path.chmod(0o600)
    return path


def test_keys_arrive(load: Load, key: Path) -> None:
    """Both files arrive in the policy; without them there are none."""
    known = key.with_name("known")
    known.write_text("")
    book = load(f"hosts: {{git.example: {{ssh_key: {key}, known_hosts: {known}}}}}").book
    assert (book.policy("git.example").ssh_key, book.policy("git.example").known_hosts) == (str(key), str(known))
    assert book.policy("other.example").ssh_key is None


def test_a_public_key(refusal: Refusal, key: Path) -> None:
    """The public half where the private one belongs is found when configuration is read."""
    key.write_text("ssh-ed25519 AAAA\n")
    (problem,) = refusal(f"hosts: {{git.example: {{ssh_key: {key}}}}}")
    assert problem.endswith("contains no private key; give the file without .pub")


def test_a_key_for_everybody(refusal: Refusal, key: Path) -> None:
    """A key that others may read is one that ssh will not use; the text says what to do."""
    key.chmod(0o644)
    (problem,) = refusal(f"hosts: {{git.example: {{ssh_key: {key}}}}}")
    assert f"chmod 600 {key}" in problem


@pytest.mark.parametrize("name", ["ssh_key", "known_hosts"])
def test_68_missing_files(refusal: Refusal, name: str) -> None:
    """Bad input 68: files that are not there, or not named from / on, are told by key."""
    assert f"git.example.{name}: /none" in refusal(f"hosts: {{git.example: {{{name}: /none}}}}")[0]
    assert "is not absolute" in refusal(f"hosts: {{git.example: {{{name}: id}}}}")[0]
