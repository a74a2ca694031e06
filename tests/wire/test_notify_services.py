"""Services for notifications: what is sent to each, and what its answers mean. The answers are recorded ones."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from mirrord.errors import (
    ContentError,
    DeniedError,
    MirrordError,
    RefusedError,
    ServerError,
    ThrottledError,
    TooLargeError,
    TransportError,
)
from mirrord.wire.host import HostBook
from mirrord.wire.http.client import Http
from mirrord.wire.notify import dingtalk, feishu, webhook
from mirrord.wire.notify.known import SERVICES
from mirrord.wire.notify.message import Message
from mirrord.wire.notify.port import deliver
from mirrord.wire.notify.receiver import Receiver, bot_address
from mirrord.wire.secret import Secret

NOW = datetime(2020, 9, 6, 7, 47, 53, tzinfo=UTC)
TOKEN = "5f1c0b0e7a9d4c3f8e2b6a1d"
BOT = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
MESSAGE = Message(
    "0123456789abcdef0123456789abcdef",
    "mirrord: 1 mirror fails",
    ["app fails: no connection"],
    "and {} more".format,
    "https://m.example.org",
    {"id": "0123456789abcdef0123456789abcdef", "text": "ü"},
)
TEXT = "mirrord: 1 mirror fails\napp fails: no connection\nhttps://m.example.org"
OK = {
    "webhook": (204, b""),
    "feishu": (200, b'{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}'),
    "dingtalk": (200, b'{"errcode":0,"errmsg":"ok"}'),
    "wecom": (200, b'{"errcode":0,"errmsg":"ok"}'),
    "slack": (200, b"ok"),
    "telegram": (200, b'{"ok":true,"result":{"message_id":7,"chat":{"id":-1001},"date":1599378473,"text":"x"}}'),
}


class Site:
    """A server in the place of every service."""

    def __init__(self, server: HTTPServer, http: Http) -> None:
        self.server, self.http = server, http
        self.status, self.body, self.headers = 200, b"", dict[str, str]()
        self.got: list[Request] = []
        server.expect_request("/elsewhere").respond_with_data("ok")

    def receiver(self, kind: str, *, secret: str = "") -> Receiver:
        path = {"dingtalk": f"/robot/send?access_token={TOKEN}", "wecom": f"/cgi-bin/webhook/send?key={TOKEN}"}
        url = Secret(self.server.url_for("/").rstrip("/") + path.get(kind, f"/hook/{TOKEN}"))
        if kind == "telegram":
            url = bot_address(Secret(BOT), Secret(self.server.url_for("/")))
        where = urlsplit(url.reveal()).path
        self.server.expect_request(where, method="POST").respond_with_handler(self._answer)
        return Receiver(
            "ops", kind, url, Secret(secret) if secret else None, chat="-1001" if kind == "telegram" else ""
        )

    def _answer(self, request: Request) -> Response:
        request.get_data()
        self.got.append(request)
        return Response(self.body, self.status, self.headers)

    async def send(self, kind: str, *, secret: str = "") -> str:
        return await deliver(self.http, SERVICES[kind], self.receiver(kind, secret=secret), MESSAGE, NOW)


@pytest.fixture
async def site(httpserver: HTTPServer) -> AsyncIterator[Site]:
    async with Http(HostBook()) as http:
        yield Site(httpserver, http)


def test_feishu_signs_with_time_and_secret_as_the_key() -> None:
    """The vector of the service's own documents."""
    assert feishu.sign("1599360473", "demo") == "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8="


def test_dingtalk_signs_with_the_secret_as_the_key() -> None:
    """The vector of the service's own documents, as a URL has it."""
    expected = "sLRlUUvzoOXn5DR%2F%2Bo%2Bs6tOqX%2BbWe3JGaZ7JQ7844l8%3D"
    assert dingtalk.sign("1577262236757", "SECdemo") == expected


def test_a_webhook_is_signed_as_github_signs() -> None:
    """The vector of GitHub's documents about X-Hub-Signature-256."""
    expected = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert webhook.signature("It's a Secret to Everybody", b"Hello, World!") == expected


