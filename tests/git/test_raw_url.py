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
        f"https://github.com/GoCrane/Helm-Charts/raw/main/{FILE}",
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


TAGGED = [
    {"mirror": "charts", "target": "coding", "url": "https://finops.coding.net/p/gocrane/d/helm-charts/git/raw/v1/x?download=false"},
    {"mirror": "charts", "target": "gitee", "url": "https://gitee.com/finops/helm-charts/raw/v1/x"},
    {"mirror": "charts", "target": "local", "url": "http://localhost:8080/raw/helm-charts/refs/tags/v1/x"},
]  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/gocrane/helm-charts/raw/refs/tags/v1/x",
        "https://raw.githubusercontent.com/gocrane/helm-charts/refs/tags/v1/x",
        "https://ghproxy.example/https://raw.githubusercontent.com/gocrane/helm-charts/refs/tags/v1/x",
        "http://localhost:8080/raw/helm-charts/refs/tags/v1/x",
        "http://0.0.0.0:8080/raw/helm-charts/refs/tags/v1/x",
    ],
)
def test_full_names_stay_full(typed: Typed, url: str) -> None:
    """A tag stays a tag where a host can write that, `/raw/` of mirrord among them; also from mirrord's own URL."""
    code, out, _ = typed(url, "--json")
    assert (code, [copy for copy in json.loads(out)["copies"] if copy["url"]]) == (0, TAGGED)


def test_the_public_address(typed: Typed, tmp_path: Path) -> None:
    """Behind a proxy `settings.url` is what clients can open; a raw URL at it is read, too."""
    file = tmp_path / "main.yaml"
    file.write_text(CONFIGURATION.replace('listen: "0.0.0.0:8080"', "url: https://Mirror.Example.org:443/"))
    raw = "https://mirror.example.org/raw/helm-charts/refs/heads/main/x"
    for url in ("https://github.com/gocrane/helm-charts/blob/refs/heads/main/x", raw):
        code, out, _ = typed(url, "--json")
        assert (code, json.loads(out)["copies"][2]["url"]) == (0, raw)


def test_a_port_that_is_not_known_yet(typed: Typed, tmp_path: Path) -> None:
    """With port 0 nobody knows the address before the server runs: none is invented."""
    file = tmp_path / "main.yaml"
    file.write_text(CONFIGURATION.replace("0.0.0.0:8080", "127.0.0.1:0"))
    code, out, err = typed("https://github.com/gocrane/helm-charts/blob/main/x")
    assert (code, "http://" in out, "charts at local" in err) == (0, False, True)


def test_a_short_commit(typed: Typed, tmp_path: Path) -> None:
    """`local` serves whole commit ids only: of a short one no URL is printed that would not work."""
    file = tmp_path / "main.yaml"
    file.write_text(CONFIGURATION.replace("github.com/gocrane/helm", "codeberg.org/gocrane/helm"))
    short, whole = "0123abc", "0123abcdef" * 4
    code, out, err = typed(f"https://codeberg.org/gocrane/helm-charts/src/commit/{short}/x")
    assert (code, "localhost" in out, "charts at local" in err) == (0, False, True)
    code, out, _ = typed(f"https://codeberg.org/gocrane/helm-charts/src/commit/{whole}/x")
    assert (code, f"http://localhost:8080/raw/helm-charts/{whole}/x" in out) == (0, True)


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
        ("https://github.com/gocrane/helm-charts", 64, "names a repository or a folder, not a file"),
        ("https://github.com/gocrane/helm-charts/tree/main/docs", 64, "names a repository or a folder, not a file"),
        (
            "https://github.com/gocrane/helm-charts/releases/download/v1/a.tgz",
            64,
            "files of releases are not in the rep",
        ),
        ("https://cdn.jsdelivr.net/gh/gocrane/helm-charts/x", 64, "write /gh/OWNER/NAME@REF/PATH"),
        ("http://localhost:8080/raw/nobody/main/x", 64, "no page or raw URL"),
        ("http://localhost:8080/git/charts.git", 64, "no page or raw URL"),
        ("https://github.com/gocrane/helm-charts/blob/main", 64, "names a repository or a folder, not a file"),
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
