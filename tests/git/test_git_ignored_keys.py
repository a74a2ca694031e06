"""Keys under `hosts:` that git and ssh cannot obey are told when the configuration is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mirrord.cli import main
from mirrord.config.load import load_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers

FETCHED = "has no effect on what git fetches (pushes and LFS objects keep to it); limit it in the network"
BANDWIDTH = "has no effect on Git over ssh (its LFS objects keep to it); limit it in the network"
PROXY = "has no effect on Git over ssh, which connects directly; write an https:// address"
HOSTS = """
targets:
  ssh: {kind: git, to: "git@ssh.example.com:x/b.git"}
  other: {kind: git, to: "ssh://git@other.example:2222/c.git"}
hosts:
  git.example.com: {bandwidth: 1MiB/s, proxy: "http://proxy.example:3128"}
  ssh.example.com: {bandwidth: 2MiB/s, proxy: "http://proxy.example:3128"}
  "other.example:2222": {proxy: "http://proxy.example:3128"}
  registry.example.com: {bandwidth: 1MiB/s, proxy: "http://proxy.example:3128"}
mirrors:
"""
GIT = """
  - {name: a, kind: git, from: "https://git.example.com/a.git", to: [local]}
  - {name: b, kind: git, from: "https://git.example.com/b.git", to: ssh}
  - {name: c, kind: git, from: "https://plain.example/c.git", to: other}
"""
IMAGE = "  - {name: i, kind: image, from: {repository: registry.example.com/i, tags: [v1]}, to: [local]}\n"


def notices(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "a.yaml").write_text(text)
    return load_folder(folder, load_syncers(), {}).notices


def test_each_key_is_told_once(tmp_path: Path) -> None:
    """`bandwidth` of any Git host and `proxy` of one over ssh are told, once for all mirrors; other hosts are not."""
    assert notices(tmp_path, HOSTS + GIT + IMAGE) == (
        f"hosts.git.example.com.bandwidth: {FETCHED}",
        f"hosts.ssh.example.com.bandwidth: {BANDWIDTH}",
        f"hosts.ssh.example.com.proxy: {PROXY}",
        f"hosts.other.example:2222.proxy: {PROXY}",
    )


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("git@git.example.com:2222/a/b.git", "ssh://git@git.example.com:2222/a/b.git"),
        ("git@git.example.com:22/b.git", "ssh://git@git.example.com:22/b.git"),
        ("git@git.example.com:a/2222/b.git", ""),
        ("git@git.example.com:/2222/b.git", ""),
        ("ssh://git@git.example.com:2222/a/b.git", ""),
        ("git@github.com:2222/b.git", ""),
    ],
)
def test_a_port_that_is_a_folder(tmp_path: Path, address: str, meant: str) -> None:
    """`user@host:path` has no port: a path that begins like one is told; at hosts with owners it is an owner."""
    found = notices(tmp_path, f"mirrors:\n  - {{name: m, kind: git, from: '{address}', to: local}}\n")
    reads = f"mirrors.m.from: {address} reads {address.partition(':')[2].partition('/')[0]} as a folder"
    assert [one.partition(": ")[2] for one in found] == ([f"{reads}; if it is a port, write {meant}"] if meant else [])


def test_nothing_is_told_without_git(tmp_path: Path) -> None:
    """Where only images are mirrored from such hosts, no key is without effect; hosts may be of no use there."""
    assert [line for line in notices(tmp_path, HOSTS + IMAGE) if "no mirror" not in line] == []


def test_check_tells_and_is_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`mirrord check` says it and exits with 0: the rest of the configuration works."""
    (tmp_path / "a.yaml").write_text(HOSTS + GIT)
    with pytest.raises(SystemExit) as end:
        main(["check", "--config", str(tmp_path)])
    assert not end.value.code
    said = capsys.readouterr()
    assert f"hosts.ssh.example.com.proxy: {PROXY}" in " ".join((said.out + said.err).split())


def test_plain_http_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """Addresses that send everything unencrypted are told all at once, with file, key and fix; loopback may do so."""
    text = """
targets:
  one: {kind: git, to: "http://there.example/{name}.git"}
  near: {kind: git, to: "http://127.0.0.1:3000/{name}.git"}
  marked: {kind: git, to: "http://marked.example/{name}.git"}
hosts:
  marked.example: {insecure: true}
mirrors:
  - {name: a, kind: git, from: "http://git.example/a.git", to: [one, near]}
  - {name: b, kind: git, from: "https://git.example/b.git", to: [one, marked]}
"""
    with pytest.raises(ConfigError) as caught:
        notices(tmp_path, text)
    target, source = str(caught.value).splitlines()  # in the order of the file
    assert re.match(
        r".*a\.yaml:9: mirrors\.a\.from: http://git\.example/a\.git is not encrypted; write https://", source
    )
    assert re.match(r".*a\.yaml:3: targets\.one\.to: http://there\.example/a\.git is not encrypted; ", target)


def test_all_mistakes_are_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    """An address that `hosts:` does not allow stands among the other mistakes, by its line; a wrong host waits."""
    text = """
mirrors:
  - {name: a, kind: git, from: "http://git.example/a.git", to: [there]}
  - {name: b, kind: git, from: "https://git.example/b.git", to: [local], evry: 6h}
targets:
  there: {kind: git, to: "http://there.example/a.git"}
settings: {parallel: many}
"""
    keys = ["mirrors.a.from", "mirrors.b.evry", "targets.there.to", "settings.parallel"]
    with pytest.raises(ConfigError) as caught:
        notices(tmp_path, text)
    found = [re.match(r".*a\.yaml:(\d+): ([a-z.]+): ", problem) for problem in caught.value.problems]
    assert [(one[1], one[2]) for one in found if one] == list(zip("3467", keys, strict=True))
    with pytest.raises(ConfigError) as caught:
        notices(tmp_path, f"{text}hosts: {{git.example: {{insecure: maybe}}}}")
    (_, wrong, host) = caught.value.problems
    assert "settings.parallel" in wrong
    assert "hosts.git.example.insecure" in host
