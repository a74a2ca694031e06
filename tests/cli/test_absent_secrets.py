"""Secrets and files that are on another machine: neither `check` nor a mirror without secrets needs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk, Said

Typed = Callable[..., Said]
CONF = Path(__file__).parents[2] / "conf.d"
HOSTS = """hosts:
  ghcr.io: {auth: {username: robot, password: {env: GHCR_TOKEN}}}
  quay.io: {auth: {username: robot, password: {file: /nowhere/token}}}
  git.example: {ssh_key: /nowhere/key, known_hosts: /nowhere/known, ca: /nowhere/ca.pem}
  charts.example: {auth: {username: robot, password: {credential: charts}}}
"""
NEEDY = """targets:
  ghcr: {kind: image, to: ghcr.io/team}
mirrors:
  - {name: image, kind: image, from: {repository: quay.io/team/app, tags: [v1]}, to: [ghcr, local]}
  - {name: code, kind: git, from: "ssh://git@git.example:2222/team/code.git", to: local}
  - {name: more, kind: git, from: "git@git.example:team/more.git", to: local}
  - {name: charts, kind: helm, from: https://charts.example, to: local}
"""
WHAT = {
    "hosts.ghcr.io.auth.password": "environment variable GHCR_TOKEN is not set",
    "hosts.quay.io.auth.password": "secret file /nowhere/token does not exist",
    "hosts.git.example.ca": "/nowhere/ca.pem does not exist",
    "hosts.git.example.known_hosts": "/nowhere/known does not exist",
    "hosts.git.example.ssh_key": "/nowhere/key does not exist",
    "hosts.charts.example.auth.password": "$CREDENTIALS_DIRECTORY is not set",
}
LINES = {"ghcr.io": 2, "quay.io": 3, "git.example": 4, "charts.example": 5}


def absent(lines: list[str], *hosts: str) -> list[str]:
    """Return what is missing in these lines that should be there for these hosts, or is not expected there."""
    wanted = {key: what for key, what in WHAT.items() if key.removeprefix("hosts.").startswith(hosts)}
    left = list(lines)
    for key, what in wanted.items():
        line = next(number for host, number in LINES.items() if host in key)
        found = [one for one in left if one.startswith(f"conf.d/a.yaml:{line}: {key}: ") and what in one]
        left = [one for one in left if one not in found] + ([] if found else [f"nothing about {key}"])
    return left


def test_check_goes_without(desk: Desk, typed: Typed) -> None:
    """`check` passes with a notice for each secret and file that is not here; JSON has them too; `serve` refuses."""
    desk.configure(HOSTS + NEEDY)
    said = typed("check")
    assert said.status == 0
    notices = said.err.splitlines()
    assert all(line.startswith("notice: ") for line in notices)
    assert notices.pop().startswith("notice: conf.d/a.yaml:7: targets.ghcr: repositories that a push makes ")
    assert absent([line.removeprefix("notice: ") for line in notices], *LINES) == []
    assert said.out.splitlines()[-1] == "conf.d: 1 file, 4 mirrors, no problem, 7 notices"
    listed = typed("check", "--json")
    assert listed.document["ok"] is True
    assert absent(listed.document["notices"][:-1], *LINES) == []
    served = typed("serve")
    assert served.status == 78
    *problems, last = served.err.splitlines()
    assert absent(problems, *LINES) == []
    assert last == "mirrord: not started: 6 problems in conf.d"
    planned = typed("plan")
    assert planned.status == 78
    who = "needed by image, code, more, charts"
    assert planned.err.splitlines()[6:] == [f"mirrord: nothing was planned: 6 secrets or files are missing ({who})"]
    assert typed("check", "--json").out.count("nothing was") == 0


def test_what_is_here_and_wrong_stays_a_problem(desk: Desk, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is here and cannot be used fails `check`, beside others that are not here."""
    desk.configure(HOSTS + NEEDY)
    monkeypatch.setenv("GHCR_TOKEN", "")
    said = typed("check")
    assert said.status == 78
    assert said.err.startswith("conf.d/a.yaml:2: hosts.ghcr.io.auth.password: environment variable GHCR_TOKEN is empty")


@pytest.mark.parametrize(
    ("arguments", "hosts"),
    [
        (("sync", "image"), ("ghcr.io", "quay.io")),
        (("sync", "more"), ("git.example",)),
        (("plan", "code"), ("git.example",)),
        (("plan", "charts", "image"), ("charts.example", "ghcr.io", "quay.io")),
        (("sync",), tuple(LINES)),
        (("publish", "image", "--layout", "x", "--branch", "main", "--commit", "0123456"), ("ghcr.io", "quay.io")),
    ],
    ids=lambda value: "-".join(value[:2]),
)
def test_a_mirror_needs_its_own(desk: Desk, typed: Typed, arguments: tuple[str, ...], hosts: tuple[str, ...]) -> None:
    """What runs a mirror ends with 78 where a secret of its hosts is not here, names all of them and no others."""
    desk.configure(HOSTS + NEEDY.replace("ssh://git@git.example:2222/team/code.git", "git@git.example:team/code.git"))
    said = typed(*arguments)
    assert said.status == 78
    *problems, last = said.err.splitlines()
    assert absent(problems, *hosts) == []
    assert last.startswith(f"mirrord: nothing was {'planned' if arguments[0] == 'plan' else 'done'}: ")
    assert not (desk.folder / "state").exists()


async def test_a_mirror_that_needs_none_runs(desk: Desk) -> None:
    """`sync`, `plan`, `status` and `raw-url` of what needs no secret work without the secrets of others."""
    image = build_image(layer_size=1000)
    async with Registry() as source:
        await push(image, source, "app", ["v1"])
        easy = f"  - {{name: easy, kind: image, from: {{repository: {source.host}/app, tags: [v1]}}, to: local}}\n"
        code = "  - {name: open, kind: git, from: https://github.com/team/open.git, to: local}\n"
        desk.configure(HOSTS + NEEDY + easy + code)
        assert (await desk.run("plan", "easy")).status == 0
        synced = await desk.run("sync", "easy", "--json")
        assert synced.status == 0, synced
        assert [receipt["outcome"] for receipt in synced.document["runs"][0]["receipts"]] == ["done"]
    assert (await desk.run("status")).status == 0
    found = await desk.run("raw-url", "https://github.com/team/open/blob/main/README.md")
    assert found.status == 0
    assert "/raw/open/main/README.md" in found.out


def test_fetching_a_file_needs_the_secret(desk: Desk, typed: Typed) -> None:
    """`raw-url --fetch` asks hosts, so it needs the secrets of the mirror; without `--fetch` it does not."""
    needy = "hosts: {github.com: {auth: {username: robot, password: {env: GITHUB_TOKEN}}}}\n"
    desk.configure(needy + "mirrors: [{name: m, kind: git, from: https://github.com/a/b, to: local}]\n")
    page = "https://github.com/a/b/blob/main/README.md"
    assert typed("raw-url", page).status == 0
    said = typed("raw-url", "--fetch", page)
    assert (said.status, said.out) == (78, "")
    assert "hosts.github.com.auth.password: environment variable GITHUB_TOKEN is not set" in said.err


def test_a_host_that_no_mirror_names_may_be_needed_by_any(desk: Desk, typed: Typed) -> None:
    """A registry may redirect to such a host, so its secret is required of every mirror."""
    needy = "hosts: {cdn.example: {auth: {username: robot, password: {env: CDN_TOKEN}}}}\n"
    desk.configure(
        needy + "mirrors: [{name: m, kind: image, from: {repository: quay.io/a/m, tags: [v1]}, to: local}]\n"
    )
    said = typed("sync", "m")
    assert said.status == 78
    assert "CDN_TOKEN is not set" in said.err
    checked = typed("check")
    assert "hosts.cdn.example: no mirror and no target names this host; it applies only where another" in checked.err


def test_the_shipped_examples_pass(desk: Desk, typed: Typed) -> None:
    """The check of the how-tos, typed in a shell that knows none of the secrets, finds no problem."""
    said = typed("check", "--config", str(CONF))
    assert said.status == 0
    named = {line.partition(": environment variable ")[2].partition(" ")[0] for line in said.err.splitlines()}
    assert named == {"DOCKERHUB_TOKEN", "CODING_TOKEN", "GITEE_TOKEN", ""}
    assert said.out.splitlines()[-1] == f"{CONF}: 6 files, 12 mirrors, no problem, 8 notices"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("app", "--platform", "linux/amd64"), "'app' is read as a mirror; name images alone"),
        (("app", "nginx:1"), "'app' is read as a mirror; name images alone"),
        (("--platform", "linux/amd64"), "no image is named; name images alone"),
        (("nginx:1", "--allow"), "--allow is for mirrors alone"),
    ],
)
def test_images_and_mirrors_are_not_mixed(desk: Desk, typed: Typed, arguments: tuple[str, ...], what: str) -> None:
    """`sync` says which word it took for a mirror, and does nothing."""
    desk.configure(NEEDY)
    said = typed("sync", *arguments)
    assert (said.status, said.out) == (64, "")
    assert said.err.startswith(f"mirrord: {what}")


def test_allow_without_a_name(desk: Desk, typed: Typed) -> None:
    """`sync --allow` needs names; the error shows a command that has one."""
    desk.configure(NEEDY)
    said = typed("sync", "--allow")
    what = "--allow needs the names of the mirrors, such as `mirrord sync crane --allow`"
    assert (said.status, said.err) == (64, f"mirrord: {what}\n")
