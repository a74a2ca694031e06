"""Pages of lists from APIs, read with suspicion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from mirrord.errors import ContentError
from mirrord.wire.oci.paging import next_link

if TYPE_CHECKING:
    from mirrord.wire.api import ApiAnswer

FIRST: Final = "1"  # cursor of the first page; the number of a page where an API counts them
SIZE: Final = 100  # entries of a page; the most that Docker Hub, Quay, GitLab and Harbor give
_LONGEST: Final = 4096  # characters of a cursor


def entries_of(document: object, what: str, key: str = "") -> Sequence[object]:
    """Return the list that an answer is, or has under a key.

    Raises:
        ContentError: there is none. An answer without a list is never an empty list.
    """
    found = document.get(key) if key and isinstance(document, dict) else None if key else document
    if not isinstance(found, list):
        where = f"the answer of the API has no list `{key}`" if key else "the answer of the API is not a list"
        raise ContentError(f"{what}: {where}; has the API changed?")
    return found


def texts(entries: Sequence[object], key: str) -> Sequence[str]:
    """Return the texts under a key of the entries that have one."""
    found = [one.get(key) for one in entries if isinstance(one, Mapping)]
    return [text for text in found if isinstance(text, str)]


def counted(cursor: str, *, more: bool) -> str:
    """Return the cursor of the page after a numbered one, "" if there is none."""
    return str(int(cursor) + 1) if more else ""


def linked(answer: ApiAnswer, entries: Sequence[object], cursor: str, what: str) -> str:
    """Return the cursor of the page after a numbered one: there is one after a `Link` to it, and after a full page.

    The link itself is not followed: it may lead anywhere.

    Raises:
        ContentError: the Link header is malformed.
    """
    return counted(cursor, more=next_link(answer.link, what) is not None or len(entries) >= SIZE)


def token_of(document: object, key: str, what: str) -> str:
    """Return the text under a key that asks for the next page, "" without one.

    Raises:
        ContentError: it is no text, or too long.
    """
    value = document.get(key) if isinstance(document, Mapping) else None
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ContentError(f"{what}: the `{key}` of the API is no token; has the API changed?")
    return value
