"""`notify:` as the program reads it: what it means, and one line for each mistake, without a word of a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mirrord.config.load import Configuration, read_folder
from mirrord.errors import ConfigError
from mirrord.model.notice import Occasion
from mirrord.syncer.port import Syncer
from mirrord.wire.secret import Secret, redact

MIRRORS = """\
targets: {t: {kind: image, to: ghcr.io/t}}
mirrors:
  - {name: app, kind: image, from: {repository: quay.io/a}, to: [t]}
  - {name: prod-web, kind: image, from: {repository: quay.io/b}, to: [t]}
"""
URL = "https://hooks.example.com/services/T0123/B0123/0123456789abcdefghijklmn"
KEY = "key-for-signatures"
BOT = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
ENVIRON = {"URL": URL, "KEY": KEY, "BOT": BOT, "PLAIN": "http://hooks.example.com/hook", "WRONG": "hunter2-hunter2"}
ENVIRON |= {"LOCAL": "http://127.0.0.1:9/hook", "USER": f"https://user:{KEY}@hooks.example.com/"}


def test_every_key(load: Callable[..., Configuration]) -> None:
    """Secrets are fetched, `on` and globs are taken, durations are seconds; what is left out has its default."""
    text = """\
notify:
  ops:
    kind: feishu
    url: {env: URL}
    secret: {env: KEY}
    on: [failure, budget]
    mirrors: [prod-*, app]
    language: zh
    every: 15m
  bot: {kind: telegram, token: {env: BOT}, chat: "-1001"}
