"""Cuts the index of a large repository down to what tests need: the newest versions of each chart, and the odd ones.

    python -m tests.support.chartcut grafana-index.yaml.gz tests/helm/data/grafana-cut.yaml.gz

The lines that stay are upstream's own. Odd are: two entries of one version, a `v` before it, `appVersion: null`.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections import Counter
from pathlib import Path

NEWEST = 2
_CHART = re.compile(r"^  ([A-Za-z0-9._-]+):$", re.MULTILINE)
_ENTRY = re.compile(r"^  - ", re.MULTILINE)
_VERSION = re.compile(r"^    version: (\S+)$", re.MULTILINE)


def cut(index: str) -> str:
    """Return the index with few entries."""
    top, _, rest = index.partition("entries:\n")
    entries, _, end = rest.rpartition("\ngenerated:")
    names = list(_CHART.finditer(entries))
    ends = [name.start() for name in names[1:]] + [len(entries) + 1]
    kept = [
        name[0] + "\n" + _few(f"{entries}\n"[name.end() + 1 : until]) for name, until in zip(names, ends, strict=True)
    ]
    return f"{top}entries:\n{''.join(kept)}generated:{end}"


def without(index: str, name: str, version: str) -> str:
    """Return the index as it was before `version` of chart `name` came."""
    place = index.index(f"\n  {name}:\n")
    starts = [place + found.start() for found in _ENTRY.finditer(index[place:])]
    begin = next(at for at in starts if _VERSION.findall(index[at:])[0] == version)
    until = next((at for at in starts if at > begin), len(index))
    chart = _CHART.search(index, begin)
    return index[:begin] + index[min(until, chart.start() if chart else until) :]


def _few(chart: str) -> str:
    """Return the newest entries of a chart, and the odd ones."""
    entries = _ENTRY.split(chart)[1:]
    times = Counter(version for entry in entries for version in _VERSION.findall(entry))
    odd = [entry for entry in entries[NEWEST:] if _odd(entry, times)]
    return "".join(f"  - {entry}" for entry in entries[:NEWEST] + odd)


def _odd(entry: str, times: Counter[str]) -> bool:
    version = _VERSION.findall(entry)[0]
    return times[version] > 1 or version.startswith("v") or "appVersion: null\n" in entry[:200]


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    text = gzip.decompress(source.read_bytes()).decode()
    target.write_bytes(gzip.compress(cut(text).encode(), 9, mtime=0))
