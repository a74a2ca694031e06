"""How clients use the charts of a target: commands, and its page in a browser. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from mirrord.plan.naming import page_text
from mirrord.syncer.values import LOCAL, Mirror, Target, Usage
from mirrord.syncers.helm.names import CHARTS, OCI, address, api_of, below, is_oci, place_of
from mirrord.wire.host import HostBook
from mirrord.wire.oci.reference import Reference
from mirrord.wire.origin import check_url
from mirrord.wire.trust import scheme_of
from mirrord.wire.vendors.website import coding_page, repository_page

_ITEM: Final = re.compile(r"(?P<name>\S.*?)-(?P<version>v?[0-9]+\.[0-9]+\.[0-9]+(?:[-+]\S*)?)")
_LOOSE: Final = re.compile(r"(?P<name>\S.*)-(?P<version>v?[0-9]+(?:\.[0-9]+)?(?:[-+]\S*)?)")
_LONGEST: Final = 600  # characters of an item: a name and a version


def uses(mirror: Mirror, target: Target, url: str, book: HostBook, item: str) -> Sequence[Usage]:
    """Return how to get a chart version; of the mirror how to add its repository. See `Syncer.uses`."""
    api = api_of(mirror, target)
    place = address(mirror, url) if api == LOCAL else place_of(mirror, target)
    if not item:
        return () if api in ("oci", "directory") else (Usage.of("helm", "repo", "add", mirror.name, place),)
    found = parted(item)
    if found is None:
        return ()
    chart, version = found
    file = f"{CHARTS}/{item}.tgz"
    if api == "directory":
        return (Usage.of("helm", "show", "chart", f"{place}/{file}"),)
    if api == "oci":
        name = below(place[len(OCI) :], chart)
        plain = ["--plain-http"] if scheme_of(book.policy(name.partition("/")[0])) == "http" else []
        return (Usage.of("helm", "pull", *plain, f"{OCI}{name}", "--version", version),)
    pull = Usage.of("helm", "pull", chart, "--repo", place, "--version", version)
    return (pull, Usage.of("curl", "-fLO", f"{place}/{quote(file)}")) if api == LOCAL else (pull,)


def link(mirror: Mirror, target: Target) -> str:
    """Return the page of the charts; see `Syncer.link`."""
    if target.page:
        return page_text(mirror, target, mirror.name)
    place = place_of(mirror, target)
    if place.startswith("/"):
        return ""
    if is_oci(place):
        return repository_page(Reference.parse(place[len(OCI) :]))
    return coding_page(check_url(place).authority, place.partition("://")[2].partition("/")[2]) or place


def parted(item: str) -> tuple[str, str] | None:
    """Return the chart and the version that an item is made of, or None: it is not one.

    A version of three numbers is found first: of `a-1.0.0-2.0.0` it is `1.0.0-2.0.0`.
    """
    found = (_ITEM.fullmatch(item) or _LOOSE.fullmatch(item)) if len(item) <= _LONGEST else None
    return (found["name"], found["version"]) if found else None
