"""`mirrord comment`: what a pull request is told about its build."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pytest_httpserver import HTTPServer

from mirrord.config.pull_requests import FORGES
from mirrord.testing import Registry, build_image, push
from tests.support.commands import Desk, Said

COMMIT = "abcdef0123456789abcdef0123456789abcdef01"
CONFIGURATION = """
targets:
  one: {{kind: image, to: {one}/team}}
  two: {{kind: image, to: {two}/team/app}}
  dir: {{kind: image, to: "oci:/x"}}
mirrors:
  - {{name: app, kind: image, from: {{layouts: builds}}, to: [one, two, dir, local]}}
  - {{name: git, kind: git, from: https://a.example/x.git, to: local}}
"""


async def test_where_a_build_can_be_pulled(desk: Desk) -> None:
    """It names what the targets have, each asked once; exit code 1 when no target has it, 2 when one lacks it, else 0.

    A folder, and `local` that only this machine reaches, are left out.
    """
    async with Registry() as one, Registry() as two:
        desk.configure(CONFIGURATION.format(one=one.host, two=two.host))
        tell = ("comment", "app=web", "--pr", "7", "--commit", COMMIT, "--helm", "helm install app ./chart")
        image = build_image(["linux/amd64"], layers=1)
        for status, registry, repository in ((1, one, "team/app"), (2, two, "team/app/app"), (0, None, "")):
            said = await desk.run(*tell)
            assert said.status == status, said.err
            assert said.out.startswith("<!-- mirrord: images of this pull request -->\n")
            if registry:
                await push(image, registry, repository, ["pr-7-abcdef0"])
        assert said.err == ""
        places = [f"{one.host}/team/app", f"{two.host}/team/app/app"]
        for place in places:
            assert f"| app | `docker pull {place}:pr-7-abcdef0` |" in said.out
            assert f"--set web.image.repository={place} \\\n" in said.out
        assert said.out.count("####") == 2
        for registry in (one, two):
            assert registry.count("HEAD", "/manifests/pr-7-abcdef0") == 3


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("ap", "--commit", COMMIT), "'ap' is no mirror of an image; did you mean 'app'?"),
        (("git", "--commit", COMMIT), "'git' is no mirror of an image"),
        (("app=$(x)", "--commit", COMMIT), "'$(x)' is no key of values; write app=KEY, such as app=craned"),
        (("app",), "give exactly one of --commit and --describe"),
        (("app", "--commit", "main"), "--commit 'main': a commit is 7 to 64 hexadecimal digits"),
        (("app", "--describe", "v1", "--helm", "a\nb"), "--helm is one line"),
        (("app", "--describe", "v1", "--to", "http://"), "--to refused: a URL without a proper host name; write"),
        (("app", "--describe", "v1", "--to", "https://git.example/a/b"), "what kind of host is that? Add --forge"),
        *(
            (("app", "--describe", "v1", "--to", "https://git.example/a/b", "--forge", kind), "set FORGE_TOKEN")
            for kind in FORGES
        ),
    ],
)
def test_wrong_usage(desk: Desk, typed: Callable[..., Said], words: tuple[str, ...], problem: str) -> None:
    """What cannot be told is one line, and nobody is asked."""
    desk.configure(CONFIGURATION.format(one="a.example", two="b.example"))
    said = typed("comment", "--pr", "7", *words)
    assert (said.status, said.out) == (64, "")
    assert problem in said.err


async def test_one_comment_at_a_forge(desk: Desk, httpserver: HTTPServer) -> None:
    """With `--to` it is written there and not printed, by the token of the environment, which nothing shows."""
    token = "a-token-of-the-test-987654"
    headers, below = {"Authorization": f"token {token}"}, "/api/v1/repos/acme/app/issues"
    httpserver.expect_ordered_request("/api/v1/user", "GET", headers=headers).respond_with_json({"login": "bot"})
    httpserver.expect_ordered_request(f"{below}/7/comments", "GET", headers=headers).respond_with_json([])
    httpserver.expect_ordered_request(f"{below}/7/comments", "POST", headers=headers).respond_with_json({}, 201)
    async with Registry() as one, Registry() as two:
        desk.configure(CONFIGURATION.format(one=one.host, two=two.host))
        image = build_image(["linux/amd64"], layers=1)
        await push(image, one, "team/app", ["pr-7-abcdef0"])
        await push(image, two, "team/app/app", ["pr-7-abcdef0"])
        there = f"http://127.0.0.1:{httpserver.port}/acme/app"
        tell = ("comment", "app", "--pr", "7", "--commit", COMMIT, "--to", there, "--forge", "gitea")
        refused = await desk.run(*tell)
        assert (refused.status, "FORGE_TOKEN" in refused.err) == (64, True)
        said = await desk.run(*tell, FORGE_TOKEN=token)
    assert (said.status, said.err) == (0, ""), said.err
    assert said.out.endswith("/acme/app: the comment in pull request 7 is new\n")
    assert token not in said.out
    body = json.loads(httpserver.log[-1][0].get_data())["body"]
    assert body.startswith("<!-- mirrord: images of this pull request -->\n### Images of this pull request\n")
    httpserver.check()
