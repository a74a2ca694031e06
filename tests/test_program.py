"""Running programs: what they read and write, and that nothing of them is left, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
import termios
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mirrord import program
from mirrord.program import EndedFor, Invocation, run, started
from tests.support.processes import children, gone, group_of, open_files

ENV = {"PATH": os.environ.get("PATH", os.defpath)}
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def sh(script: str, **options: Any) -> Invocation:
    """Have the shell run a script."""
    return Invocation(("sh", "-c", script), ENV, **options)


@pytest.fixture(params=LOOPS)
def on_loop(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    """Run work on one sort of loop, and see that it leaves no descriptor and no child."""

    def play(work: Any) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(run(sh("exit 0")))  # what a loop and its threads open once
            before = open_files()
            others = children()
            result = runner.run(work)
            assert not program._ending
            assert open_files() <= before
        assert children() <= others, "a child was left behind"
        return result

    return play


@contextlib.asynccontextmanager
async def pids(folder: Path, count: int = 1) -> AsyncIterator[list[int]]:
    """Wait for the numbers that a script writes into files of its own, one each."""
    found = list[int]()
    yield found
    while len(found) < count:
        await asyncio.sleep(0.01)
        found[:] = [int(text) for path in folder.iterdir() if (text := path.read_text()).endswith("\n")]


def test_input_output_and_words(on_loop: Any) -> None:
    """Bytes go in, large and small, from memory and from a file; what comes out and what is said comes back."""

    async def work() -> None:
        for data in (b"", b"x", os.urandom(3 << 20)):
            ended = await run(Invocation(("cat",), ENV, stdin=data))
            assert ended == program.ProgramEnd(0, data)
        with tempfile.TemporaryFile() as file:
            file.write(b"filed")
            file.seek(0)
            assert (await run(Invocation(("cat",), ENV, stdin=file))).out == b"filed"
        said = bytearray()
        ended = await run(sh("echo out; echo words >&2; exit 3", on_error=said.extend))
        assert (ended.status, ended.out, bytes(said)) == (3, b"out\n", b"words\n")

    on_loop(work())


def test_the_environment_is_given(on_loop: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program gets the environment that is given and nothing of ours, its folder, and a session of its own."""
    monkeypatch.setenv("REGISTRY_TOKEN", "canary")
    ended = on_loop(run(Invocation(("env",), {**ENV, "A": "b"})))
    assert set(ended.out.splitlines()) == {f"PATH={ENV['PATH']}".encode(), b"A=b"}
    ended = on_loop(run(sh("pwd; ps -o sid= $$; echo $$", folder=tmp_path)))
    folder, session, leader = ended.out.split()
    assert (folder.decode(), int(session)) == (str(tmp_path), int(leader))


@pytest.mark.parametrize("argv", [("no-such-program",), ("/etc",), ("sh", "-c", "a\0b")], ids=["none", "folder", "nul"])
def test_what_cannot_be_started(on_loop: Any, argv: tuple[str, ...]) -> None:
    """A program that is not there, or that the system refuses, is an `OSError` of whoever wanted it."""

    async def work() -> None:
        with pytest.raises(OSError, match=r".+"):
            await run(Invocation(argv, ENV))

    on_loop(work())


def test_too_much_output(on_loop: Any) -> None:
    """Output has a limit, to the byte; whoever writes more is ended, with all of its helpers."""

    async def work() -> None:
        assert (await run(sh("head -c 1000 /dev/zero"), limit=1000)).ended_for is None
        ended = await run(sh("cat /dev/zero | cat"), limit=100_000)
        assert (len(ended.out), ended.ended_for, ended.status) == (100_000, EndedFor.OUTPUT, -signal.SIGTERM)

    on_loop(work())


def test_a_longest_file(on_loop: Any, tmp_path: Path) -> None:
    """Whoever writes a longer file than allowed is ended by the system."""
    wait = "while ! grep -q 'file size *1000 ' /proc/$$/limits; do sleep 0.01; done"  # it holds soon, not at once
    ended = on_loop(run(sh(f"{wait}; head -c 100000 /dev/zero > large", folder=tmp_path, largest=1000)))
    assert ended.status
    assert (tmp_path / "large").stat().st_size <= 1000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


@pytest.mark.parametrize("graceful", [True, False])
def test_f40_cancelled(on_loop: Any, tmp_path: Path, graceful: bool) -> None:
    """Fault 40: cancelled, once and again, a program and its helpers are gone and reaped when the caller goes on."""
    script = "echo $$ > a; sh -c 'echo $$ > b; exec sleep 600' & sleep 600"

    async def work() -> int:
        async with pids(tmp_path, 2) as found:
            running = asyncio.create_task(run(sh(script, folder=tmp_path, grace=3 if graceful else 0)))
        leader = os.getpgid(found[0])
        while len(group_of(leader)) < 3:  # noqa: ASYNC110 - others start it
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return leader

    leader = on_loop(work())
    assert gone(leader)
    with pytest.raises(ProcessLookupError):
        os.kill(leader, 0)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the numbers of all programs, as soon as they run."""
    found, start = list[int](), program._start

    def noted(invocation: Invocation) -> Any:
        process = start(invocation)
        found.append(process.pid)
        return process

    monkeypatch.setattr(program, "_start", noted)
    return found


def test_cancelled_while_it_starts(on_loop: Any, begun: list[int]) -> None:
    """Cancelled before its start is known, a program is ended all the same."""

    async def work() -> None:
        running = asyncio.create_task(run(sh("sleep 600")))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    on_loop(work())
    assert gone(begun[-1])


def test_f40_who_does_not_listen(on_loop: Any, begun: list[int]) -> None:
    """Fault 40: past its deadline a program that ignores SIGTERM is killed, and its children with it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # children begin with that, however late they are
    try:
        ended = on_loop(run(sh("sleep 600 & while :; do sleep 0.1; done", grace=0.2), deadline=0.5))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (ended.status, ended.ended_for) == (-signal.SIGKILL, EndedFor.DEADLINE)
    assert gone(begun[-1])


