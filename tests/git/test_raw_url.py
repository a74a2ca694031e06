"""`mirrord raw-url`: from the page of a file to its raw URLs at every mirror, by the configuration alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord import garbage
from mirrord.cli import main

CONFIGURATION = """
settings: {listen: "0.0.0.0:8080"}
targets:
  coding: {kind: git, to: "https://e.coding.net/finops/gocrane/{name}.git"}
  gitee: {kind: git, to: "https://gitee.com/finops/{name}"}
  bare: {kind: git, to: "https://git.example.com/{name}.git"}
mirrors:
  - {name: charts, as: helm-charts, kind: git, from: https://github.com/gocrane/helm-charts.git,
     to: [coding, gitee, local]}
  - {name: twice, kind: git, from: "git@github.com:GoCrane/helm-charts", to: bare}
  - {name: api, kind: git, from: https://github.com/gocrane/api.git, to: bare}
"""
FILE = "integration/grafana/override_values.yaml"
RAW = [
    {"mirror": "charts", "target": "coding", "url": f"https://finops.coding.net/p/gocrane/d/helm-charts/git/raw/main/{FILE}?download=false"},
    {"mirror": "charts", "target": "gitee", "url": f"https://gitee.com/finops/helm-charts/raw/main/{FILE}"},
    {"mirror": "charts", "target": "local", "url": f"http://localhost:8080/raw/helm-charts/main/{FILE}"},
]  # fmt: skip
BARE = {"mirror": "twice", "target": "bare", "url": None}
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Run the command over the configuration; returns exit code, output and errors."""
    (tmp_path / "main.yaml").write_text(CONFIGURATION)
    monkeypatch.setattr(garbage, "look_briefly", lambda: None)
    monkeypatch.delenv("MIRRORD_LISTEN", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["raw-url", *arguments, "--config", str(tmp_path)])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.mark.parametrize(
    "url",
    [
        f"https://github.com/gocrane/helm-charts/blob/main/{FILE}",
        f"https://github.com/GoCrane/Helm-Charts/raw/refs/heads/main/{FILE}",
        f"https://raw.githubusercontent.com/gocrane/helm-charts/main/{FILE}",
    ],
)
def test_from_the_origin(typed: Typed, url: str) -> None:
    """The page and the raw URL of a file at the origin lead to every target of every mirror of it."""
    code, out, _ = typed(url, "--json")
    assert (code, json.loads(out)["copies"]) == (0, [*RAW, BARE])
    assert json.loads(out)["path"] == FILE


@pytest.mark.parametrize(
    "url",
    [
        f"https://finops.coding.net/public/gocrane/helm-charts/git/files/main/{FILE}",
        f"https://finops.coding.net/p/gocrane/d/helm-charts/git/raw/main/{FILE}?download=false",
        f"https://gitee.com/finops/helm-charts/blob/main/{FILE}",
    ],
)
def test_from_a_mirror(typed: Typed, url: str) -> None:
    """The URL of a file at one target leads to the others: the one at Coding may want a login, this one does not."""
    code, out, _ = typed(url, "--json")
    assert (code, json.loads(out)["copies"]) == (0, RAW)


def test_for_people(typed: Typed) -> None:
    """A table of URLs; beside it, which targets have none."""
    code, out, err = typed(f"https://github.com/gocrane/helm-charts/blob/main/{FILE}")
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()] == ["URL", *(row["url"] for row in RAW)]
    assert err.strip() == "no raw URLs are known of: twice at bare"


def test_a_branch_with_slashes(typed: Typed) -> None:
    """Where the branch ends nobody needs to know."""
    code, out, _ = typed("https://github.com/gocrane/helm-charts/blob/feature/a/b/docs/x%20y.md", "--json")
    assert code == 0
    assert json.loads(out)["copies"][1]["url"] == "https://gitee.com/finops/helm-charts/raw/feature/a/b/docs/x%20y.md"


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("https://github.com/gocrane/crane/blob/main/x", 1, "no mirror has https://github.com/gocrane/crane.git"),
        ("https://github.com/gocrane/api/blob/main/x", 1, "no raw URLs are known of: api at bare"),
        ("https://github.com/gocrane/helm-charts", 64, "names a repository, not a file"),
        ("https://github.com/gocrane/helm-charts/blob/main", 64, "names a repository, not a file"),
        ("https://example.com/x", 64, "no page or raw URL of a known kind of host"),
        ("https://user:secret-word@github.com/o/r/blob/main/x", 64, "no page or raw URL"),
        ("", 64, "no page or raw URL"),
    ],
)
def test_what_has_no_answer(typed: Typed, url: str, code: int, told: str) -> None:
    """What no mirror has, and what is no file, is said with what there is; a password is not repeated."""
    ended, out, err = typed(url)
    assert (ended, told in err) == (code, True)
    assert "secret-word" not in out + err


def test_nothing_for_machines(typed: Typed) -> None:
    """No copy is an empty list and exit code 1."""
    code, out, _ = typed("https://github.com/gocrane/crane/blob/main/x", "--json")
    assert (code, json.loads(out)) == (1, {"ref": "main", "path": "x", "copies": []})
