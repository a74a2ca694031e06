"""`settings.tls` in a running daemon, with real clients and the commands that ask it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mirrord.testing import Registry, build_image, push
from mirrord.testing.running import run
from tests.support.commands import Desk
from tests.support.tls import Authority


def configured(desk: Desk, source: Registry, certificate: Path, key: Path) -> None:
    desk.configure(
        f"settings:\n  listen: '127.0.0.1:0'\n  tls: {{certificate: {certificate}, key: {key}}}\n"
        f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: local}}]\n"
    )


async def test_an_image_over_tls(desk: Desk) -> None:
    """Skopeo pulls from the daemon's own port with a trusted certificate; `healthcheck` and `status` know of TLS."""
    image, authority = build_image(["linux/amd64"]), Authority(desk.folder)
    certificate, key = authority.pair("127.0.0.1")
    async with Registry() as source:
        await push(image, source, "a", ["v1"])
        configured(desk, source, certificate, key)
        async with desk.serving() as daemon:
            assert (await desk.run("sync")).status == 0
            trusted = desk.folder / "certs.d"
            trusted.mkdir()
            shutil.copy(authority.ca, trusted / "ca.crt")
            words = ("--src-cert-dir", trusted, f"docker://{daemon.address}/app:v1", f"oci:{desk.folder}/out:v1")
            copied = await run("skopeo", "copy", "--preserve-digests", *words)
            assert copied.status == 0, copied.output
            assert image.digest in (desk.folder / "out" / "index.json").read_text()
            assert (await desk.run("healthcheck", "--listen", daemon.address)).status == 0
            status = (await desk.run("status", "--json")).document
            assert status["mirrors"][0]["address"] == f"{daemon.address}/app"
            assert status["certificate_error"] == ""


async def test_check_reads_the_pair(desk: Desk) -> None:
    """`check` names a pair that does not belong together; a lacking key, or an end near, is a notice."""
    authority = Authority(desk.folder)
    certificate, key = authority.pair("a.example")
    other = authority.pair("b.example")[1]
    async with Registry() as source:
        configured(desk, source, certificate, other)
        wrong = await desk.run("check")
        assert wrong.status == 78
        assert f"a.yaml:3: settings.tls.certificate: {certificate} and {other} do not belong together" in wrong.err
        other.unlink()
        absent = await desk.run("check")
        assert (absent.status, f"settings.tls.key: {other} " in absent.err) == (0, True)
        refused = await desk.run("serve", "--state", "other")
        assert (refused.status, f"settings.tls.key: {other} " in refused.err) == (78, True)
        configured(desk, source, certificate, key)
        assert (await desk.run("check")).err == ""
        soon = datetime.now(UTC) + timedelta(days=3)
        certificate, key = authority.pair("soon.example", not_after=soon)
        configured(desk, source, certificate, key)
        expiring = await desk.run("check")
        assert (expiring.status, "the certificate expires on" in expiring.err) == (0, True)
        certificate.unlink()
        assert (await desk.run("check")).status == 0
