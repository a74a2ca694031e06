"""`mirrord docs`: a page about the mirrors for their users, as Markdown or HTML."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mirrord.cli.console import note, say
from mirrord.cli.folders import config_folder, configuration
from mirrord.commands import GetCatalog, GetMirrors, GetStatus
from mirrord.config.load import Configuration
from mirrord.files import storage_errors
from mirrord.model.catalog import CatalogEntry, content_of
from mirrord.report.mirror import MirrorDetail
from mirrord.report.site import Site
from mirrord.report.site.describing import SiteData, described
from mirrord.report.site.html import html
from mirrord.report.site.markdown import markdown
from mirrord.report.words import LANGUAGES, words
from mirrord.syncer.port import Syncer, load_syncers
from mirrord.syncer.values import LOCAL

_FORMS = {"markdown": (markdown, "md"), "html": (html, "html")}


def docs(
    *, shape: str, language: str | None, live: bool, output: Path | None, config: Path | None, state: Path | None
) -> int:
    """Run the command and return its exit code."""
    syncers = load_syncers()
    folder = config_folder(config).absolute()  # a path of this machine begins with a slash
    read = configuration(folder, syncers)
    known = _site_data(read, syncers, config, state) if live else None
    write, suffix = _FORMS[shape]
    wanted = [language] if language else list(LANGUAGES) if output else list(LANGUAGES)[:1]
    _note_what_is_left_out(read)
    for name, one in sites(read, syncers, wanted, suffix, known).items():
        if output is None:
            sys.stdout.write(write(one))
            continue
        file = output / name
        with storage_errors(file):
            output.mkdir(parents=True, exist_ok=True)
            file.write_text(write(one), encoding="utf-8")
        say(f"{file} is written")
    return 0


def sites(
    read: Configuration,
    syncers: Mapping[str, Syncer],
    languages: Sequence[str],
    suffix: str,
    live: SiteData | None = None,
) -> Mapping[str, Site]:
    """Describe the mirrors in each language, by the name of its file; each links to the others."""
    files = {language: f"mirrors.{language}.{suffix}" for language in languages}
    return {
        file: replace(
            site(read, syncers, language, live), others={one: files[one] for one in languages if one != language}
        )
        for language, file in files.items()
    }


def site(read: Configuration, syncers: Mapping[str, Syncer], language: str, live: SiteData | None = None) -> Site:
    """Describe the mirrors of a configuration in a language."""
    url = read.settings.address() if read.settings.reaches_others() else ""
    parts = {}
    for mirror in read.mirrors:
        if find := syncers[mirror.kind].parts_of(mirror):
            parts[mirror.name] = find().mirrors
    return described(
        read.mirrors,
        syncers,
        words(language),
        url=url,
        book=read.book,
        parts=parts,
        live=live,
        operator=read.settings.about.about,
    )


def _site_data(read: Configuration, syncers: Mapping[str, Syncer], config: Path | None, state: Path | None) -> SiteData:
    """Ask for what is known; a kind that lists its items itself, such as Git, has them in no catalog."""
    from mirrord.cli.ask import ask  # noqa: PLC0415 - the configuration alone needs no daemon and no database

    parts = ask(GetCatalog(), config, state, quiet=True)
    status = ask(GetStatus(), config, state, quiet=True)
    listing = {mirror.name for mirror in read.mirrors if syncers[mirror.kind].items}
    found = [entry for part in parts for entry in part.entries if entry.mirror not in listing]
    if names := [mirror.name for mirror in status.mirrors if mirror.name in listing]:
        for detail in ask(GetMirrors(tuple(names), every=True), config, state, quiet=True):
            found += _listed(detail)
    return SiteData(status, found)


def _listed(detail: MirrorDetail) -> Iterator[CatalogEntry]:
    mirror = detail.mirror
    for row in detail.items:
        source = f"{mirror.source}#{row.item}"
        for target, seen in row.at.items():
            name = f"{seen.place}#{row.item}"
            yield CatalogEntry(mirror.name, mirror.kind, row.item, source, target, name, **content_of(seen))


def _note_what_is_left_out(read: Configuration) -> None:
    if not read.settings.reaches_others() and _have_local(read):
        address = read.settings.address() or read.settings.listen
        note(f"`local` is left out: nobody else can reach {address}; write the address for clients to settings.url")


def _have_local(read: Configuration) -> bool:
    return any(target.name == LOCAL for mirror in read.mirrors for target in mirror.targets)