def test_who_is_asked_cleans_up(on_loop: Any, tmp_path: Path) -> None:
    """A program that is ended hears of it first, and what it still says on its way out stands in nobody's way."""
    script = "trap 'head -c 1000000 /dev/zero; rm lock; exit 7' TERM; echo > lock; echo; while :; do sleep 0.05; done"

    async def work() -> None:
        async with started(sh(script, folder=tmp_path)) as running:
            await running.read()
            assert (tmp_path / "lock").exists()
        assert running.status == 7
        assert not (tmp_path / "lock").exists()

    on_loop(work())


def test_f40_the_leader_is_killed(on_loop: Any, tmp_path: Path) -> None:
    """Fault 40: when a program dies, the helper that holds its pipes is not waited for, but ended."""
    script = "echo $$ > a; sleep 600 & kill -9 $$"
    said = bytearray()
    ended = on_loop(run(sh(script, folder=tmp_path, on_error=said.extend)))
    assert (ended.status, ended.ended_for) == (-signal.SIGKILL, None)
    assert gone(int((tmp_path / "a").read_text()))


def test_who_left_the_group_is_not_waited_for(on_loop: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What took the pipes into a session of its own keeps nobody waiting."""
    monkeypatch.setattr(program, "GRACE", 0.1)
    script = "setsid sh -c 'echo $$ > a; exec sleep 600' & until [ -s a ]; do sleep 0.01; done; echo end"
    ended = on_loop(run(sh(script, folder=tmp_path)))
    assert (ended.status, ended.out) == (0, b"end\n")
    stranger = int((tmp_path / "a").read_text())
    os.kill(stranger, signal.SIGKILL)
    assert gone(stranger)


def test_nothing_moves(on_loop: Any) -> None:
    """A group that neither reads, writes nor works is ended when the patience is over, also with its pipes closed."""

    async def work() -> None:
        for script in ("sleep 600", "exec >&- 2>&-; sleep 600"):
            ended = await run(sh(script, patience=0.3))
            assert (ended.ended_for, ended.status) == (EndedFor.STALL, -signal.SIGTERM)

    on_loop(work())


def test_who_works_is_not_ended(on_loop: Any, tmp_path: Path) -> None:
    """A group that says nothing to us, and passes bytes among its own, has not stalled."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 100000 /dev/zero | cat > a; sleep 0.3; done"
    ended = on_loop(run(sh(script, folder=tmp_path, patience=3.0)))
    assert (ended.status, ended.ended_for) == (0, None)


def test_output_waits_for_its_reader(on_loop: Any) -> None:
    """A program that is read slowly waits; what it writes is never held here."""

    async def work() -> None:
        async with started(sh("head -c 3000000 /dev/zero; exit 4")) as running:
            first = await running.read()
            count = len(first)
            assert group_of(running.pid)
            while piece := await running.read():
                assert len(piece) <= program.PIECE
                count += len(piece)
            assert (count, await running.wait()) == (3_000_000, 4)

    on_loop(work())


def test_whoever_leaves_early_leaves_nothing(on_loop: Any) -> None:
    """An error of whoever reads ends the program, and is told."""

    async def work() -> int:
        with contextlib.suppress(KeyError):
            async with started(sh("yes", grace=0)) as running:
                await running.read()
                raise KeyError
        assert running.status == -signal.SIGKILL
        return running.pid

    assert gone(on_loop(work()))


def test_many_at_once(on_loop: Any) -> None:
    """Programs run side by side, whatever the number of threads."""

    async def work() -> list[bytes]:
        ends = await asyncio.gather(
            *(run(sh("read word; sleep 0.2; echo $word", stdin=b"w%d\n" % n)) for n in range(60))
        )
        return [ended.out for ended in ends]

    assert on_loop(work()) == [b"w%d\n" % number for number in range(60)]


REAPER = """
import asyncio, ctypes, os
from mirrord.program import Invocation, run
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans become ours, as in a container without an init
script = "(sleep 600 & sleep 600 & exec >&- 2>&-; sleep 600) & sleep 0.1; exit 3"
ended = asyncio.run(run(Invocation(("sh", "-c", script), dict(os.environ))))
try:
    print(ended.status, os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print(ended.status, "nobody")
"""


def test_orphans_are_reaped() -> None:
    """As the first process of a container we get what a program leaves behind: it is ended, and no zombie stays."""
    done = subprocess.run([sys.executable, "-c", REAPER], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["3", "nobody"], done.stderr


def waiting(pipe: int) -> int:
    """Return how many bytes a pipe holds."""
    return array("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


def test_output_comes_in_large_pieces(on_loop: Callable[[Awaitable[Any]], Any]) -> None:
    """A program may be a piece ahead of whoever reads it, who gets all of that at once."""

    async def work() -> list[int]:
        async with started(sh(f"head -c {2 * program.PIECE} /dev/zero")) as running:
            found = []
            for _ in range(2):
                while waiting(running._fds[0]) < program.PIECE:  # noqa: ASYNC110 - another process writes it
                    await asyncio.sleep(0.01)
                found.append(len(await running.read()))
            found.append(len(await running.read()))
        return found

    assert on_loop(work()) == [program.PIECE, program.PIECE, 0]
