"""Commands beside a running daemon: they ask it, over the control socket in the state directory."""

from __future__ import annotations

import asyncio
import signal

import pytest

from mirrord.testing import Registry, build_image, push
from tests.support.auth import Auth
from tests.support.commands import Desk
from tests.support.layouts import write_layout

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def configured(desk: Desk, source: Registry, target: Registry) -> None:
    desk.configure(
        "settings: {listen: '127.0.0.1:0'}\n"
        f"targets: {{one: {{kind: image, to: {target.host}/mirror}}}}\n"
        f"mirrors: [{{name: app, kind: image, from: {{repository: {source.host}/a, tags: [v1]}}, to: [one, local]}}]\n"
    )


async def test_commands_reach_the_daemon(desk: Desk) -> None:
    """`plan`, `sync`, `publish`, `status` and `healthcheck` are answered by the daemon, even without configuration."""
    image = build_image(layer_size=50_000)
    write_layout(image, desk.folder / "build")
    async with Registry() as source, Registry() as target:
        await push(image, source, "a", ["v1"])
        configured(desk, source, target)
        async with desk.serving() as daemon:
            (desk.folder / "conf.d").rename(desk.folder / "gone")
            planned = await desk.run("plan", "--json")
            assert [step["names"] for step in planned.document["plans"][0]["steps"]] == [["v1"], ["v1"]]
            assert target.select("PUT|POST|PATCH", "") == []
            synced = await desk.run("sync")
            assert (synced.status, synced.err) == (0, "")
            assert sorted(line.split()[:4:3] for line in synced.out.splitlines()[2:]) == [
                *(["local", "done"], ["one", "done"])
            ]
            named = ("--layout", str(desk.folder / "build"), "--branch", "main", "--commit", COMMIT)
            published = await desk.run("publish", "app", *named)
            assert published.status == 0, published
            assert sorted(target.tags["mirror/app"]) == ["main", "main-0123456", "v1"]
            status = await desk.run("status", "--json")
            assert (status.document["state"], status.document["mirrors"][0]["result"]) == ("ready", "success")
            assert (await desk.run("healthcheck", "--listen", daemon.address)).status == 0
            unknown = await desk.run("sync", "nobody")
            assert (unknown.status, unknown.out) == (64, "")
            assert [line["trigger"] for line in daemon.lines if line["event"] == "run.finished"] == [
                "command",
                "publish",
            ]


async def test_another_configuration_than_the_daemon_s(desk: Desk) -> None:
    """Beside a daemon `--config` must name the folder that the daemon reads; nothing runs with another."""
    async with Registry() as source, Registry() as target:
        await push(build_image(layer_size=50_000), source, "a", ["v1"])
        configured(desk, source, target)
        other = desk.folder / "o.d"
        other.mkdir()
        (other / "a.yaml").write_text("mirrors: []\n")
        (desk.folder / "link").symlink_to("conf.d")
        async with desk.serving():
            for command in ("status", "plan", "sync"):
                refused = await desk.run(command, "-c", "o.d")
                reads = f"reads the configuration in {desk.folder}/conf.d, not in {desk.folder}/o.d"
                assert (refused.status, refused.out) == (64, "")
                assert refused.err == (
                    f"mirrord: the process that holds this state {reads}; leave --config out, or give another --state\n"
                )
                absent = await desk.run(command, "-c", "nodir")
                assert (absent.status, absent.out) == (78, "")
                assert absent.err == "nodir: does not exist; make it, or give another folder with --config\n"
            assert target.select("PUT|POST|PATCH", "") == []
            for same in ("conf.d", "link", str(desk.folder / "conf.d")):
                assert (await desk.run("status", "-c", same)).status == 0


async def test_wrong_usage_reaches_the_user(desk: Desk) -> None:
    """What the daemon refuses has the same exit code and the same words as without it; a busy address is 75."""
    async with Registry() as source, Registry() as target:
        configured(desk, source, target)
        alone = await desk.run("publish", "app", "--image", "A/b", "--pr", "7", "--commit", COMMIT)
        async with desk.serving() as daemon:
            asked = await desk.run("publish", "app", "--image", "A/b", "--pr", "7", "--commit", COMMIT)
            taken = await desk.run("serve", "--state", "other", "--listen", daemon.address)
            second = await desk.run("serve")
        assert (asked.status, asked.err) == (alone.status, alone.err)
        assert asked.status == 64
        assert taken.status == 75
        assert daemon.address in taken.err
        assert second.status == 75
        assert str(daemon.process.pid) in second.err


async def test_publish_from_another_folder(desk: Desk) -> None:
    """A relative path means the folder in which the command was typed, not the one in which the daemon runs."""
    image = build_image(layer_size=50_000)
    elsewhere = desk.folder / "ci"
    write_layout(image, elsewhere / "build")
    async with Registry() as source, Registry() as target:
        configured(desk, source, target)
        async with desk.serving():
            named = ("--layout", "build", "--branch", "main", "--commit", COMMIT)
            said = await Desk(elsewhere).run("publish", "app", *named, "--state", desk.folder / "state")
        assert said.status == 0, said
        assert target.tags["mirror/app"]["main"] == image.digest