BODIES: dict[str, Any] = {
    "webhook": MESSAGE.document,
    "feishu": {
        "msg_type": "text",
        "content": {"text": TEXT},
        "timestamp": "1599378473",
        "sign": feishu.sign("1599378473", "the key"),
    },
    "dingtalk": {
        "msgtype": "markdown",
        "markdown": {"title": MESSAGE.title, "text": TEXT.replace("\n", "\n\n")},
        "at": {"isAtAll": False},
    },
    "wecom": {"msgtype": "markdown", "markdown": {"content": TEXT}},
    "slack": {"text": TEXT, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False},
    "telegram": {"chat_id": "-1001", "text": TEXT, "link_preview_options": {"is_disabled": True}},
}


@pytest.mark.parametrize("kind", SERVICES)
async def test_what_is_sent(site: Site, kind: str) -> None:
    """One POST of JSON in UTF-8, with the signature where the service wants it, and without a credential."""
    site.status, site.body = OK[kind]
    answer = await site.send(kind, secret="the key" if kind in ("webhook", "feishu", "dingtalk") else "")
    assert answer.startswith(str(site.status))
    (request,) = site.got
    assert json.loads(request.get_data()) == BODIES[kind]
    assert request.headers["Content-Type"] == "application/json; charset=utf-8"
    assert "Authorization" not in request.headers
    if kind == "webhook":
        assert request.headers["X-Mirrord-Delivery"] == MESSAGE.id
        assert request.headers["X-Mirrord-Timestamp"] == "1599378473"
        signed = webhook.signature("the key", request.get_data())
        assert request.headers["X-Mirrord-Signature"] == f"sha256={signed}"
    if kind == "dingtalk":
        sign = dingtalk.sign("1599378473000", "the key")
        assert request.query_string.decode() == f"access_token={TOKEN}&timestamp=1599378473000&sign={sign}"


@pytest.mark.parametrize("kind", ["webhook", "feishu", "dingtalk"])
async def test_without_a_key_nothing_is_signed(site: Site, kind: str) -> None:
    """A receiver without `secret` gets the message and no signature."""
    site.status, site.body = OK[kind]
    await site.send(kind)
    (request,) = site.got
    assert "X-Mirrord-Signature" not in request.headers
    assert b"sign" not in request.get_data() + request.query_string


async def test_old_bots_of_feishu_say_status_code(site: Site) -> None:
    """`StatusCode` counts where there is no `code`."""
    site.body = b'{"Extra":null,"StatusCode":0,"StatusMessage":"success"}'
    await site.send("feishu")
    site.body = b'{"StatusCode":19001,"StatusMessage":"invalid"}'
    with pytest.raises(DeniedError):
        await site.send("feishu")


def _feishu(code: int, text: str) -> bytes:
    return json.dumps({"code": code, "msg": text, "data": {}}).encode()


def _errcode(code: int, text: str) -> bytes:
    return json.dumps({"errcode": code, "errmsg": text}).encode()


def _telegram(code: int, text: str, **parameters: int) -> bytes:
    more = {"parameters": parameters} if parameters else {}
    return json.dumps({"ok": False, "error_code": code, "description": text, **more}).encode()


