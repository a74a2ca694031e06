"""The Git part of the configuration: what it takes, and one line for everything it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from mirrord.config.load import Configuration, load_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import Syncer
from mirrord.syncers.git.names import places, spec_of
from mirrord.syncers.git.spec import GitSpec, GitTarget
from mirrord.syncers.git.syncer import SYNCER
from mirrord.wire.forges.known import FORGES

UPSTREAM = "https://github.com/gocrane/crane.git"
SYNCERS: Mapping[str, Syncer] = {"git": SYNCER}


def spec(**keys: Any) -> GitSpec:
    return GitSpec.model_validate({"from": UPSTREAM, **keys})


def load(folder: Path, text: str) -> Configuration:
    (folder / "main.yaml").write_text(text)
    return load_folder(folder, SYNCERS, {})


def refused(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return tuple(problem.replace(f"{folder}/", "") for problem in caught.value.problems)


def test_defaults() -> None:
    """A source is enough: all branches and tags, a guard at a fifth, backups for thirty days, LFS."""
    found = spec()
    assert (found.refs, found.max_loss, found.backups, found.lfs) == (
        ("refs/heads/*", "refs/tags/*"),
        0.2,
        30 * 86400.0,
        True,
    )
    assert (found.name, found.rewrites) == (None, "follow")
    assert GitTarget() == GitTarget(host=None, create=True, visibility="private", default_branch="follow")


@pytest.mark.parametrize(
    "refs", [["refs/heads/main"], ["refs/heads/*", "^refs/heads/dependabot/*"], ["refs/tags/v[0-9]*"]]
)
def test_patterns(refs: list[str]) -> None:
    """Full names, globs, and exceptions with a caret are patterns."""
    assert spec(refs=refs).refs == tuple(refs)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"refs": ["main"]}, "such as refs/heads/main"),
        ({"refs": ["refs/pull/*"]}, "selects no branches or tags"),
        ({"refs": ["refs/heads/../x"]}, "selects no branches or tags"),
        ({"refs": ["refs/heads/a b"]}, "selects no branches or tags"),
        ({"refs": ["refs/heads/a\n"]}, "selects no branches or tags"),
        ({"refs": ["^refs/heads/x"]}, "only takes refs out"),
        ({"refs": []}, "at least 1"),
        ({"as": "a/b"}, "not a repository name"),
        ({"as": "crane.git"}, "without owner and `.git`"),
        ({"as": "a..b"}, "without `..`"),
        ({"as": "-x"}, "not a repository name"),
        ({"as": ".x"}, "not a repository name"),
        ({"as": "a\n"}, "not a repository name"),
        ({"as": "a" * 101}, "at most 100"),
        ({"max_loss": 1.5}, "less than or equal to 1"),
        ({"max_loss": -0.1}, "greater than or equal to 0"),
        ({"rewrites": "allow"}, "'block' or 'follow'"),
        ({"backups": "-1d"}, "not a duration"),
        ({"backups": "20y"}, "not a duration"),
        ({"allow": True}, "Extra inputs"),
    ],
)
def test_wrong_keys(keys: dict[str, object], told: str) -> None:
    """What is no pattern, name, share or duration is refused with what to write; `allow` is no key at all."""
    with pytest.raises(ValidationError) as caught:
        spec(**keys)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "57-ext::sh -c touch% /tmp/x",
        "57-fd::17",
        "57-file:///etc",
        "57-/etc",
        "57-git://h/x",
        "57---upload-pack=touch x",
        "57--oProxyCommand=x",
        "57-ssh://-oProxyCommand=x/y",
        "57-https://h/%0ahost=evil",
        "57-https://h/a\nb",
        "57-https://h/a\0b",
        "66-https://user:pw@h/a",
    ],
)
def test_57_66_bad_input_sources(source: str) -> None:
    """No address that runs a program, reads a file or carries a password gets past the configuration."""
    with pytest.raises(ValidationError) as caught:
        spec(**{"from": source.partition("-")[2]})
    assert ":pw@" not in caught.value.errors(include_input=False)[0]["msg"]


def test_every_kind_of_host_can_be_written() -> None:
    """`host:` takes exactly the kinds that there are."""
    words = get_args(get_args(GitTarget.model_fields["host"].annotation)[0])
    assert set(words) == set(FORGES)


def test_the_seed(tmp_path: Path) -> None:
    """The five repositories of GoCrane at Coding, three of them at Gitee too, are a few lines."""
    found = load(
        tmp_path,
        """
        targets:
          coding: {kind: git, to: "https://e.coding.net/finops/gocrane/{name}.git"}
          gitee: {kind: git, to: "https://gitee.com/finops/{name}", visibility: public}
        mirrors:
          - {name: crane, kind: git, from: https://github.com/gocrane/crane.git,
             to: [coding, gitee, local], cron: "17 3 * * *"}
          - {name: charts, as: helm-charts, kind: git, from: https://github.com/gocrane/helm-charts.git,
             to: [coding, gitee]}
          - {name: api, kind: git, from: https://github.com/gocrane/api.git, to: coding, max_loss: 0.1, backups: 90d}
        """,
    )
    assert [places(mirror) for mirror in found.mirrors] == [
        (
            "github.com/gocrane/crane",
            {
                "coding": "e.coding.net/finops/gocrane/crane",
                "gitee": "gitee.com/finops/crane",
                "local": "local/crane",
            },
        ),
        (
            "github.com/gocrane/helm-charts",
            {"coding": "e.coding.net/finops/gocrane/helm-charts", "gitee": "gitee.com/finops/helm-charts"},
        ),
        ("github.com/gocrane/api", {"coding": "e.coding.net/finops/gocrane/api"}),
    ]
    assert (spec_of(found.mirrors[2]).max_loss, spec_of(found.mirrors[2]).backups) == (0.1, 90 * 86400.0)


TWO = """
targets:
  gitee: {{kind: git, to: "https://gitee.com/finops/{{name}}"}}
  again: {{kind: git, to: "{to}"}}
mirrors:
  - {{name: one, kind: git, from: https://github.com/gocrane/one, to: [gitee, local]}}
  - {{name: two, {key}, kind: git, from: https://github.com/gocrane/two, to: [{target}]}}
"""


@pytest.mark.parametrize(
    ("to", "key", "target"),
    [
        ("https://gitee.com/finops/other.git", "as: one", "gitee"),
        ("https://gitee.com/finops/other.git", "as: One", "local"),
        ("https://gitee.com/finops/one.git", "lfs: true", "again"),
        ("git@gitee.com:finops/One", "as: One", "again"),
        ("ssh://git@gitee.com/finops/ONE.git", "lfs: true", "again"),
    ],
)
def test_two_mirrors_never_write_one_repository(tmp_path: Path, to: str, key: str, target: str) -> None:
    """One repository is one place, however it is written: who writes it second is named, with both lines."""
    if to == "git@gitee.com:finops/One":
        to = "git@gitee.com:finops"
    problems = refused(tmp_path, TWO.format(to=to, key=key, target=target))
    assert len(problems) == 1
    assert problems[0].startswith("main.yaml:7: mirrors.two.to: target")
    assert "written by mirror 'one'" in problems[0]


def test_a_mirror_does_not_feed_itself(tmp_path: Path) -> None:
    """A target that is the origin, written otherwise, is a loop."""
    text = """
targets:
  home: {kind: git, to: "git@github.com:GoCrane/{name}"}
mirrors:
  - {name: crane, kind: git, from: https://github.com/gocrane/crane, to: home}
"""
    assert "mirrors itself" in refused(tmp_path, text)[0]


@pytest.mark.parametrize(
    ("target", "source", "told"),
    [
        ("https://e.coding.net/finops/{name}", "a/b", "main.yaml:3: targets.t.to: "),
        ("https://gitee.com/a/b/{name}", "a/b", "write OWNER/NAME"),
        ("https://gitee.com/a/{nam}", "a/b", "write {name} or {mirror}"),
        ("file:///srv/{name}", "a/b", "main.yaml:3: targets.t.to: "),
        ("https://gitee.com/a/{name}", "a", "main.yaml:5: mirrors.m.from: "),
    ],
)
def test_wrong_places(tmp_path: Path, target: str, source: str, told: str) -> None:
    """A place that cannot be a repository there is named with file, line, key and form."""
    text = f"""
targets:
  t: {{kind: git, to: "{target}"}}
mirrors:
  - {{name: m, kind: git, from: https://github.com/{source}, to: t}}
"""
    assert any(told in problem for problem in refused(tmp_path, text))
