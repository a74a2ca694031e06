"""`check`, `plan`, `sync`, `publish`, `status` and `healthcheck` as processes, by themselves (no daemon)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import groupby

import pytest

from mirrord.testing import Image, Registry, build_image, push
from tests.support.commands import Desk, Said
from tests.support.layouts import write_docker_archive, write_layout

Typed = Callable[..., Said]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def built(seed: str = "image") -> Image:
    return build_image(layer_size=50_000, seed=seed)


def configured(desk: Desk, source: Registry, **targets: str) -> None:
    """Write a mirror `app` of all tags `v*` to these targets and `local`."""
    written = "".join(f"  {name}: {{kind: image, to: {host}/mirror}}\n" for name, host in targets.items())
    names = ", ".join([*targets, "local"])
    desk.configure(
        f"targets:\n{written}mirrors:\n"
        f"  - {{name: app, kind: image, from: {{repository: {source.host}/team/app, tags: ['v*']}}, to: [{names}]}}\n"
    )


def one_line(said: Said, status: int) -> str:
    """Return what was said in one line on standard error, with nothing on the other."""
    assert said.status == status, said
    assert said.out == ""
    return said.err.removesuffix("\n")


GOOD = "  - {name: m, kind: image, from: {repository: 127.0.0.1:9/a}, to: [a]}\n"
TARGETS = "targets: {a: {kind: image, to: '127.0.0.1:9/b'}, b: {kind: image, to: '127.0.0.1:9/c'}}\nmirrors:\n"
WRONG = [
    ("67-unknown-key", TARGETS + GOOD.replace("to:", "publsh: each, to:"), "a.yaml:3: mirrors.m.publsh", "'publish'"),
    ("67-wrong-type", TARGETS + GOOD.replace("[a]", "{a: b}"), "a.yaml:3: mirrors.m.to", "list"),
    ("67-twice", TARGETS + GOOD + GOOD, "a.yaml:4: mirrors.m", "a.yaml:3"),
    ("67-same-target", TARGETS + GOOD.replace("[a]", "[a, a]"), "a.yaml:3: mirrors.m.to", "a"),
    ("67-itself", TARGETS + GOOD.replace(":9/a", ":9/b/m"), "a.yaml:3: mirrors.m", "127.0.0.1:9/b/m"),
    (
        "70-secret",
        "hosts: {h.example: {auth: {username: u, password: {env: VOID}}}}",
        "a.yaml:1: hosts",
        "VOID is empty",
    ),
    ("71-cron", TARGETS + GOOD.replace("to:", "cron: '61 * * * *', to:"), "a.yaml:3: mirrors.m.cron", "61"),
    ("71-zone", TARGETS + GOOD.replace("to:", "cron: '1 * * * *', timezone: Mars/Base, to:"), "a.yaml:3:", "Mars"),
]


@pytest.mark.parametrize("case", WRONG, ids=[name for name, *_ in WRONG])
def test_wrong_configuration(
    desk: Desk, typed: Typed, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str, str, str]
) -> None:
    """One line: file, line, key, what is wrong; exit code 78, and nothing is made (67, 70, 71)."""
    _, text, where, what = case
    desk.configure(text)
    monkeypatch.setenv("VOID", "")
    line = one_line(typed("check"), 78)
    assert line.count("\n") == 0, line
    assert line.startswith(f"conf.d/{where}"), line
    assert what in line
    assert not (desk.folder / "state").exists()


async def test_unreadable_configuration(desk: Desk) -> None:
    """Files that are none of ours are told of and skipped; what is no text is refused (68)."""
    desk.configure(TARGETS + GOOD)
    desk.configure("mirrors: [", "a.yaml~")
    said = await desk.run("check")
    assert said.status == 0
    assert "1 file, 1 mirror, no problem" in said.out
    (desk.folder / "conf.d" / "b.yaml").write_bytes(b"\xff\xfe")
    assert one_line(await desk.run("check"), 78).startswith("conf.d/b.yaml:1: ")
    desk.configure("mirorrs: []", "b.yaml")
    desk.configure(GOOD.replace("[a]", "[nowhere]").replace("  - ", "mirrors:\n  - ").replace(" m,", " n,"), "c.yaml")
    said = await desk.run("check")
    problems = said.err.splitlines()
    assert said.status == 78
    assert sorted(line.partition(":")[0] for line in problems) == ["conf.d/b.yaml", "conf.d/c.yaml"]
    listed = await desk.run("check", "--json")
    assert listed.status == 78
    assert listed.document == {"ok": False, "problems": problems, "notices": []}


@pytest.mark.parametrize("command", ["check", "plan", "sync", "status", "serve"])
def test_no_configuration(desk: Desk, typed: Typed, command: str) -> None:
    """Without configuration a command ends with 78, says where it looked, and leaves no state directory behind."""
    line = one_line(typed(command), 78)
    assert "conf.d" in line
    assert "--config" in line
    assert not (desk.folder / "state").exists()


def test_a_damaged_record_is_said_once(desk: Desk, typed: Typed) -> None:
    """A command that puts a damaged record aside says where to, beside its answer; the next one has nothing to say."""
    desk.configure(TARGETS + GOOD)
    state = desk.folder / "state"
    state.mkdir(mode=0o700)
    (state / "mirrord.db").write_text("garbage " * 1000)
    said = typed("status", "--json")
    (aside,) = state.glob("mirrord.db.corrupt-*")
    assert said.err == f"mirrord.db was damaged and a new one was created; the old one is state/{aside.name}\n"
    assert said.document["mirrors"][0]["result"] is None
    again = typed("status")
    assert (again.status, again.err) == (0, "")
    assert "no daemon" in again.out


async def test_plan_then_sync_then_status(desk: Desk) -> None:
    """What `plan` shows is what `sync` does; a second run has nothing to do; `status` knows; all of it as JSON too."""
    image = built()
    async with Registry() as source, Registry() as one, Registry() as two:
        await push(image, source, "team/app", ["v1", "v2", "other"])
        configured(desk, source, one=one.host, two=two.host)
        never = await desk.run("status", "--json")
        assert (never.status, never.document["mirrors"][0]["last_success"]) == (0, None)
        planned = await desk.run("plan", "--json")
        assert planned.status == 0
        steps = planned.document["plans"][0]["steps"]
        assert {(step["action"], step["target"], *step["names"]) for step in steps} == {
            ("copy", target, tag) for target in ("one", "two", "local") for tag in ("v1", "v2")
        }
        writes = [
            exchange for registry in (source, one, two) for exchange in registry.select("PUT|POST|PATCH|DELETE", "")
        ]
        assert writes == []
        assert not (desk.folder / "state" / "repositories").exists()
        synced = await desk.run("sync", "--json", "app")
        assert (synced.status, synced.err) == (0, "")
        done = synced.document["runs"][0]["receipts"]
        assert {(receipt["step"]["target"], *receipt["step"]["names"]) for receipt in done} == {
            (step["target"], *step["names"]) for step in steps
        }
        assert source.count("GET", "/blobs/") == len(image.blobs)
        again = await desk.run("sync")
        assert (again.status, again.err) == (0, "")
        assert again.out.startswith("app: noop in ")
        assert "6 up to date" in again.out
        assert again.out.count("\n") == 1
        verbose = (await desk.run("sync", "-v")).out.splitlines()
        assert [line.split()[:2] for line in verbose[2:]] == [
            [target, tag] for tag in ("v1", "v2") for target in ("one", "two", "local")
        ]
        assert all("  there  " in line and "recorded there" in line for line in verbose[2:])
        explained = await desk.run("plan", "--explain")
        assert explained.out.splitlines()[0] == "app (image): 0 to do, 6 up to date"
        assert sum("recorded there" in line for line in explained.out.splitlines()) == 6
        status = await desk.run("status")
        assert status.status == 0
        totals, note, head, *rows = status.out.splitlines()
        assert (totals, note.split(":")[0]) == ("1 mirror: 1 ok", "no daemon is running")
        assert head.split()[:3] == ["HEALTH", "MIRROR", "TARGET"]
        assert [line.split()[1:3] for line in rows] == [["app", name] for name in ("-", "one", "two", "local")]


async def test_quiet_lines_in_a_pipe(desk: Desk) -> None:
    """In a pipe each step is told once, in the table, without any control character; standard error stays empty."""
    async with Registry() as source, Registry() as one:
        await push(built(), source, "team/app", ["v1"])
        configured(desk, source, one=one.host)
        said = await desk.run("sync")
    assert said.err == ""
    assert "\x1b" not in said.out
    assert "\r" not in said.out
    head, *rows = said.out.splitlines()[1:]
    assert sorted(row.split()[:2] for row in rows) == [["local", "v1"], ["one", "v1"]]
    starts = [head.index(word) for word in ("NAMES", "DIGEST", "RESULT", "SENT", "TIME")]
    assert all(row[start - 1] == " " and row[start] != " " for row in rows for start in starts)


async def test_exit_codes_of_runs(desk: Desk) -> None:
    """1 when every target refuses, 2 when one does, 75 when the source wants us to come back; `status` is 1 then."""
    async with Registry() as source, Registry() as one:
        await push(built(), source, "team/app", ["v1"])
        configured(desk, source, one=one.host)
        desk.configure(
            f"mirrors: [{{name: alone, kind: image, from: {{repository: {source.host}/team/app:v1}}, to: one}}]",
            "b.yaml",
        )
        one.faults.on("*", "", times=None).status(403)
        partly = await desk.run("sync", "app")
        assert partly.status == 2
        assert "status 403" in partly.out
        failed = await desk.run("sync", "alone")
        assert failed.status == 1
        both = await desk.run("status")
        assert both.status == 1
        assert "alone: one: " in both.out
        one.faults.clear()
        source.faults.on("*", "", times=None).status(429, b"", {"Retry-After": "86400"})
        later = await desk.run("sync", "alone")
        assert later.status == 75, later
        assert "alone: deferred in " in later.out


async def test_nobody_reachable(desk: Desk, dead: str) -> None:
    """69 when the source cannot be reached; the error is in the run and in the record."""
    desk.configure(
        f"mirrors: [{{name: m, kind: image, from: {{repository: {dead}/a, tags: [v1]}}, to: local}}]\n",
    )
    said = await desk.run("sync")
    assert said.status == 69, said
    assert f"{dead}: no connection: Connection refused" in said.out
    status = await desk.run("status", "--json")
    assert status.status == 1
    assert status.document["mirrors"][0]["consecutive_failures"] == 1


def test_unknown_mirror(desk: Desk, typed: Typed) -> None:
    """A mirror that is not configured ends with 64 and a suggestion."""
    desk.configure(TARGETS + GOOD.replace(" m,", " craned,"))
    assert "did you mean craned?" in one_line(typed("sync", "crane"), 64)
    failed = typed("plan", "--json", "crane")
    assert failed.document["error"]["code"] == "usage"


async def test_a_wrong_name_starts_nothing(desk: Desk) -> None:
    """When one of the names is wrong, nothing is done for the right ones either."""
    async with Registry() as source, Registry() as one:
        await push(built(), source, "team/app", ["v1"])
        configured(desk, source, one=one.host)
        source.forget()
        said = await desk.run("sync", "app", "typo", "--json")
        assert (said.status, said.document["error"]["code"]) == (64, "usage")
        assert source.log == one.log == []
        assert (await desk.run("status", "--json")).document["mirrors"][0]["last_attempt"] is None


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "daemon"])
async def test_mirrors_take_turns(desk: Desk, daemon: bool) -> None:
    """Of all mirrors of one command, `settings.parallel` are worked on at once."""
    async with Registry() as source, Registry() as one, AsyncExitStack() as stack:
        mirrors = []
        for name in ("a", "b", "c"):
            await push(built(name), source, name, ["v1"])
            mirrors.append(f"{{name: {name}, kind: image, from: {{repository: '{source.host}/{name}:v1'}}, to: [o]}}")
        desk.configure(
            "settings: {parallel: 1, listen: '127.0.0.1:0'}\n"
            f"targets: {{o: {{kind: image, to: {one.host}/m}}}}\nmirrors: [{', '.join(mirrors)}]\n"
        )
        if daemon:
            await stack.enter_async_context(desk.serving())
        source.forget()
        assert (await desk.run("sync")).status == 0
    asked = [exchange.path.split("/")[2] for exchange in source.select("GET|HEAD", "/(manifests|blobs)/")]
    assert [name for name, _ in groupby(asked)] == ["a", "b", "c"]


def test_state_that_cannot_be_used(desk: Desk, typed: Typed) -> None:
    """74 when the state directory is no directory; the line names it and says what to do."""
    desk.configure(TARGETS + GOOD)
    (desk.folder / "file").touch()
    assert "--state" in one_line(typed("sync", "--state", "file"), 74)


async def test_publish(desk: Desk) -> None:
    """Builds of a branch and of a pull request, from a layout, an archive and a registry, get both their tags."""
    first, second = built("first"), built("second")
    write_layout(first, desk.folder / "build")
    write_docker_archive(built("third"), desk.folder / "a.tar", "team/app:x")
    async with Registry() as source, Registry() as one, Registry() as two:
        await push(second, source, "built", ["x"])
        configured(desk, source, one=one.host, two=two.host)
        said = await desk.run("publish", "app", "--layout", "build", "--branch", "feature/x", "--commit", COMMIT)
        assert said.status == 0, said
        said = await desk.run(
            "publish", "app", "--archive", "a.tar", "--pr", "7", "--describe", "v1.2-3-g0123abc", "--json"
        )
        assert said.status == 0
        assert {receipt["outcome"] for receipt in said.document["receipts"]} == {"done"}
        image = f"{source.host}/built:x"
        said = await desk.run("publish", "app", "--image", image, "--branch", "main", "--commit", COMMIT)
        assert said.status == 0
        tags = one.tags["mirror/app"]
        assert tags == two.tags["mirror/app"]
        assert tags["feature-x"] == tags["feature-x-0123456"] == first.digest
        assert tags["main"] == tags["main-0123456"] == second.digest
        assert tags["pr-7"] == tags["pr-7-v1.2-3-g0123abc"]
        assert len(tags) == 6
        assert one.content.dangling() == two.content.dangling() == []


NAMED = ("--branch", "main", "--commit", COMMIT)
UNFIT = [
    ("no-build", NAMED, "--layout, --archive, --image"),
    ("two-builds", ("--layout", "a", "--image", "b", *NAMED), "--layout, --archive, --image"),
    ("no-commit", ("--layout", "a", "--branch", "main"), "--commit and --describe"),
    ("two-commits", ("--layout", "a", *NAMED, "--describe", "v1"), "--commit and --describe"),
    ("no-branch", ("--layout", "a", "--commit", COMMIT), "--branch and --pr"),
    ("branch-and-pr", ("--layout", "a", *NAMED, "--pr", "7"), "--branch and --pr"),
    *(
        (
            f"commit-{text}",
            ("--layout", "a", "--branch", "main", "--commit", text),
            "7 to 64 hexadecimal digits; for oth",
        )
        for text in ("zzz", "123", "not a commit", "v1.2-3-gabcdef0", "a" * 65)
    ),
    ("reference", ("--image", "Team/App", *NAMED), "lower case"),
    ("branch-name", ("--layout", "a", "--branch", "/", "--commit", COMMIT), "no tag"),
]


@pytest.mark.parametrize("case", UNFIT, ids=[name for name, *_ in UNFIT])
def test_publish_with_unfit_options(desk: Desk, typed: Typed, case: tuple[str, tuple[str, ...], str]) -> None:
    """Options that do not fit together end with 64 and name those that do."""
    _, options, text = case
    desk.configure(TARGETS + GOOD)
    assert text in one_line(typed("publish", "m", *options), 64)


async def test_healthcheck(desk: Desk, dead: str) -> None:
    """1 when nobody answers, 64 for an address that is none; both in one line."""
    said = await desk.run("healthcheck", "--listen", dead)
    assert (said.status, said.err) == (
        1,
        f"{dead}: no daemon answers: Connection refused; if it listens elsewhere, use --listen\n",
    )
    assert "127.0.0.1:8080" in one_line(await desk.run("healthcheck", MIRRORD_LISTEN="bogus"), 64)
    said = await desk.run("healthcheck", "--listen", dead, "--json")
    assert (said.status, said.document["alive"], said.err) == (1, False, "")
    assert "Connection refused" in said.document["message"]
    async with Registry() as other:
        said = await desk.run("healthcheck", "--listen", other.host)
        wrong = f"{other.host}: something else than mirrord answers (status 404); name its address by --listen\n"
        assert (said.status, said.out, said.err) == (1, "", wrong)
