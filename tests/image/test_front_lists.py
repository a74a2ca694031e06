"""The lists of `front.image` in use: read again when they change, and never lost by a mistake."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from mirrord.config.files import read_file
from mirrord.events import Event, Events, ListRead
from mirrord.model.origin import ConfigOrigin
from mirrord.names.book import NameBook
from mirrord.syncer.values import FrontRules
from mirrord.syncers.image.spec.front import FrontKeys
from mirrord.syncers.image.upstream.allow_file import FrontLists, ListsInUse
from mirrord.wire.oci.reference import Reference

NAMES = NameBook({"k8s.gcr.io": "registry.k8s.io", "hub.example": "docker.io", "old.example": "docker.io/library"})
DIGEST = f"sha256:{'ab' * 32}"


class Scene:
    """A list file, a clock, and what was reported."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "allows.txt"
        self.now = 0.0
        self.heard: list[ListRead] = []
        events = Events()
        events.listen(self._hear)
        self._events, self.kept = events, folder / "state" / "front" / "image" / "allow.json"
        self.start()
        self.front = self.rules()

    def start(self) -> None:
        """Begin as a process does that starts."""
        self.lists = ListsInUse(self._events, self.kept, clock=lambda: self.now)

    def _hear(self, event: Event) -> None:
        if isinstance(event, ListRead):
            self.heard.append(event._replace(file=Path(event.file).name))

    def rules(self, **keys: object) -> FrontRules:
        """Return the rules of a configuration beside the file, by default with it."""
        whole = {"upstreams": ["docker.io", "registry.k8s.io", "ghcr.io"], "allow": "allows.txt", **keys}
        model = FrontKeys.model_validate(whole)
        return FrontRules(model, model.hosts(), ConfigOrigin(str(self.file.with_name("main.yaml")), 1))

    def write(self, *lines: str) -> None:
        """Replace the file."""
        self.file.write_text("".join(f"{line}\n" for line in lines))

    async def later(self) -> FrontLists:
        """Return the lists a second later."""
        self.now += 1.0
        return await self.lists.current(self.front, NAMES)


def allowed(lists: FrontLists, *names: str) -> list[str]:
    """Return which line allows each name, without the folder."""
    return [Path(lists.allowed_by(Reference.parse(name))).name for name in names]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_a_list_is_read_again_when_it_changes(scene: Scene) -> None:
    """A changed file counts a second later at the latest; an unchanged one is not read again."""
    scene.write("# ours", "docker.io/library/*", "registry.k8s.io/**", "ghcr.io/a/b")
    names = ("nginx:1.27", f"ghcr.io/a/b@{DIGEST}", "registry.k8s.io/x/y/z", "ghcr.io/a/c", "quay.io/a/b")
    lists = await scene.later()
    assert allowed(lists, *names) == ["allows.txt:2", "allows.txt:4", "allows.txt:3", "", ""]
    assert (await scene.later()) is lists
    scene.write("ghcr.io/a/c")
    assert (await scene.lists.current(scene.front, NAMES)) is lists  # within the second
    assert allowed(await scene.later(), *names) == ["", "", "", "allows.txt:1", ""]
    assert scene.heard == [ListRead("allows.txt", 3), ListRead("allows.txt", 1)]


async def test_a_bad_list_is_refused(scene: Scene) -> None:
    """A bad, empty, unreadable or vanished list is refused and reported once; the one before it stays until then."""
    scene.write("docker.io/library/*")
    await scene.later()
    told = []
    for break_it in (
        lambda: scene.write("docker.io/library/*", "docker.io/a:b", *(f"x y{number}" for number in range(7))),
        lambda: scene.write("# nothing"),
        lambda: scene.file.write_bytes(b"docker.io/\xff\n"),
        scene.file.unlink,
    ):
        break_it()
        for _ in range(3):
            assert allowed(await scene.later(), "nginx") == ["allows.txt:1"]
        assert [*scene.lists.errors] == [str(scene.file)]
        told.append(scene.heard[-1].error.replace(f"{scene.file.parent}/", ""))
    first = (
        "allows.txt:2: a line names a repository without tag or digest; write docker.io/library/a;"
        " allows.txt:3: a blank stands"
    )
    assert told[0].startswith(first)
    assert told[0].endswith("; and 3 more")
    assert told[1:] == [
        "allows.txt: allows nothing; write one repository a line",
        "allows.txt:1: is not UTF-8 (byte 10); save it as UTF-8",
        "allows.txt: does not exist; make it, or correct the path",
    ]
    assert len(scene.heard) == 5
    scene.write("ghcr.io/a/b")
    assert allowed(await scene.later(), "nginx", "ghcr.io/a/b") == ["", "allows.txt:1"]
    assert (scene.heard[-1], scene.lists.errors) == (ListRead("allows.txt", 1), {})


