"""What a browser shows, what `git clone` takes, and where the bytes of a file are: one repository at every host."""

from __future__ import annotations

import pytest

from mirrord.errors import MirrordError
from mirrord.wire.forges.known import FORGES, canonical, forge_of, parse_page
from mirrord.wire.forges.page import Page, page
from mirrord.wire.forges.port import repository_of
from mirrord.wire.git.address import Address

COMMIT = "0123456789" * 4
CODING = "https://finops.coding.net"
DEPOTS = "https://e.coding.net/finops/gocrane"
CHARTS = "https://gitee.com/finops/helm-charts"
PROJECT = f"{CODING}/p/gocrane/d"
GRAFANA = "integration/grafana/override_values.yaml"


@pytest.mark.parametrize(
    ("url", "clone", "ref", "path"),
    [
        ("https://github.com/gocrane/crane", "https://github.com/gocrane/crane.git", "", ""),
        ("https://www.github.com/gocrane/crane/", "https://github.com/gocrane/crane.git", "", ""),
        ("https://github.com/gocrane/crane.git", "https://github.com/gocrane/crane.git", "", ""),
        ("https://github.com/gocrane/crane/issues/447", "https://github.com/gocrane/crane.git", "", ""),
        ("https://github.com/o/r/blob/main/a/b.md#L3-L5", "https://github.com/o/r.git", "main", "a/b.md"),
        ("https://github.com/o/r/raw/refs/heads/main/a.md", "https://github.com/o/r.git", "refs/heads/main", "a.md"),
        ("https://github.com/o/r/blob/main/a%20%23.md?raw=true", "https://github.com/o/r.git", "main", "a #.md"),
        ("https://raw.githubusercontent.com/o/r/v1.0/a.md", "https://github.com/o/r.git", "v1.0", "a.md"),
        ("https://raw.githubusercontent.com/o/r/refs/tags/v1/a", "https://github.com/o/r.git", "refs/tags/v1", "a"),
        (f"{CHARTS}/raw/main/{GRAFANA}", f"{CHARTS}.git", "main", GRAFANA),
        ("https://gitee.com/o/r/blob/main/a", "https://gitee.com/o/r.git", "main", "a"),
        ("https://raw.giteeusercontent.com/o/r/raw/main/a", "https://gitee.com/o/r.git", "main", "a"),
        (f"{CODING}/public/gocrane/charts/git/files/main/{GRAFANA}", f"{DEPOTS}/charts.git", "main", GRAFANA),
        (f"{CODING}/public/gocrane/crane/git/files", "https://e.coding.net/finops/gocrane/crane.git", "", ""),
        (f"{PROJECT}/charts/git/raw/main/{GRAFANA}?download=false", f"{DEPOTS}/charts.git", "main", GRAFANA),
        (f"{CODING}/p/gocrane/d/api/git/tree/main/x", "https://e.coding.net/finops/gocrane/api.git", "main", "x"),
        ("https://e.coding.net/finops/gocrane/crane.git", "https://e.coding.net/finops/gocrane/crane.git", "", ""),
        ("https://cnb.cool/g/sub/r/-/git/raw/main/a/b", "https://cnb.cool/g/sub/r.git", "main", "a/b"),
        ("https://cnb.cool/g/r/-/blob/main/a", "https://cnb.cool/g/r.git", "main", "a"),
        ("https://cnb.cool/g/r", "https://cnb.cool/g/r.git", "", ""),
        ("https://gitlab.com/g/s/r/-/blob/x/a?ref_type=heads", "https://gitlab.com/g/s/r.git", "refs/heads/x", "a"),
        ("https://gitlab.com/g/r/-/raw/v1/a?ref_type=tags&x=1", "https://gitlab.com/g/r.git", "refs/tags/v1", "a"),
        ("https://gitlab.com/g/r/-/blob/v1/a?plain=1", "https://gitlab.com/g/r.git", "v1", "a"),
        ("https://gitlab.com/g/r/-/tree/main/docs", "https://gitlab.com/g/r.git", "", ""),
        ("https://github.com/o/r/tree/main/docs", "https://github.com/o/r.git", "", ""),
        ("https://gitee.com/o/r/tree/main/docs", "https://gitee.com/o/r.git", "", ""),
        ("https://cnb.cool/g/r/-/tree/main/docs", "https://cnb.cool/g/r.git", "", ""),
        ("https://raw.gitmirror.com/o/r/main/a", "https://github.com/o/r.git", "main", "a"),
        ("https://cdn.jsdelivr.net/gh/o/r@main/docs/a", "https://github.com/o/r.git", "main", "docs/a"),
        ("https://gh.example/https://github.com/o/r/blob/main/a", "https://github.com/o/r.git", "main", "a"),
        ("https://gh.example/https:/raw.githubusercontent.com/o/r/x/a", "https://github.com/o/r.git", "x", "a"),
        ("https://codeberg.org/o/r/src/branch/refs/x/a", "https://codeberg.org/o/r.git", "refs/heads/refs", "x/a"),
        ("https://git.example.com:8443/g/r/-/raw/main/a", "https://git.example.com:8443/g/r.git", "main", "a"),
        ("https://codeberg.org/o/r/src/branch/main/a", "https://codeberg.org/o/r.git", "refs/heads/main", "a"),
        ("https://git.example.com/o/r/raw/tag/v1/a", "https://git.example.com/o/r.git", "refs/tags/v1", "a"),
        (f"https://git.example.com/o/r/src/commit/{COMMIT}/a", "https://git.example.com/o/r.git", COMMIT, "a"),
    ],
)  # fmt: skip
def test_pages(url: str, clone: str, ref: str, path: str) -> None:
    """A page, a raw URL and a clone URL lead to the repository, the ref and the path."""
    page = parse_page(url)
    assert page is not None
    assert (page.address.url, page.ref, page.path) == (clone, ref, path)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/o/r/blob/main/a",
        "https://github.com.evil.test/o/r/blob/main/a",
        "https://notcoding.net/public/p/r/git/files/main/a",
        "https://finops.coding.net/login",
        "https://user:pw@github.com/o/r",
        "ftp://github.com/o/r",
        "https://github.com:99999/o/r",
        "https://[::1/o/r",
        "github.com/o/r",
        "",
    ],
)
def test_strangers(url: str) -> None:
    """What only looks like a page of a known host is nobody's."""
    assert parse_page(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com",
        "https://github.com/gocrane",
        "https://github.com/o/r/blob/main/../../x",
        "https://github.com/o/r/blob/main/%2e%2e/x",
        "https://github.com/o/%0a/blob/main/x",
        "https://gitee.com/-o/r",
        "https://finops.coding.net/public/gocrane",
        "https://finops.coding.net/p/gocrane/d",
        "https://e.coding.net/finops/gocrane",
        "https://cnb.cool/-/x",
        "https://gitlab.com/g",
    ],
)
def test_no_repository(url: str) -> None:
    """A URL of a known host that names no repository, or climbs out of one, is refused."""
    with pytest.raises(MirrordError):
        parse_page(url)


