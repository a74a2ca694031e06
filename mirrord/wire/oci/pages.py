"""Web pages that show an image, by their addresses: what people copy when they are asked for an image. Pure."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from mirrord.wire.host import HUB

_END: Final = r"(?:[/?#].*)?"
_SEGMENT: Final = r"[^/?#]+"
_NO_OWNER: Final = r"(?!(?:search|explore|u|orgs|extensions)(?:[/?#]|\Z))"  # pages of the site itself
_PAGES: Final = (
    (
        rf"(?:registry\.)?hub\.docker\.com/layers/(?P<name>{_SEGMENT}(?:/{_SEGMENT})?)/(?P<tag>{_SEGMENT})/images{_END}",
        f"{HUB}/",
    ),
    (rf"(?:registry\.)?hub\.docker\.com/_/(?P<name>{_SEGMENT}){_END}", f"{HUB}/"),
    (
        (
            rf"(?:registry\.)?hub\.docker\.com/{_NO_OWNER}(?:(?:r|repository/docker)/)?"
            rf"(?P<name>{_SEGMENT}(?:/{_SEGMENT})?)(?:/(?:tags|general))?/?(?:[?#].*)?"
        ),
        f"{HUB}/",
    ),
    (rf"quay\.io/repository/(?P<name>{_SEGMENT}(?:/{_SEGMENT}){{1,4}}?)(?:/manifest/.*)?/?(?:[?#].*)?", "quay.io/"),
    (rf"github\.com/(?P<owner>{_SEGMENT})/{_SEGMENT}/pkgs/container/(?P<name>{_SEGMENT}){_END}", "ghcr.io/"),
    (
        rf"github\.com/(?:orgs|users)/(?P<owner>{_SEGMENT})/packages/container/(?:package/)?(?P<name>{_SEGMENT}){_END}",
        "ghcr.io/",
    ),
)
_BEGIN: Final = re.compile(r"\A(?:https?://)?(?:www\.)?", re.IGNORECASE)
_READ: Final = tuple((re.compile(pattern, re.IGNORECASE), registry) for pattern, registry in _PAGES)


def image_of_page(address: str) -> str:
    """Return the image that a web page shows, `docker.io/library/redis` or with a tag; "" for no page that is known.

    Args:
        address: of the page, with or without `https://` and `www.`. The image may be no valid reference.
    """
    page = _BEGIN.sub("", address[:500])
    for pattern, registry in _READ:
        if found := pattern.fullmatch(page):
            parts = {key: unquote(value or "") for key, value in found.groupdict().items()}
            name = parts["name"] if registry == "quay.io/" else parts["name"].removeprefix("library/")
            owner = f"{parts['owner'].lower()}/" if "owner" in parts else ""
            library = "library/" if registry == f"{HUB}/" and "/" not in name else ""
            tag = f":{parts['tag']}" if "tag" in parts else ""
            return f"{registry}{owner}{library}{name}{tag}"
    return ""
