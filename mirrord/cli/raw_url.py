"""`mirrord raw-url`: where else is this file?"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from mirrord.cli.console import note, say_json, table
from mirrord.cli.folders import configuration, state_folder
from mirrord.config.load import Configuration
from mirrord.errors import MissingError, UntrustedError, UsageError
from mirrord.syncer.port import load_syncers
from mirrord.syncer.values import LOCAL, Mirror, Target
from mirrord.syncers.git.names import forge_at, places, raw_address, repository_name, source_address, target_address
from mirrord.wire.forges.known import FORGES, canonical, parse_page
from mirrord.wire.forges.page import Page, page
from mirrord.wire.origin import check_url
from mirrord.wire.secret import unnamed

_GIT = "git"
_OPEN = "open the file there, and take its address"


def raw_url(url: str, *, fetch: bool, output: Path | None, config: Path | None, state: Path | None, json: bool) -> int:
    """Run the command and return its exit code."""
    if output is not None and not fetch:
        raise UsageError("--output names where the file is written; add --fetch")
    if fetch and json and output is None:
        raise UsageError("--fetch prints the file itself; add --output FILE to have JSON about it")
    read = configuration(config, load_syncers())
    file = _own(url, read) or parse_page(url)
    if file is None:
        hosts = ", ".join(name for name in FORGES if name != "plain")
        raise UsageError(f"{unnamed(url)}: is no page or raw URL of a known kind of host ({hosts}) or of mirrord")
    if not file.path:
        released = "; files of releases are not in the repository" if "/releases/" in url else ""
        raise UsageError(f"{unnamed(url)}: names a repository or a folder, not a file{released}; {_OPEN}")
    mirrors = [mirror for mirror in read.mirrors if mirror.kind == _GIT and _mirrors(mirror, file)]
    if not mirrors and (fetch or not json):
        origins = ", ".join(places(mirror)[0] for mirror in read.mirrors if mirror.kind == _GIT) or "none"
        raise MissingError(f"no mirror has {file.address}; Git mirrors here are of: {origins}")
    if fetch:
        from mirrord.cli.raw_file import raw_file  # noqa: PLC0415 - most ask for URLs, which takes no client

        return raw_file(file, mirrors, read, state_folder(state, config), output, json=json)
    copies = [  # where the repository is mirrored from, or written to; without a URL where the host has none
        (mirror.name, target.name, _url(mirror, target, file, read)) for mirror in mirrors for target in mirror.targets
    ]
    known = [copy for copy in copies if copy[2]]
    if json:
        rows = [{"mirror": mirror, "target": target, "url": link} for mirror, target, link in copies]
        say_json({"ref": file.ref, "path": file.path, "copies": rows})
        return 0 if known else MissingError.exit_code
    if silent := [f"{mirror} at {target}" for mirror, target, link in copies if not link]:
        note(f"no raw URLs are known of: {', '.join(silent)}")
    table(("MIRROR", "TARGET", "URL"), [(mirror, target, link or "") for mirror, target, link in known])
    return 0 if known else MissingError.exit_code


def _own(url: str, read: Configuration) -> Page | None:
    """Read a raw URL of this mirrord: it stands for the file at the mirror's origin."""
    try:
        origin = check_url(url)
    except UntrustedError:
        return None
    if str(origin) not in (read.settings.address(), f"{read.settings.scheme}://{read.settings.listen}"):
        return None
    prefix, name, *words = (*map(unquote, urlsplit(url).path.strip("/").split("/")), "", "")
    for mirror in read.mirrors if prefix == "raw" else ():
        if mirror.kind == _GIT and repository_name(mirror) == name:
            found = source_address(mirror)
            rest = page("local", ("git", name), words)  # the same words, whatever the origin is
            return Page(found, rest.words, rest.kind)
    return None


def _mirrors(mirror: Mirror, file: Page) -> bool:
    origin, targets = places(mirror)
    return canonical(file.address) in (origin, *targets.values())


def _url(mirror: Mirror, target: Target, file: Page, read: Configuration) -> str | None:
    if target.name != LOCAL:
        return forge_at(mirror, target).raw_url(target_address(mirror, target), file)
    return raw_address(mirror, file, read.settings.address())
