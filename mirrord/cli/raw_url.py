"""`mirrord raw-url`: where else is this file?"""

from __future__ import annotations

from pathlib import Path

from mirrord.cli.console import note, say_json, table
from mirrord.cli.folders import configuration
from mirrord.errors import MissingError, UsageError
from mirrord.syncer.port import load_syncers
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.syncers.git.names import forge_at, places, repository_name, target_address
from mirrord.wire.forges.known import FORGES, canonical, parse_page
from mirrord.wire.forges.port import Page, joined, short
from mirrord.wire.secret import unnamed

_GIT = "git"
_ANYWHERE = {"0.0.0.0": "localhost", "[::]": "localhost"}  # noqa: S104 - addresses to listen on, and what to open instead


def raw_url(url: str, *, config: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    page = _page(url)
    read = configuration(config, load_syncers())
    copies = [  # where the repository is mirrored from, or written to; without a URL where the host has none
        (mirror.name, target.name, _url(mirror, target, page, read.settings.listen))
        for mirror in read.mirrors
        if mirror.kind == _GIT and _mirrors(mirror, page)
        for target in mirror.targets
    ]
    known = [copy for copy in copies if copy[2]]
    if json:
        rows = [{"mirror": mirror, "target": target, "url": link} for mirror, target, link in copies]
        say_json({"ref": page.ref, "path": page.path, "copies": rows})
        return 0 if known else MissingError.exit_code
    if not copies:
        origins = ", ".join(places(mirror)[0] for mirror in read.mirrors if mirror.kind == _GIT) or "none"
        raise MissingError(f"no mirror has {page.address}; Git mirrors here are of: {origins}")
    if silent := [f"{mirror} at {target}" for mirror, target, link in copies if not link]:
        note(f"no raw URLs are known of: {', '.join(silent)}")
    table(("MIRROR", "TARGET", "URL"), [(mirror, target, link or "") for mirror, target, link in known])
    return 0 if known else MissingError.exit_code


def _page(url: str) -> Page:
    """Read what was typed; UsageError when it is the URL of no file in a repository that is known by its form."""
    page = parse_page(url)
    if page is None:
        hosts = ", ".join(name for name in FORGES if name != "plain")
        raise UsageError(f"{unnamed(url)}: is no page or raw URL of a known kind of host ({hosts})")
    if not page.path:
        raise UsageError(f"{unnamed(url)}: names a repository, not a file; open the file there, and take its address")
    return page


def _mirrors(mirror: Mirror, page: Page) -> bool:
    origin, targets = places(mirror)
    return canonical(page.address) in (origin, *targets.values())


def _url(mirror: Mirror, target: Target, page: Page, listen: str) -> str | None:
    if target.name != LOCAL:
        return forge_at(mirror, target).raw_url(target_address(mirror, target), page.ref, page.path)
    host, _, port = listen.rpartition(":")
    path = joined("raw", repository_name(mirror), short(page.ref), page.path)
    return f"http://{_ANYWHERE.get(host, host)}:{port}/{path}"
