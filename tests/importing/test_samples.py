"""Every sample becomes the same text each time, and nothing that it has is lost in silence.

To write the expected texts anew after a change: MIRRORD_WRITE_DOCS=1 pytest tests/importing/test_samples.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirrord.importing.formats import Imported, import_files
from mirrord.importing.values import Options

DATA = Path(__file__).parents[1] / "data" / "import"
SAMPLES = {
    "regsync-1": ("regsync-1.yaml",),
    "regsync-2": ("regsync-2.yaml",),
    "image-syncer": ("image-syncer-images.yaml", "image-syncer-auth.yaml"),
    "image-syncer-json": ("image-syncer-images.json", "image-syncer-auth.json"),
    "skopeo": ("skopeo-sync.yaml",),
    "dregsy": ("dregsy.yaml",),
    "hub-mirror-action": ("hub-mirror-workflow.yml",),
    "oc-mirror": ("imageset-config.yaml",),
    "hauler": ("hauler-manifest.yaml",),
    "charts-syncer": ("charts-syncer.yaml",),
    "mapping": ("oc-mirror-mapping.txt",),
}


def imported(*names: str) -> Imported:
    files = [(name, (DATA / name).read_bytes()) for name in names]
    return import_files(files, None, Options(to="registry.corp.example/mirror"))


@pytest.mark.parametrize(("name", "files"), SAMPLES.items(), ids=SAMPLES)
def test_a_sample_becomes_the_expected_text(name: str, files: tuple[str, ...]) -> None:
    """The text is the one that was looked at, twice the same, and ends with a line end."""
    found = imported(*files)
    expected = DATA / "expected" / f"{name}.yaml"
    if os.environ.get("MIRRORD_WRITE_DOCS"):
        expected.parent.mkdir(exist_ok=True)
        expected.write_text(found.text)
    assert found.text == expected.read_text()
    assert found == imported(*files)


@pytest.mark.parametrize(("name", "files"), SAMPLES.items(), ids=SAMPLES)
def test_crlf_and_a_byte_order_mark_change_nothing(name: str, files: tuple[str, ...]) -> None:
    """A file that was saved on Windows becomes the same configuration."""
    windows = [(file, b"\xef\xbb\xbf" + (DATA / file).read_bytes().replace(b"\n", b"\r\n")) for file in files]
    assert import_files(windows, None, Options(to="registry.corp.example/mirror")) == imported(*files), name


def test_no_plain_password_is_copied() -> None:
    """Passwords of samples are in no output: neither as they are written nor in base64."""
    for name in ("dregsy", "skopeo"):
        found = imported(*SAMPLES[name])
        said = f"{found.text}{found.lost}{found.notices}{found.secrets}"
        assert "change-me" not in said
        assert "eyJ1c2" not in said
        assert found.secrets


def test_regular_expressions_of_repositories_are_kept() -> None:
    """The `regex:` of dregsy means the whole path, as `/re/` does, and regsync's pattern keeps its missing group."""
    task = b"tasks: [{source: {registry: a.io}, target: {registry: b.io}, mappings: [{from: 'regex:t/[^/]+', to: m}]}]"
    found = import_files([("dregsy.yaml", task)], None, Options())
    assert "from: {registry: a.io, repositories: ['/t/[^/]+/'], tags: ['*']}" in found.text
    repos = "repos: {allow: [a, 'x/\\d{2}'], deny: ['s|t']}"
    step = f"sync: [{{source: a.io, target: b.io, type: registry, {repos}}}]".encode()
    found = import_files([("regsync.yaml", step)], None, Options())
    assert r"repositories: {match: [/a/, '/x/\d{2}/'], exclude: ['/s.*|.*t/']}" in found.text
    assert any("repos.deny: 's|t' means ^s|t$" in notice for notice in found.notices)


@pytest.mark.parametrize("key", ["allow", "deny"])
def test_a_filter_that_cannot_be_read_leaves_the_registry_out(key: str) -> None:
    """It would copy more than it should, or nothing; the line is reported."""
    step = f"sync: [{{source: a.io, target: b.io, type: registry, repos: {{{key}: ['x(']}}}}]".encode()
    found = import_files([("regsync.yaml", step)], None, Options())
    assert found.text == ""
    assert found.lost[0].startswith(f"regsync.yaml:1: sync[0].repos.{key}: not a regular expression: ")


def test_a_mapping_with_a_wrong_line_is_a_mapping() -> None:
    """A line without a target is reported, and the others are converted; the file is no list of images."""
    line = b"docker://quay.io/a/b:v1=docker://registry.corp.example/a/b:v1\n"
    found = import_files([("mapping.txt", line + b"quay.io/a/c:v1\n")], None, Options())
    assert found.formats == {"mapping.txt": "mapping"}
    assert "from: {repository: quay.io/a/b, tags: [v1]}" in found.text
    assert [*found.lost] == ["mapping.txt:2: has no `=` between source and target; write SOURCE=TARGET"]


def test_a_list_without_a_good_line_becomes_nothing() -> None:
    """`check` refuses a mirror of such a list, so none is written."""
    found = import_files([("images.txt", b"Quay.io/A\n")], None, Options())
    assert found.text == ""
    assert len(found.lost) == 1


def test_mirrors_without_a_schedule_are_pointed_out() -> None:
    """Some tools run when cron says so, which their files do not have; the text says what to write."""
    line = "# Mirrors without every: and cron: run only by mirrord sync NAME; write every: 6h for a schedule."
    assert line in imported("skopeo-sync.yaml").text.splitlines()
    assert line not in imported("regsync-1.yaml").text.splitlines()
