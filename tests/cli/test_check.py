"""`mirrord check` at the edges: what is no folder of configuration, and how its lines look."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support.commands import Desk, Said

Typed = Callable[..., Said]
MIRROR = "mirrors: [{name: m, kind: image, from: {repository: quay.io/a/m, tags: [v1]}, to: local}]\n"


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("conf.d/a.yaml", "conf.d/a.yaml: is a file; give the folder that it is in, --config conf.d"),
        ("nowhere", "nowhere: does not exist; make it, or give another folder with --config"),
        ("empty", "empty: contains no *.yaml file; write one, or give another folder with --config"),
        ("short", "short/mirrors.yml: only *.yaml files are read; rename it to mirrors.yaml"),
    ],
)
@pytest.mark.parametrize("command", ["check", "plan", "serve"])
def test_what_is_no_folder_of_configuration(desk: Desk, typed: Typed, command: str, folder: str, told: str) -> None:
    """A file, nothing, an empty folder and one of *.yml files are told as what they are, by every command alike."""
    desk.configure(MIRROR)
    for name in ("empty", "short"):
        (desk.folder / name).mkdir()
    (desk.folder / "short" / "mirrors.yml").write_text(MIRROR)
    said = typed(command, "--config", folder)
    assert (said.status, said.out, said.err) == (78, "", f"{told}\n")


def test_no_folder_at_all(typed: Typed) -> None:
    """Without a folder in either place both are named, and how to get one."""
    said = typed("check")
    assert said.status == 78
    neither, fix = "neither /etc/mirrord/conf.d nor conf.d exists", "make one with `mirrord init`, or name the folder"
    assert said.err == f"{neither}; {fix} with --config\n"


def test_files_that_are_not_read_are_notices(desk: Desk, typed: Typed) -> None:
    """A *.yml file beside others is a notice that says what to do."""
    desk.configure(MIRROR)
    desk.configure(MIRROR, "b.yml")
    said = typed("check")
    assert said.status == 0
    assert said.err == "notice: conf.d/b.yml: skipped, only *.yaml files are read; rename it to b.yaml\n"
    assert said.out.splitlines()[-1] == "conf.d: 1 file, 1 mirror, no problem, 1 notice"


def test_who_sees_new_repositories(desk: Desk, typed: Typed) -> None:
    """Docker Hub makes them public and GHCR private; each such target that a mirror writes to is told once."""
    desk.configure(
        """
targets:
  hub: {kind: image, to: docker.io/gocrane}
  ghcr: {kind: image, to: ghcr.io/gocrane}
  own: {kind: image, to: registry.example/gocrane}
mirrors:
  - {name: a, kind: image, from: {repository: quay.io/team/a}, to: [hub, ghcr, own]}
  - {name: b, kind: image, from: {repository: quay.io/team/b}, to: [hub]}
"""
    )
    notices = typed("check", "--json").document["notices"]
    assert [notice.split(": ")[:2] for notice in notices] == [
        ["conf.d/a.yaml:4", "targets.ghcr"],
        ["conf.d/a.yaml:3", "targets.hub"],
    ]
    assert "are private until" in notices[0]
    assert "are public, unless" in notices[1]


def test_notices_come_with_errors(desk: Desk, typed: Typed) -> None:
    """The notice about a skipped file is printed with the error that it explains, by each command that reads it."""
    desk.configure(MIRROR.replace("to: local", "to: [hub]"))
    desk.configure("targets: {hub: {kind: image, to: ghcr.io/a}}\n", "targets.yml")
    notice = "conf.d/targets.yml: skipped, only *.yaml files are read; rename it to targets.yaml"
    for command in ("check", "sync"):
        said = typed(command)
        assert said.status == 78
        problem, second, *_ = said.err.splitlines()
        assert (problem.startswith("conf.d/a.yaml:1: "), second) == (True, f"notice: {notice}")
    assert typed("check", "--json").document["notices"] == [notice]


@pytest.mark.parametrize("text", ["", "mirrors: []\n", "settings: {parallel: 2}\n"])
def test_no_mirrors(desk: Desk, typed: Typed, text: str) -> None:
    """Without a mirror there is nothing to do, and `check` says so."""
    desk.configure(text)
    said = typed("check")
    assert said.status == 0
    assert said.err == "notice: conf.d: no mirrors, so there is nothing to do; list them below `mirrors:`\n"
    assert said.out == "conf.d: 1 file, 0 mirrors, no problem, 1 notice\n"


def test_editors_find_each_line(desk: Desk, typed: Typed) -> None:
    """Every problem begins with file and line, the first one too, as editors' problem matchers want it."""
    desk.configure("mirrors:\n  - {name: m, kind: image, too: local}\n  - {name: 'N', kind: helm}\nhost: x\n")
    said = typed("check")
    assert said.status == 78
    lines = said.err.splitlines()
    assert len(lines) >= 5
    assert [line for line in lines if not re.match(r"conf\.d/a\.yaml:[1-4]: [a-z]", line)] == []


def test_a_webhook_that_knows_no_place(desk: Desk, typed: Typed) -> None:
    """Where new Pods are pointed at has to be clear before a daemon starts."""
    desk.configure(f"{MIRROR}webhook: {{listen: '127.0.0.1:0', names: [w]}}\n")
    assert typed("check").status == 0
    desk.configure("webhook: {listen: '127.0.0.1:0', names: [w]}\n")
    said = typed("check")
    assert (said.status, said.out) == (78, "")
    assert said.err.startswith("webhook: there is no place to point at; add a target of kind image")
