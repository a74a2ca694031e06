"""`{name}` and `{mirror}` in `to`, for every kind that is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.config.load import load_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers

SOURCES = {
    "git": "https://github.com/gocrane/crane.git",
    "helm": "https://grafana.github.io/helm-charts",
    "image": "{repository: nginx}",
}


@pytest.mark.parametrize(
    ("kind", "to"),
    [
        ("git", "https://gitee.example/team/{nmae}"),
        ("helm", "/srv/{nmae}"),
        ("helm", "oci://ghcr.example/{team}/charts"),
        ("image", "ghcr.example/{nmae}"),
        ("image", "ghcr.example/team/{name"),
    ],
)
def test_a_typo_in_braces(tmp_path: Path, kind: str, to: str) -> None:
    """Braces around anything else are refused, with file, line, key and what to write, and nothing is made of them."""
    mirrors = f"mirrors:\n  - {{name: m, kind: {kind}, from: {SOURCES[kind]}, to: site}}\n"
    (tmp_path / "main.yaml").write_text(f"targets:\n  site: {{kind: {kind}, to: '{to}'}}\n{mirrors}")
    with pytest.raises(ConfigError) as refused:
        load_folder(tmp_path, load_syncers(), {})
    wrong = f"{to!r} has braces around something unknown; write {{name}} or {{mirror}}"
    assert str(refused.value).endswith(f"{tmp_path / 'main.yaml'}:2: targets.site.to: {wrong}")
