"""The rules of deploy/prometheus, and the page that is made from them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

_DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = _DEPLOY / "prometheus" / "mirrord.rules.yaml"
OBJECT = _DEPLOY / "kubernetes" / "monitoring" / "prometheusrule.yaml"
PAGE = "docs/reference/alerts.md"
_BEGIN = """# Alerts

Generated from `deploy/prometheus/mirrord.rules.yaml`. [How to use them](../how-to/watch.md#alerts).

| alert | severity | meaning |
|---|---|---|
"""


def groups() -> list[dict[str, Any]]:
    """Return the groups of rules."""
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
    return found


def rules() -> list[dict[str, Any]]:
    """Return all rules."""
    return [rule for group in groups() for rule in group["rules"]]


def prometheus_rule() -> str:
    """Return the rules as an object of the Prometheus operator: the very text of the file, indented."""
    text = RULES.read_text()
    begin = "# Generated from deploy/prometheus/mirrord.rules.yaml: MIRRORD_WRITE_DOCS=1 pytest tests/test_docs.py\n"
    metadata = {"name": "mirrord", "labels": {"app.kubernetes.io/name": "mirrord"}}
    head = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata}
    groups_alone = text[text.index("groups:\n") :]
    return f"{begin}{yaml.safe_dump(head, sort_keys=False)}spec:\n{indent(groups_alone, '  ')}"


def shown(text: str) -> str:
    """Return a template as people read it: `MIRROR` for the label of that name, `N` for a value."""
    return re.sub(r"\{\{ \$value[^}]*\}\}", "N", re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda one: one[1].upper(), text))


def page() -> str:
    """Return the page about all alerts."""
    return _BEGIN + "".join(_rows()) + "".join(_sections())


def _rows() -> Iterator[str]:
    for rule in rules():
        name, summary = rule["alert"], shown(rule["annotations"]["summary"])
        yield f"| [`{name}`](#{name.lower()}) | {rule['labels']['severity']} | {summary} |\n"


def _sections() -> Iterator[str]:
    for rule in rules():
        after = f", for {rule['for']}" if "for" in rule else ""
        yield f"\n## {rule['alert']}\n\n{shown(rule['annotations']['description'])}\n"
        yield f"\nSeverity `{rule['labels']['severity']}`. Fires when this has a result{after}:\n"
        yield f"\n```promql\n{rule['expr'].strip()}\n```\n"
