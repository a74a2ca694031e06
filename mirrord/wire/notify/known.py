"""All services, by kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mirrord.wire.notify.dingtalk import DingTalk
from mirrord.wire.notify.feishu import Feishu
from mirrord.wire.notify.port import Service
from mirrord.wire.notify.slack import Slack
from mirrord.wire.notify.telegram import Telegram
from mirrord.wire.notify.webhook import Webhook
from mirrord.wire.notify.wecom import WeCom

SERVICES: Final[Mapping[str, Service]] = {
    "webhook": Webhook(),
    "feishu": Feishu(),
    "dingtalk": DingTalk(),
    "wecom": WeCom(),
    "slack": Slack(),
    "telegram": Telegram(),
}
"""The services that `notify:` knows."""