@pytest.mark.parametrize(
    ("address", "word", "ref", "path", "raw"),
    [
        ("https://github.com/o/r.git", None, "main", "a b.md", "https://raw.githubusercontent.com/o/r/main/a%20b.md"),
        ("git@github.com:o/r", None, "refs/tags/v1", "a", "https://raw.githubusercontent.com/o/r/refs/tags/v1/a"),
        ("https://github.com/o/r", None, "refs/heads/x/y", "a", "https://raw.githubusercontent.com/o/r/refs/heads/x/y/a"),
        ("https://git.example.com/o/r", "github", "refs/tags/v1", "a", "https://git.example.com/o/r/raw/refs/tags/v1/a"),
        (CHARTS, None, "refs/tags/v1", "a", f"{CHARTS}/raw/v1/a"),
        (f"{DEPOTS}/api.git", None, "refs/heads/x/y", "a", f"{PROJECT}/api/git/raw/x/y/a?download=false"),
        ("https://cnb.cool/g/r", None, "refs/tags/v1", "a", "https://cnb.cool/g/r/-/git/raw/v1/a"),
        ("https://gitlab.com/g/r", None, "refs/tags/v1", "a", "https://gitlab.com/g/r/-/raw/v1/a?ref_type=tags"),
        ("https://gitlab.com/g/r", None, "refs/heads/v1", "a", "https://gitlab.com/g/r/-/raw/v1/a?ref_type=heads"),
        ("https://codeberg.org/o/r", None, "refs/heads/x/y", "a", "https://codeberg.org/o/r/raw/branch/x/y/a"),
        ("https://codeberg.org/o/r", None, "v1.2", "a", "https://codeberg.org/o/r/raw/v1.2/a"),
        ("https://codeberg.org/o/r", None, "0abc123", "a", "https://codeberg.org/o/r/raw/commit/0abc123/a"),
        ("https://codeberg.org/o/r", None, "20260101", "a", "https://codeberg.org/o/r/raw/branch/20260101/a"),
        ("https://git.example.com/o/r", "github", "main", "a", "https://git.example.com/o/r/raw/main/a"),
        (CHARTS, None, "main", GRAFANA, f"{CHARTS}/raw/main/{GRAFANA}"),
        (f"{DEPOTS}/charts.git", None, "main", GRAFANA, f"{PROJECT}/charts/git/raw/main/{GRAFANA}?download=false"),
        ("git@e.coding.net:finops/gocrane/api", None, "x/y", "a#b", f"{PROJECT}/api/git/raw/x/y/a%23b?download=false"),
        ("http://127.0.0.1:5000/finops/gocrane/api.git", "coding", "main", "a", None),
        ("https://cnb.cool/g/s/r", None, "main", "a?b", "https://cnb.cool/g/s/r/-/git/raw/main/a%3Fb"),
        ("https://gitlab.com/g/s/r", None, "main", "a", "https://gitlab.com/g/s/r/-/raw/main/a"),
        ("https://codeberg.org/o/r", None, "main", "a", "https://codeberg.org/o/r/raw/branch/main/a"),
        ("https://codeberg.org/o/r", None, "refs/tags/v1", "a", "https://codeberg.org/o/r/raw/tag/v1/a"),
        ("https://codeberg.org/o/r", None, COMMIT, "a", f"https://codeberg.org/o/r/raw/commit/{COMMIT}/a"),
        ("ssh://git@git.example.com:2222/o/r", "gitea", "main", "a", "https://git.example.com/o/r/raw/branch/main/a"),
        ("http://127.0.0.1:3000/sub/o/r", "gitea", "main", "a", "http://127.0.0.1:3000/sub/o/r/raw/branch/main/a"),
        ("https://git.example.com/o/r", None, "main", "a", None),
    ],
)  # fmt: skip
def test_raw_urls(address: str, word: str | None, ref: str, path: str, raw: str | None) -> None:
    """The raw URL of a file, percent-encoded, for each kind of host; a plain one has none."""
    parsed = Address.parse(address)
    file = page("example.com", ("o", "r"), (*ref.split("/"), *path.split("/")))
    assert forge_of(parsed, word).raw_url(parsed, file) == raw


