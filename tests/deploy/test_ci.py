"""The jobs in deploy/ci: their scripts run as GitHub and GitLab run them, against registries that want a password."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from mirrord.testing import DockerRegistry, build_image, push, require
from mirrord.testing.running import Ran, run

ROOT = Path(__file__).parents[2]
CI = ROOT / "deploy" / "ci"
USER, TOKENS = "gocrane", {"DOCKERHUB_TOKEN": "first-secret", "GHCR_TOKEN": "second-secret"}
CREATED = "2024-05-06T07:08:09+00:00"

# What the machines of GitHub and GitLab have and this one may lack. `docker buildx build` writes what it is asked for:
# an OCI layout with an index of these platforms, which has the annotation.
DOCKER = """\
import sys
from pathlib import Path
from mirrord.testing import build_image
from tests.support.layouts import write_layout
words = sys.argv[1:]
if words[:2] == ["buildx", "build"]:
    after = dict(zip(words, words[1:]))
    kinds, _, annotation = after["--annotation"].partition(":")
    output = dict(pair.split("=") for pair in after["--output"].split(","))
    assert kinds.split(",") == ["index", "manifest"] and words[-1] == "."
    assert (output["type"], output["tar"]) == ("oci", "false")
    image = build_image(after["--platform"].split(","), index_annotations=dict([annotation.split("=")]))
    write_layout(image, Path(output["dest"]))
