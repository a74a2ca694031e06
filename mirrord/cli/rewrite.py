"""`mirrord rewrite`: points the images of manifests, compose files, values and Dockerfiles at the mirror."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirrord.cli.console import note, say, say_json
from mirrord.cli.folders import configuration
from mirrord.cli.in_place import replace_file
from mirrord.cli.list_fmt import read_named
from mirrord.config.files import UnreadableError, text_of
from mirrord.config.lines import masked
from mirrord.config.load import Configuration
from mirrord.config.pointing import Policy
from mirrord.config.workloads import MAX_WORKLOADS, read_workloads
from mirrord.daemon import loop
from mirrord.errors import ConfigError, UsageError
from mirrord.events import Events
from mirrord.files import storage_errors
from mirrord.names.workloads import NamedImage
from mirrord.pointing.places import Decision, Places
from mirrord.pointing.rewriting.dockerfile import is_dockerfile, named_in_dockerfile
from mirrord.pointing.rewriting.edits import ImageChange, ImageLeft, Rewritten, rewritten
from mirrord.printable import plain
from mirrord.syncer.port import load_syncers

_STDIN: Final = Path("-")
_FEW: Final = 10
"""Keys that are written twice and named."""
_QUIET: Final = frozenset({"at_mirror"})
"""Reasons that are not worth a line."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One file, and the images in it."""

    file: Path
    name: str
    text: str
    images: Sequence[NamedImage]


def rewrite(
    files: tuple[Path, ...],
    *,
    policy: Policy | None,
    to: tuple[str, ...],
    in_place: bool,
    check: bool,
    config: Path | None,
    json: bool,
) -> int:
    """Run the command and return its exit code."""
    _check_options(files, in_place=in_place, check=check, json=json)
    read = configuration(config, load_syncers())
    places = Places(read, to=_known(to, read), policy=policy)
    sources = [_source(file) for file in dict.fromkeys(files or (_STDIN,))]
    decisions = _decided({image.text for source in sources for image in source.images}, places, read)
    results = [(source, rewritten(source.text, source.images, decisions)) for source in sources]
    for problem in places.problems:
        note(f"notice: {problem}")
    _say_left(results)
    if in_place:
        _replace(results, quiet=json)
    if json:  # once the files are what it says
        say_json({"files": [_document(*one) for one in results]})
    unknown = any(one.why.reason == "unknown" for _, result in results for one in result.left)
    if check:
        return _checked(results, quiet=json) or (2 if unknown else 0)
    if not in_place:
        _print(results)
    return 2 if unknown else 0


def _check_options(files: Sequence[Path], *, in_place: bool, check: bool, json: bool) -> None:
    if in_place and (not files or _STDIN in files):
        raise UsageError("--in-place needs a FILE; without it the result goes to standard output")
    if in_place and check:
        raise UsageError("--in-place and --check contradict; keep one of them")
    if json and not (check or in_place):
        raise UsageError("--json needs --check or --in-place; without them the output is the file itself")


def _known(to: Sequence[str], read: Configuration) -> Sequence[str]:
    images = {name for name, target in read.targets.items() if target.kind == "image"}
    known = {*images, "local", *(["front"] if "image" in read.fronts else [])}
    for name in to:
        if name not in known:
            raise UsageError(f"--to {name[:60]!r} is not a place of images; use one of: {', '.join(sorted(known))}")
    return to


