"""Gitea's package registry for charts, in this process: what tests/helm/test_gitea.py saw the real one do."""

from __future__ import annotations

from typing import Any

from mirrord.testing.distribution import Ask
from mirrord.testing.intake import Intake
from mirrord.testing.reply import Reply
from tests.support.chartfiles import chart_metadata, form_fields
from tests.support.chartservers import LARGEST, ChartServer, error_reply


class GiteaServer(ChartServer):
    """Gitea's package registry for charts: no digests in its index, no provenance, and what comes replaces.

    Attributes:
        url_base: what stands before the file names in its index (`ROOT_URL`), where that is not its own address.
    """

    def __init__(self, owner: str = "org", *, url_base: str = "", **options: Any) -> None:
        super().__init__(f"/api/packages/{owner}/helm", **options)
        self.url_base = url_base

    async def answer(self, ask: Ask, intake: Intake) -> Reply:
        """Answer."""
        if (ask.method, ask.path) == ("POST", f"{self.path}/api/charts"):
            fields = form_fields(ask.headers.get("content-type", ""), await intake.read(LARGEST) or b"")
            try:
                metadata = chart_metadata(next(iter(fields.values())))
            except ValueError:
                return error_reply(500, "internal server error")
            file = f"{metadata['name']}-{metadata['version']}.tgz".lower()
            came = self.times.get(file)
            self.store(file, next(iter(fields.values())))
            self.times[file] = came or self.times[file]  # that of the version, whatever replaces its file
            return Reply(201)
        if ask.method == "GET" and ask.path == f"{self.path}/index.yaml":
            return self.index(f"{self.url_base or self.url}/", digests=False, context=self.path)
        data = self.files.get(ask.path.removeprefix(f"{self.path}/"))
        if ask.method == "GET" and data is not None:
            return Reply(200, {"Content-Type": "application/octet-stream"}, data)
        return Reply(404, {"Content-Type": "text/plain;charset=utf-8"}, b"404 page not found\n")