"""


@dataclass(frozen=True)
class Checkout:
    """A repository with `ci/conf.d`, and the two registries that it publishes to."""

    folder: Path
    commit: str
    registries: tuple[DockerRegistry, DockerRegistry]
    path: str

    async def script(self, text: str, environ: Mapping[str, str], *shell: str) -> Ran:
        """Run a script in the checkout; it has to succeed, and to show no secret."""
        whole = {"PATH": self.path, "PYTHONPATH": str(ROOT), "HOME": str(self.folder), **environ}
        ran = await run("env", "-i", "-C", self.folder, *(f"{k}={v}" for k, v in whole.items()), *shell, "-c", text)
        assert ran.status == 0, ran.output
        assert not [secret for secret in TOKENS.values() if secret in ran.output]
        return ran

    async def tags(self) -> list[Any]:
        """Return the sorted tags of the image at each registry, and its `created`."""
        found = []
        for registry, token in zip(self.registries, TOKENS.values(), strict=True):
            place = "gocrane/craned" if registry is self.registries[0] else "gocrane/crane/craned"
            async with aiohttp.ClientSession(
                headers={"Authorization": aiohttp.encode_basic_auth(USER, token)}
            ) as session:
                async with session.get(f"{registry.url}/v2/{place}/tags/list") as answer:
                    tags = sorted((await answer.json())["tags"])
                accept = {"Accept": "application/vnd.oci.image.index.v1+json"}
                async with session.get(f"{registry.url}/v2/{place}/manifests/{tags[0]}", headers=accept) as answer:
                    index = await answer.json(content_type=None)
            platforms = [entry["platform"]["architecture"] for entry in index["manifests"]]
            found.append((tags, platforms, index["annotations"]["org.opencontainers.image.created"]))
        return found


@pytest.fixture
async def checkout(tmp_path: Path) -> AsyncIterator[Checkout]:
    require("docker-registry", "git", "htpasswd")
    folder, tools = tmp_path / "checkout", tmp_path / "tools"
    tools.mkdir()
    (tools / "docker.py").write_text(DOCKER)
    python = f'exec "{sys.executable}" -W ignore'
    shims = {"docker": f'{python} {tools}/docker.py "$@"', "mirrord": f'{python} -m mirrord "$@"', "pip": "exit 0"}
    for name, text in shims.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    shutil.copytree(CI / "conf.d", folder / "ci" / "conf.d")
    path = f"{tools}:{os.environ['PATH']}"
    first, second = (DockerRegistry(user=(USER, token)) for token in TOKENS.values())
    async with first, second:
        file = folder / "ci" / "conf.d" / "images.yaml"
        text = file.read_text().replace("docker.io", first.host).replace("ghcr.io", second.host)
        file.write_text(text)
        author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        dated = {"GIT_AUTHOR_DATE": CREATED, "GIT_COMMITTER_DATE": CREATED}
        await run("git", "init", "--quiet", folder)
        await run("git", "-C", folder, "add", ".")
        await run("git", "-C", folder, *author, "commit", "--quiet", "--message=first", env=dated)
        commit = (await run("git", "-C", folder, "rev-parse", "HEAD")).output.strip()
        yield Checkout(folder, commit, (first, second), path)


def job(file: str, name: str) -> Any:
    text = yaml.safe_load((CI / file).read_text())
    return text["jobs"][name] if "jobs" in text else text[name]


def filled(value: str, expressions: Mapping[str, str]) -> str:
    """Return a value of a workflow with its `${{ … }}` evaluated; each has to be known."""
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: expressions[found[1]], str(value))


@pytest.mark.parametrize(("event", "tags"), [("push", "main"), ("pull_request", "pr-7")])
async def test_the_github_workflow_publishes(checkout: Checkout, event: str, tags: str) -> None:
    """Its steps, in order, put both platforms to both registries, with the time of the commit."""
    publish = job("github.yaml", "publish")
    expressions = {
        "secrets.DOCKERHUB_TOKEN": TOKENS["DOCKERHUB_TOKEN"],
        "secrets.GITHUB_TOKEN": TOKENS["GHCR_TOKEN"],
        "github.workspace": str(checkout.folder),
        "vars.MIRRORD": str(ROOT),
        "github.event.pull_request.head.sha || github.sha": checkout.commit,
        "github.event.pull_request.number": "7" if event == "pull_request" else "",
    }
    environ = {name: filled(value, expressions) for name, value in publish["env"].items()}
    environ |= {"GITHUB_REF_NAME": "main" if event == "push" else "7/merge"}
    for step in publish["steps"]:
        if "run" in step and step.get("if", f"github.event_name == '{event}'") == f"github.event_name == '{event}'":
            await checkout.script(step["run"], environ, "bash", "--noprofile", "--norc", "-eo", "pipefail")
    names = sorted([tags, f"{tags}-{checkout.commit[:7]}"])
    assert await checkout.tags() == [(names, ["amd64", "arm64"], CREATED)] * 2


def test_the_github_workflow_has_the_permissions_it_needs() -> None:
    """It may read the repository and write packages, and nothing else; forks do not run it; actions have a version."""
    workflow = yaml.safe_load((CI / "github.yaml").read_text())
    publish = workflow["jobs"]["publish"]
    assert (workflow["permissions"], publish["permissions"]) == ({}, {"contents": "read", "packages": "write"})
    assert "github.event.pull_request.head.repo.full_name == github.repository" in publish["if"]
    assert set(workflow[True]) == {"push", "pull_request"}
    uses = [step["uses"] for step in publish["steps"] if "uses" in step]
    assert [one for one in uses if not re.fullmatch(r"(actions|docker)/[\w-]+@v\d+", one)] == []
    assert not [step for step in publish["steps"] if "${{" in step.get("run", "")]  # nobody's text becomes a command


@pytest.mark.parametrize(
    ("variables", "tags"), [({"CI_COMMIT_BRANCH": "main"}, "main"), ({"CI_MERGE_REQUEST_IID": "7"}, "pr-7")]
)
async def test_the_gitlab_jobs_publish(checkout: Checkout, variables: Mapping[str, str], tags: str) -> None:
    """The scripts of `build` and `publish` put both platforms to both registries, with the time of the commit."""
    given = {"CI_PROJECT_DIR": str(checkout.folder), "CI_COMMIT_SHA": checkout.commit, "CI_COMMIT_TIMESTAMP": CREATED}
    for name in ("build", "publish"):
        one = job("gitlab.yaml", name)
        environ = {**given, **TOKENS, **variables}
        own = {
            key: str(value).replace("$CI_PROJECT_DIR", str(checkout.folder)) for key, value in one["variables"].items()
        }
        await checkout.script("\n".join(one["script"]), environ | own, "sh", "-e")
    names = sorted([tags, f"{tags}-{checkout.commit[:7]}"])
    assert await checkout.tags() == [(names, ["amd64", "arm64"], CREATED)] * 2


def test_the_page_shows_the_configuration() -> None:
    """docs/how-to/publish-from-ci.md has the configuration that the jobs use, and names both files."""
    page = (ROOT / "docs" / "how-to" / "publish-from-ci.md").read_text()
    assert f"```yaml\n{(CI / 'conf.d' / 'images.yaml').read_text()}```" in page
    assert all(f"../../deploy/ci/{name}.yaml" in page for name in ("github", "gitlab"))


@pytest.mark.parametrize(("added", "status"), [("v1", 0), ("v2", 1)])
async def test_the_workflow_for_lists_checks_what_was_added(tmp_path: Path, added: str, status: int) -> None:
    """Its steps pass when the added image is at a real registry, else annotate its line; old lines do not matter."""
    require("docker-registry", "git")
    check = job("lists.yaml", "check")
    environ = {
        name: filled(value, {"vars.MIRRORD": "", "github.base_ref": "main"}) for name, value in check["env"].items()
    }
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    async with DockerRegistry() as registry:
        await push(build_image(), registry.url, "a/b", ["v1"])
        await run("git", "init", "--quiet", "-b", "main", tmp_path)
        for branch, tags in (("main", ["v0"]), ("change", ["v0", added])):
            (tmp_path / "mirror.txt").write_text("".join(f"{registry.host}/a/b:{tag}\n" for tag in tags))
            await run("git", "-C", tmp_path, "add", ".")
            await run("git", "-C", tmp_path, *author, "commit", "--quiet", "--message=x")
            if branch == "main":
                await run("git", "-C", tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
        steps = [step["run"] for step in check["steps"] if "run" in step and "pip" not in step["run"]]
        assert len(steps) == 2
        whole = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path), **environ}
        words = (f"{key}={value}" for key, value in whole.items())
        ran = await run("env", "-i", "-C", tmp_path, *words, "bash", "-eo", "pipefail", "-c", "\n".join(steps))
        assert ran.status == status, ran.output
        noted = [line for line in ran.output.splitlines() if line.startswith("::")]
        what = f"{registry.host}/a/b: '{added}' is found in none of its tags (1); correct the line, or remove it"
        assert noted == [f"::error file=mirror.txt,line=2::{what}"][:status]


def test_the_workflow_for_lists_trusts_nobody() -> None:
    """It may read the repository alone, has the history that it needs, and no text of others becomes a command."""
    workflow = yaml.safe_load((CI / "lists.yaml").read_text())
    check = workflow["jobs"]["check"]
    assert (workflow["permissions"], check["permissions"]) == ({}, {"contents": "read"})
    assert check["steps"][0]["with"] == {"fetch-depth": 0, "persist-credentials": False}
    assert not [step for step in check["steps"] if "${{" in step.get("run", "")]
    uses = [step["uses"] for step in check["steps"] if "uses" in step]
    assert [one for one in uses if not re.fullmatch(r"actions/[\w-]+@v\d+", one)] == []
    page = (ROOT / "docs" / "how-to" / "keep-a-list.md").read_text()
    assert "../../deploy/ci/lists.yaml" in page
