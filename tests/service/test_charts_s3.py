"""Charts of a daemon that keeps `local` in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.commands import Sync
from mirrord.model.run import Result
from mirrord.serve.remote import ControlClient
from mirrord.testing import require
from mirrord.testing.chart_repository import ChartRepository
from mirrord.testing.charts import build_chart
from mirrord.testing.running import run
from tests.support.commands import Desk
from tests.support.gateway import ACCESS, BUCKET, SECRET, gateway


@pytest.mark.parametrize("redirect", [False, True], ids=["streamed", "redirected"])
async def test_helm_pulls(tmp_path: Path, redirect: bool) -> None:
    """Helm reads the index and gets the archive, byte by byte; the second run copies nothing."""
    require("helm3", "versitygw")
    server, prefix, chart = gateway(), f"charts/{tmp_path.name}-{redirect}", build_chart("crane", "1.0.0")
    desk = Desk(tmp_path, S3_ACCESS=ACCESS, S3_SECRET=SECRET)
    async with ChartRepository() as source:
        source.add(chart)
        desk.configure(
            f"settings:\n  listen: '127.0.0.1:0'\n  blobs:\n    {{url: 's3://{BUCKET}/{prefix}',"
            f" endpoint: '{server.endpoint}', redirect: {str(redirect).lower()},"
            " access_key: {env: S3_ACCESS}, secret_key: {env: S3_SECRET}}\nmirrors:\n"
            f"  - {{name: charts, kind: helm, from: '{source.url}', to: local}}\n"
        )
        async with desk.serving() as daemon:
            for result in (Result.SUCCESS, Result.NOOP):
                (done,) = await ControlClient(desk.folder / "state").carry_out(Sync())
                assert done.result == result
            url = f"http://{daemon.address}/helm/charts"
            environ = {"HOME": str(tmp_path / "home")}
            pulled = await run("helm3", "pull", "crane", "--repo", url, "-d", str(tmp_path), env=environ)
            assert pulled.status == 0, pulled.output
            assert (tmp_path / "crane-1.0.0.tgz").read_bytes() == chart.data
        verified = await desk.run("verify", "--deep", "charts")
        assert verified.status == 0, verified.out + verified.err
    assert source.count("GET", r"crane-1\.0\.0\.tgz$") == 1