async def test_without_a_good_list_nothing_is_allowed(scene: Scene) -> None:
    """A list that was never good allows nothing, and the lists say that there is none."""
    lists = await scene.later()
    assert allowed(lists, "nginx") == [""]
    missing = "does not exist; make it, or correct the path"
    assert [event.error.partition(": ")[2] for event in scene.heard] == [missing]
    assert (lists.unusable, scene.lists.missing, scene.kept.exists()) == (f"{scene.file}: {missing}", True, False)
    scene.write("docker.io/library/*")
    lists = await scene.later()
    assert (allowed(lists, "nginx"), lists.unusable, scene.lists.missing) == (["allows.txt:1"], "", False)


async def test_a_restart_with_a_bad_list_keeps_what_was_allowed(scene: Scene) -> None:
    """The last good list is in use after a start while its file is wrong, without wildcards for our credentials."""
    scene.write("# ours", "docker.io/library/*", "k8s.gcr.io/**", "ghcr.io/a/b", "127.0.0.1:5000/team/*")
    before = [entry.text for entry in (await scene.later()).allow.entries()]
    scene.write("ghcr.io/a/b:v1")
    await scene.later()
    names = ("nginx", "registry.k8s.io/pause", "ghcr.io/a/b", "ghcr.io/a/c")
    for _ in range(2):
        scene.start()
        lists = await scene.later()
        assert allowed(lists, *names) == ["allows.txt:2", "allows.txt:3", "allows.txt:4", ""]
        assert [entry.text for entry in lists.allow.entries()] == before
        assert (scene.lists.missing, lists.unusable) == (False, "")
        assert (scene.heard[-1].lines, scene.heard[-1].error.rpartition("/allows.txt")[2][:3]) == (4, ":1:")
    scene.start()
    scene.front = scene.rules(upstreams=["docker.io", {"registry.k8s.io": {"credentials": True}}])
    assert allowed(await scene.later(), *names[:2]) == ["allows.txt:2", ""]
    scene.front = scene.rules(allow=["ghcr.io/a/*"])
    await scene.later()
    scene.front = scene.rules()
    scene.start()
    assert allowed(await scene.later(), "ghcr.io/a/c", "nginx") == ["front.image.allow[0]", ""]


async def test_a_kept_list_that_is_damaged(scene: Scene) -> None:
    """A kept list that says nothing is no list; the error names it beside the file. The next good list replaces it."""
    scene.kept.parent.mkdir(parents=True)
    for text in ('{"file": "", "lines": [[1]]}', "[]", "{", '{"file": "", "lines": [[1, "a b"]]}'):
        scene.kept.write_text(text)
        scene.start()
        assert allowed(await scene.later(), "nginx") == [""]
        assert scene.lists.missing
        assert f"; {scene.kept}: is damaged" in scene.lists.errors[str(scene.file)]
    scene.write("docker.io/library/*")
    await scene.later()
    scene.write("a b")
    scene.start()
    assert allowed(await scene.later(), "nginx") == ["allows.txt:1"]


async def test_a_list_that_cannot_be_kept(scene: Scene) -> None:
    """A disk that refuses the copy is reported; the list is in use."""
    scene.kept.parent.parent.parent.mkdir(parents=True, exist_ok=True)
    scene.kept.parent.parent.write_text("a file where the folder belongs")
    scene.write("docker.io/library/*")
    assert allowed(await scene.later(), "nginx") == ["allows.txt:1"]
    assert str(scene.kept) in scene.lists.keeping_error
    scene.kept.parent.parent.unlink()
    scene.write("docker.io/library/*", "ghcr.io/a/b")
    await scene.later()
    assert (scene.lists.keeping_error, scene.kept.exists()) == ("", True)


async def test_a_reload_with_a_bad_list_keeps_what_was_allowed(scene: Scene) -> None:
    """Another configuration counts at once; while its list is bad the one before stays, and `deny` is the new one."""
    scene.write("docker.io/**")
    await scene.later()
    scene.front = scene.rules(allow="missing.txt", deny=["docker.io/bad/**"])
    lists = await scene.lists.current(scene.front, NAMES)
    assert allowed(lists, "nginx") == ["allows.txt:1"]
    assert lists.denied_by(Reference.parse("bad/image:1")) == "front.image.deny[0]"
    assert [Path(file).name for file in scene.lists.errors] == ["missing.txt"]
    scene.front = scene.rules(allow=["ghcr.io/a/b", "docker.io/library/*"], cache={"pinned": ["k8s.gcr.io/pause"]})
    lists = await scene.lists.current(scene.front, NAMES)
    assert allowed(lists, "nginx", "ghcr.io/a/b", "a/b") == ["front.image.allow[1]", "front.image.allow[0]", ""]
    assert lists.pinned.line(Reference.parse("registry.k8s.io/pause:3.9")) is not None
    assert (lists.denied_by(Reference.parse("bad/image:1")), scene.lists.errors) == ("", {})


