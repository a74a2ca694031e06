"""`notify:`: who is notified of failures and recoveries, and where. The address of a hook is a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from mirrord.config.check import InnerError, Strict, check
from mirrord.config.envelopes import check_name
from mirrord.config.files import AbsentError
from mirrord.config.lines import Problems, Trail, Value
from mirrord.config.secrets import SecretSource, read_secret
from mirrord.config.units import Duration, between
from mirrord.errors import UntrustedError
from mirrord.model.notice import Occasion
from mirrord.wire.host import HostBook
from mirrord.wire.notify.receiver import Receiver, bot_address, origin_of
from mirrord.wire.secret import Secret
from mirrord.wire.trust import belongs

_CHAT: Final = re.compile(r"-?[0-9]{1,20}|@[A-Za-z][A-Za-z0-9_]{3,63}")
_GLOB: Final = re.compile(r"[a-z0-9*?\[\]!-]{1,63}")
_ON: Final = (Occasion.FAILURE, Occasion.RECOVERY, Occasion.STALE, Occasion.GUARD)
_SIGNED: Final = ("webhook", "feishu", "dingtalk")
_HOOK: Final = "{env: HOOK_URL}"


def _chat(text: str) -> str:
    if not _CHAT.fullmatch(text):
        raise ValueError("is not a chat; write its number in quotes, such as '-1001234567890', or @name of a channel")
    return text


def _glob(text: str) -> str:
    if not _GLOB.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is neither the name of a mirror nor a glob; write such as nginx or prod-*")
    return text


class ReceiverKeys(Strict):
    """One entry of `notify:`."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("type", "service"), "write kind:"),
        **dict.fromkeys(("webhook", "hook", "webhook_url"), f"write url: {_HOOK}"),
        **dict.fromkeys(("events", "when"), "write on: [failure, recovery]"),
        "chat_id": "write chat:",
        **dict.fromkeys(("lang", "locale"), "write language: en or language: zh"),
        **dict.fromkeys(("interval", "quiet"), "write every: 5m"),
    }

    kind: Literal["webhook", "feishu", "dingtalk", "wecom", "slack", "telegram"] = Field(
        description="The service: `webhook`, `feishu` (also Lark), `dingtalk`, `wecom`, `slack` or `telegram`."
    )
    url: Annotated[
        SecretSource | None,
        Field(
            description=(
                "Where the address of the hook is, whole as the service shows it; exactly one of `env`, `file` and"
                " `credential`. The address is a secret: who knows it can write to the chat. Required, but for"
                " `telegram`, where it is that of a Bot API server of your own."
            ),
            examples=[_HOOK],
        ),
    ] = None
    secret: Annotated[
        SecretSource | None,
        Field(
            description=(
                "Where the key for signatures is: of a `webhook` one of your own, of `feishu` and `dingtalk` the one"
                " that the service shows. Default: messages are not signed."
            ),
            examples=["{env: HOOK_SECRET}"],
        ),
    ] = None
    token: Annotated[
        SecretSource | None,
        Field(description="Where the token of the bot is; `telegram` needs it.", examples=["{env: TELEGRAM_TOKEN}"]),
    ] = None
    chat: (
        Annotated[
            str,
            AfterValidator(_chat),
            Field(
                description="Number of the chat in quotes, or `@name` of a channel; `telegram` needs it.",
                examples=["'-1001234567890'"],
            ),
        ]
        | None
    ) = None
    on: Annotated[
        tuple[Occasion, ...],
        Field(
            min_length=1,
            description=(
                "What is reported: `failure` (a run failed in whole or in part), `recovery`, `stale` (see `stale` of a"
                " mirror), `guard` (a guard blocked a run) and `budget` (a host allows no more requests for now)."
            ),
        ),
    ] = _ON
    mirrors: Annotated[
        tuple[Annotated[str, AfterValidator(_glob)], ...],
        Field(
            min_length=1,
            description="Only these mirrors: names and globs (`*`, `?`, `[…]`). Default: all.",
            examples=["[prod-*, nginx]"],
        ),
    ] = ("*",)
    language: Literal["en", "zh"] = Field(default="en", description="Language of the messages: `en` or `zh`.")
    every: Annotated[
        Duration,
        AfterValidator(between("0s", "7d")),
        Field(
            description=(
                "Least time between two messages, 0 s to 7 d. What happens meanwhile is in the next one; what is over"
                " by then is left out."
            )
        ),
    ] = 300.0

    @model_validator(mode="after")
    def _of_the_kind(self) -> ReceiverKeys:
        """Check that the kind has the keys that it needs, and no other."""
        telegram = self.kind == "telegram"
        needed: Mapping[str, Any] = {"token": self.token, "chat": self.chat} if telegram else {"url": self.url}
        for key, found in needed.items():
            if found is None:
                example = {"token": "{env: TELEGRAM_TOKEN}", "chat": "'-1001234567890'"}.get(key, _HOOK)
                raise InnerError((key,), f"is missing, and kind {self.kind} needs it; write {key}: {example}")
        unused = {"secret": self.kind not in _SIGNED, "token": not telegram, "chat": not telegram}
        for key, wrong in unused.items():
            if wrong and getattr(self, key) is not None:
                raise InnerError((key,), f"has no effect with kind {self.kind}; remove it")
        if set(self.on) <= {Occasion.RECOVERY}:
            raise InnerError(("on",), "recovery alone reports nothing; add failure, stale or guard")
        return self


