"""What the command line teaches, and how it refuses what it does not understand."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module

import pytest

from mirrord import __version__
from mirrord.cli.grammar import COMMANDS
from mirrord.cli.grammar.words import function_name
from mirrord.cli.hosts import HostOptions
from tests.support.commands import Said

Typed = Callable[..., Said]


def words(said: Said) -> str:
    """Return a help page without its line ends."""
    return " ".join(said.out.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(typed: Typed, command: str) -> None:
    """Each command says what it does, shows an example that can be typed, and explains its exit codes."""
    said = typed(*command.split(), "--help")
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
    assert re.findall(r"(?:^|· )(\d+) ", words(said).partition("Exit codes: ")[2]) == [
        *("0", "1", "2", "64", "69", "74", "75", "78", "129", "130", "143")
    ]


def test_no_arguments(typed: Typed) -> None:
    """Without arguments there is the help, and an exit code that a script notices."""
    said = typed()
    assert said.status == 64
    assert "copy" in said.out + said.err


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(typed: Typed, option: str) -> None:
    """`--version` prints name and version and nothing else."""
    said = typed(option)
    assert (said.status, said.out, said.err) == (0, f"mirrord {__version__}\n", "")


@pytest.mark.parametrize("words", [(), ("sync",)])
def test_short_help(typed: Typed, words: tuple[str, ...]) -> None:
    """`-h` is `--help`."""
    assert typed(*words, "-h") == typed(*words, "--help")


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
        (("reload", "-c", "conf.d"), "the folder that it was started with; leave --config out"),
    ],
)
def test_wrong_usage(typed: Typed, arguments: tuple[str, ...], text: str) -> None:
    """What the parser does not understand ends with 64 and is named on standard error."""
    said = typed(*arguments)
    assert said.status == 64
    assert said.out == ""
    assert text in said.err


@pytest.mark.parametrize("arguments", [("copy",), ("restore", "--bogus"), ("--bogus",), ("bogus",)])
def test_wrong_usage_is_json_too(typed: Typed, arguments: tuple[str, ...]) -> None:
    """With `--json` what the parser does not understand is one document, as every other error is."""
    said = typed(*arguments, "--json")
    assert said.status == 64
    assert said.document["error"]["code"] == "usage"
    assert said.document["error"]["message"] in said.err


def test_what_was_typed_wrong_shows_no_secret(typed: Typed) -> None:
    """A password in a word that no command understands is in neither answer."""
    said = typed(
        "copy", "--json", "--pr", "https://robot:s3cret-word@ghcr.io/a", "b", "--bogus=https://u:s3cret-word@x"
    )
    assert said.status == 64
    assert "s3cret" not in said.out + said.err


def test_examples_keep_their_lines(typed: Typed) -> None:
    """Paragraphs flow with the terminal, examples stay as they are written."""
    lines = [line.strip() for line in typed("copy", "--help").out.splitlines()]
    assert "$ mirrord copy docker.io/library/nginx:1.29 ghcr.io/team/nginx oci:backup" in lines
    assert not [line for line in lines if "\b" in line]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_may_be_typed_is_what_is_carried_out(command: str) -> None:
    """The function of a command takes exactly what the grammar lets people type."""
    word = function_name(command)
    function = getattr(import_module(f"mirrord.cli.{word}"), word)
    taken = inspect.signature(function).parameters
    names = {*taken, *(HostOptions.__annotations__ if "options" in taken else ())} - {"options"}
    assert names == {parameter.name for parameter in COMMANDS[command].params if parameter.expose_value}
    assert [name for name, one in taken.items() if one.default is not one.empty] == []


@pytest.mark.parametrize("word", ["help", "version"])
def test_options_typed_as_commands(typed: Typed, word: str) -> None:
    """`mirrord help` and `mirrord version` name the option."""
    said = typed(word)
    assert (said.status, said.out) == (64, "")
    assert f"did you mean mirrord --{word}?" in said.err
