"""Messages to receivers of notifications in Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TEXTS: Final[Mapping[str, str | tuple[str, str]]] = {
    "notice.title": "mirrord：{what}",
    "notice.title.at": "mirrord（{url}）：{what}",
    "notice.count.guard": "{count} 个同步任务被保护机制阻止",
    "notice.count.failure": "{count} 个同步任务失败",
    "notice.count.stale": "{count} 个同步任务已过期",
    "notice.count.budget": "{count} 个主机或同步任务的请求配额已用尽",
    "notice.count.recovery": "{count} 个同步任务已恢复",
    "notice.guard": "{subject}：在丢失任何内容之前被保护机制阻止：{error}",
    "notice.failure": "{subject} 自 {since} 起失败：{error}（{code}）",
    "notice.stale": "{subject} 已过期：上次成功是在 {span} 前（{since}）",
    "notice.never": "{subject} 已过期：至今没有一次同步成功",
    "notice.budget": "{subject}：暂时不能再发送请求：{error}",
    "notice.continues": "{error}；{continues}",
    "notice.recovery": "{subject} 已恢复；此前故障持续了 {span}，始于 {since}",
    "notice.advised": "{text} → {advice}",
    "notice.exhausted": "主机报告请求配额已用尽",
    "notice.more": "另有 {count} 条",
    "notice.test": "这是一条测试消息：mirrord 发给 {receiver} 的通知会出现在这里。",
    "notice.test.title": "测试",
}
