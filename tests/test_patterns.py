"""Regular expressions against text made to stop them: every pattern of the service is linear, whatever comes."""

from __future__ import annotations

import ast
import gc
import importlib
import pkgutil
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from fnmatch import translate
from functools import cache, partial
from itertools import product
from pathlib import Path
from re import _constants as op  # type: ignore[attr-defined]  # the parser's own words for what it found
from re import _parser as parser  # type: ignore[attr-defined]  # the only door to a pattern's structure
from time import process_time
from types import FrameType
from typing import Any

import pytest

import mirrord

LENGTH = 40_000  # characters; here a quadratic pattern takes 100 ms and more, a linear one about 1 ms
SECONDS = 0.05  # of CPU time, so that a busy machine makes nothing slow
ALPHABET = ' \ta1.-:/@;=,"\\<[\n\0\u2003'
GENERIC = (
    "\r\n", "a ", "a b", "://a:", ":/a:", "://", ";a=  ", '="', '\\"', "a/", "%2", "?token=", "- ", "\n-", "\n \n",
    "refs/", "fatal: ", "remote: ",
)  # fmt: skip
METHODS = frozenset(("search", "match", "fullmatch", "sub", "findall", "finditer", "split"))

# Where a pattern is made inside a function, and why that is in order.
MADE_LATER = {
    "mirrord.asking.judged._about": "the name of an image, as it is written",
    "mirrord.plan.select._compiled": "the operator's globs",
    "mirrord.syncers.git.plan.survey._selector": "the operator's globs",
    "mirrord.wire.git.failures._row": "makes the rows of a table, when the module is loaded",
    "mirrord.wire.forges.port.refusals": "makes the rows of tables, when modules are loaded",
}


class TooSlow(Exception):  # noqa: N818 - nobody's error
    """The timer ran out."""


@contextmanager
def budget(seconds: float = SECONDS) -> Iterator[None]:
    """Raise `TooSlow` after so much CPU time of this process, in the middle of a search too.

    No garbage is collected meanwhile: that takes longer than a search, and an error in its callbacks reaches nobody.
    """

    def late(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, late)
    gc.disable()
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        gc.enable()


def is_slow(work: Callable[[], object]) -> bool:
    """Whether some work takes too long, three times in a row: something else may have come between."""
    for _ in range(3):
        try:
            with budget():
                work()
        except TooSlow:
            continue
        return False
    return True


def is_quick(work: Callable[[], object]) -> bool:
    """Whether some work with a tenth of the text is so quick that a quadratic one would be in time with all of it."""
    began = process_time()
    try:
        with budget():
            work()
    except TooSlow:
        return False
    return process_time() - began < SECONDS / 200


# A pattern's structure, turned into texts that it almost matches

