"""What the command line teaches, and how it refuses what it does not understand."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mirrord import __version__
from mirrord.cli import COMMANDS, flowing
from tests.support.commands import Said

Typed = Callable[..., Said]


def words(said: Said) -> str:
    """Return a help page without its frames and line ends."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", said.out).split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(typed: Typed, command: str) -> None:
    """Each command says what it does, shows an example that can be typed, and explains its exit codes."""
    said = typed(command, "--help")
    assert said.status == 0
    assert f"Usage: mirrord {command}" in said.out
    assert re.search(r"exit code|exit codes|exits? with", words(said), re.IGNORECASE), said.out
    assert f"$ mirrord {command}" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())


def test_root_help(typed: Typed) -> None:
    """The first page names every command and every exit code."""
    said = typed("--help")
    assert said.status == 0
    assert [name for name in COMMANDS if name not in words(said)] == []
    assert re.findall(r"(?:^|· )(\d+) ", words(said).partition("Exit codes ")[2]) == [
        *("0", "1", "2", "64", "69", "74", "75", "78")
    ]


def test_no_arguments(typed: Typed) -> None:
    """Without arguments there is the help, and an exit code that a script notices."""
    said = typed()
    assert said.status == 64
    assert "copy" in said.out + said.err


def test_version(typed: Typed) -> None:
    """`--version` prints the version and nothing else."""
    said = typed("--version")
    assert (said.status, said.out) == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("copy", "--bogus"), "--bogus"),
        (("copy",), "SRC"),
        (("copy", "docker.io/library/nginx"), "DST"),
        (("bogus",), "bogus"),
        (("--bogus",), "--bogus"),
        (("publish", "m", "--pr", "none"), "none"),
        (("publish", "m", "--pr", "0"), "--pr"),
        (("sync", "--state"), "--state"),
    ],
)
def test_wrong_usage(typed: Typed, arguments: tuple[str, ...], text: str) -> None:
    """What the parser does not understand ends with 64 and is named on standard error."""
    said = typed(*arguments)
    assert said.status == 64
    assert said.out == ""
    assert text in said.err


def test_flowing() -> None:
    """Paragraphs are joined, examples keep their lines."""
    assert flowing("a\nb\n\n  $ c\n  $ d\n\ne\n") == "a b\n\n  $ c\n  $ d\n\ne"
