"""`pull_requests` as the program reads it: repositories, their mirrors and tokens, and one line for each mistake."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mirrord.config.load import Configuration, load_folder, read_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers

SYNCERS = load_syncers()
ENVIRON = {"T": "a-token-123"}
TOKEN = "token: {env: T}"
MIRRORS = """
targets: {one: {kind: image, to: quay.io/team}}
mirrors:
  - {name: app, kind: image, from: {layouts: /builds}, to: one}
  - {name: git, kind: git, from: https://a.example/x.git, to: local}
"""


def loaded(folder: Path, entry: str, environ: Mapping[str, str] = ENVIRON) -> Configuration:
    (folder / "a.yaml").write_text(f"pull_requests: {{here: {{{entry}}}}}\n{MIRRORS}")
    return read_folder(folder, SYNCERS, environ)


def test_repositories_and_their_mirrors(tmp_path: Path) -> None:
    """Short names are at the known hosts; a key of values is the mirror's name unless given; Gitee is Chinese."""
    (read,) = loaded(tmp_path, f"forge: gitlab, repository: acme/sub/app, {TOKEN}, mirrors: app").pull_requests
    assert (read.place, read.language, read.helm) == ("gitlab.com/acme/sub/app", "en", "")
    assert [(one.mirror.name, one.key) for one in read.built] == [("app", "app")]
    assert "a-token-123" not in repr(read)
    more = "mirrors: ['app=web', 'app='], helm: helm install app ./chart"
    (read,) = loaded(tmp_path, f"forge: gitee, repository: acme/app, {TOKEN}, {more}").pull_requests
    assert (read.place, read.language, [one.key for one in read.built]) == ("gitee.com/acme/app", "zh", ["web", ""])
    assert read.helm == "helm install app ./chart"
    here = "forge: gitea, repository: 'https://git.example.com/acme/app', mirrors: app, language: zh"
    (read,) = loaded(tmp_path, f"{here}, {TOKEN}").pull_requests
    assert (read.place, read.language) == ("git.example.com/acme/app", "zh")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (f"forge: github, repository: a/b, {TOKEN}", "pull_requests.here.mirrors: is missing"),
        (f"forge: github, repository: a/b, {TOKEN}, mirrors: ap", "'ap' is no mirror of an image; did you mean 'app'?"),
        (f"forge: github, repository: a/b, {TOKEN}, mirrors: git", "'git' is no mirror of an image"),
        (f"forge: github, repository: a/b, {TOKEN}, mirrors: 'app=$(x)'", "'$(x)' is no key of values"),
        (f"forge: github, repository: a/b, {TOKEN}, mirrors: app, helm: 'x ```'", "here.helm: is one line"),
        (f"forge: github, repository: a, {TOKEN}, mirrors: app", "is no repository"),
        (f"forge: gitea, repository: a/b, {TOKEN}, mirrors: app", "has no host; write the whole URL"),
        (f"forge: gitlab, repository: 'http://git.example.com/a/b', {TOKEN}, mirrors: app", "is not encrypted"),
        (f"forge: cnb, repository: a/b, {TOKEN}, mirrors: app", "pull_requests.here.forge: "),
        (f"forge: github, repository: a/b, {TOKEN}, images: app", "write mirrors: [NAME]"),
    ],
)
def test_mistakes(tmp_path: Path, entry: str, problem: str) -> None:
    """Each is one line with the key and what to write."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, entry)
    assert problem in str(caught.value)
    assert "a-token-123" not in str(caught.value)


def test_a_secret_of_another_machine(tmp_path: Path) -> None:
    """A command without it goes on, and the daemon says which one it lacks."""
    read = loaded(tmp_path, f"forge: github, repository: a/b, {TOKEN}, mirrors: app", {})
    assert read.pull_requests == ()
    read.require(())
    with pytest.raises(ConfigError, match=r"pull_requests\.here\.token: .*T"):
        load_folder(tmp_path, SYNCERS, {})
