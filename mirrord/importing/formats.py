"""The formats that can be imported, how each is recognised, and the import of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mirrord.config.foreign import ForeignText, Node, decode, parse_foreign
from mirrord.errors import ConfigError, UsageError
from mirrord.importing import charts_syncer, dregsy, hauler, hub_mirror, image_syncer, lists, oc_mirror, regsync, skopeo
from mirrord.importing.draft import Draft
from mirrord.importing.section import Section
from mirrord.importing.values import Options
from mirrord.importing.writing import write
from mirrord.model.origin import ConfigOrigin


@dataclass(frozen=True, slots=True)
class DocumentFormat:
    """A format in YAML or JSON: how one document is recognised and read."""

    fits: Callable[[Node], bool]
    read: Callable[[Section, Draft], None]


@dataclass(frozen=True, slots=True)
class LineFormat:
    """A format of lines: how a file is recognised and read, from its text and its name."""

    fits: Callable[[str, str], bool]
    read: Callable[[str, str, Draft], None]


DOCUMENTS: Final[Mapping[str, DocumentFormat]] = {
    "regsync": DocumentFormat(regsync.fits, regsync.read),
    "image-syncer": DocumentFormat(image_syncer.fits, image_syncer.read),
    "skopeo": DocumentFormat(skopeo.fits, skopeo.read),
    "dregsy": DocumentFormat(dregsy.fits, dregsy.read),
    "hub-mirror-action": DocumentFormat(hub_mirror.fits, hub_mirror.read),
    "oc-mirror": DocumentFormat(oc_mirror.fits, oc_mirror.read),
    "hauler": DocumentFormat(hauler.fits, hauler.read),
    "charts-syncer": DocumentFormat(charts_syncer.fits, charts_syncer.read),
}
LINES: Final[Mapping[str, LineFormat]] = {
    "mapping": LineFormat(oc_mirror.fits_mapping, oc_mirror.read_mapping),
    "list": LineFormat(lists.fits, lists.read),
}
FORMATS: Final = (*DOCUMENTS, *LINES)
"""The names of all formats."""


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import.

    Attributes:
        text: a file for the configuration folder; "" when nothing was found.
        formats: file → format.
        lost: what was not converted, one line each.
        notices: what was converted and needs a look.
        secrets: environment variable → what it is for.
    """

    text: str
    formats: Mapping[str, str]
    lost: Sequence[str]
    notices: Sequence[str]
    secrets: Mapping[str, str]


def import_files(files: Sequence[tuple[str, bytes]], form: str | None, options: Options) -> Imported:
    """Turn files of other tools into one file of mirrord.

    Args:
        files: names and contents, in the order in which they count.
        form: the format of all of them; None to recognise it.
        options: what those tools have on their command lines.

    Raises:
        ConfigError: a file cannot be read.
        UsageError: a file is of no known format, or an option is missing.
    """
    draft = Draft(options)
    found = [(file, _read(file, data, form, draft)) for file, data in files]
    text = write(draft, found) if draft.hosts or draft.copies or draft.others else ""
    lost, notices = draft.report.lines()
    return Imported(text, dict(found), lost, notices, dict(draft.report.secrets))


def _read(file: str, data: bytes, form: str | None, draft: Draft) -> str:
    """Read one file, and return its format."""
    text = decode(data, file)
    names = [form] if form else [name for name, one in LINES.items() if one.fits(text, file)][:1]
    if names and names[0] in LINES:
        LINES[names[0]].read(text, file, draft)
        return names[0]
    whole = _parsed(text, file, form)
    documents = [node for node in whole.documents if node.value is not None]
    for line, key in whole.repeated:
        draft.report.tell(ConfigOrigin(file, line), key, "is written more than once; the last one is used")
    name = form or next((name for name, one in DOCUMENTS.items() if any(map(one.fits, documents))), "")
    if not name or not documents:
        raise UsageError(f"{file}: is of no known format; known are {', '.join(FORMATS)}: name one with --from")
    for node in documents:
        if DOCUMENTS[name].fits(node):
            DOCUMENTS[name].read(Section(node, file, "", draft.report), draft)
        elif form:
            raise UsageError(f"{file}:{node.line}: is not of the format {form}")
        else:
            draft.report.lose(ConfigOrigin(file, node.line), "", f"this document is not of the format {name}")
    return name


def _parsed(text: str, file: str, form: str | None) -> ForeignText:
    try:
        return parse_foreign(text, file)
    except ConfigError as error:
        if form is None:
            known = f"; known formats are {', '.join(FORMATS)}"
            raise ConfigError(*(f"{problem}{known}" for problem in error.problems)) from error
        raise