async def test_reload_takes_new_credentials(desk: Desk) -> None:
    """What `hosts:` says after a reload counts for the next run."""
    async with Registry(auth=Auth(basic=("robot", "correct horse"))) as source, Registry() as target:
        await push(build_image(layer_size=50_000), source, "a", ["v1"])
        configured(desk, source, target)
        async with desk.serving(REGISTRY_TOKEN="correct horse") as daemon:
            assert (await desk.run("sync")).status != 0
            auth = "{username: robot, password: {env: REGISTRY_TOKEN}}"
            desk.configure(f"hosts: {{'{source.host}': {{auth: {auth}}}}}\n", "b.yaml")
            daemon.process.send_signal(signal.SIGHUP)
            await daemon.logged("reload.done")
            said = await desk.run("sync")
            assert said.status == 0, said
            assert "v1" in target.tags["mirror/app"]


async def test_reload_by_command(desk: Desk) -> None:
    """`mirrord reload` ends when the new configuration is in force, or says what is wrong; it needs a daemon."""
    async with Registry() as source, Registry() as target:
        configured(desk, source, target)
        async with desk.serving():
            wrong = desk.configure("mirorrs: []\n", "b.yaml")
            refused = await desk.run("reload")
            assert (refused.status, "b.yaml:1" in refused.err) == (78, True)
            assert refused.err.splitlines()[-1] == "mirrord: refused; the old configuration stays in use"
            wrong.write_text(
                f"mirrors: [{{name: new, kind: image, from: {{repository: {source.host}/b}}, to: local}}]\n"
            )
            early = await desk.run("sync", "new", "app")
            assert (early.status, early.out) == (64, "")
            assert early.err.startswith("mirrord: new is new: the daemon has not read the configuration since ")
            assert early.err.endswith(" UTC; run `mirrord reload`\n")
            taken = await desk.run("reload", "--json")
            nothing: dict[str, object] = {key: [] for key in ("removed", "changed", "taken", "waiting", "notices")}
            assert (taken.status, taken.document) == (0, {"reloaded": True, "added": ["new"], **nothing})
            names = [mirror["name"] for mirror in (await desk.run("status", "--json")).document["mirrors"]]
            assert names == ["app", "new"]
            wrong.write_text("settings: {parallel: 9, log: {level: debug}}\nhosts: {h.example: {requests: 2}}\n")
            told = (await desk.run("reload")).out.splitlines()
            assert told == [
                "the configuration is in use",
                "removed: new",
                "applied: hosts, settings.parallel",
                "settings.log changed; restart the daemon to apply it",
                (
                    "conf.d/b.yaml:2: hosts.h.example: no mirror and no target names this host;"
                    " it applies only where another host redirects to it"
                ),
            ]
        desk.configure("mirorrs: []\n", "b.yaml")  # what is configured is not even read then
        alone = await desk.run("reload")
        assert alone.status == 64
        assert alone.err.startswith("mirrord: state: no daemon holds this state directory; ")
        assert alone.err.endswith("; if a daemon runs, name its directory with --state\n")


async def test_two_commands_at_once(desk: Desk) -> None:
    """While a command holds the state, a second one ends with 75 and names it, but for `status`; then it can."""
    async with Registry() as source, Registry() as target:
        await push(build_image(), source, "a", ["v1"])
        configured(desk, source, target)
        gate = source.faults.on("GET", "/blobs/", times=None).hold()
        async with desk.started("sync") as first:
            await gate.reached.wait()
            assert (await desk.run("status")).status == 0
            for command in ("sync", "plan"):
                busy = await desk.run(command)
                assert busy.status == 75, busy
                assert str(first.pid) in busy.err
            source.faults.clear()
            await first.communicate()
            assert first.returncode == 0
        assert (await desk.run("sync")).status == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_signals(desk: Desk, number: signal.Signals, status: int) -> None:
    """Ctrl-C, `kill` and a closed terminal end a command, publish nothing by halves, and the next one goes on."""
    async with Registry() as source, Registry() as target:
        await push(build_image(), source, "a", ["v1"])
        configured(desk, source, target)
        gate = source.faults.on("GET", "/blobs/", times=None).stall(after=100)
        async with desk.started("sync") as first:
            await gate.reached.wait()
            first.send_signal(number)
            out, err = await asyncio.wait_for(first.communicate(), 60)
            assert first.returncode == status, (out, err)
            assert b"Traceback" not in err
        assert target.tags == {}
        assert target.content.dangling() == []
        source.faults.clear()
        assert (await desk.run("sync")).status == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_copy_that_is_ended_leaves_nothing_here(desk: Desk, number: signal.Signals, status: int) -> None:
    """What was on its way is in no temporary folder any more."""
    async with Registry() as source, Registry() as target:
        await push(build_image(), source, "a", ["v1"])
        gate = source.faults.on("GET", "/blobs/", times=None).stall(after=100)
        async with desk.started("copy", f"{source.host}/a:v1", f"{target.host}/b:v1") as first:
            await gate.reached.wait()
            assert list(desk.temporary.iterdir()) != []
            first.send_signal(number)
            out, err = await asyncio.wait_for(first.communicate(), 60)
            assert first.returncode == status, (out, err)
        assert list(desk.temporary.iterdir()) == []
        assert target.tags == {}
