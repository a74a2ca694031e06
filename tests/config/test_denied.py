"""The file `settings.denied`: what may be written into it, and one line for each mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mirrord.config.load import Configuration
from mirrord.model.digest import Digest

Load = Callable[..., Configuration]
Refusal = Callable[..., tuple[str, ...]]
DIGEST = Digest.of(b"image")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "denied.yaml"


def settings(file: Path) -> str:
    return f"settings: {{denied: '{file}'}}\nnames: {{aliases: {{k8s.gcr.io: registry.k8s.io}}}}\n"


def test_entries(load: Load, file: Path) -> None:
    """One flow mapping a line, or spread over lines, with comments: each knows its line and its canonical name."""
    file.write_text(
        f"""# what was taken down
- {{image: k8s.gcr.io/pause:3.9, digests: ['{DIGEST}'], reason: "ticket 1, it's: theirs", at: 2026-11-28}}
- {{image: nginx, reason: ticket 2}}
- image: quay.io/acme/**
  reason: ticket 3   # by mail
- {{mirror: app, reason: ticket 4}}
- {{digests: ["{DIGEST}"], reason: ticket 5}}
"""
    )
    denied = load(settings(file)).denied
    assert [(entry.line, entry.what, entry.reason) for entry in denied.entries] == [
        (2, "registry.k8s.io/pause:3.9", "ticket 1, it's: theirs"),
        (3, "docker.io/library/nginx", "ticket 2"),
        (4, "quay.io/acme/**", "ticket 3"),
        (6, "app", "ticket 4"),
        (7, DIGEST, "ticket 5"),
    ]
    assert denied.entries[0].digests == (DIGEST,)


def test_nothing_is_denied(load: Load, file: Path) -> None:
    """Without the key, and by an empty file; that is how one begins."""
    assert not load("targets: {}\n").denied
    for text in ("", "# nothing yet\n", "[]\n"):
        file.write_text(text)
        assert not load(settings(file)).denied


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image: a/b", "denied.yaml:1: is not a list; begin each entry with a dash"),
        ("- nginx", "denied.yaml:1: [0]: 'nginx' is not a mapping"),
        ("\n- {image: nginx}", "denied.yaml:2: [0].reason: is missing; write reason: ticket 4711"),
        ("- {reason: x}", "denied.yaml:1: [0]: names no one thing; write image: HOST/NAME[:TAG]"),
        ("- {image: nginx, mirror: app, reason: x}", "denied.yaml:1: [0]: names no one thing"),
        ("- {item: app-1.0.0, reason: x}", "denied.yaml:1: [0]: names no one thing"),
        ("- {image: nginx, item: app-1.0.0, reason: x}", "denied.yaml:1: [0].item: is an item of no mirror"),
        ('- {mirror: app, item: "a\\nb", reason: x}', "denied.yaml:1: [0].item: 'a\\nb' is no item of a mirror"),
        ("- {image: nginx, reson: x}", "denied.yaml:1: [0].reson: unknown key; did you mean 'reason'?"),
        ("- {image: Quay.io/A/b, reason: x}", "denied.yaml:1: [0].image: 'A/b': a repository is lower case"),
        ("- {digests: [sha256:1], reason: x}", "denied.yaml:1: [0].digests[0]: not a digest: 'sha256:1'"),
        ("- {mirror: a.b, reason: x}", "denied.yaml:1: [0].mirror: 'a.b' is not the name of a mirror"),
        ('- {image: nginx, reason: "a\\nb"}', "denied.yaml:1: [0].reason: has a line end"),
        ("- {image: nginx, reason: x}\n- {image", "denied.yaml:2: is not YAML"),
        ("- {image: nginx, reason: x}\n- *all", "denied.yaml:2: aliases (*name) are not supported"),
    ],
)
def test_mistakes(refusal: Refusal, file: Path, text: str, said: str) -> None:
    """A wrong entry refuses the whole configuration: nothing that was taken down comes back by a typo."""
    file.write_text(text)
    problems = [problem.replace(f"{file.parent}/", "") for problem in refusal(settings(file))]
    assert any(problem.startswith(said) for problem in problems), problems


def test_a_missing_file_is_no_empty_one(refusal: Refusal, file: Path) -> None:
    """It is the truth: a daemon without it would bring everything back."""
    (problem,) = refusal(settings(file))
    assert problem == (
        f"main.yaml:1: settings.denied: {file} does not exist; make it, or correct the path; it says what may not"
        f" come back, so begin one with: touch {file}"
    )
    assert refusal("settings: {denied: denied.yaml}\n") == (
        "main.yaml:1: settings.denied: denied.yaml is not absolute; write an absolute path",
    )


def test_the_same_file_twice(refusal: Refusal, folder: Path) -> None:
    """In the folder of the configuration it would be read as one."""
    file = folder / "denied.yaml"
    file.write_text("- {image: nginx, reason: x}\n")
    assert any("denied.yaml:1: is not a mapping" in problem for problem in refusal(settings(file)))
