"""`verify` of Git: refs at hosts, objects here; what somebody deleted, moved or damaged is found, and comes back."""

from __future__ import annotations

from pathlib import Path

from mirrord.model.run import Result
from mirrord.model.verification import Level
from mirrord.testing import require
from mirrord.testing.githost import GitHost
from mirrord.testing.gitrepos import Upstream
from tests.support.gitcontent import lfs_pointer
from tests.support.lfshost import LfsHost
from tests.support.verifying import at, codes, opened

CONFIGURATION = """\
targets: {{there: {{kind: git, to: "{there}"}}}}
mirrors: [{{name: app, kind: git, from: "{source}", to: [there, local]}}]
"""
MAIN, DEV = "refs/heads/main", "refs/heads/dev"


async def test_refs_and_objects_are_found_and_come_back(tmp_path: Path) -> None:
    """A deleted ref, a moved one, and a damaged object of ours; a host is asked once and says no more than its refs."""
    require("git")
    async with GitHost(tmp_path / "git") as host:
        upstream, there = Upstream(host.create("app.git")), Upstream(host.create("there.git"))
        first = upstream.commit("main", {"a": b"a" * 100})
        upstream.commit("dev", {"b": b"b"}, parent=first)
        text = CONFIGURATION.format(source=host.url("app.git"), there=host.url("there.git"))
        async with opened(tmp_path, text) as one:
            assert codes(await one.verify()) == [("local", "", "unrecorded"), ("there", "", "unrecorded")]
            assert (await one.sync()).result is Result.SUCCESS
            found = await one.verify(Level.DEEP)
            assert (found.drift, found.unknown, [target.checked for target in found.targets]) == (0, 0, [2, 2])
            assert (at(found, "there").level, at(found, "local").level) == (Level.NAMES, Level.DEEP)
            there.delete(DEV)
            other = there.commit("main", {"a": b"other"}, parent=first)
            assert codes(await one.verify()) == [("there", DEV, "missing"), ("there", MAIN, "moved")]
            found = await one.verify(repair=True)
            assert (found.repaired, codes(found)) == (2, []), found
            assert host.refs("there.git") == upstream.refs() != {MAIN: other}
            packs = list((tmp_path / "state" / "git" / "app.git" / "objects").glob("pack/*.pack"))
            loose = [file for file in (tmp_path / "state/git/app.git/objects").glob("??/*") if file.is_file()]
            for file in packs or loose[:1]:
                data = bytearray(file.read_bytes())
                data[len(data) // 2] ^= 255
                file.chmod(0o644)
                file.write_bytes(data)
            assert {(target, code) for target, _, code in codes(await one.verify(Level.DEEP))} == {("local", "blob")}
            found = await one.verify(Level.DEEP, repair=True)
            assert (found.repaired, codes(found)) == (1, []), found
            await host.stop()
            found = await one.verify()
            assert (found.drift, at(found, "there").unknown, at(found, "local").equal) == (0, 2, True)


async def test_lfs_objects_are_found_and_come_back(tmp_path: Path) -> None:
    """What an LFS server lost, and what is lost here: asked for in batches by `deep`, and only that is sent again."""
    require("git")
    async with LfsHost(tmp_path / "git") as host:
        upstream = Upstream(host.create("app.git"))
        host.create("there.git")
        data = [f"object {number}".encode() * 20 for number in range(120)]
        files = {f"{number}.bin": lfs_pointer(one) for number, one in enumerate(data)}
        upstream.commit("main", {".gitattributes": b"*.bin filter=lfs\n", **files})
        oids = [host.put("app.git", one) for one in data]
        text = CONFIGURATION.format(source=host.url("app.git"), there=host.url("there.git"))
        async with opened(tmp_path, text) as one:
            assert (await one.sync()).result is Result.SUCCESS
            before = len(host.asked)
            assert codes(await one.verify()) == []
            assert len(host.asked) == before
            assert codes(await one.verify(Level.DEEP)) == []
            assert [(operation, len(ids)) for operation, ids in host.asked[before:]] == [
                ("download", 100),
                ("download", 20),
            ]
            del host.objects["there.git", oids[7]]
            kept = tmp_path / "state" / "git" / "app.git" / "lfs" / "objects"
            next(kept.rglob(oids[8])).unlink()
            found = await one.verify(Level.DEEP)
            assert codes(found) == [("local", MAIN, "blob"), ("there", MAIN, "blob")]
            told = {finding.digest for target in found.targets for finding in target.findings}
            assert told == {f"sha256:{oid}" for oid in oids[7:9]}
            sent = [path for method, path, _ in host.requests if method in ("PUT", "GET")]
            found = await one.verify(Level.DEEP, repair=True)
            assert (found.repaired, codes(found)) == (2, []), found
            again = [(method, path) for method, path, _ in host.requests if method in ("PUT", "GET")][len(sent) :]
            assert sorted((method, path.rpartition("/")[2]) for method, path in again) == [
                ("GET", oids[8]),
                ("PUT", oids[7]),
            ]
            host.faults.on("POST", "there.git/info/lfs/objects/batch", times=None).status(403)
            found = await one.verify(Level.DEEP)
            assert (found.drift, at(found, "there").unknown, at(found, "local").equal) == (0, 1, True)


async def test_another_replica_has_the_copy(tmp_path: Path) -> None:
    """Where runs accepted other refs than the copy here has, another replica has it: unknown, and nothing differs."""
    require("git")
    async with GitHost(tmp_path / "git") as host:
        upstream, there = Upstream(host.create("app.git")), Upstream(host.create("there.git"))
        upstream.commit("main", {"a": b"a"})
        text = CONFIGURATION.format(source=host.url("app.git"), there=host.url("there.git"))
        async with opened(tmp_path, text) as one:
            assert (await one.sync()).result is Result.SUCCESS
            await one.dispatcher.runtime.store.note("app", "git", {"refs that the other one accepted": "1"})
            there.commit("main", {"a": b"newer"})
            found = await one.verify()
            assert (found.drift, codes(found)) == (0, [("local", "", "unrecorded"), ("there", "", "unrecorded")])
