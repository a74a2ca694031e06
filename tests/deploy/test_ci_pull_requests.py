"""The job in deploy/ci that comments in pull requests: its steps, as GitHub runs them after a build, also of a fork."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest_httpserver import HTTPServer

from mirrord.testing import DockerRegistry, build_image, push, require
from mirrord.testing.running import run
from tests.deploy.test_ci import CI, ROOT, TOKENS, Checkout, checkout, filled, job

__all__ = ["checkout"]
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
TOKEN = "third-secret-0123456789"
BELOW = "/api/v3/repos/acme/app"


def comment() -> Any:
    return job("github-comment.yaml", "comment")


@pytest.mark.parametrize("fork", [False, True])
async def test_a_build_is_told_in_one_comment(checkout: Checkout, httpserver: HTTPServer, fork: bool) -> None:
    """What was built is published where the build could not do so itself, and the comment names what is there."""
    server = f"http://127.0.0.1:{httpserver.port}"
    tools = Path(checkout.path.partition(":")[0])
    (tools / "gh").write_text('#!/bin/sh\necho "$@" >> "$HOME/asked"; echo 7\n')
    (tools / "gh").chmod(0o755)
    below = f"{BELOW}/issues"
    httpserver.expect_ordered_request("/api/v3/user").respond_with_json({"message": "by integration"}, 403)
    httpserver.expect_ordered_request(f"{below}/7/comments", "GET").respond_with_json(
        [{"id": 5, "user": {"login": "github-actions[bot]"}, "body": "<!-- mirrord: images of this pull request -->"}]
    )
    httpserver.expect_ordered_request(f"{below}/comments/5", "PATCH").respond_with_json({})
    expressions = {
        "secrets.DOCKERHUB_TOKEN": TOKENS["DOCKERHUB_TOKEN"],
        "secrets.GITHUB_TOKEN": TOKENS["GHCR_TOKEN"],
        "github.workspace": str(checkout.folder),
        "vars.MIRRORD": "",
        "github.event.workflow_run.head_sha": checkout.commit,
        "github.event.workflow_run.head_repository.owner.login": "octocat",
        "github.event.workflow_run.head_branch": "a$(touch evil)`b`",
    }
    noted = checkout.folder / "noted"
    environ = {name: filled(value, expressions) for name, value in comment()["env"].items()}
    environ |= {"GITHUB_REPOSITORY": "acme/app", "GITHUB_SERVER_URL": server, "GITHUB_ENV": str(noted)}
    build = [step for step in job("github.yaml", "fork")["steps"] if step.get("name") == "Build"]
    own = [step for step in job("github.yaml", "publish")["steps"] if step.get("name") == "Publish a pull request"]
    await checkout.script(build[0]["run"], {}, *SHELL)
    if not fork:
        secrets = {**TOKENS, "PULL_REQUEST": "7", "COMMIT": checkout.commit}
        await checkout.script(own[0]["run"], secrets, *SHELL)
    for step in comment()["steps"]:
        if "run" in step and (fork or "if" not in step):
            known = dict(line.split("=", 1) for line in noted.read_text().splitlines()) if noted.exists() else {}
            text = step["run"].replace("--to ", "--forge github --to ")  # a server of this test is no known host
            await checkout.script(text, environ | known, *SHELL)
    assert "head=octocat:a$(touch evil)`b`" in (checkout.folder / "asked").read_text()
    assert not (checkout.folder / "evil").exists()
    tags = ["pr-7", f"pr-7-{checkout.commit[:7]}"]
    assert [found[0] for found in await checkout.tags()] == [tags] * 2
    body = json.loads(httpserver.log[-1][0].get_data())["body"]
    for registry, place in zip(checkout.registries, ("gocrane", "gocrane/crane"), strict=True):
        assert f"`docker pull {registry.host}/{place}/craned:{tags[1]}`" in body
    assert (
        "helm install crane -n crane-system --create-namespace crane/crane \\\n  --set craned.image.repository=" in body
    )
    httpserver.check()


@pytest.mark.parametrize(("added", "status"), [("v1", 0), ("v2", 1)])
async def test_the_gitlab_job_for_lists_checks_what_was_added(tmp_path: Path, added: str, status: int) -> None:
    """Its script passes when the added image is at a real registry, else it names the line; old lines do not matter."""
    require("docker-registry", "git")
    lists = job("gitlab-lists.yaml", "lists")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    async with DockerRegistry() as registry:
        await push(build_image(), registry.url, "a/b", ["v1"])
        await run("git", "init", "--quiet", tmp_path)
        commits = []
        for tags in (["v0"], ["v0", added]):
            (tmp_path / "mirror.txt").write_text("".join(f"{registry.host}/a/b:{tag}\n" for tag in tags))
            await run("git", "-C", tmp_path, "add", ".")
            await run("git", "-C", tmp_path, *author, "commit", "--quiet", "--message=x")
            commits.append((await run("git", "-C", tmp_path, "rev-parse", "HEAD")).output.strip())
        given = {**lists["variables"], "CI_MERGE_REQUEST_DIFF_BASE_SHA": commits[0], "HOME": str(tmp_path)}
        whole = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **given}
        words = (f"{key}={value}" for key, value in whole.items())
        ran = await run("env", "-i", "-C", tmp_path, *words, "sh", "-ec", "\n".join(lists["script"]))
    assert ran.status == status, ran.output
    assert ("mirror.txt:2: " in ran.output) is (status == 1)
    assert "mirror.txt:1: " not in ran.output
    page = (ROOT / "docs" / "how-to" / "keep-a-list.md").read_text()
    assert "../../deploy/ci/gitlab-lists.yaml" in page


def test_who_may_what() -> None:
    """Only files of the default branch run with secrets; a fork's build has none; no text of others is a command."""
    workflow = yaml.safe_load((CI / "github-comment.yaml").read_text())
    one = workflow["jobs"]["comment"]
    assert set(workflow[True]) == {"workflow_run"}
    assert workflow["permissions"] == {}
    assert one["permissions"] == {
        "actions": "read", "contents": "read", "packages": "write", "pull-requests": "write",
    }  # fmt: skip
    assert [step["with"] for step in one["steps"] if step.get("uses", "").startswith("actions/checkout@")] == [
        {"persist-credentials": False}
    ]
    fork = job("github.yaml", "fork")
    assert (fork["permissions"], "env" in fork, "secrets." in str(fork)) == ({"contents": "read"}, False, False)
    for step in (*one["steps"], *fork["steps"]):
        assert "${{" not in step.get("run", "")
        assert re.fullmatch(r"(actions|docker)/[\w-]+@v\d+", step.get("uses", "actions/none@v1"))
    assert yaml.safe_load((CI / "github.yaml").read_text())["name"] in workflow[True]["workflow_run"]["workflows"]
