"""OCI layouts as targets in a configuration, from `check` to `publish`, as processes."""

from __future__ import annotations

import pytest

from mirrord.testing import Registry, build_image, push, require
from mirrord.testing.running import run
from tests.support.commands import Desk
from tests.support.layouts import write_layout


async def test_sync_and_publish(desk: Desk) -> None:
    """A mirror's tags and a publish end in one layout that skopeo reads; a second `sync` finds nothing to do."""
    require("skopeo")
    image, build = build_image(seed="mirrored"), build_image(seed="built")
    write_layout(build, desk.folder / "build")
    async with Registry() as source:
        await push(image, source, "team/app", ["v1"])
        desk.configure(
            f"targets:\n  backup: {{kind: image, to: 'oci:{desk.folder}/backup'}}\n"
            f"mirrors:\n- {{name: app, kind: image, from: {{repository: '{source.host}/team/app:v1'}}, to: backup}}\n"
        )
        assert (await desk.run("check")).status == 0
        assert (await desk.run("sync")).status == 0
        assert (
            await desk.run("publish", "app", "--layout", "build", "--branch", "main", "--describe", "c1")
        ).status == 0
        again = await desk.run("sync")
    assert (again.status, "noop" in again.out) == (0, True)
    for tag, body in (("v1", image.body), ("main", build.body), ("main-c1", build.body)):
        inspected = await run("skopeo", "inspect", "--raw", f"oci:{desk.folder}/backup/app:{tag}")
        assert inspected.output.encode() == body, tag


WRONG = [
    ("oci:backup", "oci:backup/m: is not an absolute path; write oci:/DIR"),
    ("oci:", "oci: has no folder; write oci:/DIR"),
    ("oci:/", "oci:/ has no folder"),
    ("oci:~/backup", "is not an absolute path"),
    ("oci://ghcr.io/team", "write ghcr.io/team/m for a registry, or oci:/DIR"),
    ("oci:/srv/../backup", "contains `..`"),
    ("oci:/srv/backup:v1", "has a colon; write the folder only"),
    ("oci:/var/builds/out", "is below from.layouts"),
]


@pytest.mark.parametrize(("to", "said"), WRONG, ids=[to for to, _ in WRONG])
async def test_check_names_paths_that_cannot_be_meant(desk: Desk, to: str, said: str) -> None:
    """`check` refuses them with file, line, key and what to write (78)."""
    desk.configure(
        f"targets:\n  backup: {{kind: image, to: '{to}'}}\n"
        "mirrors:\n- {name: m, kind: image, from: {layouts: /var/builds}, to: backup}\n"
    )
    checked = await desk.run("check")
    assert checked.status == 78
    assert ":2: targets.backup.to: " in checked.err
    assert said in checked.err


async def test_check_lets_one_mirror_write_to_a_layout(desk: Desk) -> None:
    """Two mirrors of one configuration that write to one layout are refused, as at registries; so is a loop."""
    desk.configure(
        "targets:\n  backup: {kind: image, to: 'oci:/srv/backup'}\n"
        "mirrors:\n"
        "- {name: m, kind: image, from: {layouts: /var/builds}, to: backup}\n"
        "- {name: n, kind: image, as: m, from: {layout: /srv/x}, to: backup}\n"
        "- {name: o, kind: image, from: {layout: /srv/backup/o}, to: backup}\n"
    )
    checked = await desk.run("check")
    assert checked.status == 78
    assert "target 'backup' is /srv/backup/m, written by mirror 'm' ('backup')" in checked.err
    assert "mirrors itself: 'o' copies /srv/backup/o to /srv/backup/o" in checked.err
