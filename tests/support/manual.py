"""The tables of docs/reference/configuration.md, made from the models that read a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from mirrord.config.asking import AskingKeys
from mirrord.config.envelopes import Envelope, TargetEnvelope
from mirrord.config.hosts import Host
from mirrord.config.issues import IssueKeys
from mirrord.config.names import NameKeys
from mirrord.config.notify import ReceiverKeys
from mirrord.config.pointing import PointingKeys
from mirrord.config.pull_requests import PullRequestKeys
from mirrord.config.schema import Key, keys_of
from mirrord.config.settings import Settings
from mirrord.config.webhook import WebhookKeys
from mirrord.syncer.port import load_syncers
from mirrord.syncers.image.spec.front import FrontKeys

_PLAIN = re.compile(r"[\w./:-]+(?: [\w./:-]+)*|refs/\w+/\*")
_TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def tables() -> dict[str, str]:
    """Return the table below each heading."""
    syncers = load_syncers()
    options = (
        key._replace(description=f"Kind `{kind}`: {_inside(key.description)}")
        for kind, syncer in sorted(syncers.items())
        for key in keys_of(syncer.target_spec)
    )
    return {
        "## `settings`": _table(keys_of(Settings)),
        "## `hosts`": _table(keys_of(Host)),
        "## `names`": _table(keys_of(NameKeys)),
        "## `front`": _table(keys_of(FrontKeys)),
        "## `targets`": _table([*keys_of(TargetEnvelope), *options]),
        "## `pointing`": _table(keys_of(PointingKeys)),
        "## `asking`": _table(keys_of(AskingKeys)),
        "### `issues`": _table(keys_of(IssueKeys)),
        "## `pull_requests`": _table(keys_of(PullRequestKeys)),
        "## `webhook`": _table(keys_of(WebhookKeys)),
        "## `notify`": _table(keys_of(ReceiverKeys)),
        "## `mirrors`": _table(sorted(keys_of(Envelope), key=lambda key: key.name not in ("name", "kind", "to"))),
        **{f"### Kind `{kind}`": _table(keys_of(syncer.spec)) for kind, syncer in syncers.items()},
    }


def rewritten(page: str) -> str:
    """Return the page with its tables as they should be."""
    for heading, table in tables().items():
        head, found, rest = page.partition(f"\n{heading}\n")
        assert found, heading
        old = _TABLE.search(rest)
        assert old, heading
        page = "".join((head, found, rest[: old.start()], table, rest[old.end() :]))
    return page


def models() -> Iterator[type[BaseModel]]:
    """Yield every model that reads keys."""
    yield from (
        Settings,
        Host,
        NameKeys,
        PointingKeys,
        AskingKeys,
        IssueKeys,
        PullRequestKeys,
        WebhookKeys,
        Envelope,
        TargetEnvelope,
        FrontKeys,
        ReceiverKeys,
    )
    for syncer in load_syncers().values():
        yield from syncer.models()


def _table(keys: Iterable[Key]) -> str:
    lines = []
    for key in keys:
        meaning, _, other = key.description.partition(" Default: ")  # what is no single value stands at the end
        default = _spelled(key.default) or other.removesuffix(".")
        otherwise = "required" if key.required else "see its keys" if key.inner else "none"
        lines.append(f"| `{key.name}` | {default or otherwise} | {meaning} |")
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *lines]) + "\n"


def _inside(sentence: str) -> str:
    """Return a sentence as the rest of another one: abbreviations keep their capitals."""
    return sentence[0].lower() + sentence[1:] if sentence[1].islower() else sentence


def _spelled(default: Any) -> str:
    if default in (None, ""):
        return ""
    if isinstance(default, list):
        return f"`[{', '.join(map(_quoted, default))}]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else f'"{text}"'
