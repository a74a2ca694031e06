"""A registry that has dates."""

from __future__ import annotations

import json
from collections.abc import Mapping

from mirrord.testing import Registry
from mirrord.testing.exchange import Exchange
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply


class DatedRegistry(Registry):
    """A registry that says when its tags were pushed, as Harbor does (goharbor/harbor, api/v2.0/swagger.yaml)."""

    pushed: Mapping[str, str]

    async def _reply(self, exchange: Exchange, intake: Intake) -> Reply:
        if exchange.path != "/api/v2.0/projects/team/repositories/app/artifacts":
            return await super()._reply(exchange, intake)
        artifacts = [{"push_time": at, "tags": [{"name": tag, "push_time": at}]} for tag, at in self.pushed.items()]
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(artifacts).encode())
