"""`asking.issues` as the program reads it: repositories and their secrets, and one line for each mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mirrord.config.load import Configuration, load_folder, read_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers

SYNCERS = load_syncers()
ENVIRON = {"T": "a-token-123", "S": "a-secret-123"}
TOKEN = "token: {env: T}"


def loaded(folder: Path, issues: str, environ: Mapping[str, str] = ENVIRON, more: str = "") -> Configuration:
    (folder / "a.yaml").write_text(f"asking:\n  to: local\n  allow: nginx\n  issues: {issues}\n{more}\n")
    return read_folder(folder, SYNCERS, environ)


def test_repositories_and_their_hooks(tmp_path: Path) -> None:
    """Short names are at github.com and gitee.com; what is not said has a default, and secrets are not shown."""
    text = (
        f"[{{forge: github, repository: Acme/Mirror, {TOKEN}, secret: {{env: S}}}}, "
        f"{{forge: gitee, repository: acme/m, {TOKEN}, language: zh, label: 同步 镜像, every: 1m}}, "
        f"{{forge: gitea, repository: 'https://git.example.com/sub/acme/m', {TOKEN}}}]"
    )
    read = loaded(tmp_path, text)
    assert read.asking
    github, gitee, gitea = read.asking.issues
    assert (github.address.host, github.repository, github.hook) == ("github.com", "Acme/Mirror", "github/acme/mirror")
    assert (github.label, github.language, github.every) == ("sync image", "en", 600.0)
    assert github.secret
    assert (gitee.address.host, gitee.label, gitee.language, gitee.every) == ("gitee.com", "同步 镜像", "zh", 60.0)
    assert (gitea.address.host, gitea.repository, gitea.secret) == ("git.example.com", "acme/m", None)
    assert "a-token-123" not in repr(read)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (f"{{repository: a/b, {TOKEN}}}", "asking.issues[0].forge: is missing"),
        ("{forge: github, repository: a/b}", "asking.issues[0].token: is missing"),
        (f"{{forge: gitlab, repository: a/b, {TOKEN}}}", "asking.issues[0].forge: "),
        (
            f"{{forge: github, repository: a, {TOKEN}}}",
            "is no repository; write OWNER/NAME, or https://HOST/OWNER/NAME",
        ),
        (f"{{forge: github, repository: a/b/c, {TOKEN}}}", "is no repository"),
        (f"{{forge: github, repository: 'ssh://git@github.com/a/b', {TOKEN}}}", "is no repository"),
        (f"{{forge: gitea, repository: a/b, {TOKEN}}}", "has no host; write the whole URL, https://git.example.com"),
        (f"{{forge: gitea, repository: 'http://git.example.com/a/b', {TOKEN}}}", "is not encrypted"),
        (f"{{forge: github, repository: a/b, {TOKEN}, label: 'a,b'}}", "is not a label"),
        (f"{{forge: gitee, repository: a/b, {TOKEN}, label: '123456789012'}}", "write 2 to 11 characters"),
        (f"{{forge: github, repository: a/b, {TOKEN}, every: 1s}}", "asking.issues[0].every: "),
        (f"{{forge: github, repo: a/b, {TOKEN}}}", "write repository: OWNER/NAME"),
        (
            f"{{forge: github, repository: a/b, {TOKEN}}}, {{forge: github, repository: A/B, {TOKEN}}}",
            "is listed twice",
        ),
        (
            ", ".join(f"{{forge: gitea, repository: 'https://g.example/{name}', {TOKEN}}}" for name in ("a/b", "A/b")),
            "is listed twice",
        ),
    ],
)
def test_mistakes(tmp_path: Path, entry: str, problem: str) -> None:
    """Each is one line with the key and what to write."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"[{entry}]")
    assert problem in str(caught.value)
    assert "a-token-123" not in str(caught.value)


def test_a_secret_of_another_machine(tmp_path: Path) -> None:
    """A command without it goes on, and the daemon says which one it lacks."""
    read = loaded(tmp_path, f"[{{forge: github, repository: a/b, {TOKEN}}}]", {})
    assert read.asking
    assert read.asking.issues == ()
    read.require(())
    with pytest.raises(ConfigError, match=r"asking\.issues\[0\]\.token: .*T"):
        load_folder(tmp_path, SYNCERS, {})


def test_a_host_that_only_issues_need(tmp_path: Path) -> None:
    """Its entry under hosts: allows a server without TLS, and mirrors do without the credentials there."""
    entry = f"[{{forge: gitea, repository: 'http://git.example.com/a/b', {TOKEN}}}]"
    mirrors = "mirrors: [{name: app, kind: image, from: {repository: quay.io/a/b, tags: [v1]}, to: local}]"
    host = "{insecure: true, allow_private: true, auth: {username: u, password: {env: NOT_HERE}}}"
    read = loaded(tmp_path, entry, more=f"hosts: {{git.example.com: {host}}}\n{mirrors}")
    assert read.asking
    assert [one.address.scheme for one in read.asking.issues] == ["http"]
    assert len(read.absent) == 1
    read.require(("app",))
