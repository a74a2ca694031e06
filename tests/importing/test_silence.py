"""Whatever a file holds, an import ends with a result or one clear error, and names every key that it did not use."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrord.errors import MirrordError
from mirrord.importing.formats import import_files
from mirrord.importing.values import Options

DATA = Path(__file__).parents[1] / "data" / "import"
SAMPLES = {
    "regsync": ("regsync-1.yaml", "regsync-2.yaml"),
    "image-syncer": ("image-syncer-images.json", "image-syncer-auth.json"),
    "skopeo": ("skopeo-sync.yaml",),
    "dregsy": ("dregsy.yaml",),
    "hub-mirror-action": ("hub-mirror-workflow.yml",),
    "oc-mirror": ("imageset-config.yaml",),
    "hauler": ("hauler-manifest.yaml",),
    "charts-syncer": ("charts-syncer.yaml",),
}
READ = {
    (form, name): next(yaml.load_all((DATA / name).read_text(), yaml.BaseLoader))
    for form, names in SAMPLES.items()
    for name in names
}
OPTIONS = Options(to="registry.corp.example/mirror")
VALUES: tuple[Any, ...] = (
    *(None, "", "x", "a/b", "{{env", "${X}", "*", "/(/", "1 2 3 * *", "💥\x1b[2J", "x" * 5000, [], {}, ["x"], [[]]),
    *({"a": "b"}, [{"a": "b"}], "https://u:hunter2@a.example/b", "a@sha256:0", "-1", "regex:(", "semver: >", "keep: x"),
)


def places(value: Any, trail: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield trail
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(below, (*trail, key))


def at(value: Any, trail: tuple[Any, ...]) -> Any:
    for part in trail:
        value = value[part]
    return value


@st.composite
def mutants(draw: st.DrawFn) -> tuple[str, Any]:
    """A sample with up to three of its values replaced."""
    form, name = draw(st.sampled_from(list(READ)))
    value = copy.deepcopy(READ[form, name])
    for _ in range(draw(st.integers(1, 3))):
        *trail, last = draw(st.sampled_from([trail for trail in places(value) if trail] or [("sync",)]))
        at(value, tuple(trail))[last] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    return form, value


@settings(max_examples=300)
@given(mutants())
def test_no_value_breaks_an_import(mutant: tuple[str, Any]) -> None:
    """A file with wrong values is imported in part or refused; the output is YAML, and has no password."""
    form, value = mutant
    error: MirrordError | None = None
    try:
        found = import_files([("x", json.dumps(value, ensure_ascii=False).encode())], form, OPTIONS)
    except MirrordError as refused:
        error = refused
    if error is not None:
        assert str(error).startswith("x:")
        return
    yaml.safe_load(found.text)
    lines = (found.text, *found.lost, *found.notices, *found.secrets.values())
    assert all("hunter2" not in line and "\x1b" not in line for line in lines)
    assert all("\n" not in line for line in (*found.lost, *found.notices))


def extended() -> Iterator[Any]:
    for (form, name), value in READ.items():
        for trail in places(value):
            if isinstance(at(value, trail), dict):
                yield pytest.param(form, name, trail, id=f"{name}:{'.'.join(map(str, trail))}")


# Mappings that belong to another tool's work, and are reported or skipped as a whole.
WHOLE = {"containers", "ratelimit", "platform", "workflow_dispatch"}


@pytest.mark.parametrize(("form", "name", "trail"), list(extended()))
def test_no_key_is_lost_in_silence(form: str, name: str, trail: tuple[Any, ...]) -> None:
    """A key that the import does not know is named, wherever it stands; one that names an image is converted."""
    value = copy.deepcopy(READ[form, name])
    at(value, trail)["zzz.example/unknown"] = "1"
    found = import_files([("x", json.dumps(value).encode())], None, OPTIONS)
    named = [line for line in (*found.lost, *found.notices, found.text) if "zzz.example/unknown" in line]
    assert bool(named) != bool(WHOLE & set(trail)), found.lost


UNUSED = (
    ("sync: [{source: a/b, type: repository}]", "sync[0].target: is missing"),
    ("sync: [{source: a/b, type: , target: r.example/x}]", "sync[0].type: is none of registry, repository, image"),
    ("{creds: [{user: a, pass: b}], sync: []}", "creds[0].registry: is missing"),
    ("tasks: [{source: {registry: q.example}, mappings: [{from: a}]}]", "tasks[0].target.registry: is not a host"),
    ("sync: [{source: q.example/a, type: registry, target: r.example}]", "sync[0].source: has a path"),
    (
        "sync: [{source: q.example, type: registry, target: r.example/A}]",
        "sync[0].target: 'A/repository': a repository",
    ),
    (
        "tasks: [{source: {registry: q.io}, target: {registry: r.io}, mappings: [{from: 'regex:a', to: B}]}]",
        "tasks[0].mappings[0].to: 'B/repository': a repository is lower case",
    ),
    ("{q.example/a: , q.example/b: r.example/b}", "q.example/a: has no destination; write one"),
    ("apiVersion: content.hauler.cattle.io/v1", "kind: mirrord mirrors images, charts and Git repositories"),
    (
        "{apiVersion: content.hauler.cattle.io/v1, kind: Charts, spec: {charts: [{repoURL: https://a.example}]}}",
        "spec.charts[0].name: mirrord reads charts from a repository",
    ),
    (
        "{apiVersion: mirror.openshift.io/v2, mirror: {helm: {repositories: [{name: x}]}}}",
        "mirror.helm.repositories[0].url: is missing",
    ),
    (
        "{apiVersion: mirror.openshift.io/v2, mirror: {additionalImages: [{targetTag: x}]}}",
        "mirror.additionalimages[0].name: the image reference is empty; write one such as docker.io/library/nginx:1.27",
    ),
    (
        "jobs: {a: {steps: [{uses: Yikun/hub-mirror-action@v1, with: {dst: gitee/x, static_list: a}}]}}",
        "jobs.a.steps[0].with.src: is not HOST/ACCOUNT",
    ),
    ("{source: {repo: }, target: {repo: {kind: HELM, url: https://a.example}}}", "source.repo.url: is not the URL"),
)


@pytest.mark.parametrize(("text", "expected"), UNUSED, ids=[expected for _, expected in UNUSED])
def test_what_cannot_be_used_is_not_lost_in_silence(text: str, expected: str) -> None:
    """A part of a file that lacks a key that it needs, or that `check` would refuse, is reported once, at its key."""
    found = import_files([("x", text.encode())], None, OPTIONS)
    assert len(found.lost) == 1, found.lost
    assert found.lost[0].startswith(f"x:1: {expected}")
