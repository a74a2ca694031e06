"""The front under the shipped unit: a cache in its state, and TLS with a key that a group may read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mirrord.testing import Registry, build_image, push
from mirrord.testing.ports import free_port
from mirrord.testing.running import run
from mirrord.testing.servers import require
from tests.support.booted import Machine
from tests.support.frontdesk import ALIAS, configuration
from tests.support.tls import Authority

KEY = "/etc/ssl/private/mirror.key"
GROUP = 1700


def certify(machine: Machine, authority: Authority) -> None:
    """Lay down a certificate and its key as Debian's package ssl-cert does: the key is for root and a group."""
    certificate, key = authority.pair("127.0.0.1")
    machine.write("etc/group", f"root:x:0:\nssl-cert:x:{GROUP}:\nnogroup:x:65534:\n")
    machine.write("etc/ssl/mirror.pem", certificate.read_text())
    file = machine.write(KEY.lstrip("/"), key.read_text(), mode=0o640)
    file.parent.chmod(0o710)
    for path in (file, file.parent):
        os.chown(path, 0, GROUP)


async def test_a_front_with_tls(machine: Machine, tmp_path: Path) -> None:
    """With the key's group a client pulls through the unit; what was cached is there after a restart."""
    require("skopeo")
    authority, port = Authority(tmp_path), free_port()
    certify(machine, authority)
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    shutil.copy(authority.ca, trusted / "ca.crt")
    pull = ("skopeo", "copy", "--all", "--src-cert-dir", trusted, f"docker://127.0.0.1:{port}/{ALIAS}/team/app:v1")
    async with Registry() as upstream:
        await push(build_image(), upstream, "team/app", ["v1"])
        pair = f'"certificate": "/etc/ssl/mirror.pem", "key": "{KEY}"'
        front = configuration(upstream.host, "mirrors: []\n")
        machine.configure(front.replace('127.0.0.1:0"', f'127.0.0.1:{port}", "tls": {{{pair}}}'))
        assert (await machine.systemctl("start", "mirrord")).status == 1
        assert f"settings.tls.key: {KEY} cannot be read (Permission denied)" in await machine.journal()
        machine.drop_in("tls", "SupplementaryGroups=ssl-cert")
        assert (await machine.systemctl("daemon-reload")).status == 0
        assert (await machine.systemctl("start", "mirrord")).status == 0, await machine.journal()
        pulled = await run(*pull, f"dir:{tmp_path}/first")
        assert pulled.status == 0, pulled.output
        read = upstream.count("GET", "/blobs/|/manifests/")
        assert read >= 3
        assert (await machine.systemctl("restart", "mirrord")).status == 0
        again = await run(*pull, f"dir:{tmp_path}/again")
        assert again.status == 0, again.output
        assert upstream.count("GET", "/blobs/|/manifests/") == read
    kept = machine.tree / "var/lib/private/mirrord/cache/image/blobs"
    assert sum(file.is_file() for file in kept.rglob("*")) == read
