"""What to do about errors in Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TEXTS: Final[Mapping[str, str]] = {
    "advice.error": "请查看错误信息和本次运行的日志；运行 `mirrord sync NAME` 可重试。",
    "advice.config": "请按提示修改配置；`mirrord check` 会列出全部错误。",
    "advice.usage": "请按提示修改命令；`mirrord COMMAND --help` 会列出可用的参数。",
    "advice.busy": "请等待正在进行的命令或同步结束后再试。",
    "advice.detached": "无需处理，下次运行会继续。如果经常出现，请调大 settings.spool.budget。",
    "advice.transport": "偶尔出现无需处理，下次运行会重试；持续出现时请检查到该主机的网络。",
    "advice.unreachable": "请检查该主机的域名、端口、防火墙和代理，以及证书（hosts: 下的 ca:）。",
    "advice.stalled": "请检查到该主机的线路；如果线路本来就慢，请调低对它的限制或延长 deadline。",
    "advice.broken": "偶尔出现无需处理，下次运行会续传；持续出现时请检查是否有代理切断了连接。",
    "advice.preempted": "无需处理：读取缓慢的客户端为其他请求让出了连接，其余内容会自动续传。",
    "advice.restarted": "偶尔出现无需处理：读取期间源端的内容发生了变化。",
    "advice.throttled": "请等待，对方允许后 mirrord 会再次请求。在 hosts: 下配置凭据通常可以提高限额。",
    "advice.server": "对方主机自身出现故障。请等待恢复，或联系其管理员。",
    "advice.refused": "请查看对方返回的说明，并修正地址或在对方处调整权限。",
    "advice.denied": "请检查该主机的凭据（hosts: 下的 auth:）是否有效，以及是否有相应的读写权限。",
    "advice.missing": "源端没有时，请检查 from: 中的名称和标签；目标端没有时，请先创建仓库。",
    "advice.immutable": "目标端不允许覆盖该标签。请在目标端放开限制，或用 as: 写入其他名称。",
    "advice.quota": "该账户已达到配额上限：请删除不再需要的内容，或向主机方申请提高配额。",
    "advice.untrusted": "请确认是否允许访问该地址；如果允许，请按提示在 hosts: 下放行。",
    "advice.content": "源端缺少该内容，或返回的内容有误。请先检查 from: 中的名称和标签；如果无误，请联系其维护者。",
    "advice.digest_mismatch": "请重试；如果持续出现，说明源端内容损坏，或途中的代理改动了内容。",
    "advice.too_large": "请确认内容是否确实应该这么大；如果是，请调大提示中所述的上限。",
    "advice.signature": "请查看消息中签名的问题，并在源头重新对镜像签名。",
    "advice.unsigned": "请在源头对镜像签名；如果源头本身是副本，请把签名也复制过去。",
    "advice.signature_missing": "若会自行恢复则无需处理；否则请检查源头是否仍有该签名，以及 auth: 的凭据能否读取。",
    "advice.signature_key": "请向发布者确认签名所用的密钥；如果信任该密钥，请将其加入 signatures.require。",
    "advice.signature_identity": "请将消息中的签名者与 signatures.require 的 identity: 和 issuer: 进行比较。",
    "advice.signature_digest": "该签名属于另一个镜像：请向发布者确认标签是否被移动过，不要添加密钥。",
    "advice.taken_down": "请从镜像配置中移除它。若允许再次镜像，请从 settings.denied 文件中删除对应条目。",
    "advice.unsupported": "请以当前格式重新发布（旧的 Docker 镜像重新推送即可），或不再同步它。",
    "advice.deadline": "请延长该任务的 deadline:，或减少单次同步的内容；已完成的部分仍然有效。",
    "advice.fenced": "无需处理，另一个副本正在运行此镜像任务。请检查本副本为何没有发出存活信号。",
    "advice.interrupted": "无需处理，下次运行会继续。",
    "advice.storage": "请检查状态目录所在的磁盘：剩余空间、权限，以及是否为只读。",
    "advice.conflict": "有其他程序写入了同一名称。请确保只有一个任务写入它；下次运行会重试。",
    "advice.guard": "源端丢失的内容超出了正常变更的范围。如果确属有意，请运行 `mirrord sync NAME --allow`。",
}
"""Each text by `advice.` and the code of `mirrord.errors`."""