"""
    found = load(MIRRORS + text, ENVIRON)
    assert found.notices == ()
    ops, bot = found.receivers["ops"], found.receivers["bot"]
    assert (ops.url, ops.secret, ops.kind, ops.host) == (Secret(URL), Secret(KEY), "feishu", "hooks.example.com")
    assert (ops.on, ops.language, ops.every) == (frozenset({Occasion.FAILURE, Occasion.BUDGET}), "zh", 900.0)
    assert [name for name in ("app", "prod-web", "other") if ops.about(name)] == ["app", "prod-web"]
    assert not ops.about_hosts
    assert bot.url == Secret(f"https://api.telegram.org/bot{BOT}/sendMessage")
    assert (bot.chat, bot.language, bot.every, bot.about_hosts) == ("-1001", "en", 300.0, True)
    assert bot.on == {Occasion.FAILURE, Occasion.RECOVERY, Occasion.STALE, Occasion.GUARD}


def test_a_server_of_the_bot_api(load: Callable[..., Configuration]) -> None:
    """`url` of a Telegram bot is where its API is."""
    text = "notify: {bot: {kind: telegram, token: {env: BOT}, url: {env: LOCAL}, chat: '@news'}}"
    assert load(text, ENVIRON).receivers["bot"].url == Secret(f"http://127.0.0.1:9/hook/bot{BOT}/sendMessage")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{kind: slak, url: {env: URL}}", "x.kind: 'slak' is not allowed; did you mean 'slack'?"),
        ("{url: {env: URL}}", "x.kind: is missing; write kind: …"),
        ("{kind: slack}", "x.url: is missing, and kind slack needs it; write url: {env: HOOK_URL}"),
        ("{kind: slack, webhook: {env: URL}}", "x.webhook: unknown key; write url: {env: HOOK_URL}"),
        (
            f"{{kind: slack, url: '{URL}'}}",
            (
                "x.url: a secret must not be written in the configuration; write {env: NAME}, {file: /path} or"
                " {credential: name}"
            ),
        ),
        ("{kind: slack, url: '${URL}'}", "x.url: variables are not replaced in the configuration; write {env: URL}"),
        (
            "{kind: slack, url: {env: WRONG}}",
            "x.url: is not the address of a hook; copy it whole, from https:// on, as the service shows it",
        ),
        (
            "{kind: slack, url: {env: USER}}",
            "x.url: is not the address of a hook; copy it whole, from https:// on, as the service shows it",
        ),
        (
            "{kind: slack, url: {env: PLAIN}}",
            (
                "x.url: is not encrypted, and everybody on the way could read it; write https://, or `insecure: true`"
                " for hooks.example.com under hosts:"
            ),
        ),
        ("{kind: slack, url: {env: URL}, secret: {env: KEY}}", "x.secret: has no effect with kind slack; remove it"),
        ("{kind: wecom, url: {env: URL}, chat: '1'}", "x.chat: has no effect with kind wecom; remove it"),
        (
            "{kind: telegram, token: {env: BOT}}",
            "x.chat: is missing, and kind telegram needs it; write chat: '-1001234567890'",
        ),
        (
            "{kind: telegram, token: {env: BOT}, chat: news}",
            "x.chat: is not a chat; write its number in quotes, such as '-1001234567890', or @name of a channel",
        ),
        (
            "{kind: telegram, token: {env: WRONG}, chat: '1'}",
            "x.token: is not the token of a bot; copy it from @BotFather: digits, a colon, letters",
        ),
        (
            "{kind: slack, url: {env: URL}, on: [failures]}",
            "x.on[0]: 'failures' is not allowed; did you mean 'failure'?",
        ),
        ("{kind: slack, url: {env: URL}, on: []}", "x.on: is empty; write at least one"),
        (
            "{kind: slack, url: {env: URL}, on: [recovery]}",
            "x.on: recovery alone reports nothing; add failure, stale or guard",
        ),
        (
            "{kind: slack, url: {env: URL}, mirrors: [A/b]}",
            "x.mirrors[0]: 'A/b' is neither the name of a mirror nor a glob; write such as nginx or prod-*",
        ),
        ("{kind: slack, url: {env: URL}, language: de}", "x.language: 'de' is not allowed; use one of: en, zh"),
        ("{kind: slack, url: {env: URL}, every: 8d}", "x.every: 8d is outside 0s to 7d; write a duration between them"),
        ("{kind: slack, url: {env: URL}, quiet: 5m}", "x.quiet: unknown key; write every: 5m"),
    ],
)
def test_mistakes(refusal: Callable[..., tuple[str, ...]], entry: str, expected: str) -> None:
    """Each mistake is one line with file, line, key and what to write; nothing of a secret is in it."""
    (problem,) = refusal(f"{MIRRORS}notify:\n  x: {entry}\n", ENVIRON)
    assert problem == f"main.yaml:6: notify.{expected}"
    for secret in (URL, KEY, BOT, "hunter2"):
        assert secret not in problem


def test_shapes(refusal: Callable[..., tuple[str, ...]]) -> None:
    """A section that is no mapping, and a name that is none."""
    (listed,) = refusal("notify: [ops]")
    assert listed.startswith("main.yaml:1: notify: is not a mapping; write a name and its keys")
    (named,) = refusal("notify: {My Team: {kind: slack, url: {env: URL}}}", ENVIRON)
    assert named == (
        "main.yaml:1: notify.My Team: 'My Team' is not a name; write a-z, 0-9 and -, at most 63 characters, such as"
        " my-team"
    )


def test_mirrors_that_are_none(load: Callable[..., Configuration]) -> None:
    """A name or glob of no mirror is a notice."""
    text = "notify: {ops: {kind: slack, url: {env: URL}, mirrors: [prod-*, appp, test-*]}}\n"
    found = load(MIRRORS + text, ENVIRON)
    assert [notice.partition(": ")[2] for notice in found.notices] == [
        "notify.ops.mirrors[1]: 'appp' is no mirror, so nothing is reported for it",
        "notify.ops.mirrors[2]: 'test-*' is no mirror, so nothing is reported for it",
    ]


def test_hosts_of_receivers_are_named(load: Callable[..., Configuration]) -> None:
    """An entry of `hosts:` for a receiver has an effect; `insecure` there allows plain HTTP."""
    hosts = "hosts: {hooks.example.com: {insecure: true, allow_private: true}}\n"
    text = "notify: {ops: {kind: slack, url: {env: PLAIN}}}\n"
    assert load(hosts + MIRRORS + text, ENVIRON).notices == ()


def test_secrets_that_are_elsewhere(folder: Path, syncers: Mapping[str, Syncer]) -> None:
    """Runs of mirrors do without the secrets of receivers; a daemon needs them."""
    text = "notify:\n  ops: {kind: slack, url: {env: URL}}\n  two: {kind: wecom, url: {file: /nowhere/key}}\n"
    hosts = "hosts: {hooks.example.com: {proxy: 'http://p:1'}}\n"  # perhaps that of a receiver
    (folder / "a.yaml").write_text(hosts + MIRRORS + text)
    found = read_folder(folder, syncers, {})
    assert found.receivers == {}
    assert [one.receiver for one in found.absent] == ["ops", "two"]
    assert found.absent[0].problem.endswith(
        "a.yaml:7: notify.ops.url: environment variable URL is not set; set it, or take the secret from somewhere else"
    )
    assert found.notices == ()
    found.require(())
    found.require(("app",))
    with pytest.raises(ConfigError) as caught:
        read_folder(folder, syncers, {}, complete=True)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("kind", "variable", "text"),
    [
        ("slack", "URL", f"POST {URL} failed"),
        ("slack", "URL", "path /services/T0123/B0123/0123456789abcdefghijklmn"),
        ("slack", "URL", "token 0123456789abcdefghijklmn"),
        ("wecom", "KEY_URL", "key=0f1e2d3c-aaaa"),
        ("wecom", "KEY_URL", "the key 0f1e2d3c-aaaa"),
    ],
)
def test_parts_of_an_address_are_secrets(
    load: Callable[..., Configuration], kind: str, variable: str, text: str
) -> None:
    """While a receiver is configured no text shows its address, the path, or a token in it."""
    environ = {**ENVIRON, "KEY_URL": "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=0f1e2d3c-aaaa"}
    found = load(f"notify: {{ops: {{kind: {kind}, url: {{env: {variable}}}}}}}", environ)
    assert found.receivers
    shown = redact(text)
    assert "***" in shown
    assert "0123456789abcdefghijklmn" not in shown
    assert "0f1e2d3c-aaaa" not in shown