Node = tuple[Any, Any]
REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
CHARACTERS = (op.IN, op.ANY, op.NOT_LITERAL)
CLASSES = {
    op.CATEGORY_DIGIT: r"\d", op.CATEGORY_SPACE: r"\s", op.CATEGORY_WORD: r"\w",
    op.CATEGORY_NOT_DIGIT: r"\D", op.CATEGORY_NOT_SPACE: r"\S", op.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip


@dataclass(frozen=True)
class Taste:
    """Which of many texts: the preferred character, the branch to take, whether to leave out what may be missing."""

    char: str
    branch: int
    lean: bool


TASTES = tuple(Taste(*parts) for parts in product(ALPHABET, range(3), (True, False)))


def accepts(node: Node, char: str) -> bool:
    """Whether a node of one character takes this one."""
    kind, value = node
    if kind is op.LITERAL:
        return bool(value == ord(char))
    if kind is op.NOT_LITERAL:
        return bool(value != ord(char))
    if kind is op.ANY:
        return char != "\n"
    if kind is op.RANGE:
        return bool(value[0] <= ord(char) <= value[1])
    if kind is op.CATEGORY:
        return re.match(CLASSES[value], char) is not None
    negated = value[0][0] is op.NEGATE
    return any(accepts(one, char) for one in value[negated:]) != negated


def text_of(nodes: Iterable[Node], taste: Taste) -> str:
    """Return a text that the nodes match, but for looks around."""
    return "".join(_text_of(node, taste) for node in nodes)


def _text_of(node: Node, taste: Taste) -> str:
    kind, value = node
    if kind is op.LITERAL:
        return chr(value)
    if kind in CHARACTERS:
        return next((char for char in (taste.char, *ALPHABET, *map(chr, range(33, 256))) if accepts(node, char)), "")
    if kind in REPEATS:
        least, _, body = value
        wanted = len(body) == 1 and body[0][0] in CHARACTERS and accepts(body[0], taste.char)
        text: str = text_of(body, taste) * max(least, 2 if wanted else 0 if taste.lean else 1)
        return text
    if kind is op.BRANCH:
        return text_of(value[1][taste.branch % len(value[1])], taste)
    if kind is op.ASSERT:
        return text_of(value[1], taste) if value[0] < 0 else ""
    return "".join(text_of(part, taste) for part in inner(node)) if kind is not op.ASSERT_NOT else ""


def inner(node: Node) -> list[Iterable[Node]]:
    """Return the sequences of nodes within a node."""
    kind, value = node
    if kind in REPEATS:
        return [value[2]]
    if kind is op.SUBPATTERN:
        return [value[3]]
    if kind is op.BRANCH:
        return list(value[1])
    if kind in (op.ASSERT, op.ASSERT_NOT):
        return [value[1]]
    return [value] if kind is op.ATOMIC_GROUP else []


def units(nodes: Iterable[Node]) -> list[list[Node]]:
    """Join neighbours that are plain characters: a word is repeated as a whole."""
    joined: list[list[Node]] = []
    for node in nodes:
        if node[0] is op.LITERAL and joined and joined[-1][0][0] is op.LITERAL:
            joined[-1].append(node)
        else:
            joined.append([node])
    return joined


def pumps(nodes: Iterable[Node], before: str, taste: Taste) -> Iterator[tuple[str, str]]:
    """Yield (what comes before, what is repeated) for each place where a text of this pattern can be made longer."""
    parts = units(nodes)
    texts = [text_of(part, taste) for part in parts]
    for start, part in enumerate(parts):
        reach = before + "".join(texts[:start])
        for end in {start + 1, start + 2, start + 3, len(parts)}:
            piece = "".join(texts[start:end])
            yield from ((reach, piece), ("", piece))
        if part[0][0] in REPEATS:
            yield reach, text_of(part[0][1][2], taste)
        for sequence in inner(part[0]):
            yield from pumps(sequence, reach, taste)


def attacks(pattern: re.Pattern[Any], length: int) -> Iterator[str]:
    """Yield texts of about `length` characters on which a pattern of this structure might choke."""
    for before, pump in sorted(_attacks(pattern.pattern, pattern.flags)):
        yield from (before + pump * (length // len(pump)) + tail for tail in ("", "\0", '"<'))


@cache
def _attacks(text: str | bytes, flags: int) -> AbstractSet[tuple[str, str]]:
    nodes = list(parser.parse(text, flags))
    found = {("", fragment) for fragment in (*GENERIC, *ALPHABET)}
    return {pair for pair in found.union(*(pumps(nodes, "", taste) for taste in TASTES)) if pair[1]}


def chokes(pattern: re.Pattern[Any], methods: AbstractSet[str]) -> list[str]:
    """Return the first attack that takes a pattern too long, shortened, with the method that was used."""
    for short, long in zip(attacks(pattern, LENGTH // 10), attacks(pattern, LENGTH), strict=True):
        for method in sorted(methods):
            if not is_quick(partial(used, pattern, method, short)) and is_slow(partial(used, pattern, method, long)):
                return [f"{method}: {long[:60]!r}…{long[-10:]!r}"]
    return []


def used(pattern: re.Pattern[Any], method: str, attack: str) -> object:
    """Use a pattern on a whole text."""
    text: Any = attack.encode() if isinstance(pattern.pattern, bytes) else attack
    if method == "sub":
        return pattern.sub(text[:0], text)
    return sum(1 for _ in pattern.finditer(text)) if method == "finditer" else bool(getattr(pattern, method)(text))


# The patterns of the service


@dataclass(frozen=True)
class Found:
    """A pattern and how it is used."""

    name: str
    pattern: re.Pattern[Any]
    methods: frozenset[str]


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield every module of the service with its source; the trees of all of them at once are 100 MB."""
    for info in pkgutil.walk_packages(mirrord.__path__, "mirrord."):
        if not info.name.startswith("mirrord.testing") and not info.name.endswith("__main__"):
            yield info.name, ast.parse(Path(importlib.import_module(info.name).__file__ or "").read_text())


def held(value: object, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    """Yield the patterns in a value: in collections, rows, classes, and behind bound methods."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth > 5 or isinstance(value, str | bytes):
        return
    elif isinstance(value, Mapping):
        yield from held((*value, *value.values()), depth + 1)
    elif isinstance(value, tuple | list | set | frozenset):
        for one in value:
            yield from held(one, depth + 1)
    elif isinstance(value, type):
        if value.__module__.startswith("mirrord."):
            yield from held(tuple(vars(value).values()), depth + 1)
    elif is_dataclass(value):
        yield from held(tuple(getattr(value, one.name, None) for one in fields(value)), depth + 1)
    else:
        yield from held(getattr(value, "__self__", None), 6)


def calls(source: ast.Module) -> set[tuple[str, str]]:
    """Return what a module does with patterns, each as a method and the name that it is called on, "" for another."""
    uses = (node for node in ast.walk(source) if isinstance(node, ast.Attribute) and node.attr in METHODS)
    return {(use.attr, use.value.id if isinstance(use.value, ast.Name) else "") for use in uses}


def methods(made: set[tuple[str, str]], name: str) -> frozenset[str]:
    """Return how a module uses a pattern of that name; for one in a table, all that the module does with patterns."""
    own = {method for method, of in made if of == name}
    others = {method for method, of in made if not of.isupper()}
    return frozenset(own or others - {"split"} or {"search", "fullmatch"})


def found() -> list[Found]:
    """Return every pattern that stands ready in a module of the service, each once for each way to use it."""
    seen: dict[tuple[str | bytes, int, frozenset[str]], Found] = {}
    for module, source in modules():
        made = calls(source)
        for name, value in vars(importlib.import_module(module)).items():
            for pattern in held(value):
                uses = methods(made, name)
                key = pattern.pattern, pattern.flags, uses
                count = sum(one.name.startswith(f"{module}.{name}") for one in seen.values())
                seen.setdefault(key, Found(f"{module}.{name}[{count}]", pattern, uses))
    return list(seen.values())


PATTERNS = found()


def test_patterns_are_found() -> None:
    """The search for patterns sees those in tables and classes too, and all that a module makes of its own."""
    assert len(PATTERNS) > 100
    names = {one.name.rpartition("[")[0] for one in PATTERNS}
    assert {
        "mirrord.wire.git.failures._TABLE",
        "mirrord.wire.secret._USERINFO",
        "mirrord.wire.oci.paging._LINK",
    } <= names


def test_patterns_stand_where_they_are_found() -> None:
    """A pattern is made when its module is loaded, under a name: one inside a function would never be pumped."""
    hidden = {
        f"{module}.{owner.name}"
        for module, source in modules()
        for owner in ast.walk(source)
        if isinstance(owner, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(owner)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr in METHODS | {"compile"}
    }
    assert hidden == set(MADE_LATER)


@pytest.mark.parametrize("one", PATTERNS, ids=lambda one: one.name)
def test_no_text_chokes_a_pattern(one: Found) -> None:
    """42, 6: whatever strangers write, a search of 40 000 characters takes no more than 50 ms."""
    assert chokes(one.pattern, one.methods) == []


@pytest.mark.parametrize("glob", ["*a*a*a*a*a*", "*-*.*-*", "v?*[0-9]*", "**a", "refs/*/*/*/x"])
def test_no_name_chokes_a_glob(glob: str) -> None:
    """What the operator may write with stars is as quick."""
    assert chokes(re.compile(translate(glob)), {"match"}) == []


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        # What stood here once: a registry's Link header, userinfo in URLs, the beginning of a file.
        (r'<[^<>]*>(?:\s*;\s*[\w!#$&+.^`|~-]+\s*=\s*(?:"[^"]*"|[^\s",;]*))*\s*(?:,|\Z)', "match"),
        (r';\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next(?=\s*(?:;|\Z)))', "search"),
        (r"(?:(?<=://)|(?<=:/))(?:[^/\s?#]*@|(?!\[)[^\s/@?#:]+:[^\s\"'<>]*@)", "sub"),
        (r"\s*(?:\ufeff)?\s*(?:<!doctype|<html)", "match"),
        (r"exceeds? .*(?:limit|file size)", "search"),
        # What books warn of.
        (r"(?:a+)+b", "match"),
        (r"(?:a|a)*b", "fullmatch"),
        (r"(?:\w+\s?)*!", "match"),
        (r"(?:x+x+)+y", "search"),
        (r"\d+-\d+", "search"),
        (r"([a-z]+)*@", "match"),
    ],
)
def test_the_pump_finds_what_is_not_linear(pattern: str, method: str) -> None:
    """Exponential and quadratic patterns, of which some were ours, fail this test and do not hang it."""
    assert chokes(re.compile(pattern), {method}) != []