REFUSALS = [
    ("feishu", 200, _feishu(19021, "sign match fail or timestamp is not within one hour"), DeniedError, "the clock"),
    ("feishu", 200, _feishu(19022, "Ip Not Allowed"), DeniedError, "the bot's list"),
    ("feishu", 200, _feishu(19024, "Key Words Not Found"), DeniedError, "keywords"),
    ("feishu", 200, _feishu(19001, "param invalid: incoming webhook access token invalid"), DeniedError, "address"),
    ("feishu", 200, b'{"code":[]}', RefusedError, "settings of the bot"),
    ("feishu", 200, b'{"code":false}', RefusedError, "settings of the bot"),
    ("feishu", 200, _feishu(9499, "too many request"), ThrottledError, "9499"),
    ("feishu", 200, _feishu(11232, "frequency limited"), ThrottledError, "11232"),
    ("feishu", 400, _feishu(9499, "Bad Request"), ThrottledError, "9499"),
    ("feishu", 400, _feishu(19002, "params error, msg_type need"), RefusedError, "19002"),
    ("feishu", 502, b"<html>bad gateway</html>", ServerError, "502"),
    ("feishu", 200, b"<html>log in</html>", ContentError, "check the address"),
    ("feishu", 200, b"[0]", ContentError, "check the address"),
    ("feishu", 200, b"{}", RefusedError, "200 {}"),
    ("feishu", 200, b'{"code":"0"}', RefusedError, "200"),
    ("feishu", 200, b"[" * 60_000, ContentError, "check the address"),
    ("dingtalk", 200, _errcode(310000, "sign not match"), DeniedError, "`secret`"),
    ("dingtalk", 200, _errcode(310000, "keywords not in content"), DeniedError, "keywords"),
    ("dingtalk", 200, _errcode(300001, "token is not exist"), DeniedError, "access_token"),
    ("dingtalk", 200, _errcode(130101, "send too fast, exceed 20 times per minute"), ThrottledError, "130101"),
    ("dingtalk", 200, _errcode(-1, "system busy"), ServerError, "-1"),
    ("dingtalk", 200, _errcode(40035, "param error"), RefusedError, "40035"),
    ("wecom", 200, _errcode(93000, "invalid webhook url, hint: [1]"), DeniedError, "the key"),
    ("wecom", 200, _errcode(45009, "api freq out of limit"), ThrottledError, "45009"),
    ("wecom", 200, _errcode(-1, "system busy"), ServerError, "-1"),
    ("wecom", 200, _errcode(40058, "markdown.content exceed max length 4096"), RefusedError, "40058"),
    ("slack", 404, b"no_service", RefusedError, "make a new one"),
    ("slack", 410, b"channel_is_archived", RefusedError, "make a new one"),
    ("slack", 403, b"invalid_token", DeniedError, "make a new one"),
    ("slack", 400, b"invalid_payload", RefusedError, "invalid_payload"),
    ("slack", 429, b"rate_limited", ThrottledError, "429"),
    ("slack", 500, b"rollup_error", ServerError, "500"),
    ("slack", 200, b"<html>sign in</html>", RefusedError, "200"),
    ("telegram", 401, _telegram(401, "Unauthorized"), DeniedError, "`token`"),
    ("telegram", 404, _telegram(404, "Not Found"), DeniedError, "`token`"),
    ("telegram", 400, _telegram(400, "Bad Request: chat not found"), RefusedError, "`chat`"),
    ("telegram", 403, _telegram(403, "Forbidden: bot was kicked from the group chat"), RefusedError, "kicked"),
    ("telegram", 400, _telegram(400, "upgraded", migrate_to_chat_id=-100200), RefusedError, "write chat: '-100200'"),
    ("telegram", 429, _telegram(429, "Too Many Requests: retry after 9", retry_after=9), ThrottledError, "429"),
    ("telegram", 500, _telegram(500, "Internal Server Error"), ServerError, "500"),
    ("telegram", 502, b"<html>", ServerError, "502"),
    ("telegram", 200, b"<html>", ContentError, "check the address"),
    ("webhook", 400, b"no", RefusedError, "400 no"),
    ("webhook", 401, b"", DeniedError, "401"),
    ("webhook", 408, b"", ServerError, "408"),
    ("webhook", 429, b"", ThrottledError, "429"),
    ("webhook", 503, b"later", ServerError, "503 later"),
]


@pytest.mark.parametrize(("kind", "status", "body", "error", "words"), REFUSALS)
async def test_success_is_judged_by_the_body(
    site: Site, *, kind: str, status: int, body: bytes, error: type[MirrordError], words: str
) -> None:
    """Every recorded refusal is an error of the right kind that says what to do; one that passes is tried again."""
    site.status, site.body = status, body
    with pytest.raises(MirrordError) as caught:
        await site.send(kind)
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert caught.value.passing == issubclass(error, TransportError)
    assert TOKEN not in str(caught.value)
    assert BOT not in str(caught.value)
    assert len(site.got) == 1


