"""Who we are to Git hosts, where a credential helper knows it: a program is started once a host, not once a look."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path

from mirrord.model.run import Result
from mirrord.testing.gitrepos import Upstream
from mirrord.wire.dockerconfig import DockerKeyring
from mirrord.wire.host import HostBook
from tests.support.gitworld import open_git_world

NAME, USER, PASSWORD = "app.git", "crane", "h3lper-knows"
HELPER = """#!/bin/sh
read host
echo "$host" >> "{folder}/started"
printf '{{"Username":"{user}","Secret":"%s"}}' "$(cat {folder}/password)"
"""


class Helper:
    """A credential helper as docker starts it."""

    def __init__(self, folder: Path, password: str = PASSWORD) -> None:
        folder.mkdir()
        self.folder = folder
        self.tell(password)
        program = folder / "docker-credential-test"
        program.write_text(HELPER.format(folder=folder, user=USER))
        program.chmod(stat.S_IRWXU)
        (folder / "config.json").write_text(json.dumps({"credsStore": "test"}))
        self.book = HostBook(
            keyring=DockerKeyring({"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"})
        )

    def tell(self, password: str) -> None:
        (self.folder / "password").write_text(password)

    def starts(self) -> Counter[str]:
        """Count the starts by host, and forget them."""
        note = self.folder / "started"
        hosts = note.read_text().split() if note.exists() else []
        note.unlink(missing_ok=True)
        return Counter(hosts)


async def test_f4_a_helper_starts_once_for_each_host(tmp_path: Path) -> None:
    """A first run and one with nothing to do, of one source and two targets, start a helper once for each host."""
    helper = Helper(tmp_path / "helper")
    for run in ("first", "idle"):
        async with open_git_world(tmp_path / "world", book=HostBook(keyring=helper.book.keyring)) as world:
            source, one, two = [await world.host(name, user=(USER, PASSWORD)) for name in ("source", "one", "two")]
            if run == "first":
                upstream = Upstream(source.create(NAME))
                upstream.commit("main", {"README.md": b"one\n"})
                upstream.tag("v1", "main")
                one.create(NAME)
                two.create(NAME)
            mirror = world.mirror(source.url(NAME), one=one.url(NAME), two=two.url(NAME))
            done = await world.run(mirror)
            assert done.result is (Result.SUCCESS if run == "first" else Result.NOOP), done.receipts
            assert helper.starts() == Counter({host.host: 1 for host in (source, one, two)})


async def test_what_a_host_refuses_is_asked_for_anew(tmp_path: Path) -> None:
    """A password that was changed is taken by the next run; one that stays wrong starts no helper again and again."""
    helper = Helper(tmp_path / "helper", "old")
    async with open_git_world(tmp_path / "world", book=helper.book) as world:
        source, target = await world.host("source", user=(USER, PASSWORD)), await world.host("target")
        Upstream(source.create(NAME)).commit("main", {"README.md": b"one\n"})
        target.create(NAME)
        mirror = world.mirror(source.url(NAME), one=target.url(NAME))
        for _ in range(3):
            assert (await world.run(mirror)).result is Result.FAILED
        assert helper.starts()[source.host] == 2
    async with open_git_world(tmp_path / "world", book=HostBook(keyring=helper.book.keyring)) as world:
        source, target = await world.host("source", user=(USER, PASSWORD)), await world.host("target")
        mirror = world.mirror(source.url(NAME), one=target.url(NAME))
        assert (await world.run(mirror)).result is Result.FAILED
        helper.tell(PASSWORD)
        assert (await world.run(mirror)).result is Result.SUCCESS
