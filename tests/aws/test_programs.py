"""Amazon ECR as an operator meets it: `sync`, `check` and `copy`, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.testing import Registry, build_image, push
from tests.support.canary import Canary
from tests.support.commands import Desk
from tests.support.ecr import REGION, TOKEN, Ecr


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, AWS_EC2_METADATA_DISABLED="true", AWS_ACCESS_KEY_ID="AKIAEXAMPLE")


def configure(desk: Desk, source: Registry, ecr: Ecr, create: str) -> None:
    desk.configure(
        f"hosts: {{'{ecr.host}': {{aws: {{region: {REGION}, endpoint: '{ecr.endpoint}'}}}}}}\n"
        f"targets: {{ecr: {{kind: image, to: {ecr.host}/mirror{create}}}}}\n"
        "settings: {log: {level: debug}}\n"
        f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: [ecr]}}]"
    )


async def test_sync_shows_no_secret(desk: Desk, ecr: Ecr) -> None:
    """Neither AWS's keys nor its token are in the output, the log, the state or the configuration, well or failed."""
    canaries = {name: Canary.make("AWS") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
    environ = {name: canary.text for name, canary in canaries.items()}
    async with Registry() as source:
        await push(build_image(), source, "a", ["v1"])
        said = []
        for create, status in (("", 1), (", create: {scan: true}", 0)):
            configure(desk, source, ecr, create)
            said.append(await desk.run("sync", **environ))
            assert said[-1].status == status, said
    assert "write `create: {}` at the target" in said[0].out + said[0].err
    assert ecr.repositories["mirror/app"].image_scanning_configuration == {"scanOnPush": True}
    token = Canary("AWS", TOKEN)
    for canary in (*canaries.values(), token):
        assert [canary.heard(one.out + one.err) for one in said] == [[], []]
        for folder in (desk.folder / "state", desk.temporary, desk.folder / "conf.d"):
            assert canary.heard_below(folder) == []


async def test_what_is_said_without_an_identity(desk: Desk, ecr: Ecr) -> None:
    """The registry refuses, and the error says that AWS knows nobody, and what to do."""
    async with Registry() as source:
        await push(build_image(), source, "a", ["v1"])
        configure(desk, source, ecr, "")
        del desk.environ["AWS_ACCESS_KEY_ID"]
        said = await desk.run("sync")
    assert said.status == 1
    assert f"no credentials for {ecr.host} were found" in said.out + said.err
    assert "AWS: no credentials were found; set AWS_PROFILE" in said.out + said.err


async def test_what_is_said_without_the_extra(desk: Desk, ecr: Ecr) -> None:
    """`check` has a notice for the host, and a run says what to install."""
    desk.environ["PYTHONPATH"] = str(desk.folder / "without")
    (desk.folder / "without").mkdir()
    hidden = "import sys\nsys.modules['botocore'] = None\n"
    (desk.folder / "without" / "sitecustomize.py").write_text(hidden)
    async with Registry() as source:
        await push(build_image(), source, "a", ["v1"])
        configure(desk, source, ecr, "")
        said = await desk.run("check")
        assert said.status == 0, said
        assert f"hosts.{ecr.host}.aws: needs botocore" in said.err
        assert "run pip install 'mirrord[aws]'" in said.err
        said = await desk.run("sync")
    assert said.status == 78
    assert "run pip install 'mirrord[aws]'" in said.out + said.err
