"""What shells complete: in real ones, with the script that `mirrord completion` prints."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.support.commands import PATIENCE, Desk, Said

Typed = Callable[..., Said]
CONFIGURED = """mirrors:
  - {name: craned, kind: image, from: {repository: quay.io/a/b}, to: local}
  - name: "crane-agent"  # name: nothing
    kind: git
    from: https://git.example/a/b
    to: local
#  - name: crate
"""
WORDS = [
    ("sy", {"sync"}),
    ("re", {"reload", "restore", "rewrite"}),
    ("sync --al", {"--allow"}),
    ("sync cra", {"craned", "crane-agent"}),
    ("sync craned crane-", {"crane-agent"}),
    ("sync craned ", {"crane-agent"}),
    ("plan --config other t", {"there"}),
    ("plan -c nowhere c", set()),
    ("publish craned --b", {"--branch"}),
    ("restore crane-", {"crane-agent"}),
    ("completion ", {"bash", "zsh", "fish"}),
    ("list f", {"fmt"}),
    ("list check --ex", {"--exists"}),
    ("list mirrored crane-", {"crane-agent"}),
]
HERE = Path(sys.executable).parent


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


@pytest.fixture
def place(desk: Desk) -> Desk:
    desk.configure(CONFIGURED)
    (desk.folder / "other").mkdir()
    (desk.folder / "other" / "a.yaml").write_text("mirrors: [{name: there, kind: image}]\n")
    (desk.folder / "other" / "b.yaml").mkdir()
    desk.environ["PATH"] = f"{HERE}:{desk.environ['PATH']}"
    return desk


def printed(place: Desk, *command: str) -> str:
    done = subprocess.run(
        command, cwd=place.folder, env=place.environ, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.mark.parametrize(("line", "wanted"), WORDS, ids=[line for line, _ in WORDS])
def test_bash(place: Desk, line: str, wanted: set[str]) -> None:
    """Bash completes commands, options, and names of mirrors, also those of the folder that was named."""
    script = (
        'eval "$(mirrord completion bash)"; read -ra COMP_WORDS <<<"mirrord $1"; [[ $1 == *" " ]] && COMP_WORDS+=("");'
        'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _mirrord_completion mirrord; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert set(printed(place, program("bash"), "-c", script, "bash", line).split()) == wanted


@pytest.mark.parametrize(("line", "wanted"), WORDS, ids=[line for line, _ in WORDS])
def test_fish(place: Desk, line: str, wanted: set[str]) -> None:
    """Fish does the same, asked as it asks itself at a Tab."""
    script = "mirrord completion fish | source; complete --do-complete $argv[1]"
    lines = printed(place, program("fish"), "--no-config", "-c", script, f"mirrord {line}").splitlines()
    assert {line.partition("\t")[0] for line in lines} == wanted


@contextmanager
def terminal(place: Desk, *command: str) -> Iterator[Callable[[str, str], None]]:
    """Start a shell on a terminal; what it yields types keys, and waits until a text is drawn after them."""
    ours, theirs = pty.openpty()
    environ = {**place.environ, "TERM": "dumb", "PS1": "> "}
    process = subprocess.Popen(command, cwd=place.folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)

    def press(keys: str, wanted: str) -> None:
        os.write(ours, keys.encode())
        drawn, until = "", monotonic() + PATIENCE
        while wanted not in drawn.replace("\r", ""):
            ready, _, _ = select.select([ours], [], [], max(0.0, until - monotonic()))
            assert ready, drawn
            drawn += os.read(ours, 65536).decode(errors="replace")

    try:
        yield press
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(
    ("shell", "options", "begin"),
    [("bash", ("--norc", "--noprofile", "-i"), ""), ("zsh", ("-f", "-i"), "autoload -U compinit && compinit -u; ")],
)
def test_at_a_tab(place: Desk, shell: str, options: tuple[str, ...], begin: str) -> None:
    """In an interactive shell a Tab writes the rest of a command and of a mirror's name."""
    with terminal(place, program(shell), *options) as press:
        press(f'{begin}eval "$(mirrord completion {shell})"; echo rea""dy\n', "ready\n")
        press("echo mirrord; mirrord healthch\t", "healthcheck")
        press("\x15mirrord sync crane-\t", "crane-agent")


@pytest.mark.parametrize("shell", ["", "tcsh"])
def test_other_shells(typed: Typed, shell: str) -> None:
    """A shell that is not known is a usage error that names those that are."""
    said = typed("completion", *filter(None, [shell]))
    assert (said.status, said.out) == (64, "")
    assert "'bash', 'zsh', 'fish'" in said.err if shell else "SHELL" in said.err
