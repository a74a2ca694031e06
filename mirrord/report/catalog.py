"""The catalog as text, JSON and CSV. Pure.

- `txt`: name at the source, name at the target and digest, separated by tabs, what cannot be printed escaped;
- `json`: `{"entries": [...]}` with one entry a line;
- `csv`: a head and a line for each entry, platforms separated by spaces. A cell that a spreadsheet would take for a
  formula has a `'` in front.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from mirrord.model.catalog import CatalogEntry
from mirrord.printable import plain
from mirrord.report.moments import rfc3339

COLUMNS: Final = tuple(field.name for field in fields(CatalogEntry))
_FORMULA: Final = ("=", "+", "-", "@")


def _text(entries: Iterable[CatalogEntry]) -> str:
    rows = (map(plain, (one.source, one.name, one.digest)) for one in entries)
    return "".join("\t".join(row) + "\n" for row in rows)


def _json(entries: Iterable[CatalogEntry]) -> str:
    lines = ",\n".join(json.dumps(dict(_values(one))) for one in entries)
    return f'{{"entries": [\n{lines}\n]}}\n'


def _csv(entries: Iterable[CatalogEntry]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")  # RFC 4180
    writer.writerow(COLUMNS)
    writer.writerows(_safe(map(_cell, dict(_values(one)).values())) for one in entries)
    return out.getvalue()


def _values(entry: CatalogEntry) -> Iterator[tuple[str, Any]]:
    """Yield the columns of an entry with their values."""
    for name in COLUMNS:
        value = getattr(entry, name)
        yield name, rfc3339(value) if isinstance(value, datetime) else value


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(value) if isinstance(value, tuple) else str(value)


def _safe(cells: Iterable[str]) -> Iterator[str]:
    return (f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in map(plain, cells))


FORMS: Final[Mapping[str, Callable[[Iterable[CatalogEntry]], str]]] = {"txt": _text, "json": _json, "csv": _csv}
"""What writes entries in each form."""