async def test_aliases_apply_to_lines(scene: Scene) -> None:
    """A line means what its registry is an alias of; a request is canonical by then."""
    scene.write("k8s.gcr.io/pause", "k8s.gcr.io/e2e/*", "hub.example/**", "old.example/*")
    lists = await scene.later()
    assert [entry.text for entry in lists.allow.entries()] == [
        *("registry.k8s.io/pause", "registry.k8s.io/e2e/*", "docker.io/**", "docker.io/library/*")
    ]


async def test_no_wildcard_where_our_credentials_are_used(scene: Scene) -> None:
    """A wildcard for an upstream that is read with our credentials refuses the list, behind an alias, too."""
    ours = [{"registry.k8s.io": {"credentials": True}}, "docker.io"]
    scene.front = scene.rules(upstreams=ours)
    scene.write("docker.io/**", "registry.k8s.io/pause")
    assert allowed(await scene.later(), "registry.k8s.io/pause", "nginx") == ["allows.txt:2", "allows.txt:1"]
    scene.write("docker.io/**", "registry.k8s.io/pause", "k8s.gcr.io/**")
    assert allowed(await scene.later(), "registry.k8s.io/other") == [""]
    wrong = "registry.k8s.io/** has a wildcard, and registry.k8s.io is read with our credentials; name each repository"
    assert wrong in scene.heard[-1].error
    scene.front = scene.rules(upstreams=ours, allow=["k8s.gcr.io/e2e/*"])
    assert allowed(await scene.lists.current(scene.front, NAMES), "registry.k8s.io/e2e/a") == [""]
    assert scene.heard[-1].error.startswith(f"{scene.front.place('front.image.allow[0]')}: registry.k8s.io/e2e/*")


@pytest.mark.parametrize("restarted", [False, True])
async def test_credentials_do_not_open_a_list_that_was_public(scene: Scene, restarted: bool) -> None:
    """Who begins to use our credentials, by a reload or a start, keeps of the list before what names a repository."""
    scene.write("docker.io/**", "ghcr.io/**", "ghcr.io/a/b")
    assert allowed(await scene.later(), "nginx", "ghcr.io/secret/app") == ["allows.txt:1", "allows.txt:2"]
    scene.front = scene.rules(upstreams=[{"ghcr.io": {"credentials": True}}, "docker.io"])
    if restarted:
        scene.start()
    for _ in range(2):
        names = ("nginx", "ghcr.io/secret/app", "ghcr.io/a/b")
        assert allowed(await scene.later(), *names) == ["allows.txt:1", "", "allows.txt:3"]
    assert "ghcr.io/** has a wildcard" in scene.lists.errors[str(scene.file)]


async def test_a_long_list_is_read_in_a_thread_once_for_all(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred callers cause one read of 100 000 lines, outside of the event loop; a lookup finds each line."""
    scene.write(*(f"ghcr.io/team{number}/app" for number in range(100_000)))
    in_the_loop: list[bool] = []

    def noted(path: Path, limit: int) -> tuple[bytes, int]:
        in_the_loop.append(threading.current_thread() is threading.main_thread())
        return read_file(path, limit)

    monkeypatch.setattr("mirrord.syncers.image.upstream.allow_file.read_file", noted)
    found = await asyncio.gather(*(scene.lists.current(scene.front, NAMES) for _ in range(200)))
    assert (in_the_loop, len({id(lists) for lists in found})) == ([False], 1)
    last = ["ghcr.io/team0/app", "ghcr.io/team99999/app:v1", "ghcr.io/team100000/app"]
    assert allowed(found[0], *last) == ["allows.txt:1", "allows.txt:100000", ""]
    assert scene.heard == [ListRead("allows.txt", 100_000)]


async def test_callers_do_not_wait_for_a_changed_list(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a changed list is read, others are answered by the one before it."""
    scene.write("docker.io/library/*")
    before = await scene.later()
    begun, gate = threading.Event(), threading.Event()

    def slow(path: Path, limit: int) -> tuple[bytes, int]:
        begun.set()
        assert gate.wait(30)
        return read_file(path, limit)

    monkeypatch.setattr("mirrord.syncers.image.upstream.allow_file.read_file", slow)
    scene.write("ghcr.io/a/b")
    scene.now += 1.0
    reading = asyncio.create_task(scene.lists.current(scene.front, NAMES))
    await asyncio.to_thread(begun.wait, 30)
    assert (await scene.lists.current(scene.front, NAMES)) is before
    gate.set()
    assert allowed(await reading, "ghcr.io/a/b") == ["allows.txt:1"]


async def test_a_file_that_is_replaced_is_seen(scene: Scene) -> None:
    """A rename over the list, as a ConfigMap and most editors do, counts even with the old time and size."""
    scene.write("ghcr.io/a/b")
    await scene.later()
    times = scene.file.stat()
    new = scene.file.with_name("new")
    new.write_text("ghcr.io/a/c\n")
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(scene.file)
    assert allowed(await scene.later(), "ghcr.io/a/c") == ["allows.txt:1"]
