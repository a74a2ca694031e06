"""Platforms of other tools become those of a mirror, and what differs is told."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mirrord.importing.formats import import_files
from mirrord.importing.values import Options

OPTIONS = Options(to="r.example/x")
REGSYNC = "sync: [{{source: q.example/a, target: r.example/a, type: repository, {0}}}]"
DREGSY = "tasks: [{{source: {{registry: q.io}}, target: {{registry: r.io}}, mappings: [{{from: a, tags: [v1], {0}}}]}}]"
HAULER = """
{{apiVersion: content.hauler.cattle.io/v1, kind: Images, metadata: {{annotations: {{{0}}}}},
  spec: {{images: [{{name: q.example/a:v1, {1}}}]}}}}
"""
OC = "{{apiVersion: mirror.openshift.io/v2, mirror: {{additionalImages: [{{name: q.example/a:v1, {0}}}]}}}}"


def read(text: str) -> tuple[list[dict[str, Any]], str, str]:
    """Return the mirrors, what was not converted, and what differs."""
    found = import_files([("x", text.encode())], None, OPTIONS)
    return (yaml.safe_load(found.text) or {}).get("mirrors", []), "\n".join(found.lost), "\n".join(found.notices)


@pytest.mark.parametrize(
    ("text", "platforms", "told"),
    [
        (REGSYNC.format("platforms: [linux/amd64, linux/arm64/v8]"), ["linux/amd64", "linux/arm64"], "keeps the index"),
        (REGSYNC.format("platform: linux/arm"), ["linux/arm/v7"], "regsync copies the image of that platform alone"),
        (
            REGSYNC.format("platform: 'windows/amd64,osver=10.0.17763.4974'"),
            ["windows/amd64:10.0.17763.4974"],
            "which has another digest",
        ),
        (DREGSY.format("platform: linux/amd64"), ["linux/amd64"], "dregsy copies the image of that platform alone"),
        (HAULER.format("hauler.dev/platform: linux/amd64", ""), ["linux/amd64"], "Hauler copies the image"),
        (HAULER.format("hauler.dev/platform: linux/amd64", "platform: linux/arm64"), ["linux/arm64"], "Hauler copies"),
        (OC.format("platforms: [linux/amd64]"), ["linux/amd64"], "oc-mirror keeps the index"),
    ],
)
def test_platforms(text: str, platforms: list[str], told: str) -> None:
    """They are written in mirrord's spelling."""
    (mirror,), lost, notices = read(text)
    assert (mirror["platforms"], lost) == (platforms, "")
    assert told in notices


@pytest.mark.parametrize("text", [DREGSY.format("platform: all"), DREGSY.format(""), REGSYNC.format("platforms: []")])
def test_all_platforms(text: str) -> None:
    """Without a choice there is none."""
    (mirror,), lost, _ = read(text)
    assert ("platforms" in mirror, lost) == (False, "")


@pytest.mark.parametrize("platform", ["local", "linux/x86_64", "amd64"])
def test_what_is_no_platform(platform: str) -> None:
    """What mirrord has no word for is not converted, and all platforms are mirrored."""
    (mirror,), lost, _ = read(REGSYNC.format(f"platform: {platform}"))
    assert "platforms" not in mirror
    assert f"sync[0].platform: {platform!r} is not" in lost


def test_one_repository_with_two_choices() -> None:
    """One repository at a target has one choice of platforms: the second is reported."""
    steps = [
        f"{{source: q.example/a:{tag}, target: r.example/a:{tag}, type: image, platforms: [linux/{machine}]}}"
        for tag, machine in (("v1", "amd64"), ("v2", "arm64"))
    ]
    (mirror,), lost, _ = read(f"sync: [{', '.join(steps)}]")
    assert (mirror["platforms"], mirror["from"]["tags"]) == (["linux/amd64"], ["v1", "v2"])
    assert "has another choice of platforms than x:1, which is used for both" in lost
