"""`mirrord notify`: receivers listed and tried, with a daemon and without one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.support.commands import Desk

CONFIGURATION = """\
settings: {listen: "127.0.0.1:0"}
hosts: {quay.io: {auth: {username: robot, password: {env: NOT_HERE}}}}
mirrors: [{name: app, kind: image, from: {repository: quay.io/a/b, tags: [v1]}, to: local}]
notify:
  ops: {kind: feishu, url: {env: URL}, secret: {env: KEY}, language: zh}
  none: {kind: slack, url: {env: NOWHERE}}
"""


class Feishu:
    """A server in the place of Feishu."""

    def __init__(self, server: HTTPServer) -> None:
        self.code, self.texts = 0, list[str]()
        self.environ = {"URL": server.url_for("/open-apis/bot/v2/hook/0123456789abcdef"), "KEY": "a-key"}
        server.expect_request("/open-apis/bot/v2/hook/0123456789abcdef").respond_with_handler(self.answer)

    def answer(self, request: Request) -> Response:
        self.texts.append(json.loads(request.get_data())["content"]["text"])
        return Response(json.dumps({"code": self.code, "msg": "success" if not self.code else "sign match fail"}))


@pytest.fixture
def feishu(httpserver: HTTPServer) -> Iterator[Feishu]:
    yield Feishu(httpserver)
    httpserver.check_assertions()


async def test_a_receiver_is_tried_without_a_daemon(desk: Desk, feishu: Feishu) -> None:
    """The answer is printed; other secrets are not needed, no state is made, and each mistake has its exit code."""
    desk.configure(CONFIGURATION)
    tried = await desk.run("notify", "test", "ops", **feishu.environ)
    host = feishu.environ["URL"].split("/")[2]
    assert tried.err == ""
    assert tried.out == f'ops (feishu at {host}) took the message: 200 {{"code": 0, "msg": "success"}}\n'
    assert feishu.texts == ["mirrord：测试\n这是一条测试消息：mirrord 发给 ops 的通知会出现在这里。"]
    assert not (desk.folder / "state").exists()
    document = (await desk.run("notify", "test", "ops", "--json", **feishu.environ)).document
    assert document == {
        "receiver": "ops",
        "kind": "feishu",
        "host": host,
        "answer": '200 {"code": 0, "msg": "success"}',
    }
    feishu.code = 19021
    refused = await desk.run("notify", "test", "ops", **feishu.environ)
    assert refused.status == 1
    assert refused.err == (
        f'mirrord: {host}: answered 200 {{"code": 19021, "msg": "sign match fail"}};'
        " write `secret:` as the bot has it, and check the clock of this machine\n"
    )
    lacking = await desk.run("notify", "test", "none", **feishu.environ)
    assert lacking.status == 78
    assert "conf.d/a.yaml:6: notify.none.url: environment variable NOWHERE is not set" in lacking.err
    unknown = await desk.run("notify", "test", "opps", **feishu.environ)
    assert (unknown.status, unknown.err) == (64, "mirrord: no receiver is called 'opps'; there are ops\n")
    dead = await desk.run("notify", "test", "ops", **(feishu.environ | {"URL": "http://127.0.0.1:1/hook"}))
    assert dead.status == 69
    assert "127.0.0.1:1: no connection" in dead.err
    assert "/hook" not in dead.err


async def test_a_receiver_may_be_called_issues(desk: Desk) -> None:
    """It is tried though the token of `asking.issues` is not on this machine."""
    desk.configure("""\
asking:
  to: local
  allow: nginx
  issues: [{forge: github, repository: a/b, token: {env: NOWHERE}}]
notify: {issues: {kind: slack, url: {env: URL}}}
""")
    tried = await desk.run("notify", "test", "issues", URL="http://127.0.0.1:1/hook")
    assert (tried.status, "NOWHERE" in tried.err) == (69, False)


async def test_receivers_are_listed(desk: Desk, feishu: Feishu) -> None:
    """`notify list` shows host and what is reported, never the address; with a daemon also when it last sent."""
    desk.configure("mirrors: []\n")
    nobody = await desk.run("notify", "list")
    assert (nobody.status, nobody.out) == (0, "")
    assert nobody.err.endswith("nobody is notified; write notify: in the configuration\n")
    desk.configure(CONFIGURATION.replace("  none", "  # none").replace("hosts:", "# hosts:"))
    listed = await desk.run("notify", "list", **feishu.environ)
    head, line = listed.out.splitlines()
    assert head.split() == ["NAME", "KIND", "HOST", "ON", "MIRRORS", "LAST", "SENT", "LAST", "ERROR"]
    host = feishu.environ["URL"].split("/")[2]
    assert line.split() == ["ops", "feishu", host, "guard,", "failure,", "stale,", "recovery", "*", "-", "-"]
    async with desk.serving(**feishu.environ):
        assert (await desk.run("notify", "test", "ops")).status == 0
        (entry,) = (await desk.run("notify", "list", "--json")).document
        assert (entry["name"], entry["host"], entry["waiting"], entry["last_error"]) == ("ops", host, 0, "")
    assert len(feishu.texts) == 1