@pytest.mark.parametrize("kind", ["branch", "tag"])
@pytest.mark.parametrize(
    ("url", "knows"),
    [
        ("https://github.com/o/r.git", True),
        ("https://gitlab.com/g/r.git", True),
        ("https://codeberg.org/o/r.git", True),
        ("https://gitee.com/o/r.git", False),
        ("https://cnb.cool/g/r.git", False),
        (f"{DEPOTS}/charts.git", False),
    ],
)
def test_a_branch_and_a_tag_of_one_name(url: str, kind: str, *, knows: bool) -> None:
    """Where a host can tell a branch from a tag, its raw URL does, and is read so again; elsewhere both are short."""
    address = Address.parse(url)
    file = Page(address, ("release", "1", "a.md"), kind)
    forge = forge_of(address)
    raw = forge.raw_url(address, file)
    assert raw is not None
    back = forge.parse_page(raw)
    assert back == (file if knows else Page(address, file.words))


@pytest.mark.parametrize("name", [name for name in FORGES if name != "plain"])
def test_there_and_back(name: str) -> None:
    """What a host calls a raw file it also reads as one, with a branch that has slashes."""
    host = {"coding": "e.coding.net", "cnb": "cnb.cool", "gitea": "codeberg.org"}.get(name, f"{name}.com")
    address = Address.parse(f"https://{host}/{'team/' if name == 'coding' else ''}owner/repo.git")
    url = FORGES[name].raw_url(address, Page(address, ("feature", "a b", "docs", "ü.md")))
    assert url is not None
    page = FORGES[name].parse_page(url)
    assert page is not None
    assert page.address == address
    assert "/".join(page.words) == "feature/a b/docs/ü.md"


