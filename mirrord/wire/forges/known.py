"""Which kinds of hosts there are, and which kind a host is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mirrord.errors import UsageError
from mirrord.wire.forges.cnb import Cnb
from mirrord.wire.forges.coding import Coding
from mirrord.wire.forges.gitlab import GitLab
from mirrord.wire.forges.owned import Gitea, Gitee, GitHub
from mirrord.wire.forges.page import Page
from mirrord.wire.forges.port import Forge, repository_of, web_host
from mirrord.wire.git.address import Address

# Those that know their hosts come first: the others take a URL by its form, on whatever host.
_ALL: Final[tuple[Forge, ...]] = (GitHub(), Gitee(), Coding(), Cnb(), GitLab(), Gitea(), Forge())
FORGES: Final[Mapping[str, Forge]] = {forge.name: forge for forge in _ALL}
_BEHIND: Final = re.compile(r"https?://[^/?#@]+/(?P<scheme>https?):/{1,2}(?P<rest>[^/].*)")
_HOSTS: Final[Mapping[str, str]] = {host: forge.name for forge in _ALL for host in forge.hosts}


def forge_of(address: Address, word: str | None = None) -> Forge:
    """Return what kind of host an address is on: as `word` (`host:`) says, else by its name, else plain."""
    return FORGES[word or _HOSTS.get(web_host(address), "plain")]


def parse_page(url: str) -> Page | None:
    """Read a page, raw or clone URL of any known kind of host, or return None.

    Proxies for GitHub write its URL behind their own (`https://ghproxy.example/https://github.com/…`): what counts is
    the inner one.

    Raises:
        MirrordError: its host is known, and it names no repository.
    """
    if behind := _BEHIND.fullmatch(url):
        url = f"{behind['scheme']}://{behind['rest']}"
    for forge in _ALL:
        page = forge.parse_page(url)
        if page is None:
            continue
        if not forge.fits(page.address):
            what = f"{page.address.host}: the URL names no repository {forge.form}"
            raise UsageError(f"{what}; open a file there, and take its address")
        return page
    return None


def canonical(address: Address, word: str | None = None) -> str:
    """Return one spelling for every way to write a repository: no scheme, no user, no `.git`.

    Known kinds of hosts do not tell capital letters apart; a plain one may.
    """
    path = "/".join(repository_of(address))
    known = forge_of(address, word).name != "plain"
    return f"{web_host(address)}/{path.casefold() if known else path}"
