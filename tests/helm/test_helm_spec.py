"""What an operator may write about charts, and what is said to one who wrote something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirrord.config.load import load_folder
from mirrord.errors import ConfigError
from mirrord.syncer.port import load_syncers
from mirrord.syncers.helm.names import spec_of
from mirrord.syncers.helm.spec import HelmSpec

SHA = f"sha256:{'a' * 64}"


def load(folder: Path, line: str) -> HelmSpec:
    """Read a mirror of charts with one more line, as `mirrord check` does."""
    text = f"mirrors:\n  - name: m\n    kind: helm\n    from: https://charts.example.org\n    to: [local]\n    {line}\n"
    (folder / "main.yaml").write_text(text)
    (mirror,) = load_folder(folder, load_syncers(), {}).mirrors
    return spec_of(mirror)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ('versions: ">=1"', "versions", ">=1"),
        ('versions: {tetragon: ">=1.2", "*": ">=1"}', "versions", {"tetragon": ">=1.2", "*": ">=1"}),
        ('exclude: [x, "y-*"]', "exclude", ("x", "y-*")),
        ("skip: {tetragon: [1.2.0, 1.10]}", "skip", {"tetragon": ("1.2.0", "1.10")}),
        (f"accept: {{tetragon: {{1.10: {SHA}}}}}", "accept", {"tetragon": {"1.10": SHA}}),
    ],
)
def test_what_may_be_written(line: str, key: str, value: object, tmp_path: Path) -> None:
    """Versions are texts, also without quotes; a range is one for all charts, or one for each name or glob."""
    assert getattr(load(tmp_path, line), key) == value


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            'versions: {tetragon: "x!"}',
            "m.versions.tetragon: not a range of versions: 'x!'; write it as in `>=1.2 <2 || ^3.1`, `~1.2`,",
        ),
        ("versions: nope!", "mirrors.m.versions: not a range of versions: 'nope!'"),
        ("versions: {a: [b]}", "mirrors.m.versions.a: a list is not text"),
        ("skip: {tetragon: 1.2.0}", "mirrors.m.skip.tetragon: '1.2.0' is not a list; write a list"),
        (
            "skip: [tetragon-1.2.0]",
            'm.skip: a list is not a mapping; write a mapping, such as {tetragon: ["1.2.0"]}',
        ),
        ("accept: {tetragon: {1.2.0: abc}}", "mirrors.m.accept.tetragon.1.2.0: not a digest: 'abc' (want sha256:"),
        (f"accept: {{tetragon: {SHA}}}", "mirrors.m.accept.tetragon: 'sha256:aaa"),
        (f"accept: {{a: {{1.0.0: 'sha512:{'a' * 128}'}}}}", "charts have digests of kind sha256"),
        ("exclude: x", "mirrors.m.exclude: 'x' is not a list"),
        ("exlude: [x]", "mirrors.m.exlude: unknown key; did you mean 'exclude'?"),
    ],
)
def test_what_may_not(line: str, said: str, tmp_path: Path) -> None:
    """What cannot be meant is refused with file, line, key and what to write instead."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, line)
    (problem,) = caught.value.problems
    assert said in problem
    assert problem.count("; write") <= 1