def _source(file: Path) -> _Source:
    """Read one file whole.

    Raises:
        UsageError: it cannot be read.
        ConfigError: a document in it is wrong.
    """
    name = "stdin" if file == _STDIN else str(file)
    wanted = "a file of YAML or JSON, a Dockerfile, or - for standard input"
    data = sys.stdin.buffer.read(MAX_WORKLOADS + 1) if file == _STDIN else read_named(file, MAX_WORKLOADS, wanted)
    if len(data) > MAX_WORKLOADS:
        raise UsageError(f"{name}: more than {MAX_WORKLOADS} bytes, which is the limit; split it")
    try:
        text = text_of(data)
    except UnreadableError as error:
        raise ConfigError(f"{name}:{error.line}: {error}") from error
    if is_dockerfile(text):
        return _Source(file, name, text, [*named_in_dockerfile(text)])
    images: list[NamedImage] = []
    for document in read_workloads(data, name):
        if document.problem:
            raise ConfigError(f"{document.problem}; nothing was written")
        for line, key in document.repeated[:_FEW]:
            note(
                f"notice: {name}:{line}: {_shown(key)} is written twice; the last one counts, and only it was looked at"
            )
        images += (image for image in document.images if not image.text.startswith("sha256:"))
    return _Source(file, name, text, images)


def _decided(texts: Iterable[str], places: Places, read: Configuration) -> Mapping[str, Decision]:
    from mirrord.pointing.present import AskedMirror, asking_book, point, pointed  # noqa: PLC0415 - `listed` needs none

    async def whole() -> Mapping[str, Decision]:
        from mirrord.daemon.runtime import open_http  # noqa: PLC0415 - without `present`, nobody is asked

        async with open_http(asking_book(read, places.to), Events()) as http:
            return await pointed(sorted(texts), places, AskedMirror(http))

    async def pure() -> Mapping[str, Decision]:
        return {text: await point(text, places, None) for text in texts}

    return loop.run(whole() if places.policy == "present" else pure(), plain=True)


def _say_left(results: Sequence[tuple[_Source, Rewritten]]) -> None:
    """Say which images were left and why, each once."""
    said: set[tuple[str, str]] = set()
    for source, result in results:
        for one in result.left:
            if one.why.reason not in _QUIET and (one.image, one.why.text) not in said:
                said.add((one.image, one.why.text))
                note(f"{source.name}:{one.line}: {_shown(one.image)} is left: {masked(one.why.text)}")


def _shown(image: str) -> str:
    return ascii(masked(image)[:200])[1:-1]


def _checked(results: Sequence[tuple[_Source, Rewritten]], *, quiet: bool) -> int:
    """List what would change; 1 when something would."""
    for source, result in results:
        for one in result.changes if not quiet else ():
            say(plain(f"{source.name}:{one.line}: {_shown(one.image)} would be {one.becomes}"))
    return 1 if any(result.changes for _, result in results) else 0


def _replace(results: Sequence[tuple[_Source, Rewritten]], *, quiet: bool) -> None:
    for source, result in results:
        if result.text == source.text:
            continue
        replace_file(source.file, source.text, result.text)
        if not quiet:
            count = len(result.changes)
            say(plain(f"{source.name}: {count} image{'' if count == 1 else 's'} rewritten"))


def _print(results: Sequence[tuple[_Source, Rewritten]]) -> None:
    """Write the files one after another; a mark before YAML, and behind it, keeps them documents."""
    before, was_own = "", False
    pieces: list[str] = []
    for text in (result.text for _, result in results if result.text):
        own = text.removeprefix("\ufeff").lstrip()[:1] in ("{", "[") or is_dockerfile(text)
        if before:
            pieces += [] if before.endswith("\n") else ["\n"]
            pieces += [] if (own and was_own) or text.startswith(("---", "%")) else ["---\n"]
        pieces.append(text)
        before, was_own = text, own
    with storage_errors("standard output"):
        sys.stdout.buffer.write("".join(pieces).encode())
        sys.stdout.buffer.flush()


def _document(source: _Source, result: Rewritten) -> Mapping[str, object]:
    def one(found: ImageChange | ImageLeft) -> Mapping[str, object]:
        beside = (
            {"becomes": found.becomes}
            if isinstance(found, ImageChange)
            else {"reason": found.why.reason, "why": masked(found.why.text)}
        )
        return {"line": found.line, "image": masked(found.image), **beside}

    changes, left = ([one(found) for found in each] for each in (result.changes, result.left))
    return {"file": source.name, "changes": changes, "left": left}
