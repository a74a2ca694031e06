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
    wrong = f"{to!r} has an unknown placeholder; write {{name}} or {{mirror}}"
    assert str(refused.value).endswith(f"{tmp_path / 'main.yaml'}:2: targets.site.to: {wrong}")


def test_each_wrong_target_is_named(tmp_path: Path) -> None:
    """All wrong targets of a mirror are told at once, each at the line where it stands and with its own key only."""
    (tmp_path / "main.yaml").write_text(
        "targets:\n"
        "  a: {kind: helm, to: http//charts.example}\n"
        "  b: {kind: helm, to: '/srv/{nmae}'}\n"
        "  c: {kind: helm, to: /srv/charts}\n"
        f"mirrors:\n  - {{name: m, kind: helm, from: {SOURCES['helm']}, to: [a, b, c]}}\n"
        f"  - {{name: n, kind: helm, from: {SOURCES['helm']}, to: [a]}}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load_folder(tmp_path, load_syncers(), {})
    file = tmp_path / "main.yaml"
    no_url, braces = refused.value.problems
    assert no_url.startswith(
        f"{file}:2: targets.a.to: 'http//charts.example' is not a URL; write https://host/path or "
    )
    assert braces.startswith(f"{file}:3: targets.b.to: '/srv/{{nmae}}' has an unknown placeholder")


def test_a_source_written_as_text(tmp_path: Path) -> None:
    """An image's source without its key is answered with the key that most people want."""
    (tmp_path / "main.yaml").write_text("mirrors:\n  - {name: m, kind: image, from: docker.io/nginx, to: local}\n")
    with pytest.raises(ConfigError) as refused:
        load_folder(tmp_path, load_syncers(), {})
    assert "is a mapping for images; write {repository: docker.io/nginx}" in str(refused.value)
