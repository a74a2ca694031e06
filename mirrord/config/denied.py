"""The file `settings.denied`: a list with one mapping for each thing that was taken down. It is the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mirrord.config.check import Strict, check, validator
from mirrord.config.envelopes import NAME
from mirrord.config.files import AbsentError, UnreadableError, absolute, read_file, text_of
from mirrord.config.lines import Problems
from mirrord.config.yaml_text import parse_text
from mirrord.errors import ConfigError, UsageError
from mirrord.model.digest import Digest
from mirrord.model.origin import ConfigOrigin
from mirrord.names.book import NameBook
from mirrord.names.denied import Denied, DeniedEntry, check_item, check_reason, parse_denied_image

MAX_BYTES: Final = 16 << 20
TRAIL: Final = ("settings", "denied")


def _mirror(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name[:60]!r} is not the name of a mirror; write one of `mirrors:`")
    return name


class DeniedKeys(Strict):
    """One entry of the file."""

    image: str = ""
    digests: tuple[Annotated[str, AfterValidator(validator(Digest.parse))], ...] = ()
    within: tuple[Annotated[str, AfterValidator(validator(Digest.parse))], ...] = ()
    mirror: Annotated[str, AfterValidator(_mirror)] = ""
    item: Annotated[str, AfterValidator(validator(check_item))] = ""
    reason: Annotated[str, AfterValidator(validator(check_reason)), Field(examples=["ticket 4711"])]
    at: str = ""


def read_denied(path: str | None, names: NameBook, problems: Problems) -> Denied:
    """Read the file that `settings.denied` names; what is wrong is noted, and what is read then counts for nothing.

    A file that is missing is a problem, too: without it everything that was taken down would come back.
    """
    if path is None:
        return Denied()
    try:
        text = read_text(Path(absolute(path, "")))
    except UnreadableError as error:
        problems.add_at(ConfigOrigin(path, error.line), str(error))
        return Denied()
    except AbsentError as error:
        problems.lack(TRAIL, f"{path} {error}; it says what may not come back, so begin one with: touch {path}")
        return Denied()
    except ValueError as error:
        problems.add(TRAIL, f"{path} {error}")
        return Denied()
    own = Problems()
    found = parse_denied(text, path, names, own)
    problems.take(own)
    return found


def load_denied(file: Path, names: NameBook) -> Denied:
    """Read the file again.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; holds a line for each problem.
    """
    problems = Problems()
    try:
        text = read_text(file)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    found = parse_denied(text, str(file), names, problems)
    problems.settle()
    return found


def parse_denied(text: str, file: str, names: NameBook, problems: Problems) -> Denied:
    """Read the entries of a text; what is wrong with one is noted, and it is left out."""
    value, problems.origins = parse_text(text, file, problems)
    if value is None:
        return Denied()
    if not isinstance(value, list):
        problems.add_at(ConfigOrigin(file, 1), "is not a list; begin each entry with a dash: - {image: …, reason: …}")
        return Denied()
    entries: list[DeniedEntry] = []
    for number, entry in enumerate(value):
        trail = (number,)
        keys = check(DeniedKeys, entry, trail, problems)
        if keys is None:
            continue
        if not (keys.image or keys.digests or keys.mirror) or (keys.image and keys.mirror):
            problems.add(trail, "names no one thing; write image: HOST/NAME[:TAG], digests: [sha256:…] or mirror: NAME")
            continue
        if keys.within and not keys.digests:
            problems.add((number, "within"), "are indexes of no digest; write digests: [sha256:…] with it")
            continue
        if keys.item and not keys.mirror:
            problems.add((number, "item"), "is an item of no mirror; write mirror: NAME with it")
            continue
        try:
            image = parse_denied_image(keys.image, names.canonical) if keys.image else ""
        except UsageError as error:
            problems.add((number, "image"), str(error))
            continue
        digests = tuple(map(Digest, keys.digests))
        within = tuple(map(Digest, keys.within))
        line = problems.origin(trail).line
        entries.append(DeniedEntry(line, keys.reason, image, digests, keys.mirror, keys.at, keys.item, within))
    return Denied(entries)


def read_text(file: Path) -> str:
    """Return the text of the file. Raises ValueError: it cannot be read, or is no text."""
    return text_of(read_file(file, MAX_BYTES)[0]).removeprefix("\ufeff")
