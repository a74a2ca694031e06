"""One repository, one name: where a mirror reads from and writes to."""

from __future__ import annotations

from typing import Any

import pytest

from mirrord.errors import ConfigError
from mirrord.model.origin import ConfigOrigin
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.syncers.git.names import forge_at, places, repository_name, source_address, target_address
from mirrord.syncers.git.spec import GitSpec, GitTarget


def target(to: str, **options: Any) -> Target:
    return Target("t", "git", to, GitTarget.model_validate(options), ConfigOrigin("x.yaml", 3))


def mirror(*targets: Target, **keys: Any) -> Mirror:
    spec = GitSpec.model_validate({"from": "https://github.com/gocrane/crane", **keys})
    return Mirror("m", "git", spec, targets, origin=ConfigOrigin("x.yaml", 9))


@pytest.mark.parametrize(
    ("to", "url"),
    [
        ("https://gitee.com/finops/{name}", "https://gitee.com/finops/crane.git"),
        ("https://gitee.com/finops/{name}.git", "https://gitee.com/finops/crane.git"),
        ("https://gitee.com/finops", "https://gitee.com/finops/crane.git"),
        ("https://gitee.com/finops/", "https://gitee.com/finops/crane.git"),
        ("https://gitee.com/finops/one.git", "https://gitee.com/finops/one.git"),
        ("https://e.coding.net/finops/gocrane/{mirror}-{name}", "https://e.coding.net/finops/gocrane/m-crane.git"),
        ("https://git.example.com/srv/{name}", "https://git.example.com/srv/crane"),
        ("https://git.example.com/srv/{name}.git", "https://git.example.com/srv/crane.git"),
    ],
)
def test_addresses(to: str, url: str) -> None:
    """`{name}` is replaced; without it the name is added, except behind `.git`; known hosts get their `.git`."""
    assert target_address(mirror(**{"as": "crane"}), target(to)).url == url


@pytest.mark.parametrize("to", ["git@gitee.com:finops/{name}", "git@gitee.com:finops", "ssh://git@gitee.com/finops/"])
def test_ssh_addresses(to: str) -> None:
    """SSH, in both spellings, is the same place as HTTPS."""
    one = mirror(target(to), **{"as": "Crane"})
    assert target_address(one, one.targets[0]).scheme == "ssh"
    assert places(one)[1] == {"t": "gitee.com/finops/crane"}


def test_a_name_is_the_mirrors_unless_it_says_otherwise() -> None:
    """`as:` names the repository, else the mirror's name does."""
    assert (repository_name(mirror()), repository_name(mirror(**{"as": "X"}))) == ("m", "X")


def test_places() -> None:
    """Origin and targets are told in one spelling; a plain host keeps its capital letters, a known one has none."""
    local = Target(LOCAL, "git", LOCAL, GitTarget())
    one = mirror(
        target("https://git.example.com/Srv/{name}.git"), local, **{"from": "git@github.com:GoCrane/Crane.git"}
    )
    assert places(one) == ("github.com/gocrane/crane", {"t": "git.example.com/Srv/m", "local": "local/m"})
    assert source_address(one).host == "github.com"


@pytest.mark.parametrize(
    ("to", "options", "name"),
    [
        ("https://gitee.com/a/{name}", {}, "gitee"),
        ("https://git.example.com/a/{name}", {}, "plain"),
        ("https://git.example.com/a/{name}", {"host": "gitea"}, "gitea"),
        ("https://codeberg.org/a/{name}", {}, "gitea"),
        ("https://github.com/a/{name}", {"host": "plain"}, "plain"),
        ("ssh://git@ssh.github.com:443/a/{name}", {}, "github"),
    ],
)
def test_kinds_of_hosts(to: str, options: dict[str, str], name: str) -> None:
    """A host is what `host:` says, else what its name says, else plain."""
    assert forge_at(mirror(), target(to, **options)).name == name


@pytest.mark.parametrize(
    ("to", "options"),
    [
        ("https://gitee.com/{name}", {}),
        ("https://e.coding.net/finops/{name}", {}),
        ("git@cnb.cool:a/{name}", {}),
        ("https://user:secret-word@gitee.com/a/{name}", {}),
        ("ext::sh -c {name}", {}),
        ("-oProxyCommand=x:{name}", {}),
        ("https://gitee.com/a/{other}", {}),
        ("https://gitee.com/a/../{name}", {}),
    ],
)
def test_wrong_targets(to: str, options: dict[str, str]) -> None:
    """What cannot be a repository there is refused with file, line and key, and without a password."""
    with pytest.raises(ConfigError) as caught:
        target_address(mirror(), target(to, **options))
    assert str(caught.value).startswith("x.yaml:3: targets.t.to: ")
    assert "secret-word" not in str(caught.value)