def read_receivers(
    value: Value, book: HostBook, problems: Problems, environ: Mapping[str, str]
) -> Mapping[str, Receiver]:
    """Validate `notify:` and fetch its secrets; each problem is noted, and its receiver left out."""
    found: dict[str, Receiver] = {}
    for name, entry in (value if isinstance(value, dict) else {}).items():
        trail = ("notify", name)
        try:
            check_name(name)
        except ValueError as error:
            problems.add(trail, str(error))
            continue
        keys = check(ReceiverKeys, entry, trail, problems)
        receiver = keys and _receiver(name, keys, book, problems, environ)
        if receiver:
            found[name] = receiver
    return found


def unmatched_mirrors(receivers: Mapping[str, Receiver], mirrors: Sequence[str], problems: Problems) -> Iterator[str]:
    """Yield a sentence for each name or glob below `notify:` that is that of no mirror."""
    for receiver in receivers.values():
        for number, pattern in enumerate(receiver.mirrors):
            if mirrors and pattern != "*" and not any(receiver.about(name, (pattern,)) for name in mirrors):
                what = f"{pattern!r} is no mirror, so nothing is reported for it"
                yield problems.line(("notify", receiver.name, "mirrors", number), what)


def _receiver(
    name: str, keys: ReceiverKeys, book: HostBook, problems: Problems, environ: Mapping[str, str]
) -> Receiver | None:
    trail = ("notify", name)
    sources = {"url": keys.url, "secret": keys.secret, "token": keys.token}
    before, lacking = problems.count(), len(problems.absent)
    found = {key: _fetched(one, (*trail, key), problems, environ) for key, one in sources.items() if one}
    if problems.count() > before or len(problems.absent) > lacking:
        return None
    url = _address(found, book, trail, problems)
    if url is None:
        return None
    return Receiver(
        name,
        keys.kind,
        url,
        found.get("secret"),
        keys.chat or "",
        frozenset(keys.on),
        keys.mirrors,
        keys.language,
        keys.every,
    )


def _fetched(source: SecretSource, trail: Trail, problems: Problems, environ: Mapping[str, str]) -> Secret | None:
    try:
        return read_secret(source, environ)
    except ValueError as error:
        note = problems.lack if isinstance(error, AbsentError) else problems.add
        note(trail, str(error))
        return None


def _address(found: Mapping[str, Secret | None], book: HostBook, trail: Trail, problems: Problems) -> Secret | None:
    """Return where messages go, or note what is wrong with it, without a word of it but the host."""
    token, url = found.get("token"), found.get("url")
    key = "url" if url else "token"
    try:
        url = bot_address(token, url) if token else url
        origin = origin_of(url) if url else None
    except UntrustedError:
        what = "is not the address of a hook; copy it whole, from https:// on, as the service shows it"
        problems.add((*trail, key), what)
        return None
    except ValueError as error:
        problems.add((*trail, "token"), str(error))
        return None
    if origin and not belongs(origin, book.policy(origin.authority)):
        what = "is not encrypted, and everybody on the way could read it; write https://"
        problems.add((*trail, key), f"{what}, or `insecure: true` for {origin.authority} under hosts:")
        return None
    return url