def test_one_spelling() -> None:
    """However a repository is written, it is one place; a plain host keeps its capital letters."""
    ways = (
        "https://github.com/O/R",
        "https://github.com/o/r.git",
        "git@github.com:O/r.git",
        "ssh://git@ssh.github.com:443/o/r",
    )
    assert {canonical(Address.parse(way)) for way in ways} == {"github.com/o/r"}
    assert canonical(Address.parse("https://git.example.com/O/R.git")) == "git.example.com/O/R"
    assert canonical(Address.parse("https://git.example.com/O/R.git"), "gitea") == "git.example.com/o/r"
    assert repository_of(Address.parse("https://h.example/a%20b/c.git")) == ("a b", "c")


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("gitee", "remote: Push rejected for repository size exceeds limit.", "take large branches out"),
        ("gitee", "This repository(including wiki) size 1143.71 MB, exceeds 1024.00 MB.", "take large branches out"),
        ("gitee", "remote: [session-1a2b] The token username invalid", "the name of the token's owner"),
        ("gitee", "reject by mode [ja-p]", "open the branch"),
        ("gitee", "当前账户尚未认证身份, 请完成身份认证后再操作", "real name"),
        ("github", "remote: error: GH001: Large files detected.", "Git LFS only"),
        ("github", "remote: error: GH008: Your push referenced at least 1 unknown Git LFS object:", "lfs: true"),
        ("github", "remote: error: GH006: Protected branch update failed for refs/heads/main.", "bypass"),
        ("github", "refusing to allow a token to create workflow `a.yml` without `workflow` scope", "`workflow`"),
        ("coding", "error: RPC failed; HTTP 413 curl 22", "ssh://"),
        ("coding", "remote: 该分支禁止强制推送", "push settings"),
        ("gitea", "branch master is the default branch and cannot be deleted", "switched first"),
        ("gitea", "branch main is protected from force push", "let the mirror's account force-push"),
        ("gitea", "branch main is protected from deletion", "remove the branch's protection"),
        ("gitea", "branch main is protected from unverified commit 05e06334", "switch this rule off"),
        ("gitea", "remote: Tag v1 is protected", "protected tags"),
        ("gitlab", "You are not allowed to force push code to a protected branch.", "Protected branches"),
        ("gitlab", "You can only delete protected branches using the web interface.", "of Protected branches"),
        ("gitlab", "GitLab: The default branch of a project cannot be deleted.", "out of Protected branches"),
        ("cnb", "Authentication failed for 'https://cnb.cool/a/b'", "username: cnb"),
        ("plain", "! [remote rejected] x -> x (deny updating a hidden ref)", "take it out"),
        ("plain", "remote: error: denying non-fast-forward refs/heads/main", "denyNonFastForwards"),
    ],
)  # fmt: skip
def test_known_refusals(name: str, text: str, hint: str) -> None:
    """A refusal that a host is known for comes with the next step."""
    assert hint in (FORGES[name].explain(text) or "")


@pytest.mark.parametrize("name", FORGES)
def test_unknown_refusals(name: str) -> None:
    """What nobody has seen before is not explained."""
    assert FORGES[name].explain("remote: out of cheese") is None
