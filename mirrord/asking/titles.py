"""What somebody asks for in an issue: the image in its title, and the platforms in its text. Pure.

A title that has one meaning is taken at its word: `nginx`, `ghcr.io/a/b:v1`, or the address of a web page that shows an
image. A title that is nearly an image gets a suggestion, and nothing is copied: who guesses copies what nobody wanted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from mirrord.errors import UsageError
from mirrord.wire.oci.pages import image_of_page
from mirrord.wire.oci.platform import parse_platform
from mirrord.wire.oci.reference import Reference, parse_repository

LATEST: Final = "latest"
"""The tag of an image without tag and digest, as Docker has it."""
PLATFORMS: Final = 16
"""The most platforms that one issue names."""

_LONGEST: Final = 500  # characters of a title; forges allow 255
_BODY: Final = 20_000  # characters of a text that are read
_DECORATION: Final = "`'\"“”‘’「」"  # noqa: RUF001 - of Chinese keyboards, too
_LOOK_ALIKE: Final = str.maketrans("：／＠．。－，；", ":/@..-,;")  # noqa: RUF001 - of Chinese keyboards
_SCHEME: Final = re.compile(r"(?:https?|docker|oci)://", re.IGNORECASE)
_NO_REGISTRY: Final = re.compile(
    r"(?:www\.)?(?:github\.com|gitee\.com|gitlab\.com|hub\.docker\.com|artifacthub\.io)(?:[:/]|\Z)", re.IGNORECASE
)
_COMMAND: Final = re.compile(
    r"(?:\[[^\]]{0,40}\]|(?:docker|podman|nerdctl|crictl|ctr|sudo|pull|from|sync|image|images|镜像|同步|请求)\b\s*:?)\s*",
    re.IGNORECASE,
)
_VERSION: Final = re.compile(r"v?[0-9][A-Za-z0-9._-]{0,127}|latest")
_PLATFORM: Final = re.compile(
    r"(?<![\w./:-])(?:linux|windows)/(?:386|amd64|arm|arm64|loong64|mips64le|ppc64le|riscv64|s390x)(?:/v[0-9])?(?![\w/])"
)
_BETWEEN: Final = re.compile(r"[\s，。；（）]+")
_BLANKS: Final = re.compile(r"\s+")
_SLASHES: Final = re.compile(r"/{2,}")
_SIGN: Final = re.compile(r" ?([:/@]) ?")
_UNTICKED: Final = re.compile(r"\s*[-*+]\s+\[ \]")


@dataclass(frozen=True, slots=True)
class Misspelt:
    """A title that is no image, and the image that was probably meant."""

    suggestion: Reference


@dataclass(frozen=True, slots=True)
class NoImage:
    """A title that is no image, nor nearly one; `why` is a sentence for its author, in English."""

    why: str


Title: TypeAlias = "Reference | Misspelt | NoImage"


def read_title(title: str) -> Title:
    """Read the title of an issue. An image has a tag or a digest: without one, `latest` is meant."""
    text = _visible(title)
    if len(text) > _LONGEST:
        return NoImage(f"a title has at most {_LONGEST} characters")
    try:
        return _reference(image_of_page(text) or text)
    except UsageError as error:
        meant = next(_meant(text), None)
        return NoImage(str(error)) if meant is None else Misspelt(meant)


def read_platforms(body: str) -> tuple[str, ...]:
    """Return the platforms that the text of an issue names, in its order; none means those that are configured.

    Hidden comments and boxes without a tick do not count.
    """
    lines = (line for line in _shown(body[:_BODY]).splitlines() if not _UNTICKED.match(line))
    found: dict[str, None] = {}
    for line in lines:
        for word in _PLATFORM.findall(line):
            found[str(parse_platform(word))] = None
    return tuple(found)[:PLATFORMS]


def _visible(title: str) -> str:
    """Return a title without characters that nobody sees, and without the quotes around it."""
    seen = "".join(char for char in title[: _LONGEST * 2] if unicodedata.category(char) not in ("Cf", "Cc", "Cs"))
    return seen.strip().strip(_DECORATION).strip()


def _shown(body: str) -> str:
    """Return a text without its hidden comments; one that does not end hides the rest."""
    shown, start = [], 0
    while (begin := body.find("<!--", start)) >= 0:
        shown.append(body[start:begin])
        end = body.find("-->", begin)
        if end < 0:
            return "".join(shown)
        start = end + len("-->")
    return "".join((*shown, body[start:]))


def _reference(text: str) -> Reference:
    found = parse_repository(text)
    return found if found.tag or found.digest else replace(found, tag=LATEST)


def _meant(text: str) -> Iterator[Reference]:
    """Yield images that a title was perhaps meant to be, the likeliest first."""
    plain = text.translate(_LOOK_ALIKE).strip()
    while begin := _COMMAND.match(plain):
        plain = plain[begin.end() :]
    plain = plain.strip(_DECORATION).strip()
    if page := image_of_page(plain):
        yield from _parsed(page)
    yield from _parsed(_joined(plain))
    words = [word.strip("`'\"“”‘’「」,;()<>") for word in _BETWEEN.split(plain)]  # noqa: RUF001 - as above
    images = {one for word in words if "/" in word or ":" in word for one in _parsed(word)}
    if len(images) == 1:
        yield from images


def _parsed(text: str) -> Iterator[Reference]:
    """Yield the image of a text in which only what is no part of a reference was wrong."""
    if scheme := _SCHEME.match(text):
        text = text[scheme.end() :]
        host, _, path = text.partition("/")
        if not path or not ({*host} & {".", ":"}) or _BLANKS.search(host):
            return  # the beginning of a URL is a host, and never a path at Docker Hub
    if _NO_REGISTRY.match(text):
        return
    text = _SLASHES.sub("/", text).rstrip("/:,;").lstrip("/")
    name, colon, tag = text.partition("@") if "@" in text else _parted(text)
    try:
        yield _reference(f"{name.lower()}{colon}{tag}")
    except UsageError:
        return


def _parted(text: str) -> tuple[str, str, str]:
    """Part name and tag; the colon of a port belongs to the name."""
    folder, slash, last = text.rpartition("/")
    name, colon, tag = last.partition(":")
    return f"{folder}{slash}{name}", colon, tag


def _joined(text: str) -> str:
    """Return a text without blanks around its signs; a version behind a blank is a tag."""
    text = _SIGN.sub(r"\1", _BLANKS.sub(" ", text))
    name, blank, version = text.partition(" ")
    if blank and _VERSION.fullmatch(version) and ":" not in name.rpartition("/")[2]:
        return f"{name}:{version}"
    return text