@pytest.mark.parametrize(
    ("kind", "status", "headers", "body", "after"),
    [
        ("slack", 429, {"Retry-After": "30"}, b"", 30),
        ("webhook", 429, {"Retry-After": "Sun, 06 Sep 2020 07:48:53 GMT"}, b"", 60),
        ("webhook", 503, {"Retry-After": "7"}, b"", 7),
        ("feishu", 429, {"Retry-After": "5"}, b"{}", 5),
        ("dingtalk", 200, {}, _errcode(130101, "send too fast"), 600),
        ("wecom", 200, {}, _errcode(45009, "api freq out of limit"), 60),
        ("telegram", 429, {}, _telegram(429, "retry", retry_after=9), 9),
        ("telegram", 429, {}, _telegram(429, "retry", retry_after=10**12), 86400),
        ("telegram", 429, {}, _telegram(429, "retry", retry_after=-1), None),
    ],
)
async def test_a_service_says_when_to_come_back(
    site: Site, *, kind: str, status: int, headers: dict[str, str], body: bytes, after: float | None
) -> None:
    """The wait that a service asks for is in the error: by header, by body, or by its rules."""
    site.status, site.headers, site.body = status, headers, body
    with pytest.raises(TransportError) as caught:
        await site.send(kind)
    assert caught.value.after == after


@pytest.mark.parametrize("kind", SERVICES)
async def test_redirects_are_not_followed(site: Site, kind: str) -> None:
    """A message, and the secret in its address, goes nowhere else."""
    site.status, site.headers = 307, {"Location": site.server.url_for("/elsewhere")}
    with pytest.raises(RefusedError, match="a redirect, which is not followed"):
        await site.send(kind)
    assert [request.path for request, _ in site.server.log] == [site.got[0].path]


@pytest.mark.parametrize("kind", SERVICES)
async def test_answers_that_echo_the_address_keep_it_secret(site: Site, kind: str) -> None:
    """An answer that repeats what it got is quoted without the secret, whole or in part."""
    receiver = site.receiver(kind, secret="a key for signatures")
    echo = f"got {receiver.address} token {TOKEN} bot {BOT} key a key for signatures"
    site.status, site.body = 400, json.dumps({"description": echo, "errmsg": echo, "msg": echo}).encode()
    with pytest.raises(MirrordError) as caught:
        await deliver(site.http, SERVICES[kind], receiver, MESSAGE, NOW)
    assert "***" in str(caught.value)
    for secret in (receiver.address, TOKEN if kind != "telegram" else BOT, "a key for signatures"):
        assert secret not in str(caught.value)


async def test_an_endless_answer_is_not_read(site: Site) -> None:
    """More than 64 KiB of answer is an error."""
    site.body = b"x" * 70_000
    with pytest.raises(TooLargeError):
        await site.send("slack")


async def test_an_answer_is_quoted_in_one_line(site: Site) -> None:
    """What a service answers is shown cut, and without control characters."""
    site.status, site.body = 400, b"\x1b[31mred\x00\n" + b"x" * 1000
    with pytest.raises(RefusedError) as caught:
        await site.send("webhook")
    assert str(caught.value).isprintable()
    assert r"\x1b[31mred\x00 xxx" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("kind", SERVICES)
async def test_httpx_does_not_know_the_address(site: Site, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """In its log httpx has the URLs of requests: of a hook's it has the origin, and nothing that is secret."""
    site.status, site.body = OK[kind]
    with caplog.at_level(logging.DEBUG):
        await site.send(kind)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "httpx"]
    assert line.startswith(f'HTTP Request: POST {site.server.url_for("").rstrip("/")} "HTTP/1.1 {site.status} ')
    for text in (record.getMessage() for record in caplog.records if record.name != "werkzeug"):
        assert TOKEN not in text
        assert BOT not in text


async def test_an_address_is_sent_as_it_is_written(site: Site) -> None:
    """Its path and query arrive byte for byte: a signature may cover them."""
    path = "/hook/../a//b|c;d%2f'?key=%2B+\"{}"
    site.server.expect_request(re.compile(".*"), method="POST").respond_with_handler(site._answer)
    to = Receiver("ops", "webhook", Secret(site.server.url_for("/").rstrip("/") + path))
    await deliver(site.http, SERVICES["webhook"], to, MESSAGE, NOW)
    (request,) = site.got
    assert request.environ["REQUEST_URI"] == path
